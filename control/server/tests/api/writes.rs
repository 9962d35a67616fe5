//! create, update, patch.

use http::Method;
use serde_json::json;

use crate::harness::cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn object_created_gets_what_the_server_sets() {
    let cluster = cluster().await;
    let map = cluster.config_map("a", json!({ "k": "v" })).await;
    let meta = &map["metadata"];
    assert_eq!(meta["creationTimestamp"], "2027-01-15T08:00:00Z");
    assert_eq!(meta["namespace"], "default");
    assert!(meta["uid"].as_str().unwrap().len() == 36 && meta["resourceVersion"].is_string());
    assert_eq!(cluster.get(&format!("{MAPS}/a")).await.expect(200), map);
    let again = json!({ "metadata": { "name": "a" } });
    let message = cluster.post(MAPS, "ConfigMap", again).await.failure(409, "AlreadyExists");
    assert_eq!(message, "configmaps \"a\" already exists");
}

#[tokio::test]
async fn object_with_a_generated_name_gets_five_letters() {
    let cluster = cluster().await;
    let object = json!({ "metadata": { "generateName": "a-" } });
    let map = cluster.post(MAPS, "ConfigMap", object).await.expect(201);
    let name = map["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("a-") && name.len() == 7, "{name}");
}

#[tokio::test]
async fn update_of_an_old_version_conflicts_and_changes_nothing() {
    let cluster = cluster().await;
    let first = cluster.config_map("a", json!({ "k": "1" })).await;
    let mut second = first.clone();
    second["data"]["k"] = json!("2");
    let second = cluster.put(&format!("{MAPS}/a"), &second).await.expect(200);
    assert_ne!(first["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
    let mut late = first.clone();
    late["data"]["k"] = json!("3");
    let message = cluster.put(&format!("{MAPS}/a"), &late).await.failure(409, "Conflict");
    assert_eq!(
        message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );
    assert_eq!(cluster.get(&format!("{MAPS}/a")).await.expect(200)["data"]["k"], "2");
    late["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    assert_eq!(cluster.put(&format!("{MAPS}/a"), &late).await.expect(200)["data"]["k"], "3");
    late["metadata"]["uid"] = json!("other");
    cluster.put(&format!("{MAPS}/a"), &late).await.failure(409, "Conflict");
}

#[tokio::test]
async fn update_that_changes_nothing_keeps_the_version() {
    let cluster = cluster().await;
    let map = cluster.config_map("a", json!({ "k": "1" })).await;
    assert_eq!(cluster.put(&format!("{MAPS}/a"), &map).await.expect(200), map);
}

#[tokio::test]
async fn update_of_what_is_not_there_creates_only_some_kinds() {
    let cluster = cluster().await;
    let map = json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "x" } });
    cluster.put(&format!("{MAPS}/x"), &map).await.failure(404, "NotFound");
    let endpoints = json!({ "kind": "Endpoints", "apiVersion": "v1", "metadata": { "name": "x" } });
    let made = cluster.put("/api/v1/namespaces/default/endpoints/x", &endpoints).await;
    made.expect(201);
    let deprecated = "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\"";
    assert_eq!(made.headers["warning"], deprecated);
}

#[tokio::test]
async fn patches_of_all_formats_apply() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({ "k": "1", "gone": "x" })).await;
    let path = &format!("{MAPS}/a");
    let merged =
        cluster.patch(path, "merge", json!({ "data": { "k": "2", "gone": null } })).await.expect(200);
    assert_eq!(merged["data"], json!({ "k": "2" }));
    let patch = json!([{ "op": "test", "path": "/data/k", "value": "2" }, { "op": "add", "path": "/data/n", "value": "3" }]);
    assert_eq!(cluster.patch(path, "json", patch).await.expect(200)["data"]["n"], "3");
    let patch = json!({ "metadata": { "annotations": { "x": "y" } } });
    let patched = cluster.patch(path, "strategic-merge", patch).await.expect(200);
    assert_eq!(patched["metadata"]["annotations"]["x"], "y");
    let stale = json!({ "metadata": { "resourceVersion": "1" }, "data": { "k": "9" } });
    cluster.patch(path, "merge", stale).await.failure(409, "Conflict");
    cluster.patch(&format!("{MAPS}/none"), "merge", json!({})).await.failure(404, "NotFound");
}

