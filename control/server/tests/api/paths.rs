//! Discovery, OpenAPI, version, health, metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Request;
use http_body_util::Full;
use serde_json::json;
use skep_server::Check;

use crate::harness::{Cluster, cluster};

#[tokio::test]
async fn discovery_is_there_in_both_forms() {
    let cluster = cluster().await;
    let classic = cluster.get("/apis").await.expect(200);
    assert_eq!(classic["kind"], "APIGroupList");
    assert_eq!(cluster.get("/api/v1").await.expect(200)["kind"], "APIResourceList");
    assert_eq!(cluster.get("/apis/apps").await.expect(200)["kind"], "APIGroup");
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let answer = cluster.accepting("/apis", accept).await;
    assert_eq!(answer.expect(200)["kind"], "APIGroupDiscoveryList");
    assert!(answer.headers["content-type"].to_str().unwrap().contains("as=APIGroupDiscoveryList"));
    let etag = answer.headers["etag"].clone();
    let request = Request::get("/apis").header("accept", accept).header("if-none-match", etag);
    let again = cluster.send(request.body(Full::default()).unwrap()).await;
    assert_eq!((again.code, again.bytes.len()), (304, 0));
}

#[tokio::test]
async fn openapi_is_there() {
    let cluster = cluster().await;
    let index = cluster.get("/openapi/v3").await.expect(200);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let document = cluster.get(url).await.expect(200);
    assert!(document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"].is_object());
    assert_eq!(cluster.get("/openapi/v2").await.expect(200)["swagger"], "2.0");
    // As kubectl up to 1.26 asks, and `explain --output=plaintext-openapiv2` after it.
    let accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let answer = cluster.accepting("/openapi/v2", accept).await;
    assert_eq!(answer.code, 200);
    let content_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    assert_eq!(answer.headers["content-type"], content_type);
    assert!(answer.bytes.starts_with(b"\x0a\x032.0\x12"));
    let json = cluster.accepting("/openapi/v2", &format!("application/json, {accept}")).await;
    assert_eq!(json.expect(200)["swagger"], "2.0");
}

#[tokio::test]
async fn version_is_that_of_the_api() {
    let cluster = cluster().await;
    let version = cluster.get("/version").await.expect(200);
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("36")));
    assert_eq!(version["gitVersion"], "v1.36.0+skep");
}

