//! What a definition may say: refused and taken as upstream does.

use serde_json::json;

use crate::definitions::{DEFINITIONS, any, definition, post};
use crate::harness::cluster;

#[tokio::test]
async fn wrong_definition_is_refused_in_upstreams_words() {
    let cluster = cluster().await;
    let at = "spec.validation.openAPIV3Schema";
    let cases = [
        (json!({ "/spec/names/plural": "gadgets" }), "metadata.name: Invalid value: \"widgets.example.com\": must be spec.names.plural+\".\"+spec.group".to_owned()),
        (json!({ "/spec/scope": "Galaxy" }), "spec.scope: Unsupported value: \"Galaxy\": supported values: \"Cluster\", \"Namespaced\"".into()),
        (json!({ "/spec/versions/0/storage": false }), "spec.versions: Invalid value: [\"v1\"]: must have exactly one version marked as storage version".into()),
        (json!({ "/spec/versions/0/schema": {} }), "spec.versions[0].schema.openAPIV3Schema: Required value".into()),
        (json!({ "/spec/versions/0/schema/openAPIV3Schema/properties/spec": { "properties": {} } }), format!("{at}.properties[spec].type: Required value: must not be empty for specified object fields")),
        (json!({ "/spec/versions/0/schema/openAPIV3Schema/type": "string" }), format!("{at}.type: Invalid value: \"string\": must be object at the root")),
        (json!({ "/spec/versions/0/schema/openAPIV3Schema/properties/spec": { "type": "array" } }), format!("{at}.properties[spec].items: Required value: must be specified")),
        (json!({ "/spec/versions/0/schema/openAPIV3Schema/properties/spec": { "type": "string", "pattern": "(" } }), format!("{at}.properties[spec].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error: unclosed group")),
        (json!({ "/spec/versions/0/schema/openAPIV3Schema/properties/spec": { "type": "string", "default": 1 } }), format!("{at}.properties[spec].default: Invalid value: \"integer\":  in body must be of type string: \"integer\"")),
        (json!({ "/spec/versions/0/schema/openAPIV3Schema/properties/spec": { "type": "string", "anyOf": [{ "type": "string" }] } }), format!("{at}.properties[spec].anyOf[0].type: Forbidden: must be empty to be structural")),
        (json!({ "/spec/versions/0/schema/openAPIV3Schema/properties/kind": { "type": "integer" } }), format!("{at}.properties[kind].type: Invalid value: \"integer\": must be string")),
        (json!({ "/spec/versions/0/schema/openAPIV3Schema/properties/spec": { "type": "array", "items": { "type": "object" }, "x-kubernetes-list-type": "set" } }), format!("{at}.properties[spec].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set")),
        (json!({ "/spec/versions/0/schema/openAPIV3Schema/properties/spec": { "$ref": "#/x" } }), format!("\"widgets.example.com\" is invalid: {at}.properties[spec].$ref: Forbidden: $ref is not supported")),
        (json!({ "/spec/versions/0/deprecated": true, "/spec/versions/0/deprecationWarning": "" }), "spec.versions[0].deprecationWarning: Invalid value: \"\": must not be an empty string".into()),
        (json!({ "/spec/versions/0/name": "V1" }), "spec.version: Invalid value: \"V1\": a DNS-1035 label".into()),
        (json!({ "/spec/versions/0/additionalPrinterColumns": [{ "name": "a", "type": "x", "jsonPath": "b" }] }), "spec.additionalPrinterColumns[0].type: Invalid value: \"x\": must be one of boolean,date,integer,number,string, spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"b\": must be a simple json path starting with .".into()),
        (json!({ "/spec/versions/0/selectableFields": [{ "jsonPath": ".spec[0]" }] }), "spec.selectableFields[0].jsonPath: Invalid value: \".spec[0]\": is an invalid path: array notation is not allowed".into()),
        (json!({ "/spec/preserveUnknownFields": true }), "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead".into()),
    ];
    for (changes, expected) in cases {
        let mut wrong = definition(any());
        for (pointer, value) in changes.as_object().unwrap() {
            let (holder, member) = pointer.rsplit_once('/').unwrap();
            wrong.pointer_mut(holder).unwrap()[member] = value.clone();
        }
        let message = post(&cluster, wrong).await.failure(422, "Invalid");
        assert!(message.contains(&expected), "{message}\n{expected}");
    }
    assert_eq!(cluster.get(DEFINITIONS).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn definition_that_upstream_takes_is_taken() {
    let cluster = cluster().await;
    for spec in [
        json!({ "type": "object", "additionalProperties": false }),
        json!({ "type": "string", "x-kubernetes-int-or-string": true }),
        // Only alternatives of the root must be about what is described outside of them.
        json!({ "type": "object", "allOf": [{ "properties": { "z": { "maxLength": 1 } } }] }),
        json!({ "x-kubernetes-int-or-string": true, "anyOf": [{ "type": "integer" }, { "type": "string" }] }),
    ] {
        let answer = cluster
            .post(&format!("{DEFINITIONS}?dryRun=All"), "CustomResourceDefinition", definition(spec.clone()))
            .await;
        assert_eq!(answer.code, 201, "{spec}: {}", String::from_utf8_lossy(&answer.bytes));
    }
}
