//! Definitions of custom resources: what they may say, and how the kinds that they define come and go.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, cluster};

pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(crate) const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// A definition of widgets with this schema of `spec`.
pub(crate) fn definition(spec: Value) -> Value {
    json!({
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": { "plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"] },
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "properties": { "spec": spec, "status": {
                        "type": "object", "x-kubernetes-preserve-unknown-fields": true
                    } },
                } },
            }],
        },
    })
}

pub(crate) async fn post(cluster: &Cluster, definition: Value) -> Answer {
    cluster.post(DEFINITIONS, "CustomResourceDefinition", definition).await
}

/// Waits for what the server does by itself.
pub(crate) async fn until<F: Future<Output = bool>>(mut holds: impl FnMut() -> F) {
    for _ in 0..400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("this took too long");
}

/// Creates a definition and waits until it is served.
pub(crate) async fn define(cluster: &Cluster, definition: Value) {
    let made = post(cluster, definition).await.expect(201);
    let spec = &made["spec"];
    let version = spec["versions"][0]["name"].as_str().unwrap();
    let path = format!(
        "/apis/{}/{version}/{}",
        spec["group"].as_str().unwrap(),
        spec["names"]["plural"].as_str().unwrap()
    );
    until(async || cluster.get(&path).await.code == 200).await;
}

pub(crate) fn any() -> Value {
    json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

fn condition<'a>(definition: &'a Value, kind: &str) -> (&'a str, &'a str) {
    let conditions = definition["status"]["conditions"].as_array().unwrap();
    let one = conditions.iter().find(|one| one["type"] == kind).unwrap();
    (one["status"].as_str().unwrap(), one["reason"].as_str().unwrap())
}

