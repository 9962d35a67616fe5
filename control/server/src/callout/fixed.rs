//! A server that the operator names in a file: webhooks that authenticate, authorize, or take audit events.
//!
//! They are asked at the URL that stands there, with the credentials that stand there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request};
use parking_lot::Mutex;
use serde_json::Value;

use super::connect::{self, Client};
use super::credential::{Called, Source};
use super::failure::{CallError, Why};
use super::kubeconfig::Reach;
use super::target::Target;
use super::{Failed, Shown, with_credential};
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
    server: Arc<Server>,
    rest: Duration,
}

struct Server {
    url: String,
    target: Target,
    called: Called,
    source: Source,
    /// Of the certificate that was shown last, or none.
    client: Mutex<(u64, Client)>,
}

impl std::fmt::Debug for Fixed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fixed").field("url", &self.server.url).finish_non_exhaustive()
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
        Self::reach(reach, path)
    }

    /// The same for who does not decide anything, so that it need not be over TLS.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or does not say what is needed.
    pub(crate) fn from_kubeconfig_or_plain(path: &Path) -> Result<Self, Error> {
        Self::reach(Reach::read(path)?, path)
    }

    fn reach(reach: Reach, path: &Path) -> Result<Self, Error> {
        let unusable =
            |reason: String| Error::Configuration { what: "kubeconfig", path: path.to_owned(), reason };
        let mut target = Target::of_url(&reach.url, reach.trust).map_err(unusable)?;
        target.server_name.clone_from(&reach.server_name);
        target.proxy = reach.proxy.as_ref().map(|(_, proxy)| proxy.clone());
        let (source, trust) = (reach.source, target.trust.clone());
        // What is known already is tried at once, so that a file that cannot be used is refused before anyone needs it.
        let identity = source.known().and_then(|known| known.identity);
        let client =
            connect::client(&target, identity.as_ref().map(|(_, leaf)| &**leaf), None).map_err(unusable)?;
        let client = Mutex::new((identity.map_or(0, |(number, _)| number), client));
        let called = Called {
            server: reach.server,
            server_name: reach.server_name,
            trust,
            proxy: reach.proxy.map(|(url, _)| url),
        };
        // Upstream's client says so, whatever the caller's own patience is.
        let mark = if reach.url.query().is_some() { '&' } else { '?' };
        let url = format!("{}{mark}timeout=30s", reach.url);
        let server = Server { url, target, called, source, client };
        Ok(Self { server: Arc::new(server), rest: REST })
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
                        tracing::debug!(url = self.server.url, why = %failed.why, attempt, "no answer, trying again");
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
        let server = &self.server;
        let request = Request::builder()
            .method(Method::POST)
            .uri(server.url.as_str())
            .header(ACCEPT, "application/json, */*")
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, AGENT)
            .header(HOST, server.target.authority())
            .body(body::full(json));
        let request = request.map_err(|error| Failed::of(Why::Send(error.to_string())))?;
        let client = |identity| server.client(identity);
        let whole = with_credential(Some(&server.source), &server.called, request, LARGEST, client);
        tokio::time::timeout(patience, whole).await.unwrap_or(Err(Failed::of(Why::Timeout)))
    }

    fn failed(&self, why: Why) -> CallError {
        CallError { method: Method::POST, url: self.server.url.clone(), why }
    }
}

impl Server {
    /// What connects with this certificate. Another one closes the connections of the one before when they are not in use.
    fn client(&self, identity: Shown) -> Result<Client, Why> {
        let (number, leaf) = identity.map_or((0, None), |(number, leaf)| (number, Some(leaf)));
        let mut client = self.client.lock();
        if client.0 != number {
            let other = connect::client(&self.target, leaf.as_deref(), None).map_err(Why::Send)?;
            *client = (number, other);
        }
        Ok(client.1.clone())
    }
}
