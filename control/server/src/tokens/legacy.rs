//! Tokens from before there was an expiry: kept in a Secret of the type `kubernetes.io/service-account-token`, good as long
//! as that Secret holds them and the account is the same.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Keys, Tokens, meta};
use crate::user::UserInfo;

/// The issuer in all of them, whatever the cluster.
const ISSUER: &str = "kubernetes/serviceaccount";
/// Whoever sets this label on the Secret ends the token's life.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

#[derive(Default, Deserialize, Serialize)]
struct Claims {
    #[serde(rename = "iss", default)]
    issuer: String,
    #[serde(rename = "sub", default)]
    subject: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace", default)]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name", default)]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name", default)]
    name: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid", default)]
    uid: String,
}

/// Whether a token says that it is of this kind, before anything about it is checked.
pub(super) fn claims_to_be_one(token: &str) -> bool {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    jsonwebtoken::dangerous::insecure_decode_claims::<Issuer>(token).is_ok_and(|claims| claims.iss == ISSUER)
}

impl Keys {
    /// Signs the token that a Secret of this account holds.
    ///
    /// # Errors
    ///
    /// When the key cannot sign.
    pub fn sign_for_secret(
        &self,
        namespace: &str,
        account: &str,
        uid: &str,
        secret: &str,
    ) -> Result<String, String> {
        let claims = Claims {
            issuer: ISSUER.to_owned(),
            subject: format!("system:serviceaccount:{namespace}:{account}"),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            name: account.to_owned(),
            uid: uid.to_owned(),
        };
        self.sign(&claims).map_err(|error| error.to_string())
    }
}

impl Tokens {
    /// Whose token of this kind it is.
    pub(super) fn verify_legacy(&self, token: &str) -> Result<UserInfo, String> {
        let claims: Claims = self.signed(token)?;
        let Claims { subject, namespace, secret: secret_name, name, uid, .. } = &claims;
        let missing = [
            ("namespace", namespace),
            ("secretName", secret_name),
            ("serviceAccountName", name),
            ("serviceAccountUID", uid),
        ];
        if let Some((what, _)) = missing.into_iter().find(|(_, value)| value.is_empty()) {
            return Err(format!("{what} claim is missing"));
        }
        if *subject != format!("system:serviceaccount:{namespace}:{name}") {
            return Err("sub claim is invalid".into());
        }
        let secret = self
            .reader
            .get("", "secrets", namespace, secret_name)
            .filter(|secret| meta(secret, "deletionTimestamp").is_empty())
            .ok_or("Token has been invalidated")?;
        let held = STANDARD.decode(secret["data"]["token"].as_str().unwrap_or_default()).unwrap_or_default();
        if Sha256::digest(held) != Sha256::digest(token) {
            return Err("Token does not match server's copy".into());
        }
        let account = self
            .reader
            .get("", "serviceaccounts", namespace, name)
            .filter(|account| meta(account, "deletionTimestamp").is_empty())
            .ok_or_else(|| format!("ServiceAccount {namespace}/{name} has been deleted"))?;
        let found = meta(&account, "uid");
        if found != uid {
            return Err(format!("ServiceAccount UID ({found}) does not match claim ({uid})"));
        }
        if secret["metadata"]["labels"][INVALID_SINCE].as_str().is_some_and(|since| !since.is_empty()) {
            return Err(format!(
                "the token in secret {namespace}/{secret_name} for service account {namespace}/{name} has been marked invalid. \
                 Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the \
                 '{INVALID_SINCE}' label from the secret to temporarily allow use of this token"
            ));
        }
        let mut user = UserInfo::service_account(namespace, name);
        user.uid.clone_from(uid);
        Ok(user)
    }
}
