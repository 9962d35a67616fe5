//! Calls to servers that answer, and to those that do not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::testing::{Hook, Reply};
use super::{CallError, Caller, Target};
use crate::testing::Objects;

const PATIENCE: Duration = Duration::from_secs(20);
const LIMIT: usize = 1 << 20;

type Make = fn() -> Reply;

fn caller() -> Caller {
    Caller::new(Arc::new(Objects::default()))
}

async fn call(caller: &Caller, config: &Value, patience: Duration) -> Result<Bytes, CallError> {
    let target = Target::of_webhook(config).unwrap();
    caller.post(&target, None, "timeout=1s", Bytes::from_static(b"{\"a\":1}"), patience, LIMIT).await
}

#[tokio::test]
async fn call_gets_the_answer_over_a_connection_that_is_kept() {
    let hook = Hook::start(&[], |seen| Reply::Json(json!({ "got": seen.body }))).await;
    let caller = caller();
    for _ in 0..3 {
        let answer = call(&caller, &hook.client_config("/p"), PATIENCE).await.unwrap();
        assert_eq!(answer, "{\"got\":{\"a\":1}}");
    }
    assert_eq!(hook.connections(), 1);
    let seen = hook.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("POST", "/p?timeout=1s"));
    assert_eq!(seen[0].headers["content-type"], "application/json");
    assert_eq!(seen[0].headers["host"], hook.address.to_string());
}

#[tokio::test]
async fn call_to_a_service_reaches_its_endpoint_under_the_services_name() {
    let hook = Hook::start(&["s.n.svc"], |_| Reply::Json(json!({}))).await;
    let objects = Objects::default();
    let meta = json!({ "name": "s", "namespace": "n", "labels": { "kubernetes.io/service-name": "s" } });
    objects.put("", "services", json!({ "metadata": meta, "spec": { "ports": [{ "port": 443 }] } }));
    let slice = json!({
        "metadata": meta,
        "ports": [{ "port": hook.address.port() }],
        "endpoints": [{ "addresses": ["127.0.0.1"] }],
    });
    objects.put("discovery.k8s.io", "endpointslices", slice);
    let caller = Caller::new(Arc::new(objects));
    let service = json!({ "namespace": "n", "name": "s", "path": "/x" });
    call(&caller, &json!({ "service": service, "caBundle": hook.bundle() }), PATIENCE).await.unwrap();
    assert_eq!(hook.seen()[0].headers["host"], "s.n.svc:443");
    // Another name is another certificate.
    let other = json!({ "namespace": "m", "name": "s" });
    let error = call(&caller, &json!({ "service": other, "caBundle": hook.bundle() }), PATIENCE).await;
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "Post \"https://s.m.svc:443/?timeout=1s\": service \"s\" not found");
}

#[tokio::test]
async fn server_with_a_certificate_from_somebody_else_is_not_called() {
    let hook = Hook::start(&[], |_| Reply::Json(json!({}))).await;
    let other = Hook::start(&[], |_| Reply::Json(json!({}))).await;
    let mut config = hook.client_config("/");
    config["caBundle"] = json!(other.bundle());
    let error = call(&caller(), &config, PATIENCE).await.unwrap_err().to_string();
    assert!(error.contains("tls: failed to verify certificate"), "{error}");
    assert!(hook.seen().is_empty());
}

#[tokio::test]
async fn server_that_does_not_answer_is_given_up_in_time() {
    let hook = Hook::start(&[], |_| Reply::Hang).await;
    let error = call(&caller(), &hook.client_config("/h"), Duration::from_millis(200)).await.unwrap_err();
    let url = format!("https://{}/h?timeout=1s", hook.address);
    assert_eq!(error.to_string(), format!("Post {url:?}: context deadline exceeded"));
}

#[tokio::test]
async fn server_that_fails_is_told_from_one_that_answers() {
    let cases: [(Make, &str); 4] = [
        (|| Reply::Crash, "EOF"),
        (|| Reply::Flood, "larger than 1048576 bytes"),
        (|| Reply::Text(500, "broken".into()), "an error on the server (\"broken\") has prevented"),
        (|| Reply::Text(404, String::new()), "the server could not find the requested resource"),
    ];
    for (reply, expected) in cases {
        let hook = Hook::start(&[], move |_| reply()).await;
        let error = call(&caller(), &hook.client_config("/"), PATIENCE).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn server_that_is_not_there_is_named() {
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let error = call(&caller(), &json!({ "url": format!("https://{address}") }), PATIENCE).await.unwrap_err();
    assert!(
        error.to_string().ends_with(&format!("dial tcp {address}: connect: connection refused")),
        "{error}"
    );
}
