//! Paths that are no resources: discovery, OpenAPI, version, health, metrics, token issuer.

mod documents;
mod health;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use http::request::Parts;
use http::{Response, StatusCode};
use serde_json::json;
use skep_api::status::Status;

use crate::body::{self, Body};
use crate::negotiate;
use crate::query::Query;
use crate::request::RequestInfo;
use crate::respond::Manner;
use crate::server::Inner;

pub(crate) use documents::Documents;
use documents::{Document, OPENAPI_PROTOBUF};

/// The version of Kubernetes that the API is that of, and our own mark on it.
const GIT_VERSION: &str = "v1.36.0+skep";

/// Answers a request for a path that is no resource.
pub(crate) async fn handle(
    server: &Arc<Inner>,
    info: &RequestInfo,
    parts: &Parts,
    query: &Query,
) -> Result<Response<Body>, Status> {
    if !matches!(info.verb.as_str(), "get" | "head") {
        return Err(Status::no_such_path());
    }
    let path = info.path.trim_end_matches('/');
    if let Some((kind, check)) = health::find(path) {
        return Ok(health::answer(server, kind, check, query).await);
    }
    let manner = Manner::plain(parts, query);
    match path {
        "" => {
            return Ok(manner
                .value(StatusCode::OK, &json!({ "paths": documents::roots(&server.kinds().current()) })));
        }
        "/version" => return Ok(manner.value(StatusCode::OK, &version())),
        "/metrics" => {
            let size = health::timely(server.storage().store.size()).await.flatten();
            return Ok(text(StatusCode::OK, server.metrics().text(&server.storage().cache, size)));
        }
        "/metrics/slis" => return Ok(text(StatusCode::OK, server.metrics().health().text())),
        "/.well-known/openid-configuration" => {
            return Ok(manner.value(StatusCode::OK, &server.gate().tokens.openid_configuration()));
        }
        "/openid/v1/jwks" => return Ok(manner.value(StatusCode::OK, &server.gate().tokens.jwks())),
        _ => {}
    }
    if path == "/openapi/v2"
        && negotiate::prefers(&parts.headers, &OPENAPI_PROTOBUF)
        && let Some(document) =
            server.documents().openapi_in_protobuf(&server.kinds().current(), &server.aggregation().remotes())
    {
        return Ok(served(&document, parts, &manner));
    }
    let document = server.documents().find(
        &server.kinds().current(),
        &server.aggregation().remotes(),
        path,
        negotiate::aggregated_discovery(&parts.headers),
    );
    let document = document.ok_or_else(Status::no_such_path)?;
    negotiate::json(&parts.headers)?;
    Ok(served(&document, parts, &manner))
}

/// A document that a client may have already.
fn served(document: &Document, parts: &Parts, manner: &Manner) -> Response<Body> {
    let known = parts.headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = if known.split(',').any(|one| one.trim() == document.etag) {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        manner.json(StatusCode::OK, document.bytes.clone())
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        headers.insert(ETAG, etag);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(document.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response.headers_mut().insert(http::header::VARY, HeaderValue::from_static("Accept"));
    response
}

fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(text));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// Which version of the API this is, and which build.
pub(crate) fn version() -> serde_json::Value {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, platform()),
    })
}

/// The architecture, in the words of those who read it.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
