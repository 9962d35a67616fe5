//! A connection to the runtime's streaming server, switched to SPDY/3.1.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::refusal::{Refusal, describe};
use crate::websocket::lists;

/// The header with which versions of the streams' protocol are agreed on.
const VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: HeaderValue = HeaderValue::from_static("SPDY/3.1");
/// How long the runtime's server has to answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Most bytes of an error's text.
const TEXT: usize = 4 << 10;

/// A switched connection.
#[derive(Debug)]
pub(crate) struct RuntimeStream {
    pub(crate) connection: TokioIo<Upgraded>,
    /// Version of the streams' protocol that the server chose.
    pub(crate) version: Option<HeaderValue>,
}

/// Whether the request asks for SPDY/3.1.
pub(crate) fn is_spdy<B>(request: &Request<B>) -> bool {
    lists(request.headers(), &header::UPGRADE, "SPDY/3.1")
}

/// Versions of the streams' protocol that a client offers.
pub(crate) fn versions(headers: &HeaderMap) -> Vec<HeaderValue> {
    headers.get_all(VERSION).iter().cloned().collect()
}

/// The answer that turns a connection into SPDY.
pub(crate) fn switching<R: Default>(version: Option<HeaderValue>) -> Response<R> {
    let mut response = Response::new(R::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, SPDY);
    if let Some(version) = version {
        answer.insert(VERSION, version);
    }
    response
}

/// Connects to the server at `url` and switches to SPDY.
///
/// # Errors
/// 500 if there is no server; its own status and words if it does not switch.
pub(crate) async fn connect(url: &str, versions: &[HeaderValue]) -> Result<RuntimeStream, Refusal> {
    match tokio::time::timeout(ANSWER, switch(url, versions)).await {
        Ok(answer) => answer,
        Err(_) => Err(Refusal::internal("the runtime's streaming server does not answer")),
    }
}

async fn switch(url: &str, versions: &[HeaderValue]) -> Result<RuntimeStream, Refusal> {
    let failed = |error: &dyn std::error::Error| {
        Refusal::internal(format!("the runtime's streaming server cannot be used: {}", describe(error)))
    };
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| failed(&error))?;
    let Some(authority) = uri.authority() else {
        return Err(Refusal::internal("the runtime gave an address without a host"));
    };
    let address = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80));
    let connection = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    // Keys that are typed must not wait for more.
    connection.set_nodelay(true).map_err(|error| failed(&error))?;
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection))
        .await
        .map_err(|error| failed(&error))?;
    tokio::spawn(driver.with_upgrades());
    let mut request = Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, authority.as_str())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, SPDY)
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    for version in versions {
        request.headers_mut().append(VERSION, version.clone());
    }
    let mut response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(response).await);
    }
    let version = response.headers().get(VERSION).cloned();
    let upgraded = hyper::upgrade::on(&mut response).await.map_err(|error| failed(&error))?;
    Ok(RuntimeStream { connection: TokioIo::new(upgraded), version })
}

async fn refused(response: Response<hyper::body::Incoming>) -> Refusal {
    let status = response.status();
    let text = Limited::new(response.into_body(), TEXT).collect().await.map(|body| body.to_bytes());
    let text = text.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let status = if status.is_client_error() || status.is_server_error() {
        status
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    Refusal::new(status, format!("the runtime's streaming server refused: {}", text.trim()))
}