#[tokio::test]
async fn definition_is_established_and_discovered() {
    let cluster = cluster().await;
    define(&cluster, definition(any())).await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let found = cluster.get(&path).await.expect(200);
    assert_eq!(condition(&found, "NamesAccepted"), ("True", "NoConflicts"));
    assert_eq!(condition(&found, "Established"), ("True", "InitialNamesAccepted"));
    let names = &found["status"]["acceptedNames"];
    assert_eq!((&names["listKind"], &names["singular"]), (&json!("WidgetList"), &json!("widget")));
    assert_eq!(found["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(found["spec"]["conversion"]["strategy"], "None");
    let listed = cluster.get("/apis/example.com/v1").await.expect(200);
    let one = &listed["resources"][0];
    assert_eq!((&one["name"], &one["shortNames"]), (&json!("widgets"), &json!(["wd"])));
    let groups = cluster.get("/apis").await.expect(200);
    assert!(groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "example.com"));
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let groups = cluster.accepting("/apis", aggregated).await.expect(200);
    let groups = groups["items"].as_array().unwrap();
    assert!(groups.iter().any(|group| group["metadata"]["name"] == "example.com"));
}

#[tokio::test]
async fn definition_that_goes_takes_its_objects_and_watches_along() {
    let cluster = cluster().await;
    define(&cluster, definition(any())).await;
    for (name, finalizers) in [("a", json!([])), ("b", json!(["example.com/hold"]))] {
        let object = json!({ "metadata": { "name": name, "finalizers": finalizers } });
        cluster.post(WIDGETS, "Widget", object).await.expect(201);
    }
    let mut watch = cluster.watch(&format!("{WIDGETS}?watch=1")).await;
    assert_eq!((watch.name().await, watch.name().await), ("ADDED a".into(), "ADDED b".into()));
    let path = format!("{DEFINITIONS}/widgets.example.com");
    cluster.delete(&path, Value::Null).await.expect(200);
    assert_eq!(watch.name().await, "DELETED a");
    assert_eq!(watch.name().await, "MODIFIED b");
    let held = cluster.get(&path).await.expect(200);
    assert_eq!(held["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    until(async || {
        let answer = cluster.post(WIDGETS, "Widget", json!({ "metadata": { "name": "c" } })).await;
        answer.code == 405
    })
    .await;
    let patch = json!({ "metadata": { "finalizers": null } });
    cluster.patch(&format!("{WIDGETS}/b"), "merge", patch).await.expect(200);
    assert_eq!(watch.name().await, "DELETED b");
    assert_eq!(watch.name().await, "end");
    until(async || cluster.get(WIDGETS).await.code == 404).await;
    cluster.get(&path).await.failure(404, "NotFound");
    // The same definition again begins with nothing.
    define(&cluster, definition(any())).await;
    assert_eq!(cluster.get(WIDGETS).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn restart_serves_what_was_defined_before_it_answers() {
    let cluster = cluster().await;
    define(&cluster, definition(any())).await;
    cluster.post(WIDGETS, "Widget", json!({ "metadata": { "name": "a" } })).await.expect(201);
    let again = cluster.restarted().await;
    let list = again.get(WIDGETS).await.expect(200);
    assert_eq!((&list["kind"], &list["items"][0]["metadata"]["name"]), (&json!("WidgetList"), &json!("a")));
}

#[tokio::test]
async fn name_that_is_taken_is_not_accepted_until_it_is_free() {
    let cluster = cluster().await;
    define(&cluster, definition(any())).await;
    let mut other = definition(any());
    other["metadata"]["name"] = json!("gadgets.example.com");
    other["spec"]["names"] = json!({ "plural": "gadgets", "kind": "Widget" });
    post(&cluster, other).await.expect(201);
    let path = format!("{DEFINITIONS}/gadgets.example.com");
    until(async || cluster.get(&path).await.json()["status"]["conditions"].is_array()).await;
    let found = cluster.get(&path).await.expect(200);
    assert_eq!(condition(&found, "NamesAccepted"), ("False", "ListKindConflict"));
    assert_eq!(condition(&found, "Established"), ("False", "NotAccepted"));
    assert_eq!(cluster.get("/apis/example.com/v1/gadgets").await.code, 404);
    cluster.delete(&format!("{DEFINITIONS}/widgets.example.com"), Value::Null).await.expect(200);
    until(async || cluster.get("/apis/example.com/v1/gadgets").await.code == 200).await;
}

#[tokio::test]
async fn namespace_and_kind_of_an_established_definition_stay() {
    let cluster = cluster().await;
    define(&cluster, definition(any())).await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let patch = json!({ "spec": { "scope": "Cluster", "names": { "kind": "Gadget" } } });
    let message = cluster.patch(&path, "merge", patch).await.failure(422, "Invalid");
    assert!(message.contains("spec.scope: Invalid value: \"Cluster\": field is immutable"), "{message}");
    assert!(message.contains("spec.names.kind: Invalid value: \"Gadget\": field is immutable"), "{message}");
}

#[tokio::test]
async fn nothing_created_while_its_definition_goes_outlives_it() {
    let cluster = std::sync::Arc::new(cluster().await);
    for _ in 0..5 {
        define(&cluster, definition(any())).await;
        let writers: Vec<_> = (0..16)
            .map(|writer| {
                let cluster = cluster.clone();
                tokio::spawn(async move {
                    for n in 0..20 {
                        let object = json!({ "metadata": { "name": format!("w{writer}-{n}") } });
                        let code = cluster.post(WIDGETS, "Widget", object).await.code;
                        assert!(matches!(code, 201 | 404 | 405), "{code}");
                    }
                })
            })
            .collect();
        let path = format!("{DEFINITIONS}/widgets.example.com");
        tokio::task::yield_now().await;
        cluster.delete(&path, Value::Null).await.expect(200);
        for writer in writers {
            writer.await.unwrap();
        }
        until(async || cluster.get(&path).await.code == 404).await;
        define(&cluster, definition(any())).await;
        assert_eq!(cluster.get(WIDGETS).await.expect(200)["items"], json!([]));
        cluster.delete(&path, Value::Null).await.expect(200);
        until(async || cluster.get(&path).await.code == 404).await;
    }
}

#[tokio::test]
async fn watch_opened_while_the_schema_changes_is_of_the_new_one_or_ends() {
    let cluster = std::sync::Arc::new(cluster().await);
    let schema = |color: &str| json!({ "type": "object", "properties": { "color": { "type": "string", "default": color } } });
    define(&cluster, definition(schema("c0"))).await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    for round in 1..8 {
        let opening = {
            let cluster = cluster.clone();
            tokio::spawn(async move {
                let mut open = Vec::new();
                for _ in 0..40 {
                    open.push(cluster.watch(&format!("{WIDGETS}?watch=1&resourceVersion=0")).await);
                    tokio::task::yield_now().await;
                }
                open
            })
        };
        let color = format!("c{round}");
        let mut found = cluster.get(&path).await.expect(200);
        let place = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        *found.pointer_mut(place).unwrap() = schema(&color);
        cluster.put(&path, &found).await.expect(200);
        let watches = opening.await.unwrap();
        let probe = json!({ "metadata": { "name": "probe" }, "spec": {} });
        let dry = format!("{WIDGETS}?dryRun=All");
        until(async || {
            cluster.post(&dry, "Widget", probe.clone()).await.expect(201)["spec"]["color"] == json!(color)
        })
        .await;
        let name = format!("w{round}");
        cluster
            .post(WIDGETS, "Widget", json!({ "metadata": { "name": name }, "spec": {} }))
            .await
            .expect(201);
        for mut watch in watches {
            while let Some((kind, object)) = watch.next().await {
                if kind == "ADDED" && object["metadata"]["name"] == json!(name) {
                    assert_eq!(object["spec"]["color"], json!(color));
                    break;
                }
            }
        }
    }
}
