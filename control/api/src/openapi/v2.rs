//! OpenAPI v2 (Swagger): the same content in the older form, all groups in one document.

use serde_json::{Map, Value, json};

use super::{OBJECT_META, collect, definitions, list_schema, name_of, paths, watches};
use crate::custom;
use crate::registry::{Registry, schema_name};

/// Types whose values are of several JSON types, so that v2 has no word for theirs.
const FREE: [&str; 4] = [
    ".apiextensions.v1.JSON",
    ".apiextensions.v1.JSONSchemaPropsOrArray",
    ".apiextensions.v1.JSONSchemaPropsOrBool",
    ".apiextensions.v1.JSONSchemaPropsOrStringArray",
];

/// `/openapi/v2`.
pub fn v2(registry: &Registry) -> Value {
    let all = definitions();
    let mut schemas = Map::new();
    let mut entries = Map::new();
    for resource in registry.resources() {
        let name = name_of(resource);
        if let Some(custom) = &resource.custom {
            schemas.insert(name.clone(), custom::openapi::v2(resource, custom));
            collect(&all, OBJECT_META, &mut schemas);
        }
        if resource.has_verb("list") {
            schemas.insert(format!("{name}List"), list_schema(resource, &name));
        }
        collect(&all, &name, &mut schemas);
        for sub in resource.subresources.iter().filter(|sub| sub.served) {
            collect(&all, &schema_name(&sub.group, &sub.version, &sub.kind), &mut schemas);
        }
        paths::add(resource, &mut entries);
        watches::add(resource, &mut entries);
        watches::add_root(resource, &mut entries);
    }
    for name in ["APIResourceList", "DeleteOptions", "ListMeta", "Patch", "Status", "WatchEvent"] {
        collect(&all, &format!("{}.{name}", super::META), &mut schemas);
    }
    for (name, schema) in &mut schemas {
        downgrade(schema);
        if FREE.iter().any(|free| name.ends_with(free)) {
            // Whoever reads types strictly would refuse what is a text here and an object there.
            crate::object::remove(schema, "type");
        }
    }
    let paths: Map<String, Value> =
        entries.into_iter().map(|(path, entry)| (path, path_entry(entry))).collect();
    json!({
        "swagger": "2.0",
        "info": { "title": "Kubernetes", "version": "v1.36.0" },
        "paths": paths,
        "definitions": schemas,
        "securityDefinitions": { "BearerToken": {
            "type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"
        } },
        "security": [{ "BearerToken": [] }],
    })
}

/// A schema of v3 in the words of v2: references elsewhere, no `oneOf`, no wrapped reference, no defaults.
fn downgrade(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::Array(all)) = members.remove("allOf")
                && let Some(reference) = all.first().and_then(|one| one.get("$ref")).cloned()
            {
                members.insert("$ref".into(), reference);
            }
            if let Some(Value::String(reference)) = members.get_mut("$ref") {
                *reference = reference.replace("#/components/schemas/", "#/definitions/");
            }
            if members.remove("oneOf").is_some() {
                members.insert("type".into(), "string".into());
            }
            members.remove("default");
            for (key, child) in members {
                match (key.as_str(), child) {
                    // Names of fields are no words of the schema, not even `oneOf`.
                    ("properties", Value::Object(fields)) => fields.values_mut().for_each(downgrade),
                    ("enum" | "example", _) => {}
                    (_, child) => downgrade(child),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(downgrade),
        _ => {}
    }
}

fn path_entry(entry: Value) -> Value {
    let Value::Object(entry) = entry else { return entry };
    let converted = entry.into_iter().map(|(method, operation)| match method.as_str() {
        "parameters" => (method, parameters(operation)),
        _ => {
            let operation = convert(operation);
            (method, operation)
        }
    });
    Value::Object(converted.collect())
}

fn parameters(list: Value) -> Value {
    let Value::Array(list) = list else { return list };
    let flat = list.into_iter().map(|mut parameter| {
        if let Some(Value::Object(schema)) = parameter.as_object_mut().and_then(|one| one.remove("schema")) {
            for (key, value) in schema {
                parameter[key] = value;
            }
        }
        parameter
    });
    Value::Array(flat.collect())
}

fn convert(mut operation: Value) -> Value {
    let Some(members) = operation.as_object_mut() else { return operation };
    let mut list = match members.remove("parameters").map(parameters) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    if let Some(body) = members.remove("requestBody") {
        let content = body["content"].as_object().cloned().unwrap_or_default();
        let types: Vec<String> = content.keys().cloned().collect();
        if let Some(mut schema) = content.into_iter().next().map(|(_, media)| media["schema"].clone()) {
            downgrade(&mut schema);
            list.push(json!({ "name": "body", "in": "body", "required": body["required"] == true, "schema": schema }));
        }
        members.insert("consumes".into(), types.into());
    }
    members.insert("parameters".into(), list.into());
    let produced = members["responses"]["200"]["content"].as_object().into_iter().flatten();
    let produced: Vec<String> = produced.map(|(media, _)| media.clone()).collect();
    members.insert("produces".into(), produced.into());
    members.insert("schemes".into(), json!(["https"]));
    if let Some(responses) = members.get_mut("responses").and_then(Value::as_object_mut) {
        for response in responses.values_mut() {
            let content = response.as_object_mut().and_then(|one| one.remove("content"));
            let first = content.and_then(|content| content.as_object()?.values().next().cloned());
            if let Some(mut schema) = first.map(|media| media["schema"].clone()) {
                downgrade(&mut schema);
                response["schema"] = schema;
            }
        }
    }
    operation
}
