//! What the machinery does the same way for every kind: lists at revisions, patch directives, dry runs, strictness,
//! warnings, hostile bodies.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, cluster};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn warnings(answer: &Answer) -> Vec<String> {
    let texts = answer.headers.get_all("warning").iter().filter_map(|value| value.to_str().ok());
    texts.map(|text| text.trim_start_matches("299 - ").replace("\\\"", "'").replace('"', "")).collect()
}

async fn deployment(cluster: &Cluster) -> Value {
    let object = json!({
        "metadata": { "name": "d", "finalizers": ["a.b/one", "a.b/two", "a.b/three"] },
        "spec": {
            "selector": { "matchLabels": { "app": "a" } },
            "template": {
                "metadata": { "labels": { "app": "a" } },
                "spec": { "containers": [
                    { "name": "one", "image": "1" }, { "name": "two", "image": "2" }, { "name": "three", "image": "3" },
                ] },
            },
        },
    });
    cluster.post(DEPLOYMENTS, "Deployment", object).await.expect(201)
}

#[tokio::test]
async fn list_matches_the_revision_as_it_is_asked_to() {
    let cluster = cluster().await;
    let first = cluster.config_map("a", json!({})).await;
    let at = first["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    cluster.config_map("b", json!({})).await;
    let count = async |query: String| {
        let list = cluster.get(&format!("{MAPS}?{query}")).await.expect(200);
        list["items"].as_array().unwrap().len()
    };
    assert_eq!(count(String::new()).await, 2);
    assert_eq!(count("resourceVersion=0".to_owned()).await, 2);
    assert_eq!(count("resourceVersion=0&resourceVersionMatch=NotOlderThan".to_owned()).await, 2);
    assert_eq!(count(format!("resourceVersion={at}")).await, 2);
    assert_eq!(count(format!("resourceVersion={at}&resourceVersionMatch=NotOlderThan")).await, 2);
    assert_eq!(count(format!("resourceVersion={at}&resourceVersionMatch=Exact")).await, 1);
    assert_eq!(count(format!("resourceVersion={at}&limit=1&resourceVersionMatch=Exact")).await, 1);
    for query in [
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=NotOlderThan",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "resourceVersion=1&resourceVersionMatch=Newest",
        "watch=1&resourceVersion=1&resourceVersionMatch=Exact",
    ] {
        cluster.get(&format!("{MAPS}?{query}")).await.failure(422, "Invalid");
    }
    cluster.get(&format!("{MAPS}?resourceVersion=x")).await.failure(400, "BadRequest");
}

#[tokio::test]
async fn directives_of_strategic_patches_are_followed() {
    let cluster = cluster().await;
    deployment(&cluster).await;
    let path = format!("{DEPLOYMENTS}/d");
    let patched = async |patch: Value| cluster.patch(&path, "strategic-merge", patch).await.expect(200);
    let names = |object: &Value| -> Vec<String> {
        let list = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let template = |spec: Value| json!({ "spec": { "template": { "spec": spec } } });
    let object = patched(template(json!({ "containers": [{ "name": "two", "$patch": "delete" }] }))).await;
    assert_eq!(names(&object), ["one", "three"]);
    let order = json!([{ "name": "three" }, { "name": "four" }, { "name": "one" }]);
    let four = json!([{ "name": "four", "image": "4" }]);
    let object = patched(template(json!({ "$setElementOrder/containers": order, "containers": four }))).await;
    assert_eq!(names(&object), ["three", "four", "one"]);
    let object = patched(json!({
        "metadata": { "$deleteFromPrimitiveList/finalizers": ["a.b/two"] },
        "spec": { "strategy": { "$retainKeys": ["type"], "type": "Recreate" } },
    }))
    .await;
    assert_eq!(object["metadata"]["finalizers"], json!(["a.b/one", "a.b/three"]));
    assert_eq!(object["spec"]["strategy"], json!({ "type": "Recreate" }));
    let only = json!({ "containers": [{ "name": "five", "image": "5" }, { "$patch": "replace" }] });
    assert_eq!(names(&patched(template(only)).await), ["five"]);
    let wrong = template(json!({ "containers": [{ "name": "five", "$patch": "melt" }] }));
    let answer = cluster.patch(&path, "strategic-merge", wrong).await;
    assert_eq!(answer.code, 400, "{:?}", answer.bytes);
}

#[tokio::test]
async fn collection_is_deleted_by_fields_and_only_in_earnest() {
    let cluster = cluster().await;
    for name in ["a", "b", "c"] {
        cluster.config_map(name, json!({})).await;
    }
    let left = async || cluster.get(MAPS).await.expect(200)["items"].as_array().unwrap().len();
    cluster.delete(&format!("{MAPS}?dryRun=All"), json!(null)).await.expect(200);
    assert_eq!(left().await, 3);
    cluster.delete(&format!("{MAPS}?fieldSelector=metadata.name%3Db"), json!(null)).await.expect(200);
    assert_eq!(left().await, 2);
    cluster.delete(&format!("{MAPS}?fieldSelector=data.k%3Db"), json!(null)).await.failure(400, "BadRequest");
    cluster.delete(MAPS, json!(null)).await.expect(200);
    assert_eq!(left().await, 0);
}

#[tokio::test]
async fn object_is_deleted_only_as_it_was_seen() {
    let cluster = cluster().await;
    let map = cluster.config_map("a", json!({})).await;
    let path = format!("{MAPS}/a");
    let (uid, revision) = (&map["metadata"]["uid"], &map["metadata"]["resourceVersion"]);
    for preconditions in [json!({ "uid": "other" }), json!({ "uid": uid, "resourceVersion": "1" })] {
        let answer = cluster.delete(&path, json!({ "preconditions": preconditions })).await;
        answer.failure(409, "Conflict");
    }
    let seen = json!({ "preconditions": { "uid": uid, "resourceVersion": revision } });
    cluster.delete(&path, seen).await.expect(200);
}

#[tokio::test]
async fn dry_runs_of_subresources_and_services_change_nothing() {
    let cluster = cluster().await;
    deployment(&cluster).await;
    let before = cluster.get(&format!("{DEPLOYMENTS}/d")).await.expect(200);
    let scale = json!({ "spec": { "replicas": 5 } });
    let scaled = cluster.patch(&format!("{DEPLOYMENTS}/d/scale?dryRun=All"), "merge", scale).await;
    assert_eq!(scaled.expect(200)["spec"]["replicas"], 5);
    let status = json!({ "status": { "replicas": 5 } });
    let written = cluster.patch(&format!("{DEPLOYMENTS}/d/status?dryRun=All"), "merge", status).await;
    assert_eq!(written.expect(200)["status"]["replicas"], 5);
    assert_eq!(cluster.get(&format!("{DEPLOYMENTS}/d")).await.expect(200), before);
    cluster.pod("p").await;
    let binding = json!({ "metadata": { "name": "p" }, "target": { "kind": "Node", "name": "n" } });
    let pod = "/api/v1/namespaces/default/pods/p";
    cluster.post(&format!("{pod}/binding?dryRun=All"), "Binding", binding).await.expect(201);
    assert!(cluster.get(pod).await.expect(200)["spec"]["nodeName"].is_null());
    let eviction = json!({ "metadata": { "name": "p" }, "deleteOptions": { "dryRun": ["All"] } });
    let text = json!({ "kind": "Eviction", "apiVersion": "policy/v1" });
    let mut eviction = eviction;
    eviction.as_object_mut().unwrap().extend(text.as_object().unwrap().clone());
    let answer = cluster
        .call(Method::POST, &format!("{pod}/eviction"), "application/json", eviction.to_string())
        .await;
    answer.expect(201);
    cluster.get(pod).await.expect(200);
    let addresses = "/apis/networking.k8s.io/v1/ipaddresses";
    let count = async || cluster.get(addresses).await.expect(200)["items"].as_array().unwrap().len();
    let at_first = count().await;
    let service =
        json!({ "metadata": { "name": "s" }, "spec": { "type": "NodePort", "ports": [{ "port": 1 }] } });
    let services = "/api/v1/namespaces/default/services?dryRun=All";
    cluster.post(services, "Service", service).await.expect(201);
    assert_eq!(count().await, at_first);
}

#[tokio::test]
async fn every_write_is_as_strict_as_it_is_asked_to_be() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({})).await;
    let twice = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"b"},"data":{"k":"1","k":"2"}}"#;
    let made = cluster.call(Method::POST, MAPS, "application/json", twice).await;
    assert_eq!(made.expect(201)["data"]["k"], "2");
    assert_eq!(warnings(&made), ["duplicate field 'data.k'"]);
    let path = format!("{MAPS}/b?fieldValidation=Strict");
    let refused = cluster.call(Method::PUT, &path, "application/json", twice).await;
    assert!(refused.failure(400, "BadRequest").contains("duplicate field \"data.k\""));
    let path = format!("{MAPS}/a");
    let unknown = json!({ "colour": "red" });
    for kind in ["merge", "strategic-merge"] {
        let answer = cluster.patch(&path, kind, unknown.clone()).await;
        answer.expect(200);
        assert_eq!(warnings(&answer), ["unknown field 'colour'"], "{kind}");
        let strict = cluster.patch(&format!("{path}?fieldValidation=Strict"), kind, unknown.clone()).await;
        strict.failure(422, "Invalid");
    }
    let operation = json!([{ "op": "add", "path": "/colour", "value": "red" }]);
    let answer = cluster.patch(&path, "json", operation.clone()).await;
    answer.expect(200);
    assert_eq!(warnings(&answer), ["unknown field 'colour'"]);
    let strict = cluster.patch(&format!("{path}?fieldValidation=Strict"), "json", operation).await;
    strict.failure(422, "Invalid");
    let applied = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"colour":"red"}"#;
    let apply = |query: &str| {
        let path = format!("{MAPS}/a?fieldManager=m{query}");
        let cluster = &cluster;
        async move { cluster.call(Method::PATCH, &path, "application/apply-patch+yaml", applied).await }
    };
    apply("&fieldValidation=Strict").await.failure(400, "BadRequest");
    cluster.get(&format!("{MAPS}?fieldValidation=Strict")).await.expect(200);
    let wrong = cluster.post(&format!("{MAPS}?fieldValidation=Some"), "ConfigMap", json!({})).await;
    wrong.failure(422, "Invalid");
}

