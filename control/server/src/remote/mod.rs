//! Servers that decide for this one: webhooks that a kubeconfig file names, and issuers of tokens.
//!
//! Owns the connection (HTTPS, the server's certificate always verified), how long an answer may take and how large it may
//! be, and when a call is made again. Does not know what is asked.

mod expiring;
mod kubeconfig;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;

use crate::error::Error;
use crate::pki::Leaf;
use crate::tls::{certificates, private_key, roots};

pub(crate) use expiring::Expiring;

/// Larger answers are refused.
const LARGEST: usize = 1 << 20;
/// Connections are kept so long without a call.
const IDLE: Duration = Duration::from_secs(90);
const CONNECT: Duration = Duration::from_secs(10);
/// So often a call is made, and so long it rests in between at first.
const TRIES: u32 = 5;
const REST: Duration = Duration::from_millis(500);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// It did not come in time.
    #[error("context deadline exceeded")]
    Timeout,
    /// The server cannot be reached, or ends the connection.
    #[error("{0}")]
    Send(String),
    /// It has this code, which means a failure.
    #[error("the server answered with the status code {0}")]
    Code(u16, bool),
    /// It is too large or not JSON.
    #[error("{0}")]
    Nonsense(&'static str),
}

impl CallError {
    /// Whether another try may help.
    fn is_transient(&self) -> bool {
        match self {
            Self::Send(_) => true,
            Self::Code(code, asked_to_wait) => *asked_to_wait || matches!(code, 429 | 500 | 504),
            Self::Timeout | Self::Nonsense(_) => false,
        }
    }
}

/// What the other side is verified by, and shown.
#[derive(Default)]
pub(crate) struct Security<'a> {
    /// Authorities in PEM; what the machine trusts where there are none.
    pub(crate) authorities: Option<&'a str>,
    pub(crate) identity: Option<&'a Leaf>,
    /// The name in the server's certificate, if not that of the URL.
    pub(crate) server_name: Option<&'a str>,
}

/// Makes calls to one server.
#[derive(Clone)]
pub(crate) struct Remote {
    client: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

impl Remote {
    /// A client that is secured in this way.
    ///
    /// # Errors
    ///
    /// When certificates cannot be used.
    pub(crate) fn new(security: &Security<'_>) -> Result<Self, Error> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls(security)?).https_only();
        let builder = match security.server_name {
            None => builder,
            Some(name) => {
                let name = ServerName::try_from(name.to_owned()).map_err(|error| Error::Tls {
                    operation: "read a server name",
                    source: Box::new(error),
                })?;
                builder.with_server_name_resolver(FixedServerNameResolver::new(name))
            }
        };
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(builder.enable_http1().wrap_connector(connector));
        Ok(Self { client, authorization: None })
    }

    /// Posts JSON and returns the JSON of the answer; tries again while that may help and there is time.
    pub(crate) async fn post(&self, url: &Uri, body: &Value, patience: Duration) -> Result<Value, CallError> {
        let body = Bytes::from(body.to_string());
        let tries = async {
            let mut rest = REST;
            for attempt in 1.. {
                let outcome =
                    tokio::time::timeout(patience, self.once(Method::POST, url, body.clone())).await;
                match outcome.unwrap_or(Err(CallError::Timeout)) {
                    Err(error) if error.is_transient() && attempt < TRIES => {
                        tracing::debug!(%url, %error, attempt, "a webhook did not answer, trying again");
                        tokio::time::sleep(rest).await;
                        rest = rest.mul_f64(1.5);
                    }
                    other => return other,
                }
            }
            Err(CallError::Timeout)
        };
        // However often it is tried, who waits for the decision waits no longer than this.
        let bytes = tokio::time::timeout(patience.max(Duration::from_secs(10)), tries).await;
        let bytes = bytes.unwrap_or(Err(CallError::Timeout))?;
        serde_json::from_slice(&bytes).map_err(|_| CallError::Nonsense("the answer is not JSON"))
    }

    /// Gets a JSON document.
    pub(crate) async fn get(&self, url: &Uri, patience: Duration) -> Result<Value, CallError> {
        let outcome = tokio::time::timeout(patience, self.once(Method::GET, url, Bytes::new())).await;
        let bytes = outcome.unwrap_or(Err(CallError::Timeout))?;
        serde_json::from_slice(&bytes).map_err(|_| CallError::Nonsense("the answer is not JSON"))
    }

    async fn once(&self, method: Method, url: &Uri, body: Bytes) -> Result<Bytes, CallError> {
        let send = |error: &dyn std::error::Error| CallError::Send(innermost(error));
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(ACCEPT, "application/json, */*")
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, "kube-apiserver");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(body)).map_err(|error| send(&error))?;
        let response = self.client.request(request).await.map_err(|error| send(&error))?;
        let code = response.status();
        if !matches!(code, StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED) {
            return Err(CallError::Code(code.as_u16(), response.headers().contains_key(RETRY_AFTER)));
        }
        read(response.into_body()).await
    }
}

async fn read(mut body: Incoming) -> Result<Bytes, CallError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| CallError::Send(innermost(&error)))?;
        bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if bytes.len() > LARGEST {
            return Err(CallError::Nonsense("the answer is too large"));
        }
    }
    Ok(bytes.freeze())
}

/// The text of the failure at the bottom: those above only say which part of the client passed it on.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn tls(security: &Security<'_>) -> Result<ClientConfig, Error> {
    let failed = |error: rustls::Error| Error::Tls { operation: "set up a client", source: Box::new(error) };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = match security.authorities {
        Some(pem) => roots(pem)?,
        None => {
            let mut store = rustls::RootCertStore::empty();
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            store
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots);
    match security.identity {
        None => Ok(builder.with_no_client_auth()),
        Some(leaf) => builder
            .with_client_auth_cert(certificates(&leaf.certificate_pem)?, private_key(&leaf.key_pem)?)
            .map_err(failed),
    }
}

/// A server that a kubeconfig file names: the URL is asked as it stands there.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    remote: Remote,
    url: Uri,
}

impl Webhook {
    /// Posts JSON and returns the JSON of the answer.
    pub(crate) async fn ask(&self, body: &Value, patience: Duration) -> Result<Value, CallError> {
        self.remote.post(&self.url, body, patience).await
    }
}
