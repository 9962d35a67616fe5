//! Groups that a token only refers to (distributed claims, OpenID Connect Core 1.0, section 5.6.2): `_claim_names` says
//! which source has them, `_claim_sources` where that is; what is there is a token, too, which has them as a claim.
//!
//! Only the claim that groups are mapped from is fetched, and only where the token itself does not have it. The token that
//! is fetched is verified as any other, with the keys of the issuer that it names. What was fetched for a token is
//! remembered for as long as upstream remembers whose a token is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Claims;
use super::configuration::{Issuer, Mapping};
use super::provider::{PATIENCE, Provider, WAIT, discovery, trust};
use crate::callout;
use crate::expiring::Expiring;

const NAMES: &str = "_claim_names";
const SOURCES: &str = "_claim_sources";
/// The longest token that is read (bytes).
const LONGEST: usize = 1 << 20;
/// So long what was fetched is remembered,
const LIFE: Duration = Duration::from_secs(10);
/// and for so many tokens.
const REMEMBERED: usize = 1024;
/// So many issuers of such tokens are followed. There is one for each issuer of tokens, as a rule.
const MOST_ISSUERS: usize = 16;

/// Where a claim is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Source {
    pub(super) endpoint: String,
    access_token: String,
}

/// Finds the groups of one issuer's tokens.
pub(super) struct Distributed {
    /// Where groups are in a token.
    pub(super) claim: String,
    authority: Option<String>,
    issuers: Mutex<HashMap<String, Arc<Provider>>>,
    found: Expiring<[u8; 32], Value>,
}

impl Distributed {
    /// For the tokens of an issuer, if their groups are in a claim.
    pub(super) fn of(issuer: &Issuer) -> Option<Self> {
        let Some(Mapping::Claim { name, .. }) = &issuer.groups else { return None };
        let authority = issuer.authority.clone();
        let (issuers, found) = (Mutex::default(), Expiring::new(REMEMBERED));
        Some(Self { claim: name.clone(), authority, issuers, found })
    }

    /// What was found for a token a moment ago.
    pub(super) fn remembered(&self, token: &str) -> Option<Value> {
        self.found.get(&Sha256::digest(token).into())
    }

    /// Remembers what was found for a token.
    pub(super) fn remember(&self, token: &str, value: Value) {
        self.found.put(Sha256::digest(token).into(), value, LIFE);
    }

    /// Fetches the token that has the claim.
    pub(super) async fn fetch(&self, source: &Source) -> Result<String, String> {
        let fail = |why: String| format!("while getting distributed claim {:?}: {why}", self.claim);
        let url: Uri = source
            .endpoint
            .parse()
            .map_err(|why| fail(format!("while calling {}: {why}", source.endpoint)))?;
        let bearer = Some(source.access_token.as_str()).filter(|token| !token.is_empty());
        let trust = trust(self.authority.clone());
        let bytes = callout::fetch_bytes(&url, trust, bearer, PATIENCE, LONGEST).await;
        let bytes = bytes.map_err(|error| fail(error.to_string()))?;
        let text = String::from_utf8(bytes.into());
        text.map(|text| text.trim().to_owned()).map_err(|_| fail("what is there is no token".to_owned()))
    }

    /// The keys of the issuer of such a token, once they are there.
    pub(super) async fn provider(&self, issuer: &str) -> Result<Arc<Provider>, String> {
        let provider = self.followed(issuer)?;
        match tokio::time::timeout(WAIT, provider.ready()).await {
            Ok(()) => Ok(provider),
            Err(_) => Err(format!("verifier not initialized for issuer: {issuer:?}")),
        }
    }

    fn followed(&self, issuer: &str) -> Result<Arc<Provider>, String> {
        let mut issuers = self.issuers.lock();
        if let Some(provider) = issuers.get(issuer) {
            return Ok(Arc::clone(provider));
        }
        if issuers.len() >= MOST_ISSUERS {
            // Whoever was named there and never said its keys is forgotten first.
            issuers.retain(|_, provider| provider.is_ready());
        }
        if issuers.len() >= MOST_ISSUERS {
            return Err("there are too many issuers of distributed claims".to_owned());
        }
        let place = discovery(issuer).ok_or_else(|| format!("{issuer:?} is not a URL"))?;
        let provider =
            Provider::of(issuer, place, self.authority.clone(), None).map_err(|error| error.to_string())?;
        let provider = Arc::new(provider);
        issuers.insert(issuer.to_owned(), Arc::clone(&provider));
        Ok(provider)
    }
}

/// Where the claims are that a token refers to. A token that refers to nowhere is no good one, whether or not anybody needs
/// the claim.
///
/// # Errors
///
/// When they are not where they are said to be.
pub(super) fn sources(claims: &Claims) -> Result<HashMap<String, Source>, String> {
    fn read<T: Default + for<'de> Deserialize<'de>>(claims: &Claims, name: &str) -> Result<T, String> {
        match claims.get(name) {
            None | Some(Value::Null) => Ok(T::default()),
            Some(value) => {
                T::deserialize(value).map_err(|error| format!("oidc: failed to unmarshal claims: {error}"))
            }
        }
    }
    let names: HashMap<String, String> = read(claims, NAMES)?;
    let sources: HashMap<String, Source> = read(claims, SOURCES)?;
    let found = names.into_iter().map(|(claim, source)| match (source.as_str(), sources.get(&source)) {
        ("", _) => Err("oidc: failed to obtain source from claim name".to_owned()),
        (_, None) => Err("oidc: source does not exist".to_owned()),
        (_, Some(source)) => Ok((claim, source.clone())),
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sources_are_where_the_names_say() {
        let of = |claims: Value| {
            let claims = claims.as_object().unwrap();
            sources(claims).map(|found| found.get("groups").map(|source| source.endpoint.clone()))
        };
        assert_eq!(of(json!({})), Ok(None));
        assert_eq!(of(json!({ "_claim_sources": { "s": {} } })), Ok(None));
        let good = json!({ "_claim_names": { "groups": "s" }, "_claim_sources": { "s": { "endpoint": "https://a" } } });
        assert_eq!(of(good), Ok(Some("https://a".to_owned())));
        let aggregated =
            json!({ "_claim_names": { "groups": "s" }, "_claim_sources": { "s": { "JWT": "x" } } });
        assert_eq!(of(aggregated), Ok(Some(String::new())));
        for (bad, why) in [
            (json!({ "_claim_names": { "groups": "s" } }), "oidc: source does not exist"),
            (json!({ "_claim_names": { "a": "" } }), "oidc: failed to obtain source from claim name"),
            (json!({ "_claim_names": { "a": 1 } }), "oidc: failed to unmarshal claims"),
            (json!({ "_claim_names": "a" }), "oidc: failed to unmarshal claims"),
            (json!({ "_claim_sources": { "s": { "endpoint": 1 } } }), "oidc: failed to unmarshal claims"),
        ] {
            let found = of(bad.clone()).unwrap_err();
            assert!(found.starts_with(why), "{bad}: {found}");
        }
    }
}
