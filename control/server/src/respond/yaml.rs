//! Answers in YAML, for people: what would be JSON, written otherwise as it goes out.

use http::Response;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use skep_api::yaml;

use crate::body::{self, Body};
use crate::negotiate;

const YAML: &str = "application/yaml";

/// Whether the client wants YAML; where there is such a form (`is_there`) the request asks for JSON, then, whose answer is to
/// be [`written`].
pub(crate) fn take(headers: &mut HeaderMap, is_there: bool) -> bool {
    let wanted = negotiate::prefers(headers, &[YAML]);
    if wanted && is_there {
        // In the form that was asked for of YAML.
        let asked = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let instead = HeaderValue::try_from(asked.replace(YAML, "application/json"));
        headers.insert(ACCEPT, instead.unwrap_or(HeaderValue::from_static("application/json")));
        headers.remove(ACCEPT_ENCODING);
    }
    wanted
}

/// An answer in YAML, if it is one in JSON. One that breaks off stays as it is.
pub(crate) async fn written(response: Response<Body>) -> Response<Body> {
    let (mut parts, content) = response.into_parts();
    if parts.headers.get(CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
        return Response::from_parts(parts, content);
    }
    let text = match content.collect().await {
        Ok(whole) => {
            serde_json::from_slice(&whole.to_bytes()).ok().and_then(|value| yaml::write(&value).ok())
        }
        Err(_) => None,
    };
    let Some(text) = text else {
        return crate::failure::response(&skep_api::status::Status::internal(
            "the answer cannot be written in YAML",
        ));
    };
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(YAML));
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, body::full(text))
}
