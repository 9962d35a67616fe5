//! Requests over TLS: who may ask, and what is answered where no stream is involved.

use http_body_util::BodyExt;

use crate::testing::{Authority, Connection, Node, append, get, send};

#[tokio::test]
async fn caller_of_each_identity_is_let_in_or_told_why_not() {
    let node = Node::start().await;
    assert_eq!(node.get("/healthz").await, (200, "ok".into()));
    let nobody = node.connect_with(None).await.unwrap();
    assert_eq!(get(nobody, "/healthz").await.unwrap().0, 401);
    let other_node = node.connect_as("system:node:n2", None).await.unwrap();
    assert_eq!(get(other_node, "/healthz").await.unwrap().0, 403);
}

#[tokio::test]
async fn caller_of_another_authority_gets_no_connection() {
    let (node, stranger) = (Node::start().await, Authority::new());
    let name = "system:kube-apiserver-kubelet-client";
    // With TLS 1.3 the client learns of the refusal when it reads.
    if let Ok(connection) = node.connect_as(name, Some(&stranger)).await {
        assert!(get(connection, "/healthz").await.is_err());
    }
}

#[tokio::test]
async fn certificate_that_changes_is_served_to_the_next_client() {
    let node = Node::start().await;
    let served = |connection: &Connection| connection.get_ref().1.peer_certificates().unwrap()[0].clone();
    let before = served(&node.connect().await);
    let path = node.folder.path().join("serving.crt");
    // Half of a pair is not taken: the key does not fit.
    let (certificate, new_key) = node.authority.issue("system:node:n1", None);
    std::fs::write(&path, certificate.pem()).unwrap();
    let touch = |seconds| {
        let time = std::time::SystemTime::now() + std::time::Duration::from_secs(seconds);
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    touch(10);
    assert_eq!(served(&node.connect().await), before);
    std::fs::write(node.folder.path().join("serving.key"), new_key.serialize_pem()).unwrap();
    touch(20);
    assert_eq!(&served(&node.connect().await), certificate.der());
}

#[tokio::test]
async fn pods_and_metrics_are_listed() {
    let node = Node::start().await;
    let (status, text) = node.get("/pods").await;
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, list["kind"].as_str(), list["apiVersion"].as_str()),
        (200, Some("PodList"), Some("v1"))
    );
    assert_eq!(list["items"][0]["metadata"]["name"], "web");
    let (status, text) = node.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains(r#"kubelet_http_requests_total{code="200",path="pods"} 1"#), "{text}");
}

#[tokio::test]
async fn request_for_what_does_not_exist_says_so() {
    let node = Node::start().await;
    for (path, status) in [
        ("/", 404),
        ("/run/default/web/app", 404),
        ("/containerLogs/default/other/app", 404),
        ("/containerLogs/other/web/app", 404),
        ("/containerLogs/default/web/sidecar", 404),
        ("/containerLogs/default/web/app", 404),
        ("/containerLogs/default/web/app?tailLines=many", 400),
        ("/containerLogs/default/web/app?previous=true", 400),
        ("/exec/default/web/app?command=sh", 400),
        ("/exec/default/web/app?stdout=1", 400),
        ("/exec/default/web/app?command=sh&stdout=1", 400),
        ("/portForward/default/web", 400),
    ] {
        let (actual, text) = node.get(path).await;
        assert_eq!(actual, status, "{path}: {text}");
        assert!(!text.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn log_is_sent_to_a_client() {
    let node = Node::start().await;
    let log = node.log_folder().join("0.log");
    append(&log, "2026-01-01T00:00:00.5Z stdout F one\n2026-01-01T00:00:01Z stderr F two\n");
    let path = "/containerLogs/default/web/app";
    assert_eq!(node.get(path).await, (200, "one\ntwo\n".into()));
    assert_eq!(node.get(&format!("{path}?tailLines=1")).await.1, "two\n");
    let (_, text) = node.get(&format!("{path}?timestamps=true&stream=Stdout")).await;
    assert_eq!(text, "2026-01-01T00:00:00.500000000Z one\n");
}

#[tokio::test]
async fn shutdown_ends_a_log_that_is_followed() {
    let node = Node::start().await;
    append(&node.log_folder().join("0.log"), "2026-01-01T00:00:00Z stdout F one\n");
    let path = "/containerLogs/default/web/app?follow=true";
    let mut body = send(node.connect().await, path).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one\n");
    // The answer ends only because the endpoint does.
    node.shutdown.send_replace(true);
    node.serving.await.unwrap();
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn client_that_goes_is_noticed_although_a_log_is_silent() {
    let node = Node::start().await;
    append(&node.log_folder().join("0.log"), "");
    let response = send(node.connect().await, "/containerLogs/default/web/app?follow=true").await.unwrap();
    let gauge = r#"kubelet_http_inflight_requests{path="containerLogs"}"#;
    assert!(node.get("/metrics").await.1.contains(&format!("{gauge} 1")));
    drop(response);
    while !node.get("/metrics").await.1.contains(&format!("{gauge} 0")) {}
}
