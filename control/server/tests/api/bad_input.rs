//! Wrong requests: the status that Kubernetes gives, and nothing changed.

use http::{Method, Request};
use http_body_util::Full;
use serde_json::json;

use crate::harness::cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn unknown_field_is_pruned_warned_of_or_refused() {
    let cluster = cluster().await;
    let object = |name: &str| json!({ "metadata": { "name": name }, "colour": "red" });
    let warned = cluster.post(MAPS, "ConfigMap", object("a")).await;
    assert!(warned.expect(201)["colour"].is_null());
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"colour\\\"\"");
    let strict = cluster.post(&format!("{MAPS}?fieldValidation=Strict"), "ConfigMap", object("b")).await;
    let message = strict.failure(400, "BadRequest");
    assert!(message.contains("strict decoding error: unknown field \"colour\""), "{message}");
    let ignored = cluster.post(&format!("{MAPS}?fieldValidation=Ignore"), "ConfigMap", object("c")).await;
    ignored.expect(201);
    assert!(ignored.headers.get("warning").is_none());
    cluster.get(&format!("{MAPS}/b")).await.failure(404, "NotFound");
    let patch = json!({ "colour": "red" });
    let strict = cluster.patch(&format!("{MAPS}/a?fieldValidation=Strict"), "merge", patch).await;
    let message = strict.failure(422, "Invalid");
    assert!(message.starts_with(" \"\" is invalid: patch: Invalid value: "), "{message}");
    assert!(message.ends_with(": strict decoding error: unknown field \"colour\""), "{message}");
}

#[tokio::test]
async fn body_that_is_no_object_of_the_kind_is_refused() {
    let cluster = cluster().await;
    let post = |body: &str| {
        let body = body.to_owned();
        cluster.call(Method::POST, MAPS, "application/json", body)
    };
    for body in [
        "",
        "{",
        "[]",
        "\"x\"",
        "{\"kind\":\"ConfigMap\"",
        "\u{0}",
        r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"x"}}"#,
        r#"{"kind":"ConfigMap","apiVersion":"v2","metadata":{"name":"x"}}"#,
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"k":1}}"#,
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":["k"]}"#,
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":[]}"#,
    ] {
        post(body).await.failure(400, "BadRequest");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    post(&deep).await.failure(400, "BadRequest");
    let yaml = cluster.call(Method::POST, MAPS, "application/yaml", "a: [").await;
    yaml.failure(400, "BadRequest");
    post(r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{}}"#).await.failure(422, "Invalid");
    post(r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"Not A Name"}}"#)
        .await
        .failure(422, "Invalid");
    let elsewhere = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x","namespace":"other"}}"#;
    post(elsewhere).await.failure(400, "BadRequest");
    assert_eq!(cluster.get(MAPS).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn body_in_another_format_or_too_long_is_refused() {
    let cluster = cluster().await;
    let xml = cluster.call(Method::POST, MAPS, "text/xml", "<a/>").await;
    assert!(xml.failure(415, "UnsupportedMediaType").contains("application/json"));
    for malformed in ["{}", "k8s\0", "k8s\0\x0a\x7f"] {
        let protobuf =
            cluster.call(Method::POST, MAPS, "application/vnd.kubernetes.protobuf", malformed).await;
        protobuf.failure(400, "BadRequest");
    }
    let patch = cluster.call(Method::PATCH, &format!("{MAPS}/a"), "application/json", "{}").await;
    assert_eq!(patch.failure(415, "UnsupportedMediaType"), "415: Unsupported Media Type");
    let big = vec![b' '; 3 * 1024 * 1024 + 1];
    cluster.call(Method::POST, MAPS, "application/json", big).await.failure(413, "RequestEntityTooLarge");
}

#[tokio::test]
async fn path_that_leads_nowhere_is_not_found() {
    let cluster = cluster().await;
    for path in [
        "/api/v1/things",
        "/api/v1/namespaces/default/nodes",
        "/api/v1/namespaces/default/pods/p/none",
        "/api/v1/namespaces/default/configmaps/a/status",
        "/api/v1/namespaces/default/pods/p/status/more",
        "/api/v1/pods/p",
        "/api/v1/bindings",
        "/api/v2/pods",
        "/api/v2",
        "/api/v1/namespaces/a%2Fb/pods",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews/x",
    ] {
        let message = cluster.get(path).await.failure(404, "NotFound");
        assert_eq!(message, "the server could not find the requested resource", "{path}");
    }
    let outside = ["/nowhere", "/apis/none", "/apis/example.com/v1/things", "/openapi/v3/apis/none/v1"];
    for path in outside {
        let answer = cluster.get(path).await;
        assert_eq!((answer.code, &answer.bytes[..]), (404, &b"404 page not found\n"[..]), "{path}");
    }
}

#[tokio::test]
async fn method_that_does_not_apply_is_not_allowed() {
    let cluster = cluster().await;
    for (method, path) in [
        (Method::POST, "/api/v1/configmaps"),
        (Method::PUT, MAPS),
        (Method::PATCH, MAPS),
        (Method::POST, "/api/v1/namespaces/default/configmaps/a"),
        (Method::DELETE, "/api/v1/namespaces"),
        (Method::DELETE, "/api/v1/namespaces/default/pods/p/status"),
        (Method::OPTIONS, MAPS),
        (Method::HEAD, MAPS),
        (Method::POST, "/api/v1"),
        (Method::PUT, "/version"),
        (Method::POST, "/api/v1/watch/pods"),
        (Method::GET, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
    ] {
        let answer = cluster.call(method.clone(), path, "application/json", "{}").await;
        answer.failure(405, "MethodNotAllowed");
    }
}

#[tokio::test]
async fn change_of_what_is_immutable_is_invalid() {
    let cluster = cluster().await;
    let object = json!({ "metadata": { "name": "a" }, "immutable": true, "data": { "k": "1" } });
    cluster.post(MAPS, "ConfigMap", object).await.expect(201);
    let answer = cluster.patch(&format!("{MAPS}/a"), "merge", json!({ "data": { "k": "2" } })).await;
    assert!(answer.failure(422, "Invalid").starts_with("ConfigMap \"a\" is invalid: data: Forbidden"));
    assert_eq!(answer.json()["details"]["causes"][0]["field"], "data");
}

#[tokio::test]
async fn stranger_is_turned_away() {
    let cluster = cluster().await;
    let send = |path: &'static str| {
        let request = Request::get(path).body(Full::<bytes::Bytes>::default()).unwrap();
        tower::ServiceExt::oneshot(cluster.server.service(), request)
    };
    assert_eq!(send("/api/v1/pods").await.unwrap().status(), 401);
    assert_eq!(send("/version").await.unwrap().status(), 200);
    let user = skep_server::user::UserInfo::new("jane", &[]);
    let request = Request::get("/api/v1/pods").body(Full::<bytes::Bytes>::default()).unwrap();
    let service = skep_server::in_process::service(&cluster.server, user);
    assert_eq!(tower::ServiceExt::oneshot(service, request).await.unwrap().status(), 403);
}

#[tokio::test]
async fn method_that_the_api_has_not_is_refused_but_passed_to_a_proxys_target() {
    let cluster = cluster().await;
    let pod = "/api/v1/namespaces/default/pods/none";
    cluster.call(Method::OPTIONS, pod, "application/json", "").await.failure(405, "MethodNotAllowed");
    let proxied = cluster.call(Method::OPTIONS, &format!("{pod}/proxy/"), "application/json", "").await;
    proxied.failure(404, "NotFound");
}

#[tokio::test]
async fn objects_of_all_namespaces_are_not_deleted_at_once() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({})).await;
    let everywhere = cluster.delete("/api/v1/configmaps", json!(null)).await;
    everywhere.failure(405, "MethodNotAllowed");
    let nowhere = cluster.delete("/api/v1/namespaces//configmaps", json!(null)).await;
    assert_eq!(nowhere.failure(400, "BadRequest"), "Namespace parameter required.");
    cluster.get(&format!("{MAPS}/a")).await.expect(200);
}

