//! Calls that this server makes to servers of its users: webhooks for conversion, admission, authentication and
//! authorization, those that take audit events, issuers of tokens, and aggregated API servers.
//!
//! Owns where such a server is ([`service`]), the connection to it and its reuse ([`connect`]), how long an answer may
//! take and how large it may be. Does not know what is asked and what an answer means: that is with who calls. Connections
//! speak HTTP/1.1: over one HTTP/2 connection, all requests to a service would go to one of its endpoints.

mod connect;
mod credential;
mod failure;
mod fixed;
#[cfg(test)]
mod fixed_tests;
mod kubeconfig;
mod proxy;
mod service;
mod target;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use crate::body::{self, Body};
use crate::gate::ObjectReader;
use crate::pki::Leaf;

pub(crate) use credential::Source;
pub(crate) use failure::{CallError, Why};
pub(crate) use fixed::Fixed;
pub(crate) use kubeconfig::Credentials;
pub(crate) use target::{Target, Trust, trust};

use connect::{Client, Services};
use credential::{Called, Credential};

/// So many servers are connections kept to; the one that was longest not called is forgotten for another.
const KEPT: usize = 200;
/// What this server calls itself.
const AGENT: HeaderValue = HeaderValue::from_static("kube-apiserver-admission");

struct Kept {
    client: Client,
    used: Instant,
}

/// A certificate that the other side is shown, and a number that tells it from others: of its renewals, or its own.
type Shown = Option<(u64, Arc<Leaf>)>;

/// Calls servers, and keeps connections to them. Shared by all who call.
pub(crate) struct Caller {
    services: Services,
    clients: Mutex<HashMap<(Target, u64), Kept>>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").finish_non_exhaustive()
    }
}

impl Caller {
    /// A caller that finds services where `reader` shows them.
    pub(crate) fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self { services: Services { reader, turn: Arc::default() }, clients: Mutex::default() }
    }

    /// Posts JSON to `target`, shows it what `source` has for it, and returns the answer's body. `query` comes behind the
    /// target's path. Getting credentials, connecting, sending and reading together take at most `patience`, the answer
    /// has at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// When there is no answer of code 2xx within these bounds.
    pub(crate) async fn post(
        &self,
        target: &Target,
        source: Option<&Source>,
        query: &str,
        json: Bytes,
        patience: Duration,
        limit: usize,
    ) -> Result<Bytes, CallError> {
        let url = target.url(query);
        let fail = |why| CallError { method: Method::POST, url: url.clone(), why };
        let request = Request::builder()
            .method(Method::POST)
            .uri(url.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .header(USER_AGENT, AGENT)
            .header(HOST, target.authority())
            .body(body::full(json))
            .map_err(|error| fail(Why::Send(error.to_string())))?;
        let called = target.called();
        let whole =
            with_credential(source, &called, request, limit, |identity| self.client(target, identity));
        match tokio::time::timeout(patience, whole).await {
            Ok(outcome) => outcome.map_err(|failed| fail(failed.why)),
            Err(_) => Err(fail(Why::Timeout)),
        }
    }

    /// Gets a path of a server, with these headers: the code and the body of the answer, whatever the code.
    ///
    /// # Errors
    ///
    /// When there is no answer within these bounds.
    pub(crate) async fn get(
        &self,
        target: &Target,
        shown: Shown,
        path: &str,
        headers: HeaderMap,
        patience: Duration,
        limit: usize,
    ) -> Result<(u16, Bytes), CallError> {
        let url = format!("https://{}{path}", target.authority());
        let fail = |why| CallError { method: Method::GET, url: url.clone(), why };
        let request =
            Request::builder().uri(url.as_str()).header(HOST, target.authority()).body(body::empty());
        let mut request = request.map_err(|error| fail(Why::Send(error.to_string())))?;
        request.headers_mut().extend(headers);
        let whole = async {
            let response = self.send(target, shown, request).await?;
            let code = response.status().as_u16();
            Ok((code, read(response.into_body(), limit).await?))
        };
        match tokio::time::timeout(patience, whole).await {
            Ok(outcome) => outcome.map_err(fail),
            Err(_) => Err(fail(Why::Timeout)),
        }
    }

    /// Sends a request as it is and returns the answer as soon as it begins, for those who pass it on. An upgrade is the
    /// caller's.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, or ends the connection without an answer.
    pub(crate) async fn send(
        &self,
        target: &Target,
        shown: Shown,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Why> {
        let client = self.client(target, shown)?;
        client.request(request).await.map_err(|error| failure::of_client(&error))
    }

    fn client(&self, target: &Target, shown: Shown) -> Result<Client, Why> {
        let place = Target { path: String::new(), ..target.clone() };
        let key = (place, shown.as_ref().map_or(0, |(renewals, _)| *renewals));
        let now = Instant::now();
        let mut clients = self.clients.lock();
        if let Some(kept) = clients.get_mut(&key) {
            kept.used = now;
            return Ok(kept.client.clone());
        }
        let identity = shown.map(|(_, leaf)| leaf);
        let client =
            connect::client(&key.0, identity.as_deref(), Some(self.services.clone())).map_err(Why::Send)?;
        if clients.len() >= KEPT
            && let Some(oldest) = clients.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone())
        {
            clients.remove(&oldest);
        }
        clients.insert(key, Kept { client: client.clone(), used: now });
        Ok(client)
    }
}

