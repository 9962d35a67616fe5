//! Server-side apply and `managedFields`, as clients meet them.

use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, cluster};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const APPLY: &str = "application/apply-patch+yaml";

async fn apply(cluster: &Cluster, path: &str, options: &str, object: Value) -> Answer {
    cluster.call(Method::PATCH, &format!("{path}?{options}"), APPLY, object.to_string()).await
}

fn map(data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": data })
}

fn deployment(spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
        "spec": {
            "selector": { "matchLabels": { "app": "d" } },
            "template": {
                "metadata": { "labels": { "app": "d" } },
                "spec": { "containers": [{ "name": "c", "image": "echo", "ports": [{ "containerPort": 80 }] }] },
            },
        },
    });
    for (name, value) in spec.as_object().unwrap() {
        object["spec"][name] = value.clone();
    }
    object
}

fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array();
    let mut names: Vec<_> = entries
        .into_iter()
        .flatten()
        .map(|entry| {
            let word = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", word("manager"), word("operation"), word("subresource")).trim_end().to_owned()
        })
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn apply_creates_changes_and_takes_away() {
    let cluster = cluster().await;
    let path = &format!("{MAPS}/a");
    let made =
        apply(&cluster, path, "fieldManager=one", map(json!({ "x": "1", "y": "2" }))).await.expect(201);
    assert_eq!(owners(&made), ["one Apply"]);
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!(entry["fieldsV1"], json!({ "f:data": { "f:x": {}, "f:y": {} } }));
    assert_eq!((&entry["fieldsType"], &entry["apiVersion"]), (&json!("FieldsV1"), &json!("v1")));
    cluster.pass(5);
    let same =
        apply(&cluster, path, "fieldManager=one", map(json!({ "x": "1", "y": "2" }))).await.expect(200);
    assert_eq!(same, made);
    let less = apply(&cluster, path, "fieldManager=one", map(json!({ "x": "1" }))).await.expect(200);
    assert_eq!(less["data"], json!({ "x": "1" }));
    assert_eq!(cluster.get(path).await.expect(200), less);
}

#[tokio::test]
async fn conflict_is_told_field_by_field_and_can_be_forced() {
    let cluster = cluster().await;
    let path = &format!("{MAPS}/a");
    apply(&cluster, path, "fieldManager=one", map(json!({ "x": "1" }))).await.expect(201);
    let other = map(json!({ "x": "2" }));
    let answer = apply(&cluster, path, "fieldManager=two", other.clone()).await;
    let message = answer.failure(409, "Conflict");
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"one\": .data.x");
    let cause =
        json!({ "reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.x" });
    assert_eq!(answer.json()["details"]["causes"], json!([cause]));
    assert_eq!(cluster.get(path).await.expect(200)["data"]["x"], "1");
    let dry =
        apply(&cluster, path, "fieldManager=two&force=true&dryRun=All", other.clone()).await.expect(200);
    assert_eq!(dry["data"]["x"], "2");
    assert_eq!(cluster.get(path).await.expect(200)["data"]["x"], "1");
    let forced = apply(&cluster, path, "fieldManager=two&force=true", other).await.expect(200);
    assert_eq!((&forced["data"]["x"], owners(&forced)), (&json!("2"), vec!["two Apply".to_owned()]));
}

#[tokio::test]
async fn defaults_and_values_of_the_server_survive_apply() {
    let cluster = cluster().await;
    let path = &format!("{DEPLOYMENTS}/d");
    let made = apply(&cluster, path, "fieldManager=one", deployment(json!({}))).await.expect(201);
    assert_eq!((&made["spec"]["replicas"], &made["metadata"]["generation"]), (&json!(1), &json!(1)));
    let again = apply(&cluster, path, "fieldManager=one", deployment(json!({}))).await.expect(200);
    assert_eq!(again, made);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s" },
        "spec": { "selector": { "app": "d" }, "ports": [{ "port": 80 }] },
    });
    let path = "/api/v1/namespaces/default/services/s";
    let made = apply(&cluster, path, "fieldManager=one", service.clone()).await.expect(201);
    assert!(made["spec"]["clusterIP"].as_str().unwrap().starts_with("10.96.0."));
    assert_eq!(apply(&cluster, path, "fieldManager=one", service).await.expect(200), made);
}

#[tokio::test]
async fn status_and_scale_are_applied_through_their_subresources() {
    let cluster = cluster().await;
    let path = &format!("{DEPLOYMENTS}/d");
    apply(&cluster, path, "fieldManager=one", deployment(json!({ "replicas": 2 }))).await.expect(201);
    let mut status = deployment(json!({ "replicas": 7 }));
    status["status"] = json!({ "replicas": 2 });
    let done = apply(&cluster, &format!("{path}/status"), "fieldManager=ctl", status).await.expect(200);
    assert_eq!((&done["status"]["replicas"], &done["spec"]["replicas"]), (&json!(2), &json!(2)));
    assert_eq!(owners(&done), ["ctl Apply status", "one Apply"]);
    let scale = json!({ "apiVersion": "autoscaling/v1", "kind": "Scale", "spec": { "replicas": 5 } });
    let path_of_scale = &format!("{path}/scale");
    let message =
        apply(&cluster, path_of_scale, "fieldManager=hpa", scale.clone()).await.failure(409, "Conflict");
    assert!(message.ends_with("conflict with \"one\": .spec.replicas"), "{message}");
    let done = apply(&cluster, path_of_scale, "fieldManager=hpa&force=true", scale).await.expect(200);
    assert_eq!(done["spec"]["replicas"], 5);
    // Now the deployment can be applied without a number of replicas, and keeps the autoscaler's.
    let kept = apply(&cluster, path, "fieldManager=one", deployment(json!({}))).await.expect(200);
    assert_eq!(kept["spec"]["replicas"], 5);
    assert_eq!(owners(&kept), ["ctl Apply status", "hpa Apply scale", "one Apply"]);
}

