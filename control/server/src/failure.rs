//! From failures to answers: which internal failure is which `Status`, and how a `Status` goes over the wire.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use skep_api::status::Status;
use skep_api::validation::FieldError;
use skep_store::StoreError;

use crate::body::{self, Body};
use crate::cache::ReadError;
use crate::respond::ForEverybody;

/// A failure of the store that is not a conflict.
pub(crate) fn store(error: StoreError) -> Status {
    match error {
        StoreError::TooLarge { limit, .. } => Status::too_large(limit),
        StoreError::Compacted { requested, compacted } => too_old(requested.0, compacted.0),
        StoreError::Future { requested, current } => too_new(requested.0, current.0),
        StoreError::Closed => Status::service_unavailable("the server is shutting down"),
        other => {
            let why = with_causes(&other);
            tracing::error!(error = why, "the store failed");
            Status::internal(why)
        }
    }
}

/// An error, and what it comes from.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A read that could not be consistent.
pub(crate) fn read(error: ReadError) -> Status {
    match error {
        ReadError::Store(error) => store(error),
        ReadError::Behind { applied, wanted } => {
            tracing::warn!(applied, wanted, "the watch cache is behind");
            Status::timeout(format!("the watch cache stands at {applied}, {wanted} was asked for"), 1)
        }
    }
}

/// 504: the time that the request has is over.
pub(crate) fn too_long() -> Status {
    Status::timeout("request did not complete within requested timeout - context deadline exceeded", 0)
}

/// 500: what is stored under this key is encrypted and cannot be opened.
pub(crate) fn unreadable(key: &str, why: &str) -> Status {
    Status::internal(format!("unable to transform key {key:?}: {why}"))
}

/// 504: a revision that has not come to be.
pub(crate) fn too_new(requested: u64, current: u64) -> Status {
    let mut status =
        Status::timeout(format!("Too large resource version: {requested}, current: {current}"), 1);
    let causes = json!([{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }]);
    status.details.get_or_insert_with(|| json!({}))["causes"] = causes;
    status
}

/// 410: a revision that is not known any more.
pub(crate) fn too_old(requested: u64, oldest: u64) -> Status {
    Status::expired(format!("too old resource version: {requested} ({oldest})"))
}

/// 422 for the options of a request, which are objects of the group `meta.k8s.io`.
pub(crate) fn invalid_options(kind: &str, errors: &[FieldError]) -> Status {
    let why = FieldError::together(errors);
    let causes: Vec<Value> = errors.iter().map(FieldError::to_cause).collect();
    let details = json!({ "group": "meta.k8s.io", "kind": kind, "causes": causes });
    let message = format!("{kind}.meta.k8s.io \"\" is invalid: {why}");
    Status { details: Some(details), ..Status::new(422, "Invalid", message) }
}

/// The answer that a failure is.
pub(crate) fn response(status: &Status) -> Response<Body> {
    response_of(status, status.to_value())
}

/// The same with a body of its own.
pub(crate) fn response_of(status: &Status, body: Value) -> Response<Body> {
    let mut response = Response::new(body::full(body.to_string() + "\n"));
    *response.status_mut() = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.extensions_mut().insert(ForEverybody);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    if let Some(seconds) = status.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
