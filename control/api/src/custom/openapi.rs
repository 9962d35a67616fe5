//! The schema of a custom resource as OpenAPI tells it: as it was written, with the members that every object has.

use serde_json::{Map, Value, json};

use super::Custom;
use crate::registry::Resource;

/// Names the kind that a schema is for.
const KINDS: &str = "x-kubernetes-group-version-kind";

/// For `/openapi/v3`.
pub(crate) fn v3(resource: &Resource, custom: &Custom) -> Value {
    let mut schema = if custom.written.is_object() { custom.written.clone() } else { json!({}) };
    if custom.node.preserve_unknown && schema.get("type").is_none() {
        schema["type"] = "object".into();
    }
    complete(resource, &mut schema);
    embed(&mut schema);
    schema
}

/// For `/openapi/v2`, which cannot say everything: what it does not know is left out, and with it what would then be
/// taken too narrowly.
pub(crate) fn v2(resource: &Resource, custom: &Custom) -> Value {
    if custom.node.preserve_unknown {
        // With any member named, kubectl would take all others for unknown.
        return json!({ "type": "object", KINDS: kinds(resource) });
    }
    let mut schema = v3(resource, custom);
    narrow(&mut schema);
    schema
}

/// Every object has a version, a kind and metadata.
fn complete(resource: &Resource, schema: &mut Value) {
    let properties = properties(schema);
    for (name, description) in [
        ("apiVersion", "APIVersion defines the version of the schema of this object, with its group."),
        ("kind", "Kind is the kind of this object, which the endpoint implies."),
    ] {
        properties.insert(name.into(), json!({ "type": "string", "description": description }));
    }
    properties.insert("metadata".into(), metadata());
    schema[KINDS] = kinds(resource);
}

fn kinds(resource: &Resource) -> Value {
    json!([{ "group": resource.group, "version": resource.version, "kind": resource.kind }])
}

fn metadata() -> Value {
    json!({
        "description": "Standard object's metadata. More info: \
            https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
        "allOf": [{ "$ref": format!("#/components/schemas/{}", crate::openapi::OBJECT_META) }],
    })
}

fn properties(schema: &mut Value) -> &mut Map<String, Value> {
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    schema["properties"].as_object_mut().expect("an object was put here")
}

/// Objects within objects have metadata, too.
fn embed(schema: &mut Value) {
    for_each(schema, &mut |inner| {
        if inner["x-kubernetes-embedded-resource"] == true {
            let properties = properties(inner);
            properties.entry("apiVersion").or_insert_with(|| json!({ "type": "string" }));
            properties.entry("kind").or_insert_with(|| json!({ "type": "string" }));
            properties.insert("metadata".into(), metadata());
        }
    });
}

/// Visits every schema below a schema.
fn for_each(schema: &mut Value, visit: &mut dyn FnMut(&mut Value)) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for inner in properties.values_mut() {
            visit(inner);
            for_each(inner, visit);
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(name).filter(|inner| inner.is_object()) {
            visit(inner);
            for_each(inner, visit);
        }
    }
}

fn narrow(schema: &mut Value) {
    let mut one = |schema: &mut Value| {
        let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
        let loose = schema["x-kubernetes-int-or-string"] == true || schema["nullable"] == true;
        let Some(members) = schema.as_object_mut() else { return };
        let reference = members.get("allOf").is_some_and(|all| all[0]["$ref"].is_string());
        for name in ["oneOf", "anyOf", "not", "nullable", "default", "x-kubernetes-validations"] {
            members.remove(name);
        }
        if !reference {
            members.remove("allOf");
        }
        if loose || open {
            members.remove("type");
            if open {
                for name in ["items", "properties", "additionalProperties", "required"] {
                    members.remove(name);
                }
            }
        }
    };
    let keep = ["properties", "type"].map(|name| schema.get(name).cloned());
    one(schema);
    // The object itself stays one.
    for (name, kept) in ["properties", "type"].into_iter().zip(keep) {
        if let Some(kept) = kept {
            schema[name] = kept;
        }
    }
    for_each(schema, &mut one);
}
