//! Tokens that a webhook knows: it is asked with a TokenReview, and what it says is remembered for a while.
//!
//! A webhook that hangs, lies or is gone knows nobody: its tokens are refused, everybody else's are not concerned.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use skep_api::review::ReviewVersion;
use tokio::time::Instant;

use super::{Known, TokenAuthenticator};
use crate::callout::Fixed;
use crate::error::Error;
use crate::expiring::Expiring;
use crate::metrics::TokenCacheMetrics;
use crate::reviews::{strings, user_of};

/// So long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many answers are remembered.
const REMEMBERED: usize = 8192;

/// Asks a webhook about tokens.
pub struct WebhookTokens {
    webhook: Fixed,
    version: ReviewVersion,
    life: Duration,
    /// Audiences of tokens that the webhook says nothing about.
    audiences: Vec<String>,
    /// By digest of token and audiences: who it is, or nobody.
    known: Expiring<[u8; 32], Result<Option<Known>, String>>,
    metrics: TokenCacheMetrics,
}

impl std::fmt::Debug for WebhookTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookTokens").field("webhook", &self.webhook).finish_non_exhaustive()
    }
}

impl WebhookTokens {
    /// The webhook that a kubeconfig file names; answers are remembered for `life`. `audiences` are those of the API
    /// server.
    ///
    /// # Errors
    ///
    /// When the file cannot be used.
    pub fn new(
        kubeconfig: &Path,
        version: ReviewVersion,
        life: Duration,
        audiences: Vec<String>,
        metrics: TokenCacheMetrics,
    ) -> Result<Self, Error> {
        let webhook = Fixed::from_kubeconfig(kubeconfig)?;
        Ok(Self { webhook, version, life, audiences, known: Expiring::new(REMEMBERED), metrics })
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Result<Option<Known>, String>, String> {
        let api_version = self.version.of_group("authentication.k8s.io");
        let mut review = json!({
            "kind": "TokenReview",
            "apiVersion": api_version,
            "metadata": {},
            "spec": {"token": token, "audiences": audiences},
            "status": {"user": {}},
        });
        if audiences.is_empty() {
            review["spec"]["audiences"] = json!(self.audiences);
        }
        let answer = self.webhook.ask(&review, PATIENCE).await.map_err(|error| {
            tracing::warn!(%error, "the token webhook does not answer");
            error.to_string()
        })?;
        if answer["kind"] != "TokenReview" || answer["apiVersion"] != api_version.as_str() {
            return Err(format!(
                "the token webhook answered with something that is no TokenReview of {api_version}"
            ));
        }
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        Ok(judge(&answer["status"], wanted, &self.audiences))
    }
}

/// What an answer means: who it is, nobody, or why not.
fn judge(status: &Value, wanted: &[String], own: &[String]) -> Result<Option<Known>, String> {
    let told = strings(&status["audiences"]);
    let for_whom = if told.is_empty() { own } else { told.as_slice() };
    let audiences: Vec<String> = wanted.iter().filter(|one| for_whom.contains(one)).cloned().collect();
    if status["authenticated"] != true {
        return match status["error"].as_str().filter(|text| !text.is_empty()) {
            Some(error) => Err(error.to_owned()),
            None => Ok(None),
        };
    }
    if audiences.is_empty() {
        return Ok(None);
    }
    let user = user_of(&status["user"]);
    if user.name.is_empty() {
        return Err("the token webhook knows the token, but not whose it is".into());
    }
    Ok(Some(Known { user, audiences }))
}

#[async_trait]
impl TokenAuthenticator for WebhookTokens {
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Result<Option<Known>, String> {
        let key: [u8; 32] = Sha256::digest(json!([token, audiences]).to_string()).into();
        let started = Instant::now();
        if let Some(known) = self.known.get(&key) {
            self.metrics.looked(true, started.elapsed());
            return known;
        }
        let found = {
            let _fetching = self.metrics.fetching();
            self.ask(token, audiences).await
        };
        self.metrics.looked(false, started.elapsed());
        self.metrics.fetched(matches!(found, Ok(Ok(_))));
        // That there was no answer is not remembered.
        let found = found?;
        self.known.put(key, found.clone(), self.life);
        found
    }
}
