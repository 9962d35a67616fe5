//! Paths that are no resources: discovery, OpenAPI, version, health, metrics, token issuer.

mod documents;
mod health;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use http::request::Parts;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::json;
use skep_api::status::Status;

use crate::body::{self, Body};
use crate::fairness::Table;
use crate::line::no_such_method;
use crate::negotiate;
use crate::query::Query;
use crate::request::RequestInfo;
use crate::respond::{ForEverybody, Manner};
use crate::server::Inner;

pub(crate) use documents::Documents;
use documents::{Document, OPENAPI_PROTOBUF};

/// The version of Kubernetes that the API is that of, and our own mark on it.
const GIT_VERSION: &str = "v1.36.0+skep";

/// What is said of a path that leads nowhere, outside of the API.
const NOWHERE: &str = "404 page not found\n";

/// Answers a request for a path that is no resource.
pub(crate) async fn handle(
    server: &Arc<Inner>,
    info: &RequestInfo,
    parts: &Parts,
    query: &Query,
) -> Result<Response<Body>, Status> {
    // Only the router of the API takes a slash at the end for nothing.
    let routed = ["/api", "/apis", "/version"].iter().any(|root| info.path.starts_with(root));
    let path = if routed || info.path == "/" { info.path.trim_end_matches('/') } else { info.path.as_str() };
    let details = query.get("includeRequestDetails").is_some_and(|value| !value.is_empty());
    if let Some(table) = Table::find(path, details).filter(|_| server.fairness().is_on()) {
        let now = Timestamp::try_from((server.ids().clock)()).unwrap_or(Timestamp::UNIX_EPOCH);
        return Ok(text(StatusCode::OK, server.fairness().table(table, now)));
    }
    if let Some((kind, check)) = health::find(path) {
        return Ok(health::answer(server, kind, check, query).await);
    }
    if let Some(answer) = small(server, info, parts, query, path).await {
        return answer;
    }
    if path == "/openapi/v2"
        && negotiate::prefers(&parts.headers, &OPENAPI_PROTOBUF)
        && let Some(document) =
            server.documents().openapi_in_protobuf(&server.kinds().current(), &server.aggregation().remotes())
    {
        return Ok(served(&document, parts, &Manner::plain(parts, query)));
    }
    let document = server.documents().find(
        &server.kinds().current(),
        &server.aggregation().remotes(),
        path,
        negotiate::aggregated_discovery(&parts.headers),
    );
    let Some(document) = document else {
        // Below the roots that upstream's router has, it is the router that knows no such path.
        let root = path.split('/').nth(1).unwrap_or_default();
        let is_routed = matches!(root, "api" | "version")
            || root == "apis"
                && server.kinds().current().groups().any(|one| path.split('/').nth(2) == Some(&one.name));
        return if is_routed { Err(Status::no_such_path()) } else { Ok(nowhere()) };
    };
    if is_routed(path) && info.verb != "get" {
        return Err(no_such_method());
    }
    match path {
        // The list of documents is JSON for everybody.
        "/openapi/v3" => {}
        "/openapi/v2" if negotiate::json(&parts.headers) => {}
        "/openapi/v2" => return Ok(text(StatusCode::NOT_ACCEPTABLE, "")),
        _ if path.starts_with("/openapi/") && !negotiate::json(&parts.headers) => {
            return Err(Status::not_acceptable(&negotiate::ROUTED));
        }
        _ => {
            if is_routed(path) {
                negotiate::routed(&parts.headers, &negotiate::ROUTED)?;
            }
            negotiate::discovery(&parts.headers, matches!(path, "/api" | "/apis"))?;
        }
    }
    Ok(served(&document, parts, &Manner::plain(parts, query)))
}

/// The answer to a path that leads nowhere.
pub(crate) fn nowhere() -> Response<Body> {
    text(StatusCode::NOT_FOUND, NOWHERE)
}

/// Whether upstream serves the path through its router, which minds the method; others answer to whichever they are asked
/// with.
fn is_routed(path: &str) -> bool {
    path == "/api"
        || path.starts_with("/api/")
        || path.starts_with("/apis/") && path.matches('/').count() == 3
}

/// What is short and made for each request.
async fn small(
    server: &Arc<Inner>,
    info: &RequestInfo,
    parts: &Parts,
    query: &Query,
    path: &str,
) -> Option<Result<Response<Body>, Status>> {
    let value = match path {
        "" => json!({ "paths": documents::roots(&server.kinds().current()) }),
        "/metrics" => {
            let size = health::timely(server.storage().store.size()).await.flatten();
            server.fairness().show();
            return Some(Ok(text(StatusCode::OK, server.metrics().text(&server.storage().cache, size))));
        }
        "/metrics/slis" => return Some(Ok(text(StatusCode::OK, server.metrics().health().text()))),
        "/version" => version(),
        "/.well-known/openid-configuration" => server.gate().tokens.openid_configuration(),
        "/openid/v1/jwks" => server.gate().tokens.jwks(),
        _ => return None,
    };
    if !path.is_empty() && info.verb != "get" {
        return Some(Err(no_such_method()));
    }
    let offered = match path {
        "/version" | "/.well-known/openid-configuration" => Some("application/json"),
        "/openid/v1/jwks" => Some("application/jwk-set+json"),
        _ => None,
    };
    if let Some(refused) = offered.and_then(|offered| negotiate::routed(&parts.headers, &[offered]).err()) {
        return Some(Err(refused));
    }
    Some(Ok(Manner::plain(parts, query).value(StatusCode::OK, &value)))
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
    response.extensions_mut().insert(ForEverybody);
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        headers.insert(ETAG, etag);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(document.content_type));
    // Whoever has a document asks whether it still holds, by its tag.
    let kept = if document.content_type == documents::AGGREGATED { "public" } else { "no-cache, private" };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
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
