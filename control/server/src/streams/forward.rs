//! Passing one request on and its answer back, with a tunnel of bytes after an upgrade.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use skep_api::status::Status;

use super::Streams;
use super::client::Endpoint;
use crate::audit::Record;
use crate::body::{self, Body};
use crate::refusal;

/// So much of an error's text is read from a node.
const ERROR_TEXT: usize = 64 * 1024;

impl Streams {
    /// Sends `request` on to `endpoint` with `path` (and query) in place of its own.
    pub(super) async fn forward(
        &self,
        mut request: Request<Body>,
        endpoint: &Endpoint,
        path: &str,
    ) -> Result<Response<Body>, Status> {
        let upgrade = wants_upgrade(request.headers());
        let client = request.extensions_mut().remove::<OnUpgrade>();
        let record = request.extensions_mut().remove::<Record>();
        if upgrade && client.is_none() {
            return Err(refusal::bad_request("this connection cannot be upgraded: use HTTP/1.1"));
        }
        let mut sender = self
            .nodes
            .connect(endpoint)
            .await
            .map_err(|why| refusal::internal(&format!("error dialing backend: {why}")))?;
        let onward = onward(request, endpoint, path, upgrade)?;
        let mut response = sender
            .send_request(onward)
            .await
            .map_err(|error| refusal::internal(&format!("error sending request: {error}")))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (mut parts, body) = response.into_parts();
            strip_connection_headers(&mut parts.headers, false);
            return Ok(Response::from_parts(parts, body::boxed(body)));
        }
        let Some(client) = client.filter(|_| upgrade) else {
            return Err(refusal::internal("the backend switched protocols without being asked"));
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
async fn beginning(mut body: Body) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ERROR_TEXT {
        match body.frame().await {
            Some(Ok(frame)) => bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Some(Err(_)) | None => break,
        }
    }
    bytes.truncate(ERROR_TEXT);
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// Passes bytes on, both ways. The record of the request is complete when that ends.
async fn tunnel(client: OnUpgrade, backend: OnUpgrade, _record: Option<Record>) {
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
pub(super) fn wants_upgrade(headers: &HeaderMap) -> bool {
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
fn strip_connection_headers(headers: &mut HeaderMap, keep_upgrade: bool) {
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
fn strip_credentials(headers: &mut HeaderMap) {
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
