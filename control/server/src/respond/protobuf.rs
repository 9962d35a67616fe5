//! Answers in protobuf that hold no stored object: failures, what a deletion says, reviews, scales, discovery. They are made
//! in JSON for everybody, marked so, and written otherwise as they go out.

use http::Response;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt;
use serde_json::Value;
use skep_api::protobuf;

use super::ForEverybody;
use crate::body::{self, Body};
use crate::negotiate::PROTOBUF;

/// The form of discovery that tells of all groups at once.
const AGGREGATED: &str =
    "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The answer in protobuf, if it is one that was made for everybody and has that form.
pub(crate) async fn written(mut response: Response<Body>) -> Response<Body> {
    let is_ours = response.extensions_mut().remove::<ForEverybody>().is_some();
    if !is_ours || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, content) = response.into_parts();
    let Ok(whole) = content.collect().await else {
        return crate::failure::response(&skep_api::status::Status::internal("the answer cannot be written"));
    };
    let bytes = whole.to_bytes();
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let Ok(encoded) = protobuf::object(&value) else {
        return Response::from_parts(parts, body::full(bytes));
    };
    let media_type = if value["kind"] == "APIGroupDiscoveryList" { AGGREGATED } else { PROTOBUF };
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, body::full(encoded))
}

#[cfg(test)]
mod tests {
    use skep_api::status::Status;

    use super::*;

    #[tokio::test]
    async fn failure_is_written_in_protobuf_and_what_another_server_says_stays() {
        let failed = written(crate::failure::response(&Status::bad_request("why"))).await;
        assert_eq!(failed.headers()[CONTENT_TYPE], PROTOBUF);
        assert_eq!(failed.status(), 400);
        let bytes = failed.into_body().collect().await.unwrap().to_bytes();
        let read = skep_api::decode::parse(&bytes, skep_api::decode::Encoding::Protobuf).unwrap().value;
        assert_eq!((&read["message"], &read["code"]), (&"why".into(), &400.into()));
        let said = Status::bad_request("why").to_value().to_string();
        let mut other = Response::new(body::full(said.clone()));
        other.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let other = written(other).await;
        assert_eq!(other.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(other.into_body().collect().await.unwrap().to_bytes(), said);
    }
}
