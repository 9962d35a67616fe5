//! Passing one request on and its answer back, with a tunnel of bytes after an upgrade.

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use skep_api::status::Status;

use super::Streams;
use super::client::Endpoint;
use super::links::{self, Origin};
use crate::audit::Record;
use crate::body::{self, Body, BoxError};
use crate::refusal;

/// So much of an error's text is read from a node.
const ERROR_TEXT: usize = 64 * 1024;
/// Longer pages are passed on as they come, their links as they are.
const LONGEST_PAGE: usize = 8 * 1024 * 1024;

/// Why a request did not come back with an answer.
pub(super) enum Failure {
    /// It cannot be passed on at all.
    Refused(Status),
    /// There is no connection to the backend.
    Dial(String),
    /// The connection did not bring an answer.
    Send(String),
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(status) => status,
            Failure::Dial(why) => refusal::internal(&format!("error dialing backend: {why}")),
            Failure::Send(why) => refusal::internal(&format!("error sending request: {why}")),
        }
    }
}

impl Failure {
    /// The same in the words of the plain proxy: what it cannot reach is not available.
    pub(super) fn of_service(self) -> Status {
        match self {
            Self::Refused(status) => status,
            Self::Dial(why) | Self::Send(why) => {
                refusal::unavailable(&format!("error trying to reach service: {why}"))
            }
        }
    }
}

impl Streams {
    /// Sends `request` on to `endpoint` with `path` (and query) in place of its own.
    pub(super) async fn forward(
        &self,
        mut request: Request<Body>,
        endpoint: &Endpoint,
        path: &str,
    ) -> Result<Response<Body>, Failure> {
        let upgrade = wants_upgrade(request.headers());
        let client = request.extensions_mut().remove::<OnUpgrade>();
        let record = request.extensions_mut().remove::<Record>();
        if upgrade && client.is_none() {
            let why = "this connection cannot be upgraded: use HTTP/1.1";
            return Err(Failure::Refused(refusal::bad_request(why)));
        }
        let mut sender = self.nodes.connect(endpoint).await.map_err(Failure::Dial)?;
        let onward = onward(request, endpoint, path, upgrade).map_err(Failure::Refused)?;
        let sent = sender.send_request(onward).await;
        let mut response = sent.map_err(|error| Failure::Send(error.to_string()))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (mut parts, body) = response.into_parts();
            strip_connection_headers(&mut parts.headers, false);
            return Ok(Response::from_parts(parts, body::boxed(body)));
        }
        let Some(client) = client.filter(|_| upgrade) else {
            let why = "the backend switched protocols without being asked";
            return Err(Failure::Refused(refusal::internal(why)));
        };
        let backend = hyper::upgrade::on(&mut response);
        tokio::spawn(tunnel(client, backend, record));
        let (parts, _) = response.into_parts();
        Ok(Response::from_parts(parts, body::empty()))
    }

    /// As [`Streams::forward`], with a node's errors as `Status`.
    pub(super) async fn forward_to_node(
        &self,
        request: Request<Body>,
        endpoint: &Endpoint,
        path: &str,
    ) -> Result<Response<Body>, Status> {
        let response = self.forward(request, endpoint, path).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS || response.status().is_success() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let text = beginning(body).await;
        Err(refusal::from_node(parts.status, &text))
    }
}