#[tokio::test]
async fn what_is_deprecated_or_likely_wrong_is_warned_of() {
    let cluster = cluster().await;
    let endpoints = cluster.get("/api/v1/namespaces/default/endpoints").await;
    let deprecated = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
    assert_eq!(warnings(&endpoints), [deprecated]);
    let service = json!({
        "metadata": { "name": "s" },
        "spec": { "ports": [{ "port": 1 }], "externalIPs": ["192.0.2.1"] },
    });
    let made = cluster.post("/api/v1/namespaces/default/services", "Service", service).await;
    made.expect(201);
    let external = "spec.externalIPs is deprecated and may no longer be implemented in some clusters";
    assert_eq!(warnings(&made), [external]);
    deployment(&cluster).await;
    let path = format!("{DEPLOYMENTS}/d");
    let label =
        json!({ "spec": { "template": { "spec": { "nodeSelector": { "beta.kubernetes.io/os": "l" } } } } });
    let patched = cluster.patch(&path, "merge", label).await;
    patched.expect(200);
    let os = "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use 'kubernetes.io/os' \
              instead";
    assert_eq!(warnings(&patched), [os]);
    let same = cluster.patch(&path, "merge", json!({ "metadata": { "labels": { "a": "b" } } })).await;
    assert_eq!(warnings(&same), Vec::<String>::new());
}

