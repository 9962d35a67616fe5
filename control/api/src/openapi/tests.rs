//! The documents hang together, and say what kubectl looks for.

use super::*;
use crate::registry::registry;

fn check_references(document: &Value, prefix: &str, schemas: &Value) {
    let mut names = Vec::new();
    references(document, &mut names);
    assert!(!names.is_empty());
    for name in names {
        assert!(schemas.get(&name).is_some(), "{prefix}{name} leads nowhere");
    }
}

#[test]
fn v3_document_of_every_version_is_closed() {
    let index = v3_index(registry());
    for path in index["paths"].as_object().unwrap().keys() {
        let document = v3(registry(), path).unwrap();
        check_references(&document, "#/components/schemas/", &document["components"]["schemas"]);
    }
    assert!(v3(registry(), "apis/apps/v2").is_none());
}

#[test]
fn v2_document_is_closed_and_has_no_v3_words() {
    let document = v2(registry());
    check_references(&document, "#/definitions/", &document["definitions"]);
    let text = document.to_string();
    for word in ["#/components", "\"oneOf\":[", "\"allOf\":[", "requestBody"] {
        assert!(!text.contains(word), "{word}");
    }
}

#[test]
fn v3_document_carries_extensions_and_parameters() {
    let document = v3(registry(), "apis/apps/v1").unwrap();
    let schemas = &document["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"][0]["kind"], "Deployment");
    assert!(deployment["description"].as_str().unwrap().contains("Deployment"));
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["items"]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Container");
    let post = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"]["post"];
    assert_eq!(post["x-kubernetes-action"], "post");
    assert_eq!(post["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    let has = |name: &str| post["parameters"].as_array().unwrap().iter().any(|one| one["name"] == name);
    assert!(has("fieldValidation") && has("dryRun"));
    assert!(document["paths"].get("/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale").is_some());
}

#[test]
fn v3_document_names_the_older_paths_of_watches() {
    let document = v3(registry(), "api/v1").unwrap();
    for (path, id, action) in [
        ("/api/v1/watch/nodes", "watchCoreV1NodeList", "watchlist"),
        ("/api/v1/watch/nodes/{name}", "watchCoreV1Node", "watch"),
        ("/api/v1/watch/pods", "watchCoreV1PodListForAllNamespaces", "watchlist"),
        ("/api/v1/watch/namespaces/{namespace}/pods", "watchCoreV1NamespacedPodList", "watchlist"),
        ("/api/v1/watch/namespaces/{namespace}/pods/{name}", "watchCoreV1NamespacedPod", "watch"),
    ] {
        let entry = &document["paths"][path];
        assert_eq!(
            (&entry["get"]["operationId"], &entry["get"]["x-kubernetes-action"]),
            (&id.into(), &action.into())
        );
        let has = |name: &str| entry["parameters"].as_array().unwrap().iter().any(|one| one["name"] == name);
        assert!(has("shardSelector") && has("watch") && has("name") == path.contains("{name}"), "{path}");
    }
    assert!(document["paths"].get("/api/v1/watch/bindings").is_none());
    assert_eq!(document["paths"]["/api/v1/"]["get"]["operationId"], "getCoreV1APIResources");
}

#[test]
fn int_or_string_and_quantity_have_upstreams_form() {
    let document = v3(registry(), "api/v1").unwrap();
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"], "int-or-string");
    assert!(schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"]["oneOf"].is_array());
    assert!(
        schemas["io.k8s.api.core.v1.Pod"]
            .get("required")
            .is_none_or(|one| !one.to_string().contains("metadata"))
    );
}

/// The paths of lists and maps in a document that have nothing in them.
fn empty(at: &str, value: &Value, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().map(|item| (format!("{at}[]"), item)).collect(),
        Value::Object(members) => members.iter().map(|(name, item)| (format!("{at}/{name}"), item)).collect(),
        _ => return,
    };
    // Defaults are values, which are kept as they are.
    if inner.is_empty() && !at.ends_with("/default") {
        found.push(at.to_owned());
    }
    for (at, value) in inner {
        empty(&at, value, found);
    }
}

#[test]
fn document_read_and_written_by_others_stays_the_same() {
    // Upstream's reader leaves out what is empty when it writes, and its suite compares.
    for path in ["api/v1", "apis/apps/v1", "apis/batch/v1", "apis/resource.k8s.io/v1"] {
        let mut found = Vec::new();
        empty("", &v3(registry(), path).unwrap(), &mut found);
        assert!(found.is_empty(), "{path}: {found:?}");
    }
}

#[test]
fn operation_names_are_unique_within_a_document() {
    for path in ["api/v1", "apis/apps/v1", "apis/autoscaling/v2"] {
        let document = v3(registry(), path).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for entry in document["paths"].as_object().unwrap().values() {
            for operation in entry.as_object().unwrap().values().filter(|one| one.is_object()) {
                let method = operation["operationId"].as_str().unwrap().to_owned();
                let connect = operation["x-kubernetes-action"] == "connect";
                assert!(seen.insert(method.clone()) || connect, "{method}");
            }
        }
    }
}

#[test]
fn v2_keeps_fields_that_are_named_like_words_of_a_schema() {
    let document = v2(registry());
    let schema = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    let fields = document["definitions"][schema]["properties"].as_object().unwrap();
    assert!(fields.contains_key("oneOf") && fields.contains_key("allOf"));
    assert!(fields.values().all(Value::is_object), "{fields:?}");
}
