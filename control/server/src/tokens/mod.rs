//! Service-account tokens: issuing them (TokenRequest), verifying them, and publishing the keys that verify them.
//!
//! A token is bound to its service account and, if asked for, to a pod, node or secret: it dies with any of them. Tokens
//! are never stored. Does not own other credentials (`authn`) nor the review APIs (`reviews`).

mod claims;
mod keys;
mod legacy;
mod metrics;
mod node;
mod provider;
mod request;
#[cfg(test)]
mod tests;
mod uses;
mod verify;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

pub use keys::Keys;
pub(crate) use keys::der;
pub(crate) use metrics::TokenMetrics;
pub(crate) use provider::install as use_ring;
pub(crate) use request::check_names;
pub(crate) use uses::Use;
pub use verify::Verified;

use crate::authn::{Known, TokenAuthenticator};
use crate::gate::{Clock, NewId, ObjectReader};

/// The issuer that Kubernetes' own tests expect, and whose name the serving certificate carries.
pub const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Issues and verifies service-account tokens.
pub struct Tokens {
    keys: Arc<Keys>,
    issuer: String,
    /// Issuers of tokens that are accepted besides, from before a change of name.
    further_issuers: Vec<String>,
    /// The audiences that the API server itself answers to.
    audiences: Vec<String>,
    /// Where clients find the keys, if not below the issuer.
    jwks_uri: Option<String>,
    /// The longest life of a token, in seconds.
    longest_life: Option<i64>,
    /// Whether the tokens of pods that were not told how long they live are accepted for a year.
    extend_life: bool,
    reader: Arc<dyn ObjectReader>,
    clock: Clock,
    new_id: NewId,
    /// Claims of tokens whose signature was found good, by digest of the token.
    checked: Mutex<HashMap<[u8; 32], Arc<claims::Claims>>>,
    /// Of tokens that Secrets hold.
    uses: uses::Uses,
    metrics: TokenMetrics,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("issuer", &self.issuer)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// Tokens of one issuer. `audiences` are those of the API server; empty means the issuer itself.
    pub fn new(
        keys: Arc<Keys>,
        issuer: String,
        audiences: Vec<String>,
        reader: Arc<dyn ObjectReader>,
        clock: Clock,
        new_id: NewId,
    ) -> Self {
        let audiences = if audiences.is_empty() { vec![issuer.clone()] } else { audiences };
        Self {
            keys,
            issuer,
            further_issuers: Vec::new(),
            audiences,
            jwks_uri: None,
            longest_life: None,
            extend_life: true,
            reader,
            clock,
            new_id,
            checked: Mutex::default(),
            uses: uses::Uses::default(),
            metrics: TokenMetrics::nowhere(),
        }
    }

    /// Accepts tokens of these issuers, too; as audiences they count where no others were given.
    #[must_use]
    pub fn with_further_issuers(mut self, issuers: Vec<String>) -> Self {
        if self.audiences.as_slice() == [self.issuer.clone()] {
            self.audiences.extend(issuers.iter().cloned());
        }
        self.further_issuers = issuers;
        self
    }

    /// Counts how tokens are used.
    #[must_use]
    pub(crate) fn counting(self, metrics: TokenMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// Tells clients that the keys are at this URI.
    #[must_use]
    pub fn with_jwks_uri(mut self, uri: Option<String>) -> Self {
        self.jwks_uri = uri;
        self
    }

    /// Bounds the life of tokens; `extend` is for those that admission gives to pods.
    #[must_use]
    pub fn with_lifetimes(mut self, longest_seconds: Option<i64>, extend: bool) -> Self {
        (self.longest_life, self.extend_life) = (longest_seconds, extend);
        self
    }

    /// The audiences that the API server answers to.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The public keys (`/openid/v1/jwks`).
    pub fn jwks(&self) -> Value {
        self.keys.jwks()
    }

    /// The provider document (`/.well-known/openid-configuration`, OpenID Connect Discovery 1.0).
    pub fn openid_configuration(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": self.jwks_uri.clone().unwrap_or_else(|| format!("{}/openid/v1/jwks", self.issuer)),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": self.keys.algorithms(),
        })
    }

    /// The uses of long-lived tokens from now on; nothing if somebody has them already.
    pub(crate) fn uses(&self) -> Option<mpsc::Receiver<Use>> {
        self.uses.take()
    }

    fn seconds(&self) -> u64 {
        seconds((self.clock)())
    }
}

#[async_trait]
impl TokenAuthenticator for Tokens {
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Result<Option<Known>, String> {
        if legacy::claims_to_be_one(token) {
            let user = self.verify_legacy(token)?;
            return Ok(Some(Known { user, audiences: Vec::new() }));
        }
        if !self.claims_to_be_ours(token) {
            return Ok(None);
        }
        let Verified { user, audiences } = self.verify(token, audiences)?;
        Ok(Some(Known { user, audiences }))
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `metadata.FIELD` of an object, empty where it has none.
fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}