#[tokio::test]
async fn hostile_bodies_get_an_answer_and_change_nothing() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({ "k": "v" })).await;
    deployment(&cluster).await;
    let before = (
        cluster.get(&format!("{MAPS}/a")).await.expect(200),
        cluster.get(&format!("{DEPLOYMENTS}/d")).await.expect(200),
    );
    let path = format!("{DEPLOYMENTS}/d");
    let deep = format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000));
    let wide = format!("[{}]", vec!["1"; 10_001].join(","));
    let copies =
        json!(vec![json!({ "op": "copy", "from": "/spec", "path": "/spec/template" }); 64]).to_string();
    for (kind, body) in [
        ("merge", deep.as_str()),
        ("strategic-merge", deep.as_str()),
        ("json", deep.as_str()),
        ("merge", "[]"),
        ("merge", "1"),
        ("json", "{}"),
        ("merge", "{\"spec\":{\"replicas\":\"many\"}}"),
        ("merge", "{\"spec\":{\"replicas\":1.5}}"),
        ("merge", "{\"spec\":{\"replicas\":99999999999}}"),
        ("merge", "{\"spec\":{\"replicas\":1e400}}"),
        ("merge", "{\"spec\":{\"replicas\":184467440737095516160}}"),
        ("merge", "{\"metadata\":{\"labels\":{\"a\":1}}}"),
        ("merge", "{\"metadata\":{\"creationTimestamp\":\"yesterday\"}}"),
        ("merge", "{"),
        ("merge", "\u{0}"),
        ("strategic-merge", "{\"spec\":{\"template\":{\"spec\":{\"containers\":{}}}}}"),
        ("strategic-merge", "{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"image\":\"x\"}]}}}}"),
        ("json", "[{\"op\":\"melt\",\"path\":\"/spec\"}]"),
        ("json", "[{\"op\":\"add\",\"path\":\"spec\",\"value\":1}]"),
        ("json", "[{\"op\":\"test\",\"path\":\"/spec/replicas\",\"value\":7}]"),
        ("json", "[{\"op\":\"remove\",\"path\":\"/spec/nothing\"}]"),
        ("json", copies.as_str()),
        ("json", wide.as_str()),
    ] {
        let kind = format!("application/{kind}-patch+json");
        let answer = cluster.call(Method::PATCH, &path, &kind, body.to_owned()).await;
        let shown = &body[..body.len().min(80)];
        assert!(matches!(answer.code, 400 | 413 | 422), "{kind} {shown}: {} {:?}", answer.code, answer.bytes);
        assert_eq!(answer.json()["kind"], "Status", "{shown}");
    }
    let mut invalid = br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"#.to_vec();
    invalid.extend_from_slice(b"\"\xff\xfe\"}}");
    let answer = cluster.call(Method::POST, MAPS, "application/json", invalid).await;
    assert!(matches!(answer.code, 400 | 422), "{answer:?}");
    for query in [
        "labelSelector=a%3D%3D%3Db",
        "labelSelector=(((",
        "fieldSelector=%00",
        "fieldSelector=metadata.name",
        "limit=many",
        "timeoutSeconds=x",
        "continue=%FF%FE",
        "continue=bm9uc2Vuc2U",
    ] {
        let answer = cluster.get(&format!("{MAPS}?{query}")).await;
        assert_eq!(answer.code, 400, "{query}: {:?}", answer.bytes);
    }
    let after = (cluster.get(&format!("{MAPS}/a")).await.expect(200), cluster.get(&path).await.expect(200));
    assert_eq!(before, after);
}

