//! The form in which objects come back: what upstream's types have when nobody sets it, who owns what from the start, and
//! the kinds that are only answered.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Cluster, cluster};

const NS: &str = "/namespaces/default/";

async fn created(cluster: &Cluster, group_version: &str, plural: &str, kind: &str, object: Value) -> Value {
    let start = if group_version.contains('/') { "/apis/" } else { "/api/" };
    cluster.post(&format!("{start}{group_version}{NS}{plural}"), kind, object).await.expect(201)
}

#[tokio::test]
async fn numbers_that_nobody_set_are_there_where_upstream_writes_them() {
    let cluster = cluster().await;
    let budget = json!({ "apiVersion": "policy/v1", "metadata": { "name": "a" } });
    let budget = created(&cluster, "policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", budget).await;
    assert_eq!(budget["spec"], json!({}));
    let zeros =
        json!({ "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0 });
    assert_eq!(budget["status"], zeros);
    let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "d" });
    let scaler = json!({ "apiVersion": "autoscaling/v2", "metadata": { "name": "a" }, "spec": { "maxReplicas": 2, "scaleTargetRef": target } });
    let scaler =
        created(&cluster, "autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", scaler)
            .await;
    assert_eq!(scaler["status"], json!({ "currentMetrics": null, "desiredReplicas": 0 }));
    let old =
        cluster.get("/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers/a").await.expect(200);
    assert_eq!(old["status"], json!({ "currentReplicas": 0, "desiredReplicas": 0 }));
    assert!(old["metadata"].get("annotations").is_none(), "{old}");
    let event = json!({ "metadata": { "name": "e" }, "involvedObject": { "namespace": "default" } });
    let event = created(&cluster, "v1", "events", "Event", event).await;
    assert_eq!((&event["eventTime"], &event["reportingComponent"]), (&Value::Null, &json!("")));
    assert!(event.as_object().unwrap().contains_key("firstTimestamp"));
}

#[tokio::test]
async fn writer_of_a_new_object_owns_its_fields_as_upstream_counts_them() {
    let cluster = cluster().await;
    let map = json!({ "metadata": { "name": "a" }, "data": { "k": "v" } });
    let map = created(&cluster, "v1", "configmaps", "ConfigMap", map).await;
    let entries = map["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["fieldsV1"], json!({ "f:data": { ".": {}, "f:k": {} } }));
    // Nothing is tracked for who took all entries away, until somebody applies.
    let path = "/api/v1/namespaces/default/configmaps/a";
    let reset = json!({ "metadata": { "managedFields": [{}] } });
    let map = cluster.patch(path, "merge", reset).await.expect(200);
    assert!(map["metadata"].get("managedFields").is_none(), "{map}");
    let labelled = json!({ "metadata": { "labels": { "a": "b" } } });
    let map = cluster.patch(path, "merge", labelled).await.expect(200);
    assert!(map["metadata"].get("managedFields").is_none(), "{map}");
    let applied =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "k": "v" } });
    let apply = "application/apply-patch+yaml";
    let path = format!("{path}?fieldManager=x");
    let map = cluster.call(Method::PATCH, &path, apply, applied.to_string()).await.expect(200);
    let entries = map["metadata"]["managedFields"].as_array().unwrap();
    let managers: Vec<&str> = entries.iter().map(|one| one["manager"].as_str().unwrap()).collect();
    assert_eq!(managers, ["x", "before-first-apply"]);
    assert!(entries[0].get("time").is_none(), "applied without a change: {entries:?}");
}

#[tokio::test]
async fn bindings_give_pods_their_nodes_as_their_subresource_does() {
    let cluster = cluster().await;
    cluster.pod("p").await;
    let path = "/api/v1/namespaces/default/bindings";
    let binding = |name: &str, kind: &str| json!({ "metadata": { "name": name }, "target": { "kind": kind, "name": "n" } });
    let answer = cluster.post(path, "Binding", binding("p", "Foo")).await;
    assert_eq!(answer.code, 500);
    assert_eq!(
        answer.json()["message"],
        "target.kind: Unsupported value: \"Foo\": supported values: \"Node\", \"<empty>\""
    );
    assert_eq!(cluster.post(path, "Binding", binding("p", "Node")).await.expect(201)["status"], "Success");
    let pod = cluster.get("/api/v1/namespaces/default/pods/p").await.expect(200);
    assert_eq!(pod["spec"]["nodeName"], "n");
    let again = cluster.post(path, "Binding", binding("p", "Node")).await;
    let why = "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n\"";
    assert_eq!(again.failure(409, "Conflict"), why);
    cluster.post(path, "Binding", binding("none", "Node")).await.failure(404, "NotFound");
    let nameless = json!({ "target": { "name": "n" } });
    let why = cluster.post(path, "Binding", nameless).await;
    assert_eq!(why.failure(400, "BadRequest"), "Name parameter required.");
    cluster.get(path).await.failure(405, "MethodNotAllowed");
}

#[tokio::test]
async fn component_statuses_tell_of_leases_and_of_the_store() {
    let cluster = cluster().await;
    let answer = cluster.get("/api/v1/componentstatuses").await;
    assert_eq!(answer.headers["warning"], "299 - \"v1 ComponentStatus is deprecated in v1.19+\"");
    let list = answer.expect(200);
    let items = list["items"].as_array().unwrap();
    let states: Vec<_> = items
        .iter()
        .map(|one| {
            (one["metadata"]["name"].as_str().unwrap(), one["conditions"][0]["status"].as_str().unwrap())
        })
        .collect();
    assert_eq!(states, [("controller-manager", "False"), ("scheduler", "False"), ("etcd-0", "True")]);
    let one = cluster.get("/api/v1/componentstatuses/etcd-0").await.expect(200);
    assert_eq!(one["conditions"], json!([{ "type": "Healthy", "status": "True", "message": "ok" }]));
    let selected =
        cluster.get("/api/v1/componentstatuses?fieldSelector=metadata.name%3Dscheduler").await.expect(200);
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
    let missing = cluster.get("/api/v1/componentstatuses/none").await;
    assert_eq!(missing.failure(404, "NotFound"), "componentstatus \"none\" not found");
}
