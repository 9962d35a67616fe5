//! A server that the operator names in a file: webhooks that authenticate, authorize, or take audit events.
//!
//! They are asked at the URL that stands there, with the credentials that stand there.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request};
use serde_json::Value;

use super::connect::{self, Client};
use super::failure::{CallError, Why};
use super::kubeconfig::Reach;
use super::target::Target;
use super::{Failed, exchange};
use crate::body;
use crate::error::Error;

/// The largest answer (bytes).
pub(super) const LARGEST: usize = 1 << 20;
/// So often a call is made, and so long it rests in between at first.
const TRIES: u32 = 5;
const REST: Duration = Duration::from_millis(500);
/// Whoever waits for a decision waits at least so long, if it is tried again.
const LEAST: Duration = Duration::from_secs(10);
/// What this server calls itself.
const AGENT: HeaderValue = HeaderValue::from_static("kube-apiserver");

/// The server. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Fixed {
    client: Client,
    url: String,
    authority: String,
    authorization: Option<HeaderValue>,
    rest: Duration,
}

impl std::fmt::Debug for Fixed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fixed").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Fixed {
    /// The server that the kubeconfig file at `path` names, over TLS.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or does not say what is needed.
    pub(crate) fn from_kubeconfig(path: &Path) -> Result<Self, Error> {
        let reach = Reach::read(path)?;
        if reach.url.scheme_str() != Some("https") {
            let reason = "the server of its cluster must be an https URL".to_owned();
            return Err(Error::Configuration { what: "kubeconfig", path: path.to_owned(), reason });
        }
        Self::reach(&reach, path)
    }

    /// The same for who does not decide anything, so that it need not be over TLS.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or does not say what is needed.
    pub(crate) fn from_kubeconfig_or_plain(path: &Path) -> Result<Self, Error> {
        Self::reach(&Reach::read(path)?, path)
    }

    fn reach(reach: &Reach, path: &Path) -> Result<Self, Error> {
        let unusable =
            |reason: String| Error::Configuration { what: "kubeconfig", path: path.to_owned(), reason };
        let mut target = Target::of_url(&reach.url, reach.trust.clone()).map_err(unusable)?;
        target.server_name.clone_from(&reach.server_name);
        let identity = reach.credential.identity.as_ref().map(|(_, leaf)| &**leaf);
        let client = connect::client(&target, identity, None).map_err(unusable)?;
        let authorization = reach.credential.authorization.clone();
        Ok(Self {
            client,
            url: reach.url.to_string(),
            authority: target.authority(),
            authorization,
            rest: REST,
        })
    }

    /// The same, that rests so long before it is first called again.
    pub(crate) fn resting(self, rest: Duration) -> Self {
        Self { rest, ..self }
    }

    /// Posts JSON once, and returns the answer's body.
    ///
    /// # Errors
    ///
    /// When there is no answer of code 2xx in time.
    pub(crate) async fn post(&self, json: Bytes, patience: Duration) -> Result<Bytes, CallError> {
        self.once(json, patience).await.map_err(|failed| self.failed(failed.why))
    }

    /// Posts JSON and returns the JSON of the answer; tries again while that may help and there is time.
    ///
    /// # Errors
    ///
    /// When there is no such answer.
    pub(crate) async fn ask(&self, body: &Value, patience: Duration) -> Result<Value, CallError> {
        let body = Bytes::from(body.to_string());
        let tries = async {
            let (mut rest, mut attempt) = (self.rest, 1);
            loop {
                match self.once(body.clone(), patience).await {
                    Err(failed) if failed.is_transient() && attempt < TRIES => {
                        tracing::debug!(url = self.url, why = %failed.why, attempt, "no answer, trying again");
                        tokio::time::sleep(rest).await;
                        rest = rest.mul_f64(1.5);
                        attempt += 1;
                    }
                    other => return other,
                }
            }
        };
        let bytes = tokio::time::timeout(patience.max(LEAST), tries).await;
        let bytes =
            bytes.unwrap_or(Err(Failed::of(Why::Timeout))).map_err(|failed| self.failed(failed.why))?;
        serde_json::from_slice(&bytes).map_err(|_| self.failed(Why::Send("the answer is not JSON".into())))
    }

    async fn once(&self, json: Bytes, patience: Duration) -> Result<Bytes, Failed> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.url.as_str())
            .header(ACCEPT, "application/json, */*")
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, AGENT)
            .header(HOST, self.authority.as_str());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(body::full(json));
        let request = request.map_err(|error| Failed::of(Why::Send(error.to_string())))?;
        let whole = exchange(&self.client, request, LARGEST);
        tokio::time::timeout(patience, whole).await.unwrap_or(Err(Failed::of(Why::Timeout)))
    }

    fn failed(&self, why: Why) -> CallError {
        CallError { method: Method::POST, url: self.url.clone(), why }
    }
}
