//! What a service-account token says: the registered claims and Kubernetes' own (KEP-1205, KEP-4193).

use serde::{Deserialize, Serialize};

/// The claims of a bound service-account token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    #[serde(rename = "aud", deserialize_with = "one_or_many")]
    pub(super) audiences: Vec<String>,
    /// Seconds since 1970, like the other times.
    #[serde(rename = "exp")]
    pub(super) expires: u64,
    #[serde(rename = "iat")]
    pub(super) issued: u64,
    #[serde(rename = "iss")]
    pub(super) issuer: String,
    #[serde(rename = "jti", default, skip_serializing_if = "String::is_empty")]
    pub(super) id: String,
    #[serde(rename = "kubernetes.io")]
    pub(super) bound: Bound,
    #[serde(rename = "nbf", default)]
    pub(super) not_before: u64,
    #[serde(rename = "sub")]
    pub(super) subject: String,
}

/// The objects that a token is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bound {
    pub(super) namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<Reference>,
    pub(super) serviceaccount: Reference,
    /// From then on the token should have been renewed; it is still accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) warnafter: Option<u64>,
}

/// One object by name and uid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reference {
    pub(super) name: String,
    #[serde(default)]
    pub(super) uid: String,
}

/// An audience claim may be one string (RFC 7519, section 4.1.3).
fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}