/// Waits until everything has begun.
async fn ready(cluster: &Cluster) {
    while cluster.get("/readyz").await.code != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn health_is_told_in_short_and_at_length() {
    let cluster = cluster().await;
    ready(&cluster).await;
    for path in ["/healthz", "/livez", "/readyz", "/livez/ping"] {
        let answer = cluster.get(path).await;
        assert_eq!((answer.code, &answer.bytes[..]), (200, &b"ok"[..]), "{path}");
    }
    let verbose = cluster.get("/readyz?verbose&exclude=etcd").await;
    let text = String::from_utf8_lossy(&verbose.bytes).into_owned();
    assert!(
        text.starts_with("[+]ping ok\n[+]etcd excluded: ok\n") && text.ends_with("readyz check passed\n"),
        "{text}"
    );
    assert_eq!(cluster.get("/livez/none").await.code, 404);
}

#[tokio::test]
async fn health_checks_have_upstreams_names() {
    let works = Arc::new(AtomicBool::new(true));
    let cluster = crate::harness::cluster_with(&|config, _| {
        let works = works.clone();
        config.log = Some(Check(Arc::new(move || works.load(Ordering::SeqCst))));
    })
    .await;
    ready(&cluster).await;
    for kind in ["healthz", "livez", "readyz"] {
        let text = cluster.get(&format!("/{kind}?verbose=1")).await.bytes;
        let text = String::from_utf8_lossy(&text).into_owned();
        // What Kubernetes' own suite looks for.
        for name in [
            "ping",
            "log",
            if kind == "readyz" { "informer-sync" } else { "etcd" },
            "poststarthook/start-apiserver-admission-initializer",
            "poststarthook/generic-apiserver-start-informers",
            "poststarthook/start-apiextensions-informers",
            "poststarthook/start-apiextensions-controllers",
            "poststarthook/crd-informer-synced",
            "poststarthook/bootstrap-controller",
            "poststarthook/start-system-namespaces-controller",
            "poststarthook/start-service-ip-repair-controllers",
            "poststarthook/scheduling/bootstrap-system-priority-classes",
            "poststarthook/start-cluster-authentication-info-controller",
            "poststarthook/start-kube-aggregator-informers",
            "poststarthook/apiservice-registration-controller",
            "poststarthook/apiservice-status-local-available-controller",
            "poststarthook/apiservice-status-remote-available-controller",
            "poststarthook/kube-apiserver-autoregistration",
            "autoregister-completion",
            "poststarthook/apiservice-openapi-controller",
            "poststarthook/storage-readiness",
        ] {
            assert!(text.lines().any(|line| line == format!("[+]{name} ok")), "{kind}: {name} in {text}");
        }
    }
    works.store(false, Ordering::SeqCst);
    let answer = cluster.get("/livez").await;
    assert_eq!(answer.code, 500);
    let text = String::from_utf8_lossy(&answer.bytes).into_owned();
    assert!(text.contains("[-]log failed: reason withheld\n"), "{text}");
    let slis = cluster.get("/metrics/slis").await.bytes;
    let slis = String::from_utf8_lossy(&slis).into_owned();
    for line in [
        "kubernetes_healthcheck{name=\"log\",type=\"livez\"} 0",
        "kubernetes_healthcheck{name=\"ping\",type=\"livez\"} 1",
        "kubernetes_healthchecks_total{name=\"log\",status=\"error\",type=\"livez\"} 1",
        "kubernetes_healthchecks_total{name=\"log\",status=\"success\",type=\"livez\"} 1",
    ] {
        assert!(slis.contains(line), "{line} in {slis}");
    }
}

#[tokio::test]
async fn metrics_count_requests_and_objects() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({})).await;
    cluster.get("/api/v1/namespaces/default/configmaps/none").await.failure(404, "NotFound");
    let answer = cluster.get("/metrics").await;
    let text = String::from_utf8_lossy(&answer.bytes).into_owned();
    let line = "apiserver_request_total{code=\"404\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"configmaps\",scope=\"resource\",subresource=\"\",verb=\"GET\",version=\"v1\"} 1";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("apiserver_storage_objects{resource=\"configmaps\"} 3"), "{text}");
    assert!(text.contains("apiserver_request_duration_seconds_bucket"));
}

#[tokio::test]
async fn issuer_documents_are_served() {
    let cluster = cluster().await;
    let issuer = cluster.get("/.well-known/openid-configuration").await.expect(200);
    assert_eq!(issuer["issuer"], "https://kubernetes.default.svc.cluster.local");
    assert!(cluster.get("/openid/v1/jwks").await.expect(200)["keys"][0]["kid"].is_string());
}

#[tokio::test]
async fn server_that_stops_says_so_first_and_sends_away_last() {
    let cluster = crate::harness::cluster_with(&|config, _| config.shutdown_sends_away = true).await;
    ready(&cluster).await;
    let mut watch = cluster.watch("/api/v1/nodes?watch=1").await;
    cluster.server.announce_shutdown();
    assert_eq!(cluster.get("/readyz").await.code, 500);
    assert_eq!(cluster.get("/livez").await.code, 200);
    cluster.get("/api/v1/nodes").await.expect(200);
    cluster.server.shut_down();
    assert_eq!(watch.name().await, "end");
    let answer = cluster.get("/api/v1/nodes").await;
    answer.failure(429, "TooManyRequests");
    assert_eq!(
        (&answer.headers["retry-after"], &answer.headers["connection"]),
        (&"5".parse().unwrap(), &"close".parse().unwrap())
    );
    assert_eq!(cluster.get("/livez").await.code, 200);
}