/// Gets a JSON document of at most `limit` bytes from a server that is called seldom, over TLS.
///
/// # Errors
///
/// When there is none within these bounds.
pub(crate) async fn fetch(
    url: &Uri,
    trust: Trust,
    patience: Duration,
    limit: usize,
) -> Result<Value, CallError> {
    let bytes = fetch_bytes(url, trust, None, patience, limit).await?;
    let fail = |why| CallError { method: Method::GET, url: url.to_string(), why };
    serde_json::from_slice(&bytes).map_err(|_| fail(Why::Send("the answer is not JSON".into())))
}

/// The same for what need not be JSON, with a token that is shown there, if any.
///
/// # Errors
///
/// When there is nothing within these bounds.
pub(crate) async fn fetch_bytes(
    url: &Uri,
    trust: Trust,
    bearer: Option<&str>,
    patience: Duration,
    limit: usize,
) -> Result<Bytes, CallError> {
    let fail = |why| CallError { method: Method::GET, url: url.to_string(), why };
    if url.scheme_str() != Some("https") {
        return Err(fail(Why::Send("'https' is the only allowed URL scheme".into())));
    }
    let target = Target::of_url(url, trust).map_err(|why| fail(Why::Send(why)))?;
    let client = connect::client(&target, None, None).map_err(|why| fail(Why::Send(why)))?;
    let mut request = Request::builder()
        .uri(url)
        .header(ACCEPT, "application/json, */*")
        .header(USER_AGENT, "kube-apiserver")
        .header(HOST, target.authority());
    if let Some(bearer) = bearer {
        request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
    }
    let request = request.body(body::empty()).map_err(|error| fail(Why::Send(error.to_string())))?;
    let whole = tokio::time::timeout(patience, exchange(&client, request, limit)).await;
    whole.unwrap_or(Err(Failed::of(Why::Timeout))).map_err(|failed| fail(failed.why))
}

/// A call that came to nothing.
struct Failed {
    why: Why,
    /// Whether the other side asks to try again later.
    later: bool,
}

impl Failed {
    fn of(why: Why) -> Self {
        Self { why, later: false }
    }

    /// Whether another try may help.
    fn is_transient(&self) -> bool {
        match &self.why {
            Why::Send(_) => true,
            Why::Code(code, _) => self.later || matches!(code, 429 | 500 | 504),
            Why::Timeout | Why::TooLarge(_) | Why::Credentials(_) => false,
        }
    }
}

/// Sends a request with what `source` shows, over the client for that, and reads the whole answer. Tells the source if the
/// other side refuses it.
async fn with_credential(
    source: Option<&Source>,
    called: &Called,
    mut request: Request<Body>,
    limit: usize,
    client: impl FnOnce(Shown) -> Result<Client, Why>,
) -> Result<Bytes, Failed> {
    let shown = match source {
        None => Credential::default(),
        Some(source) => source.current(called).await.map_err(|why| Failed::of(Why::Credentials(why)))?,
    };
    request.headers_mut().extend(shown.headers.clone());
    let client = client(shown.identity.clone()).map_err(Failed::of)?;
    let outcome = exchange(&client, request, limit).await;
    if let (Some(source), Err(Failed { why: Why::Code(401, _), .. })) = (source, &outcome) {
        source.refused(&shown, called).await;
    }
    outcome
}

/// Sends a request and reads the whole answer, which has to be a good one.
async fn exchange(client: &Client, request: Request<Body>, limit: usize) -> Result<Bytes, Failed> {
    let sent = client.request(request).await;
    let response = sent.map_err(|error| Failed::of(failure::of_client(&error)))?;
    let (code, later) = (response.status(), response.headers().contains_key(RETRY_AFTER));
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_text = kind.is_none_or(|kind| kind.starts_with("text/"));
    let body = read(response.into_body(), limit).await.map_err(Failed::of)?;
    if code.is_success() {
        return Ok(body);
    }
    // What is not text may be anything: it is not shown.
    let text = if is_text { String::from_utf8_lossy(&body).trim().to_owned() } else { "unknown".to_owned() };
    Err(Failed { why: Why::Code(code.as_u16(), text), later })
}

/// The whole body, if it is not too large.
async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, Why> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Why::Send(failure::innermost(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(Why::TooLarge(limit));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}