#[tokio::test]
async fn writers_of_one_object_lose_no_patch() {
    let cluster = std::sync::Arc::new(cluster().await);
    cluster.config_map("a", json!({})).await;
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let cluster = cluster.clone();
            tokio::spawn(async move {
                let patch = json!({ "data": { format!("k{writer}"): "v" } });
                cluster.patch(&format!("{MAPS}/a"), "merge", patch).await.expect(200);
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let map = cluster.get(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(map["data"].as_object().unwrap().len(), 16);
}

#[tokio::test]
async fn dry_run_says_what_would_be_and_writes_nothing() {
    let cluster = cluster().await;
    let object = json!({ "metadata": { "name": "a" } });
    let path = format!("{MAPS}?dryRun=All");
    let dry = cluster.post(&path, "ConfigMap", object).await.expect(201);
    assert!(dry["metadata"]["uid"].is_string() && dry["metadata"]["resourceVersion"].is_null());
    cluster.get(&format!("{MAPS}/a")).await.failure(404, "NotFound");
    let map = cluster.config_map("a", json!({ "k": "1" })).await;
    let patched =
        cluster.patch(&format!("{MAPS}/a?dryRun=All"), "merge", json!({ "data": { "k": "2" } })).await;
    assert_eq!(patched.expect(200)["data"]["k"], "2");
    cluster.delete(&format!("{MAPS}/a?dryRun=All"), json!(null)).await.expect(200);
    cluster.delete(&format!("{MAPS}/a"), json!({ "dryRun": ["All"] })).await.expect(200);
    assert_eq!(cluster.get(&format!("{MAPS}/a")).await.expect(200), map);
    cluster.delete(&format!("{MAPS}/a?dryRun=some"), json!(null)).await.failure(422, "Invalid");
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let cluster = cluster().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({
        "metadata": { "labels": { "app": "a" } },
        "spec": { "containers": [{ "name": "c", "image": "echo" }] },
    });
    let object = json!({
        "metadata": { "name": "d" },
        "spec": { "selector": { "matchLabels": { "app": "a" } }, "template": template },
        "status": { "replicas": 7 },
    });
    let made = cluster.post(deployments, "Deployment", object).await.expect(201);
    assert_eq!((&made["spec"]["replicas"], &made["metadata"]["generation"]), (&json!(1), &json!(1)));
    assert!(made["status"]["replicas"].is_null());
    let path = format!("{deployments}/d");
    let patch = json!({ "status": { "replicas": 3 }, "spec": { "replicas": 9 } });
    let status = cluster.patch(&format!("{path}/status"), "merge", patch.clone()).await.expect(200);
    assert_eq!((&status["status"]["replicas"], &status["spec"]["replicas"]), (&json!(3), &json!(1)));
    let whole = cluster
        .patch(&path, "merge", json!({ "status": { "replicas": 5 }, "spec": { "replicas": 9 } }))
        .await;
    let whole = whole.expect(200);
    assert_eq!((&whole["status"]["replicas"], &whole["spec"]["replicas"]), (&json!(3), &json!(9)));
    assert_eq!(whole["metadata"]["generation"], 2);
    let mut scale = cluster.get(&format!("{path}/scale")).await.expect(200);
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(9), &json!("app=a")));
    scale["spec"]["replicas"] = json!(2);
    assert_eq!(cluster.put(&format!("{path}/scale"), &scale).await.expect(200)["spec"]["replicas"], 2);
    cluster.put(&format!("{path}/scale"), &scale).await.failure(409, "Conflict");
    let less = json!({ "spec": { "replicas": -1 } });
    cluster.patch(&format!("{path}/scale"), "merge", less).await.failure(422, "Invalid");
    assert_eq!(cluster.get(&path).await.expect(200)["spec"]["replicas"], 2);
}

#[tokio::test]
async fn yaml_is_read() {
    let cluster = cluster().await;
    let text = "kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: plain\ndata:\n  k: \"1\"\n";
    let answer = cluster.call(http::Method::POST, MAPS, "application/yaml", text).await;
    assert_eq!(answer.expect(201)["data"]["k"], "1");
}

#[tokio::test]
async fn events_are_one_collection_in_two_forms() {
    let cluster = cluster().await;
    let event = json!({
        "metadata": { "name": "e" },
        "involvedObject": { "kind": "Pod", "name": "p", "namespace": "default" },
        "reason": "Started", "message": "hello", "type": "Normal", "source": { "component": "c" },
    });
    cluster.post("/api/v1/namespaces/default/events", "Event", event).await.expect(201);
    let new = cluster.get("/apis/events.k8s.io/v1/namespaces/default/events/e").await.expect(200);
    assert_eq!((&new["apiVersion"], &new["note"]), (&json!("events.k8s.io/v1"), &json!("hello")));
    let list =
        cluster.get("/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3Dp").await.expect(200);
    assert_eq!(list["items"][0]["note"], "hello");
}

#[tokio::test]
async fn object_in_protobuf_is_stored_as_any_other() {
    let cluster = cluster().await;
    // The envelope with the kind, then the object: metadata with an empty namespace as Go writes it, one entry of data.
    let types = b"\x0a\x0f\x0a\x02v1\x12\x09ConfigMap";
    let object = b"\x12\x11\x0a\x05\x0a\x01a\x1a\x00\x12\x08\x0a\x01k\x12\x03abc";
    let body = [b"k8s\0".as_slice(), types, object].concat();
    let path = "/api/v1/namespaces/default/configmaps";
    let made =
        cluster.call(Method::POST, path, "application/vnd.kubernetes.protobuf", body).await.expect(201);
    assert_eq!((&made["metadata"]["namespace"], &made["data"]), (&json!("default"), &json!({ "k": "abc" })));
    assert_eq!(cluster.get(&format!("{path}/a")).await.expect(200)["data"]["k"], "abc");
}

#[tokio::test]
async fn signing_request_is_approved_by_its_subresource_alone() {
    let cluster = cluster().await;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    // A block of the right kind; what is in it is for who signs.
    let pem = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUFBPQotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K";
    let spec = json!({ "request": pem, "signerName": "example.com/s", "usages": ["client auth"] });
    let mut request = json!({ "metadata": { "name": "r" }, "spec": spec });
    request["spec"]["username"] = json!("somebody else");
    request["spec"]["groups"] = json!(["system:nodes"]);
    let made = cluster.post(requests, "CertificateSigningRequest", request).await.expect(201);
    // Who asks is who is asking.
    assert_eq!(made["spec"]["username"], "admin");
    assert_eq!(made["spec"]["groups"], json!(["system:masters", "system:authenticated"]));
    let approval =
        json!({ "status": { "conditions": [{ "type": "Approved", "status": "True", "reason": "me" }] } });
    let path = format!("{requests}/r/approval");
    let approved = cluster.patch(&path, "merge", approval).await.expect(200);
    assert!(approved["status"]["conditions"][0]["lastUpdateTime"].is_string());
    let back = json!({ "status": { "conditions": null } });
    cluster.patch(&path, "merge", back).await.failure(422, "Invalid");
}
