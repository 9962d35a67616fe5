//! Deletion: grace, finalizers, preconditions, namespaces, collections.

use serde_json::json;

use crate::harness::cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn object_without_ties_goes_at_once() {
    let cluster = cluster().await;
    let map = cluster.config_map("a", json!({})).await;
    let status = cluster.delete(&format!("{MAPS}/a"), json!(null)).await.expect(200);
    assert_eq!((&status["status"], &status["details"]["uid"]), (&json!("Success"), &map["metadata"]["uid"]));
    cluster.get(&format!("{MAPS}/a")).await.failure(404, "NotFound");
    let message = cluster.delete(&format!("{MAPS}/a"), json!(null)).await.failure(404, "NotFound");
    assert_eq!(message, "configmaps \"a\" not found");
}

#[tokio::test]
async fn pod_without_a_node_goes_at_once() {
    let cluster = cluster().await;
    cluster.pod("p").await;
    let gone = cluster.delete(&format!("{PODS}/p"), json!(null)).await.expect(200);
    assert_eq!(gone["kind"], "Pod");
    // Its last state tells that it had no time left.
    assert_eq!(gone["metadata"]["deletionTimestamp"], "2027-01-15T08:00:00Z");
    assert_eq!(gone["metadata"]["deletionGracePeriodSeconds"], 0);
    assert!(gone["metadata"]["resourceVersion"].is_string());
    cluster.get(&format!("{PODS}/p")).await.failure(404, "NotFound");
}

#[tokio::test]
async fn pod_on_a_node_waits_for_it() {
    let cluster = cluster().await;
    cluster.pod("p").await;
    cluster.bind("p", "n1").await.expect(201);
    let path = format!("{PODS}/p");
    let going = cluster.delete(&path, json!(null)).await.expect(200);
    assert_eq!(going["metadata"]["deletionTimestamp"], "2027-01-15T08:00:30Z");
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    cluster.pass(5);
    // Asking again, or for more time, changes nothing; less time counts from the request.
    assert_eq!(cluster.delete(&path, json!(null)).await.expect(200)["metadata"], going["metadata"]);
    let longer = cluster.delete(&path, json!({ "gracePeriodSeconds": 60 })).await.expect(200);
    assert_eq!(longer["metadata"], going["metadata"]);
    let shorter = cluster.delete(&path, json!({ "gracePeriodSeconds": 3 })).await.expect(200);
    assert_eq!(shorter["metadata"]["deletionTimestamp"], "2027-01-15T08:00:08Z");
    let uid = going["metadata"]["uid"].clone();
    let wrong = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": "other" } });
    cluster.delete(&path, wrong).await.failure(409, "Conflict");
    cluster
        .delete(&path, json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": uid } }))
        .await
        .expect(200);
    cluster.get(&path).await.failure(404, "NotFound");
}

#[tokio::test]
async fn object_with_finalizers_waits_for_the_last_of_them() {
    let cluster = cluster().await;
    let object = json!({ "metadata": { "name": "a", "finalizers": ["example.com/hold"] } });
    cluster.post(MAPS, "ConfigMap", object).await.expect(201);
    let path = format!("{MAPS}/a");
    let going = cluster.delete(&path, json!(null)).await.expect(200);
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(cluster.delete(&path, json!(null)).await.expect(200)["metadata"], going["metadata"]);
    cluster.patch(&path, "merge", json!({ "metadata": { "finalizers": null } })).await.expect(200);
    cluster.get(&path).await.failure(404, "NotFound");
}

#[tokio::test]
async fn propagation_becomes_a_finalizer() {
    let cluster = cluster().await;
    let cases = [
        (json!({ "propagationPolicy": "Foreground" }), Some("foregroundDeletion")),
        (json!({ "propagationPolicy": "Orphan" }), Some("orphan")),
        (json!({ "orphanDependents": true }), Some("orphan")),
        (json!({ "propagationPolicy": "Background" }), None),
    ];
    for (options, finalizer) in cases {
        cluster.config_map("a", json!({})).await;
        let path = format!("{MAPS}/a");
        let answer = cluster.delete(&path, options.clone()).await.expect(200);
        match finalizer {
            Some(finalizer) => {
                assert_eq!(answer["metadata"]["finalizers"], json!([finalizer]), "{options}");
                cluster.patch(&path, "merge", json!({ "metadata": { "finalizers": [] } })).await.expect(200);
            }
            None => assert_eq!(answer["status"], "Success"),
        }
        cluster.get(&path).await.failure(404, "NotFound");
    }
    cluster.config_map("a", json!({})).await;
    for options in [
        json!({ "propagationPolicy": "Sideways" }),
        json!({ "propagationPolicy": "Orphan", "orphanDependents": true }),
    ] {
        cluster.delete(&format!("{MAPS}/a"), options).await.failure(422, "Invalid");
    }
    cluster.get(&format!("{MAPS}/a")).await.expect(200);
}

#[tokio::test]
async fn namespace_is_cleared_before_it_goes() {
    let cluster = cluster().await;
    let namespace =
        cluster.post("/api/v1/namespaces", "Namespace", json!({ "metadata": { "name": "a" } })).await;
    let namespace = namespace.expect(201);
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
    let maps = "/api/v1/namespaces/a/configmaps";
    cluster.post(maps, "ConfigMap", json!({ "metadata": { "name": "m" } })).await.expect(201);
    let going = cluster.delete("/api/v1/namespaces/a", json!(null)).await.expect(200);
    assert_eq!(going["status"]["phase"], "Terminating");
    let late = cluster.post(maps, "ConfigMap", json!({ "metadata": { "name": "n" } })).await;
    let message = late.failure(403, "Forbidden");
    assert!(
        message.ends_with("unable to create new content in namespace a because it is being terminated"),
        "{message}"
    );
    assert_eq!(late.json()["details"]["causes"][0]["reason"], "NamespaceTerminating");
    cluster.delete(&format!("{maps}/m"), json!(null)).await.expect(200);
    let mut cleared = going.clone();
    cleared["spec"]["finalizers"] = json!([]);
    cluster.put("/api/v1/namespaces/a/finalize", &cleared).await.expect(200);
    cluster.get("/api/v1/namespaces/a").await.failure(404, "NotFound");
    let missing = cluster.post(maps, "ConfigMap", json!({ "metadata": { "name": "n" } })).await;
    assert_eq!(missing.failure(404, "NotFound"), "namespaces \"a\" not found");
    let message =
        cluster.delete("/api/v1/namespaces/kube-system", json!(null)).await.failure(403, "Forbidden");
    assert_eq!(message, "namespaces \"kube-system\" is forbidden: this namespace may not be deleted");
}

#[tokio::test]
async fn collection_is_deleted_by_selection() {
    let cluster = cluster().await;
    for name in ["a", "b", "c"] {
        cluster.config_map(name, json!({})).await;
    }
    let list = cluster.delete(&format!("{MAPS}?labelSelector=app+in+(a,c)"), json!(null)).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let left = cluster.get(MAPS).await.expect(200);
    assert_eq!(left["items"][0]["metadata"]["name"], "b");
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
}