#[tokio::test]
async fn object_without_a_name_or_kind_replaces_nothing() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({ "k": "v" })).await;
    let unnamed = "the name of the object (a based on URL) was undeterminable: name must be provided";
    let put = cluster.call(Method::PUT, &format!("{MAPS}/a"), "application/json", "{\"data\":{}}").await;
    assert_eq!(put.failure(400, "BadRequest"), unnamed);
    let gone = cluster.patch(&format!("{MAPS}/a"), "merge", json!({ "metadata": null })).await;
    assert_eq!(gone.failure(400, "BadRequest"), unnamed);
    let path = format!("{MAPS}/a?fieldManager=m");
    let applied = cluster.call(Method::PATCH, &path, "application/apply-patch+yaml", "data: {}").await;
    assert_eq!(applied.failure(400, "BadRequest"), "invalid object type: /, Kind=");
    assert_eq!(cluster.get(&format!("{MAPS}/a")).await.expect(200)["data"]["k"], "v");
}

#[tokio::test]
async fn answers_are_in_yaml_for_those_who_ask() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({ "k": "1", "text": "a\nb\n" })).await;
    let get = async |path: &str| {
        let request = Request::builder().uri(path).header("accept", "application/yaml");
        let response = cluster.open(request.body(Full::default()).unwrap()).await;
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        (kind, skep_api::decode::parse(&bytes, skep_api::decode::Encoding::Yaml).unwrap().value)
    };
    let (kind, object) = get(&format!("{MAPS}/a")).await;
    assert_eq!(
        (kind.as_str(), &object["data"]),
        ("application/yaml", &json!({ "k": "1", "text": "a\nb\n" }))
    );
    assert_eq!(get(MAPS).await.1["items"][0]["metadata"]["name"], "a");
    let (kind, status) = get(&format!("{MAPS}/none")).await;
    assert_eq!((kind.as_str(), &status["code"]), ("application/yaml", &json!(404)));
}
