//! Requests whose answers were held against those of upstream's server: which status, in which words, and before what else.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Cluster, cluster};

const BASE: &str = "/api/v1/namespaces/default";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";
const ELSEWHERE: &str =
    "the namespace of the provided object does not match the namespace sent on the request";

async fn check(cluster: &Cluster, line: (Method, &str), body: Value, code: u16, words: &str) {
    let (method, path) = line;
    let kind = if method == Method::PATCH { "application/merge-patch+json" } else { JSON };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = cluster.call(method, path, kind, body).await;
    let text = String::from_utf8_lossy(&answer.bytes);
    assert_eq!(answer.code, code, "{path}: {text}");
    assert!(text.contains(words), "{path}: {text}");
}

#[tokio::test]
async fn body_of_another_namespace_is_refused_before_anything_is_looked_up() {
    let cluster = cluster().await;
    let elsewhere = |group: &str, kind: &str| json!({ "apiVersion": group, "kind": kind, "metadata": { "name": "none", "namespace": "other" } });
    for (method, path, body) in [
        (Method::PUT, "configmaps/none", elsewhere("v1", "ConfigMap")),
        (Method::POST, "pods/none/eviction", elsewhere("policy/v1", "Eviction")),
        (Method::POST, "pods/none/binding", elsewhere("v1", "Binding")),
        (Method::POST, "serviceaccounts/none/token", elsewhere("authentication.k8s.io/v1", "TokenRequest")),
        (Method::PUT, "replicationcontrollers/none/scale", elsewhere("autoscaling/v1", "Scale")),
    ] {
        check(&cluster, (method, &format!("{BASE}/{path}")), body, 400, ELSEWHERE).await;
    }
}

#[tokio::test]
async fn options_are_judged_before_the_object() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({})).await;
    let control = "invalid character U+0000 (at position 0)";
    let path = format!("{MAPS}/none?fieldManager=%00");
    check(&cluster, (Method::PATCH, &path), json!({}), 422, control).await;
    let path = format!("{MAPS}/a?export=true");
    check(&cluster, (Method::GET, &path), Value::Null, 400, "no longer supported").await;
    let path = format!("{MAPS}/a?resourceVersion=1");
    check(&cluster, (Method::DELETE, &path), Value::Null, 409, "the ResourceVersion in the precondition (1)")
        .await;
    let path = format!("{BASE}/pods/none/log?tailLines=-1");
    check(&cluster, (Method::GET, &path), Value::Null, 422, "PodLogOptions \\\"none\\\" is invalid").await;
    let path = format!("{BASE}/services/none/proxy");
    check(&cluster, (Method::GET, &path), Value::Null, 404, "NotFound").await;
    let path = format!("{BASE}/pods/none/proxy/");
    check(&cluster, (Method::TRACE, &path), Value::Null, 405, "MethodNotAllowed").await;
}

#[tokio::test]
async fn binding_eviction_and_finalizers_are_taken_as_upstream_takes_them() {
    let cluster = cluster().await;
    cluster.pod("p").await;
    let log = format!("{BASE}/pods/p/log");
    check(&cluster, (Method::GET, &log), Value::Null, 204, "").await;
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "p", "resourceVersion": "1" },
        "target": { "kind": "Node", "name": "n" },
    });
    let words = "Precondition failed: ResourceVersion in precondition: 1, ResourceVersion in object meta: ";
    check(&cluster, (Method::POST, &format!("{BASE}/pods/p/binding")), binding, 409, words).await;
    let eviction = json!({ "apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": { "name": "p" } });
    let path = format!("{BASE}/pods/p/eviction?dryRun=All");
    check(&cluster, (Method::POST, &path), eviction, 201, "Success").await;
    let space = |finalizers: Value| {
        json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "default" },
            "spec": { "finalizers": finalizers },
        })
    };
    let path = "/api/v1/namespaces/default/finalize?dryRun=All";
    let words = "spec.finalizers[1]: Invalid value: \\\"x\\\": name is neither a standard finalizer name";
    check(&cluster, (Method::PUT, path), space(json!(["kubernetes", "x"])), 422, words).await;
    let path = "/api/v1/namespaces/default/status?dryRun=All";
    check(&cluster, (Method::PUT, path), space(json!([])), 200, "Active").await;
}

#[tokio::test]
async fn resize_changes_resources_and_leaves_the_rest() {
    let cluster = cluster().await;
    let pod = cluster.pod("p").await;
    let name = &pod["spec"]["containers"][0]["name"];
    let patch = json!({ "spec": { "containers": [{ "name": name, "image": "other" }] } });
    let path = format!("{BASE}/pods/p/resize?dryRun=All");
    let resized = cluster.patch(&path, "strategic-merge", patch).await.expect(200);
    assert_eq!(resized["spec"]["containers"][0]["image"], pod["spec"]["containers"][0]["image"]);
}

#[tokio::test]
async fn field_selectors_are_those_of_upstream() {
    let cluster = cluster().await;
    for (path, code) in [
        ("/api/v1/persistentvolumes?fieldSelector=metadata.namespace%3Dx", 200),
        ("/api/v1/nodes?fieldSelector=metadata.namespace%3Dx", 400),
        ("/apis/apps/v1/replicasets?fieldSelector=status.replicas%3D1", 400),
        ("/api/v1/replicationcontrollers?fieldSelector=status.replicas%3D1", 200),
    ] {
        assert_eq!(cluster.get(path).await.code, code, "{path}");
    }
}

#[tokio::test]
async fn media_types_and_paths_are_those_of_upstream() {
    let cluster = cluster().await;
    let protobuf = "application/vnd.kubernetes.protobuf";
    let yaml_table = "application/yaml;as=Table;v=v1;g=meta.k8s.io";
    for (path, accept, code) in [
        ("/api", "application/*", 406),
        ("/api/v1", "application/*", 406),
        ("/apis/apps/v1", "application/*", 406),
        ("/apis", "application/*", 200),
        ("/apis", yaml_table, 406),
        (MAPS, yaml_table, 200),
        (MAPS, "application/yaml;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", 406),
        ("/healthz/", "*/*", 404),
        ("/metrics/", "*/*", 404),
        ("/version/", "*/*", 200),
        ("/apis/", "*/*", 200),
    ] {
        assert_eq!(cluster.accepting(path, accept).await.code, code, "{path} {accept}");
    }
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": { "verb": "get" } },
    });
    let request = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
        .header("content-type", JSON)
        .header("accept", protobuf)
        .body(http_body_util::Full::new(review.to_string().into()))
        .unwrap();
    let answer = cluster.send(request).await;
    assert_eq!((answer.code, answer.headers["content-type"].to_str().unwrap()), (201, protobuf));
    let read = skep_api::decode::parse(&answer.bytes, skep_api::decode::Encoding::Protobuf).unwrap().value;
    assert_eq!(
        (&read["kind"], &read["status"]["allowed"]),
        (&json!("SelfSubjectAccessReview"), &json!(true))
    );
    let unfinished = cluster.call(Method::POST, MAPS, "application/json;charset=\"", "{}").await;
    assert_eq!(unfinished.code, 415);
}

#[tokio::test]
async fn apply_makes_nothing_without_a_name() {
    let cluster = cluster().await;
    let path = format!("{MAPS}/none?fieldManager=m");
    let body = "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\"}";
    let answer = cluster.call(Method::PATCH, &path, "application/apply-patch+yaml", body).await;
    assert!(answer.failure(400, "BadRequest").ends_with("name must be provided"));
}