#[tokio::test]
async fn every_other_write_is_recorded_under_its_manager_or_agent() {
    let cluster = cluster().await;
    let path = &format!("{MAPS}/a");
    let request =
        Request::post(MAPS).header("content-type", "application/json").header("user-agent", "tool/v1 (x)");
    let made =
        cluster.send(request.body(Full::new(map(json!({ "x": "1" })).to_string().into())).unwrap()).await;
    assert_eq!(owners(&made.expect(201)), ["tool Update"]);
    let patch = json!({ "data": { "y": "2" } });
    let patched = cluster.patch(&format!("{path}?fieldManager=hand"), "merge", patch).await.expect(200);
    assert_eq!(owners(&patched), ["hand Update", "tool Update"]);
    let entry = &patched["metadata"]["managedFields"];
    assert!(entry.to_string().contains(r#"{"f:data":{"f:y":{}}}"#), "{entry}");
    let mut sent = patched.clone();
    sent["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(cluster.put(path, &sent).await.expect(200), patched);
    let reset =
        cluster.patch(path, "merge", json!({ "metadata": { "managedFields": [{}] } })).await.expect(200);
    assert!(reset["metadata"].get("managedFields").is_none());
}

#[tokio::test]
async fn apply_that_makes_no_sense_changes_nothing() {
    let cluster = cluster().await;
    let path = &format!("{MAPS}/a");
    let good = || map(json!({ "x": "1" }));
    let message = apply(&cluster, path, "", good()).await.failure(422, "Invalid");
    assert!(message.ends_with("fieldManager: Required value: is required for apply patch"), "{message}");
    let long = format!("fieldManager={}", "x".repeat(129));
    apply(&cluster, path, &long, good()).await.failure(422, "Invalid");
    let mut wrong = good();
    wrong["metadata"]["name"] = json!("b");
    apply(&cluster, path, "fieldManager=one", wrong).await.failure(400, "BadRequest");
    let mut wrong = good();
    wrong["metadata"]["managedFields"] = json!([{ "manager": "x" }]);
    let message = apply(&cluster, path, "fieldManager=one", wrong).await.failure(400, "BadRequest");
    assert_eq!(message, "metadata.managedFields must be nil");
    let mut wrong = good();
    wrong["metadata"]["uid"] = json!("1234");
    apply(&cluster, path, "fieldManager=one", wrong).await.failure(409, "Conflict");
    let text = cluster.call(Method::PATCH, &format!("{path}?fieldManager=one"), APPLY, "a: [").await;
    text.failure(400, "BadRequest");
    let cbor = cluster.call(Method::PATCH, path, "application/apply-patch+cbor", "x").await;
    cbor.failure(415, "UnsupportedMediaType");
    let forced =
        cluster.patch(&format!("{path}?force=true"), "merge", json!({})).await.failure(422, "Invalid");
    assert!(forced.ends_with("force: Forbidden: may not be specified for non-apply patch"), "{forced}");
    cluster.get(path).await.failure(404, "NotFound");
}

/// What kubectl's own merge goes by stays true when it applies on the server: it may go back.
#[tokio::test]
async fn applying_with_kubectl_keeps_its_annotation_up_to_date() {
    const LAST: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let cluster = cluster().await;
    let path = format!("{MAPS}/a");
    let made = apply(&cluster, &path, "fieldManager=kubectl", map(json!({ "k": "1" }))).await.expect(201);
    assert!(made["metadata"]["annotations"].is_null());
    let note = json!({ "metadata": { "annotations": { LAST: "old" } } });
    cluster.patch(&path, "merge", note).await.expect(200);
    let other = apply(&cluster, &path, "fieldManager=other", map(json!({ "l": "1" }))).await.expect(200);
    assert_eq!(other["metadata"]["annotations"][LAST], "old");
    let changed = apply(&cluster, &path, "fieldManager=kubectl", map(json!({ "k": "2" }))).await.expect(200);
    let text = changed["metadata"]["annotations"][LAST].as_str().unwrap();
    let kept: Value = serde_json::from_str(text).unwrap();
    assert_eq!((&kept["data"], &kept["metadata"]["annotations"]), (&json!({ "k": "2" }), &Value::Null));
}

#[tokio::test]
async fn applied_field_that_does_not_exist_is_refused_by_its_path() {
    let cluster = cluster().await;
    let mut object = map(json!({}));
    object["colour"] = json!("red");
    let answer =
        apply(&cluster, &format!("{MAPS}/a"), "fieldManager=me&fieldValidation=Ignore", object).await;
    let message = answer.expect(500)["message"].as_str().unwrap().to_owned();
    let why = "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .colour: field not declared in schema";
    assert_eq!(message, why);
    let text = "apiVersion: v1\nkind: ConfigMap\ndata:\n  k: a\n  k: b\n";
    let path = format!("{MAPS}/a?fieldManager=me&fieldValidation=Strict");
    let message = cluster.call(Method::PATCH, &path, APPLY, text).await.failure(400, "BadRequest");
    assert!(
        message.ends_with("yaml: unmarshal errors:\n  line 5: key \"k\" already set in map"),
        "{message}"
    );
    cluster.get(&format!("{MAPS}/a")).await.failure(404, "NotFound");
}
