//! Objects as upstream's API server stores them, where that is not as we do: built-in kinds in protobuf, and definitions of
//! custom resources in the form of `v1beta1`, which it keeps because it is shorter. Whoever takes turns with it on one etcd
//! finds them so.
//!
//! Owns the way from there to JSON and to `v1`, upstream's (apiextensions, `pkg/apis/apiextensions/v1/conversion.go`).
//! Nothing is written in these forms: upstream reads all of them.

use serde_json::{Map, Value, json};
use skep_api::protobuf;

use super::scan;

/// Where definitions are stored.
const PREFIX: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";
const OLD: &[u8] = br#""apiextensions.k8s.io/v1beta1""#;

/// What stands once for all versions in the old form, and with each version in the new one.
const SHARED: [(&str, &str); 4] = [
    ("validation", "schema"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

/// The newer form of what is stored at `key`, if it is stored in an older one.
pub(super) fn newer(key: &str, stored: &[u8]) -> Option<Vec<u8>> {
    if protobuf::is_protobuf(stored) {
        let read =
            protobuf::stored(stored).inspect_err(|why| tracing::warn!(key, why, "an object cannot be read"));
        return serde_json::to_vec(&read.ok()?).ok();
    }
    if !key.starts_with(PREFIX) || &stored[scan::member(stored, b"apiVersion")?] != OLD {
        return None;
    }
    let mut definition: Value = serde_json::from_slice(stored).ok()?;
    definition["apiVersion"] = json!("apiextensions.k8s.io/v1");
    if let Some(spec) = definition.get_mut("spec").and_then(Value::as_object_mut) {
        renew(spec);
    }
    serde_json::to_vec(&definition).ok()
}

fn renew(spec: &mut Map<String, Value>) {
    let named = spec.remove("version").filter(Value::is_string);
    if let Some(name) = named
        && spec.get("versions").and_then(Value::as_array).is_none_or(Vec::is_empty)
    {
        spec.insert("versions".into(), json!([{ "name": name, "served": true, "storage": true }]));
    }
    let shared = SHARED.map(|(old, new)| (new, spec.remove(old).filter(|value| !value.is_null())));
    for version in spec.get_mut("versions").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(version) = version.as_object_mut() else { continue };
        for (name, value) in &shared {
            if let Some(value) = value {
                version.insert((*name).to_owned(), value.clone());
            }
        }
        let columns = version.get_mut("additionalPrinterColumns").and_then(Value::as_array_mut);
        for column in columns.into_iter().flatten().filter_map(Value::as_object_mut) {
            if let Some(path) = column.remove("JSONPath") {
                column.insert("jsonPath".into(), path);
            }
        }
    }
    if spec.get("preserveUnknownFields") == Some(&Value::Bool(false)) {
        spec.remove("preserveUnknownFields");
    }
    if let Some(conversion) = spec.get_mut("conversion").and_then(Value::as_object_mut) {
        let parts = [
            ("webhookClientConfig", "clientConfig"),
            ("conversionReviewVersions", "conversionReviewVersions"),
        ];
        let webhook: Map<String, Value> = parts
            .into_iter()
            .filter_map(|(old, new)| Some((new.to_owned(), conversion.remove(old)?)))
            .filter(|(_, value)| !value.is_null())
            .collect();
        if !webhook.is_empty() {
            conversion.insert("webhook".into(), webhook.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_in_protobuf_is_read_as_upstream_shows_it() {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a", "labels": { "b": "c" } }, "data": { "k": "v" }
        });
        let stored = protobuf::object(&map).unwrap();
        assert!(stored.starts_with(b"k8s\0"));
        let read = newer("/registry/configmaps/default/a", &stored).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&read).unwrap(), map);
        let budget =
            json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "a" } });
        let read =
            newer("/registry/poddisruptionbudgets/default/a", &protobuf::object(&budget).unwrap()).unwrap();
        let read: Value = serde_json::from_slice(&read).unwrap();
        assert_eq!(read["status"]["disruptionsAllowed"], 0);
        // What cannot be read is left as it is, and so told of as unreadable.
        assert_eq!(newer("/registry/configmaps/default/a", b"k8s\0nonsense"), None);
        assert_eq!(newer("/registry/configmaps/default/a", map.to_string().as_bytes()), None);
    }

    const KEY: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/bees.example.org";

    fn old(spec: Value) -> Vec<u8> {
        let metadata = json!({ "name": "bees.example.org", "uid": "7" });
        let kind = "CustomResourceDefinition";
        json!({ "kind": kind, "apiVersion": "apiextensions.k8s.io/v1beta1", "metadata": metadata, "spec": spec })
            .to_string()
            .into_bytes()
    }

    #[track_caller]
    fn check(spec: Value, expected: Value) {
        let new: Value = serde_json::from_slice(&newer(KEY, &old(spec)).unwrap()).unwrap();
        assert_eq!(new["apiVersion"], "apiextensions.k8s.io/v1");
        assert_eq!((&new["metadata"]["uid"], &new["spec"]), (&json!("7"), &expected));
    }

    #[test]
    fn what_stands_once_goes_to_each_version() {
        let schema = json!({ "openAPIV3Schema": { "type": "object" } });
        check(
            json!({
                "group": "example.org", "version": "v1", "scope": "Namespaced", "preserveUnknownFields": false,
                "validation": schema, "subresources": { "status": {} },
                "additionalPrinterColumns": [{ "name": "Honey", "type": "integer", "JSONPath": ".spec.honey" }],
                "selectableFields": [{ "jsonPath": ".spec.honey" }],
                "versions": [
                    { "name": "v1", "served": true, "storage": true },
                    { "name": "v0", "served": false, "storage": false, "deprecated": true },
                ],
                "conversion": { "strategy": "None" },
            }),
            json!({
                "group": "example.org", "scope": "Namespaced", "conversion": { "strategy": "None" },
                "versions": [
                    {
                        "name": "v1", "served": true, "storage": true,
                        "schema": schema, "subresources": { "status": {} },
                        "additionalPrinterColumns": [{ "name": "Honey", "type": "integer", "jsonPath": ".spec.honey" }],
                        "selectableFields": [{ "jsonPath": ".spec.honey" }],
                    },
                    {
                        "name": "v0", "served": false, "storage": false, "deprecated": true,
                        "schema": schema, "subresources": { "status": {} },
                        "additionalPrinterColumns": [{ "name": "Honey", "type": "integer", "jsonPath": ".spec.honey" }],
                        "selectableFields": [{ "jsonPath": ".spec.honey" }],
                    },
                ],
            }),
        );
    }

    #[test]
    fn versions_that_differ_keep_what_is_theirs() {
        let schema = |kind: &str| json!({ "openAPIV3Schema": { "type": kind } });
        let columns = |path: &str| json!([{ "name": "A", "type": "string", path: ".a" }]);
        let version = |kind, path| json!({ "name": "v1", "schema": schema(kind), "additionalPrinterColumns": columns(path) });
        check(
            json!({
                "versions": [version("object", "JSONPath"), version("string", "JSONPath")],
                "preserveUnknownFields": true,
                "conversion": {
                    "strategy": "Webhook",
                    "webhookClientConfig": { "url": "https://here" },
                    "conversionReviewVersions": ["v1"],
                },
            }),
            json!({
                "versions": [version("object", "jsonPath"), version("string", "jsonPath")],
                "preserveUnknownFields": true,
                "conversion": {
                    "strategy": "Webhook",
                    "webhook": { "clientConfig": { "url": "https://here" }, "conversionReviewVersions": ["v1"] },
                },
            }),
        );
    }

    #[test]
    fn one_version_that_is_only_named_is_served_and_stored() {
        let version = json!({ "name": "v1", "served": true, "storage": true });
        check(json!({ "version": "v1" }), json!({ "versions": [version] }));
    }

    #[test]
    fn other_forms_and_other_keys_are_left_alone() {
        let stored = old(json!({}));
        assert!(newer("/registry/pods/a/b", &stored).is_none());
        let new = String::from_utf8(stored).unwrap().replace("v1beta1", "v1");
        for stored in [new.as_str(), "", "{}", "[", r#"{"apiVersion":7}"#] {
            assert!(newer(KEY, stored.as_bytes()).is_none(), "{stored}");
        }
    }
}
