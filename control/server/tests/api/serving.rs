//! What an operator says about serving: to browsers, about how many at a time, about the beginning and the end.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::Full;
use serde_json::json;
use skep_server::Concurrency;
use skep_server::browsers::{AllowedOrigin, Browsers};
use skep_server::user::UserInfo;
use tower::ServiceExt;

use crate::harness::{Cluster, cluster_with};

/// Asks without credentials.
async fn ask(cluster: &Cluster, method: &str, path: &str, origin: &str) -> (u16, HeaderMap) {
    let request = Request::builder().method(method).uri(path).header("origin", origin);
    let request = request.body(Full::<Bytes>::default()).unwrap();
    let response = cluster.server.service().oneshot(request).await.unwrap();
    (response.status().as_u16(), response.headers().clone())
}

#[tokio::test]
async fn page_of_an_allowed_origin_is_told_so_and_any_other_nothing() {
    let cluster = cluster_with(&|config, _| {
        let origins = vec![AllowedOrigin::parse(r"//.*\.example(:|$)").unwrap()];
        config.browsers = Browsers::new(origins, &[]);
    })
    .await;
    let (origin, pods) = ("https://a.example:8443", "/api/v1/pods");
    let (code, headers) = ask(&cluster, "OPTIONS", pods, origin).await;
    assert_eq!(code, 204, "it is not asked who it is");
    for (name, value) in [
        ("access-control-allow-origin", origin),
        ("access-control-allow-methods", "POST, GET, OPTIONS, PUT, DELETE, PATCH"),
        (
            "access-control-allow-headers",
            "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, X-Requested-With, \
             If-Modified-Since",
        ),
        ("access-control-expose-headers", "Date"),
        ("access-control-allow-credentials", "true"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    let (code, headers) = ask(&cluster, "GET", pods, origin).await;
    assert_eq!((code, &headers["access-control-allow-origin"]), (401, &origin.parse().unwrap()));
    for method in ["OPTIONS", "GET"] {
        let (code, headers) = ask(&cluster, method, pods, "https://a.example.evil.org").await;
        assert_eq!(code, 401, "{method}");
        assert!(!headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{headers:?}");
    }
}

#[tokio::test]
async fn every_answer_says_that_it_is_asked_over_tls_only() {
    let directives = ["max-age=31536000", "includeSubDomains"].map(str::to_owned);
    let cluster = cluster_with(&|config, _| config.browsers = Browsers::new(Vec::new(), &directives)).await;
    for path in ["/livez", "/api/v1/pods", "/none"] {
        let (_, headers) = ask(&cluster, "GET", path, "").await;
        assert_eq!(headers["strict-transport-security"], "max-age=31536000; includeSubDomains", "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn watches_part_one_after_another_and_new_ones_go_elsewhere() {
    let cluster = cluster_with(&|config, _| config.watch_grace = Duration::from_secs(1)).await;
    let mut watches = Vec::new();
    for _ in 0..3 {
        watches.push(cluster.watch("/api/v1/namespaces/default/configmaps?watch=1").await);
    }
    cluster.server.shut_down();
    let began = tokio::time::Instant::now();
    let mut parted = Vec::new();
    for mut watch in watches {
        assert_eq!(watch.name().await, "end");
        parted.push(began.elapsed().as_millis());
    }
    assert_eq!(parted, [0, 5, 10]);
    let late = cluster.get("/api/v1/nodes?watch=1").await;
    assert_eq!(late.failure(503, "ServiceUnavailable"), "apiserver is shutting down");
    assert_eq!(late.headers["retry-after"], "1");
}

#[tokio::test]
async fn one_request_too_many_is_sent_away_without_fairness() {
    let cluster =
        cluster_with(&|config, _| config.concurrency = Concurrency::Limited { reading: 1, writing: 1 }).await;
    cluster.config_map("long", json!({ "k": "x".repeat(200_000) })).await;
    let path = "/api/v1/namespaces/default/configmaps/long";
    let (ann, get) = (|| UserInfo::new("ann", &[]), Method::GET);
    cluster.call_as(ann(), get.clone(), path, "", "").await.failure(403, "Forbidden");
    // Its place is taken until its answer is read.
    let unread = cluster.open(Request::get(path).body(Full::default()).unwrap()).await;
    let refused = cluster.call_as(ann(), get.clone(), path, "", "").await;
    assert_eq!(refused.failure(429, "TooManyRequests"), "Too many requests, please try again later.");
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(!refused.headers.contains_key("x-kubernetes-pf-flowschema-uid"));
    cluster.get(path).await.expect(200);
    drop(unread);
    cluster.call_as(ann(), get, path, "", "").await.failure(403, "Forbidden");
}
