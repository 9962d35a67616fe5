//! Objects of custom resources.

use http::Method;
use serde_json::{Value, json};

use crate::definitions::{DEFINITIONS, WIDGETS, define, definition, until};
use crate::harness::{Cluster, cluster};

fn spec() -> Value {
    json!({
        "type": "object",
        "required": ["size"],
        "properties": {
            "size": { "type": "integer", "minimum": 1, "maximum": 10 },
            "color": { "type": "string", "default": "red", "enum": ["red", "green"] },
            "name": { "type": "string", "pattern": "^[a-z]+$", "maxLength": 5 },
            "port": { "x-kubernetes-int-or-string": true },
            "note": { "type": "string", "nullable": true },
            "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            "replicas": { "type": "integer" },
            "ports": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["port"],
                "items": {
                    "type": "object",
                    "required": ["port"],
                    "properties": { "port": { "type": "integer" }, "name": { "type": "string" } },
                },
            },
        },
    })
}

fn with_subresources() -> Value {
    let mut definition = definition(spec());
    let version = &mut definition["spec"]["versions"][0];
    version["subresources"] = json!({
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    });
    version["additionalPrinterColumns"] = json!([
        { "name": "Size", "type": "integer", "jsonPath": ".spec.size" },
        { "name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status" },
        { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
    ]);
    version["selectableFields"] = json!([{ "jsonPath": ".spec.color" }]);
    definition
}

async fn widget(cluster: &Cluster, name: &str, spec: Value) -> Value {
    let object = json!({ "metadata": { "name": name }, "spec": spec });
    cluster.post(WIDGETS, "Widget", object).await.expect(201)
}

#[tokio::test]
async fn values_are_checked_in_upstreams_words() {
    let cluster = cluster().await;
    define(&cluster, definition(spec())).await;
    let cases = [
        (
            json!({ "size": 0 }),
            "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        (
            json!({ "size": "x" }),
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        (json!({}), "spec.size: Required value"),
        (
            json!({ "size": 1, "color": "blue" }),
            "spec.color: Unsupported value: \"blue\": supported values: \"red\", \"green\"",
        ),
        (
            json!({ "size": 1, "name": "A" }),
            "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'",
        ),
        (json!({ "size": 1, "name": "abcdef" }), "spec.name: Too long: may not be more than 5 bytes"),
        (
            json!({ "size": 1, "port": true }),
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
        ),
        (json!({ "size": null }), "spec.size: Required value"),
        (
            json!({ "size": 1, "ports": [{ "port": 1 }, { "port": 1 }] }),
            "spec.ports[1]: Duplicate value: {\"port\":1}",
        ),
    ];
    for (spec, expected) in cases {
        let object = json!({ "metadata": { "name": "a" }, "spec": spec });
        let message = cluster.post(WIDGETS, "Widget", object).await.failure(422, "Invalid");
        assert_eq!(message, format!("Widget.example.com \"a\" is invalid: {expected}"));
    }
    assert_eq!(cluster.get(WIDGETS).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn unknown_fields_go_and_defaults_come() {
    let cluster = cluster().await;
    define(&cluster, definition(spec())).await;
    let sent = json!({ "size": 1, "note": null, "bad": 1, "free": { "x": { "y": 1 } }, "color": null });
    let object = json!({ "metadata": { "name": "a" }, "spec": sent, "other": 1 });
    let answer = cluster.post(WIDGETS, "Widget", object.clone()).await;
    let made = answer.expect(201);
    let kept = json!({ "size": 1, "note": null, "free": { "x": { "y": 1 } }, "color": "red" });
    assert_eq!((&made["spec"], &made["other"]), (&kept, &Value::Null));
    let warnings: Vec<_> =
        answer.headers.get_all("warning").iter().map(|one| one.to_str().unwrap()).collect();
    assert_eq!(warnings, [r#"299 - "unknown field \"other\"""#, r#"299 - "unknown field \"spec.bad\"""#]);
    let answer = cluster.post(&format!("{WIDGETS}?fieldValidation=Strict"), "Widget", object).await;
    let message = answer.failure(400, "BadRequest");
    assert!(
        message.contains("strict decoding error: unknown field \"other\", unknown field \"spec.bad\""),
        "{message}"
    );
}

#[tokio::test]
async fn patches_apply_but_for_strategic_ones() {
    let cluster = cluster().await;
    define(&cluster, definition(spec())).await;
    widget(&cluster, "a", json!({ "size": 1 })).await;
    let path = format!("{WIDGETS}/a");
    let merged = cluster.patch(&path, "merge", json!({ "spec": { "size": 2 } })).await.expect(200);
    assert_eq!((&merged["spec"]["size"], &merged["metadata"]["generation"]), (&json!(2), &json!(2)));
    let patch = json!([{ "op": "replace", "path": "/spec/size", "value": 3 }]);
    let answer = cluster.call(Method::PATCH, &path, "application/json-patch+json", patch.to_string()).await;
    assert_eq!(answer.expect(200)["spec"]["size"], 3);
    let message =
        cluster.patch(&path, "strategic-merge", json!({})).await.failure(415, "UnsupportedMediaType");
    assert!(!message.contains("strategic"), "{message}");
    let dry = cluster.patch(&format!("{path}?dryRun=All"), "merge", json!({ "spec": { "size": 4 } })).await;
    assert_eq!(dry.expect(200)["spec"]["size"], 4);
    assert_eq!(cluster.get(&path).await.expect(200)["spec"]["size"], 3);
}

#[tokio::test]
async fn apply_merges_lists_by_the_keys_of_the_schema() {
    let cluster = cluster().await;
    define(&cluster, definition(spec())).await;
    let path = format!("{WIDGETS}/a");
    let apply = async |manager: &str, ports: Value| {
        let object = json!({
            "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": "a" },
            "spec": { "size": 1, "ports": ports }
        });
        let path = format!("{path}?fieldManager={manager}");
        cluster.call(Method::PATCH, &path, "application/apply-patch+yaml", object.to_string()).await
    };
    apply("one", json!([{ "port": 80, "name": "http" }])).await.expect(201);
    let both = apply("two", json!([{ "port": 443 }])).await.expect(200);
    assert_eq!(both["spec"]["ports"], json!([{ "port": 80, "name": "http" }, { "port": 443 }]));
    let message = apply("two", json!([{ "port": 80, "name": "x" }])).await.failure(409, "Conflict");
    assert!(message.ends_with(r#"conflict with "one": .spec.ports[port=80].name"#), "{message}");
    let less = apply("one", json!([])).await.expect(200);
    assert_eq!(less["spec"]["ports"], json!([{ "port": 443 }]));
}

#[tokio::test]
async fn status_and_scale_are_written_apart() {
    let cluster = cluster().await;
    define(&cluster, with_subresources()).await;
    let object = json!({
        "metadata": { "name": "a" }, "spec": { "size": 1, "replicas": 2 }, "status": { "replicas": 9 }
    });
    let made = cluster.post(WIDGETS, "Widget", object).await.expect(201);
    assert_eq!(made["status"], Value::Null);
    let path = format!("{WIDGETS}/a");
    let patch = json!({
        "metadata": { "labels": { "x": "y" } },
        "spec": { "size": 5 },
        "status": { "replicas": 1, "selector": "app=a" }
    });
    let done = cluster.patch(&format!("{path}/status"), "merge", patch).await.expect(200);
    assert_eq!((&done["spec"]["size"], &done["metadata"]["labels"]), (&json!(1), &Value::Null));
    assert_eq!((&done["status"]["replicas"], &done["metadata"]["generation"]), (&json!(1), &json!(1)));
    let scale = cluster.get(&format!("{path}/scale")).await.expect(200);
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({ "replicas": 2 }), &json!({ "replicas": 1, "selector": "app=a" }))
    );
    let patch = json!({ "spec": { "replicas": 4 } });
    cluster.patch(&format!("{path}/scale"), "merge", patch).await.expect(200);
    let found = cluster.get(&path).await.expect(200);
    assert_eq!((&found["spec"]["replicas"], &found["metadata"]["generation"]), (&json!(4), &json!(2)));
    let patch = json!({ "status": { "replicas": 7 } });
    let same = cluster.patch(&path, "merge", patch).await.expect(200);
    assert_eq!(same["status"]["replicas"], 1);
}

#[tokio::test]
async fn table_has_the_columns_of_the_definition() {
    let cluster = cluster().await;
    define(&cluster, with_subresources()).await;
    widget(&cluster, "a", json!({ "size": 3 })).await;
    let status = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
    cluster.patch(&format!("{WIDGETS}/a/status"), "merge", status).await.expect(200);
    cluster.pass(65);
    let table = cluster.accepting(WIDGETS, "application/json;as=Table;g=meta.k8s.io;v=v1").await.expect(200);
    let names: Vec<_> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Name", "Size", "Ready", "Age"]);
    assert_eq!(table["rows"][0]["cells"], json!(["a", 3, "True", "65s"]));
}

#[tokio::test]
async fn selectable_fields_select_in_lists_and_watches() {
    let cluster = cluster().await;
    define(&cluster, with_subresources()).await;
    widget(&cluster, "a", json!({ "size": 1 })).await;
    widget(&cluster, "b", json!({ "size": 1, "color": "green" })).await;
    let list = cluster.get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dgreen")).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(list["items"][0]["metadata"]["name"], "b");
    let message =
        cluster.get(&format!("{WIDGETS}?fieldSelector=spec.size%3D1")).await.failure(400, "BadRequest");
    assert_eq!(message, "field label not supported: spec.size");
}

#[tokio::test]
async fn versions_differ_in_name_and_schema() {
    let cluster = cluster().await;
    let mut both = definition(spec());
    let mut old = both["spec"]["versions"][0].clone();
    old["name"] = json!("v1beta1");
    old["storage"] = json!(false);
    old["deprecated"] = json!(true);
    both["spec"]["versions"].as_array_mut().unwrap().push(old);
    define(&cluster, both).await;
    widget(&cluster, "a", json!({ "size": 1 })).await;
    let beta = WIDGETS.replace("/v1/", "/v1beta1/");
    let answer = cluster.get(&beta).await;
    assert_eq!(answer.expect(200)["items"][0]["apiVersion"], "example.com/v1beta1");
    assert_eq!(answer.headers["warning"], r#"299 - "example.com/v1beta1 Widget is deprecated""#);
    let group = cluster.get("/apis/example.com").await.expect(200);
    assert_eq!(group["preferredVersion"]["version"], "v1");
    // Stored in the other version from here on; what lies there already is served in both as before.
    let patch = json!([
        { "op": "replace", "path": "/spec/versions/0/storage", "value": false },
        { "op": "replace", "path": "/spec/versions/1/storage", "value": true },
        { "op": "add", "path": "/spec/versions/1/schema/openAPIV3Schema/properties/spec/properties/fresh",
          "value": { "type": "string", "default": "yes" } },
    ]);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let answer = cluster.call(Method::PATCH, &path, "application/json-patch+json", patch.to_string()).await;
    assert_eq!(answer.expect(200)["status"]["storedVersions"], json!(["v1", "v1beta1"]));
    until(async || cluster.get(&format!("{beta}/a")).await.expect(200)["spec"]["fresh"] == "yes").await;
    let one = cluster.get(&format!("{WIDGETS}/a")).await.expect(200);
    assert_eq!((&one["apiVersion"], &one["spec"]["fresh"]), (&json!("example.com/v1"), &Value::Null));
    let put =
        cluster.patch(&format!("{WIDGETS}/a"), "merge", json!({ "spec": { "size": 2 } })).await.expect(200);
    assert_eq!(put["apiVersion"], "example.com/v1");
    // Who applies in one version and then in the other still wants what is in both.
    for (path, version) in [(WIDGETS, "v1"), (beta.as_str(), "v1beta1")] {
        let object = json!({
            "apiVersion": format!("example.com/{version}"), "kind": "Widget", "metadata": { "name": "b" },
            "spec": { "size": 3, "ports": [{ "port": 80 }] },
        });
        let path = format!("{path}/b?fieldManager=one");
        let media = "application/apply-patch+yaml";
        let applied = cluster.call(Method::PATCH, &path, media, object.to_string()).await;
        assert!(matches!(applied.code, 200 | 201), "{applied:?}");
        let applied = applied.json();
        assert_eq!(
            (&applied["spec"]["size"], &applied["spec"]["ports"]),
            (&json!(3), &object["spec"]["ports"])
        );
    }
}

#[tokio::test]
async fn object_that_a_new_schema_refuses_can_be_changed_elsewhere() {
    let cluster = cluster().await;
    define(&cluster, definition(spec())).await;
    widget(&cluster, "a", json!({ "size": 9 })).await;
    let patch = json!([{
        "op": "replace",
        "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size/maximum",
        "value": 5
    }]);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    cluster.call(Method::PATCH, &path, "application/json-patch+json", patch.to_string()).await.expect(200);
    let path = format!("{WIDGETS}/a");
    until(async || cluster.patch(&path, "merge", json!({ "spec": { "size": 8 } })).await.code == 422).await;
    cluster.patch(&path, "merge", json!({ "spec": { "name": "abc" } })).await.expect(200);
}

#[tokio::test]
async fn finalizer_of_a_custom_resource_need_not_say_whose_it_is() {
    let cluster = cluster().await;
    define(&cluster, definition(spec())).await;
    let held = |finalizer: &str| json!({ "metadata": { "name": "a", "finalizers": [finalizer] } });
    let mut object = held("plain");
    object["spec"] = json!({ "size": 1 });
    cluster.post(WIDGETS, "Widget", object).await.expect(201);
    let patch = cluster.patch(&format!("{WIDGETS}/a"), "merge", held("not a name")).await;
    assert!(patch.failure(422, "Invalid").contains("metadata.finalizers: Invalid value"));
    let refused = cluster.post("/api/v1/namespaces/default/configmaps", "ConfigMap", held("plain")).await;
    assert!(refused.failure(422, "Invalid").contains("nor is it fully qualified"));
}

#[tokio::test]
async fn documents_tell_of_custom_kinds_at_once() {
    let cluster = cluster().await;
    cluster.get("/openapi/v2").await.expect(200);
    assert_eq!(cluster.get("/openapi/v3/apis/example.com/v1").await.code, 404);
    define(&cluster, definition(spec())).await;
    let index = cluster.get("/openapi/v3").await.expect(200);
    let first = index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let document = cluster.get("/openapi/v3/apis/example.com/v1").await.expect(200);
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(schema["properties"]["spec"]["properties"]["size"]["maximum"], 10);
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Widget");
    let one = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"];
    let patches = one["patch"]["requestBody"]["content"].as_object().unwrap();
    assert!(patches.contains_key("application/merge-patch+json"));
    assert!(!patches.contains_key("application/strategic-merge-patch+json"));
    let old = cluster.get("/openapi/v2").await.expect(200);
    assert_eq!(old["definitions"]["com.example.v1.Widget"]["type"], "object");
    let patch = json!([{
        "op": "replace",
        "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size/maximum",
        "value": 5
    }]);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    cluster.call(Method::PATCH, &path, "application/json-patch+json", patch.to_string()).await.expect(200);
    until(async || {
        let index = cluster.get("/openapi/v3").await.expect(200);
        index["paths"]["apis/example.com/v1"]["serverRelativeURL"] != first
    })
    .await;
}

#[tokio::test]
async fn old_document_says_no_more_of_an_open_kind_than_that_it_is_an_object() {
    let cluster = cluster().await;
    let mut open = definition(json!({}));
    open["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    define(&cluster, open).await;
    let document = cluster.get("/openapi/v2").await.expect(200);
    let kinds = json!([{ "group": "example.com", "version": "v1", "kind": "Widget" }]);
    assert_eq!(
        document["definitions"]["com.example.v1.Widget"],
        json!({ "type": "object", "x-kubernetes-group-version-kind": kinds })
    );
}
