//! An issuer as it is on the network: found by its discovery document, its keys fetched and, when a token names one that is
//! not among them, fetched again.
//!
//! A task per issuer does all fetching, so that an issuer that hangs holds no request up for long, and no number of tokens
//! makes for more than one request in ten seconds. Until the first keys are there, the issuer's tokens are refused.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::configuration::Issuer;
use super::keyset::KeySet;
use crate::callout::{self, Trust};
use crate::error::Error;
use crate::gate::Clock;
use crate::metrics::IssuerMetrics;

/// So long between two attempts to fetch.
const REST: Duration = Duration::from_secs(10);
/// So long one answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The largest document (bytes).
const LARGEST: usize = 1 << 20;
/// So long a token waits for keys that are being fetched.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// What is known of an issuer's keys.
#[derive(Clone, Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// Counts attempts to fetch, good and bad.
    attempts: u64,
}

/// An issuer that is being followed until this is dropped.
pub(super) struct Provider {
    state: watch::Receiver<State>,
    asked: mpsc::Sender<()>,
    task: AbortHandle,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Provider {
    /// Begins to follow an issuer.
    pub(super) fn follow(issuer: &Issuer, clock: Clock, metrics: IssuerMetrics) -> Result<Self, Error> {
        let (discovery, authority) = (issuer.discovery.clone(), issuer.authority.clone());
        Self::of(&issuer.url, discovery, authority, Some((clock, metrics)))
    }

    /// Begins to follow the issuer at `url`, whose discovery document is there, with a certificate of this authority (PEM);
    /// its fetches may be counted.
    pub(super) fn of(
        url: &str,
        discovery: Uri,
        authority: Option<String>,
        counted: Option<(Clock, IssuerMetrics)>,
    ) -> Result<Self, Error> {
        if let Some(pem) = &authority {
            crate::tls::roots(pem)?;
        }
        let source = Source { trust: trust(authority), issuer: url.to_owned(), discovery, counted };
        let (sender, state) = watch::channel(State::default());
        let (asked, requests) = mpsc::channel(1);
        let task = tokio::spawn(source.keep(sender, requests)).abort_handle();
        Ok(Self { state, asked, task })
    }

    /// Whether its keys are there.
    pub(super) fn is_ready(&self) -> bool {
        self.state.borrow().keys.is_some()
    }

    /// Returns when its keys are there.
    pub(super) async fn ready(&self) {
        // The task that fetches ends with this.
        let _ = self.state.clone().wait_for(|state| state.keys.is_some()).await;
    }

    /// The keys, with the one of that id if the issuer has it.
    pub(super) async fn keys(&self, id: Option<&str>) -> Result<Arc<KeySet>, String> {
        let before = self.state.borrow().clone();
        let keys = before.keys.ok_or("oidc: authenticator not initialized")?;
        if keys.has(id) {
            return Ok(keys);
        }
        // Full means that somebody has asked already.
        let _ = self.asked.try_send(());
        let mut state = self.state.clone();
        let fetched = state.wait_for(|state| state.attempts > before.attempts);
        match tokio::time::timeout(WAIT, fetched).await {
            Ok(Ok(state)) => Ok(state.keys.clone().unwrap_or(keys)),
            _ => Ok(keys),
        }
    }
}

/// Where the discovery document of an issuer is that does not say otherwise (OpenID Connect Discovery 1.0, section 4).
pub(super) fn discovery(issuer: &str) -> Option<Uri> {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')).parse().ok()
}

/// Whose certificates count: those of an authority, or of whatever the machine trusts.
pub(super) fn trust(authority: Option<String>) -> Trust {
    authority.map_or(Trust::System, Trust::Authority)
}

struct Source {
    trust: Trust,
    issuer: String,
    discovery: Uri,
    /// By which clock and where its fetches are counted, if they are.
    counted: Option<(Clock, IssuerMetrics)>,
}

impl Source {
    fn count(&self, keys: Option<&str>) {
        if let Some((clock, metrics)) = &self.counted {
            metrics.fetched(&self.issuer, keys, clock());
        }
    }

    async fn keep(self, state: watch::Sender<State>, mut requests: mpsc::Receiver<()>) {
        loop {
            let began = Instant::now();
            match self.fetch().await {
                Ok(keys) => state.send_modify(|state| {
                    state.keys = Some(Arc::new(keys));
                    state.attempts += 1;
                }),
                Err(error) => {
                    self.count(None);
                    tracing::warn!(issuer = self.issuer, error, "cannot fetch an issuer's keys");
                    state.send_modify(|state| state.attempts += 1);
                }
            }
            tokio::time::sleep_until(began + REST).await;
            if state.borrow().keys.is_some() && requests.recv().await.is_none() {
                return;
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        let get = |url: Uri| async move {
            let fetched = callout::fetch(&url, self.trust.clone(), PATIENCE, LARGEST).await;
            fetched.map_err(|error| error.to_string())
        };
        let document = get(self.discovery.clone()).await?;
        let text = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
        if text("issuer") != self.issuer {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {:?} got {:?}",
                self.issuer,
                text("issuer")
            ));
        }
        let keys: Uri =
            text("jwks_uri").parse().map_err(|_| "provider did not return JWKS URL".to_owned())?;
        let keys: Value = get(keys).await?;
        let set = KeySet::parse(&keys)?;
        self.count(Some(&keys.to_string()));
        Ok(set)
    }
}