#[tokio::test]
async fn subresources_own_what_is_written_through_them() {
    let cluster = cluster().await;
    deployment(&cluster).await;
    let path = format!("{DEPLOYMENTS}/d");
    let status = json!({ "status": { "replicas": 2 } });
    cluster.patch(&format!("{path}/status?fieldManager=one"), "merge", status.clone()).await.expect(200);
    let scale = json!({ "spec": { "replicas": 2 } });
    cluster.patch(&format!("{path}/scale?fieldManager=two"), "merge", scale).await.expect(200);
    let object = cluster.get(&path).await.expect(200);
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let of = |name: &str| entries.iter().find(|entry| entry["manager"] == name).unwrap();
    assert_eq!(of("one")["subresource"], "status");
    assert_eq!(of("one")["fieldsV1"], json!({ "f:status": { "f:replicas": {} } }));
    assert_eq!(of("two")["subresource"], "scale");
    assert_eq!(of("two")["fieldsV1"], json!({ "f:spec": { "f:replicas": {} } }));
    // Whoever writes nothing owns nothing, and a list of managers can be cleared.
    cluster.patch(&format!("{path}?fieldManager=three"), "merge", status).await.expect(200);
    let object = cluster.get(&path).await.expect(200);
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    assert!(entries.iter().all(|entry| entry["manager"] != "three"));
    let clear = json!([{ "op": "replace", "path": "/metadata/managedFields", "value": [{}] }]);
    let cleared = cluster.patch(&path, "json", clear).await.expect(200);
    assert!(cleared["metadata"]["managedFields"].is_null());
}