/// The first part of an error's text.
async fn beginning(body: Body) -> String {
    let (mut bytes, _) = read(body, ERROR_TEXT).await;
    bytes.truncate(ERROR_TEXT);
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// The body until it ends or is longer than `limit`, and what is left of it then.
async fn read(mut body: Body, limit: usize) -> (Vec<u8>, Option<Result<Body, BoxError>>) {
    let mut bytes = Vec::new();
    while bytes.len() <= limit {
        match body.frame().await {
            Some(Ok(frame)) => bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Some(Err(error)) => return (bytes, Some(Err(error))),
            None => return (bytes, None),
        }
    }
    (bytes, Some(Ok(body)))
}

/// The answer with its links leading through the proxy, and without what would open this server to other origins.
pub(super) async fn through(answer: Response<Body>, origin: &Origin) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    for name in ["credentials", "headers", "methods", "origin"] {
        parts.headers.remove(format!("access-control-allow-{name}"));
    }
    if let Some(location) = text(&parts.headers, &header::LOCATION) {
        if let Some(location) =
            origin.rewrite(location).and_then(|location| HeaderValue::try_from(location).ok())
        {
            parts.headers.insert(header::LOCATION, location);
        }
        return Response::from_parts(parts, body);
    }
    let media_type = text(&parts.headers, &header::CONTENT_TYPE).unwrap_or_default();
    if media_type.split(';').next().is_none_or(|media_type| media_type.trim() != "text/html") {
        return Response::from_parts(parts, body);
    }
    let body = match read(body, LONGEST_PAGE).await {
        (page, None) => {
            let encoding = text(&parts.headers, &header::CONTENT_ENCODING).unwrap_or_default();
            match links::decode(&page, encoding, LONGEST_PAGE as u64) {
                Some(decoded) => {
                    parts.headers.remove(header::CONTENT_ENCODING);
                    parts.headers.remove(header::CONTENT_LENGTH);
                    body::full(origin.rewrite_page(&decoded))
                }
                None => body::full(page),
            }
        }
        (beginning, Some(rest)) => followed(beginning, rest),
    };
    Response::from_parts(parts, body)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What was read already, then the rest or the error that came instead.
fn followed(beginning: Vec<u8>, rest: Result<Body, BoxError>) -> Body {
    let first = stream::iter([Ok(Frame::data(Bytes::from(beginning)))]);
    match rest {
        Ok(rest) => body::boxed(StreamBody::new(first.chain(BodyStream::new(rest)))),
        Err(error) => body::boxed(StreamBody::new(first.chain(stream::iter([Err(error)])))),
    }
}

/// Passes bytes on, both ways. The record of the request is complete when that ends.
pub(crate) async fn tunnel(client: OnUpgrade, backend: OnUpgrade, _record: Option<Record>) {
    let (client, backend) = match tokio::try_join!(client, backend) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "an upgrade was not completed");
            return;
        }
    };
    let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut backend).await {
        tracing::debug!(%error, "a tunnel ended");
    }
}

/// Whether the client asks to switch protocols.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    let listed = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    listed && headers.contains_key(header::UPGRADE)
}

fn onward(
    request: Request<Body>,
    endpoint: &Endpoint,
    path: &str,
    upgrade: bool,
) -> Result<Request<Body>, Status> {
    let (parts, body) = request.into_parts();
    let mut onward = Request::builder()
        .method(parts.method)
        .uri(path)
        .body(if upgrade { body::empty() } else { body })
        .map_err(|error| refusal::bad_request(&format!("cannot be passed on: {error}")))?;
    let mut headers = parts.headers;
    strip_connection_headers(&mut headers, upgrade);
    strip_credentials(&mut headers);
    let host =
        HeaderValue::try_from(endpoint.authority()).map_err(|error| refusal::internal(&error.to_string()))?;
    headers.insert(header::HOST, host);
    *onward.headers_mut() = headers;
    Ok(onward)
}

/// Removes the headers that are about one connection only (RFC 9110, section 7.6.1), those of an upgrade unless kept.
pub(crate) fn strip_connection_headers(headers: &mut HeaderMap, keep_upgrade: bool) {
    if !keep_upgrade {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
        headers.remove(header::UPGRADE);
    }
    for name in ["keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"] {
        headers.remove(name);
    }
}

/// Removes what was meant for the API server only.
pub(crate) fn strip_credentials(headers: &mut HeaderMap) {
    headers.remove(header::AUTHORIZATION);
    let impersonation: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in impersonation {
        headers.remove(name);
    }
    let offered: Vec<String> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|protocol| protocol.trim().to_owned())
        .filter(|protocol| {
            !protocol.is_empty() && !protocol.starts_with("base64url.bearer.authorization.k8s.io.")
        })
        .collect();
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let Ok(value) = HeaderValue::try_from(offered.join(", "))
        && !offered.is_empty()
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
}
