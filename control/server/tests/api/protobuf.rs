//! Answers in Kubernetes' protobuf, to those who ask for it.

use serde_json::json;
use skep_api::decode::{Encoding, parse};

use crate::harness::cluster;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

#[tokio::test]
async fn object_list_and_failure_come_in_protobuf() {
    let cluster = cluster().await;
    let made = cluster.config_map("a", json!({ "k": "v" })).await;
    let path = "/api/v1/namespaces/default/configmaps";
    let answer = cluster.accepting(&format!("{path}/a"), &format!("{PROTOBUF},application/json")).await;
    assert_eq!((answer.code, answer.headers["content-type"].to_str().unwrap()), (200, PROTOBUF));
    let mut read = parse(&answer.bytes, Encoding::Protobuf).unwrap().value;
    assert_eq!(read["metadata"]["managedFields"][0]["manager"], "skep-control");
    // An empty object and none are the same in this encoding.
    read["metadata"]["managedFields"] = made["metadata"]["managedFields"].clone();
    assert_eq!(read, made);

    let list = cluster.accepting(path, PROTOBUF).await;
    assert_eq!(list.headers["content-type"], PROTOBUF);
    assert!(list.bytes.starts_with(b"k8s\0"));
    assert!(list.bytes.windows(13).any(|window| window == b"ConfigMapList"));
    let partial = cluster
        .accepting(
            path,
            &format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"),
        )
        .await;
    assert!(partial.bytes.windows(25).any(|window| window == b"PartialObjectMetadataList"));
    assert!(!partial.bytes.windows(3).any(|window| window == b"\x0a\x01k"));

    let missing = cluster.accepting(&format!("{path}/none"), PROTOBUF).await;
    assert_eq!((missing.code, missing.headers["content-type"].to_str().unwrap()), (404, PROTOBUF));
    let status = parse(&missing.bytes, Encoding::Protobuf).unwrap().value;
    assert_eq!((&status["reason"], &status["details"]["name"]), (&json!("NotFound"), &json!("none")));
}

#[tokio::test]
async fn watch_in_protobuf_is_frames_with_their_lengths() {
    use http_body_util::BodyExt as _;
    let cluster = cluster().await;
    let path = "/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=0&timeoutSeconds=1&allowWatchBookmarks=true";
    cluster.config_map("a", json!({})).await;
    let request = http::Request::get(path).header("accept", format!("{PROTOBUF};stream=watch"));
    let response = cluster.open(request.body(Default::default()).unwrap()).await;
    assert_eq!(response.headers()["content-type"], format!("{PROTOBUF};stream=watch"));
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let (mut rest, mut kinds) = (&bytes[..], Vec::new());
    while let Some((length, after)) = rest.split_first_chunk() {
        let (event, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        kinds.push(String::from_utf8(event[2..2 + event[1] as usize].to_vec()).unwrap());
        let start = event.windows(4).position(|window| window == b"k8s\0").unwrap();
        let object = parse(&event[start..], Encoding::Protobuf).unwrap().value;
        assert_eq!(object["kind"], "ConfigMap");
        rest = after;
    }
    assert_eq!(kinds.first().map(String::as_str), Some("ADDED"));
    assert_eq!(kinds.last().map(String::as_str), Some("BOOKMARK"));
}
