//! The definitions of the OpenAPI documents, in the form of v3 components.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{INT_OR_STRING, MICRO_TIME, OPAQUE, QUANTITY, TIME, Tags, reference, zero};

/// The definitions in the form of OpenAPI v3 components, with the `x-kubernetes-*` extensions in place.
pub(crate) fn definitions(
    definitions: Map<String, Value>,
    facts: &BTreeMap<String, BTreeMap<String, Value>>,
    tags: &Tags,
) -> Map<String, Value> {
    let mut documents = Map::new();
    for (name, mut schema) in definitions {
        let own = facts.get(&name);
        if let Some(of_type) = own.and_then(|own| own.get("$type")) {
            extend(&mut schema, of_type);
        }
        let omitted = |field: &str| zero(tags, &name, field).omitted;
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            // The bindings insist on these names; the API takes none for an empty one.
            required.retain(|field| field != "name" || !omitted("name"));
        }
        if schema["required"].as_array().is_some_and(Vec::is_empty) {
            schema.as_object_mut().expect("a schema is an object").remove("required");
        }
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            for (field, property) in properties {
                rewrite(property);
                if let Some(facts) = own.and_then(|own| own.get(field)) {
                    extend(property, facts);
                }
                if property.get("default").is_none()
                    && zero(tags, &name, field).written == Some("Plain")
                    && let Some(zero) = plain(property)
                {
                    property["default"] = zero;
                }
                wrap_reference(property);
            }
        }
        special(&name, &mut schema);
        documents.insert(name, schema);
    }
    documents
}

/// The zero that stands for a field which is written in any case.
fn plain(schema: &Value) -> Option<Value> {
    match (reference(schema), schema["type"].as_str()) {
        (Some(INT_OR_STRING | QUANTITY | TIME | MICRO_TIME), _) => None,
        (Some(name), _) if OPAQUE.contains(&name) => None,
        (Some(_), _) => Some(json!({})),
        (None, Some("string")) if schema["format"] != "byte" => Some(json!("")),
        (None, Some("boolean")) => Some(json!(false)),
        (None, Some("integer")) => Some(json!(0)),
        _ => None,
    }
}

fn extend(schema: &mut Value, facts: &Value) {
    for (key, value) in facts.as_object().into_iter().flatten() {
        match key.as_str() {
            "default" => schema[key] = value.clone(),
            "enum" => {
                schema[key] = value.clone();
                let said = schema["description"].as_str().unwrap_or_default();
                schema["description"] = format!("{said}{}", possible(value)).into();
            }
            _ => schema[format!("x-kubernetes-{key}")] = value.clone(),
        }
    }
}

/// The end of a description, for people who read no schemas.
fn possible(values: &Value) -> String {
    let values = values.as_array().into_iter().flatten();
    values.fold("\n\nPossible enum values:".to_owned(), |text, value| format!("{text}\n - `{value}`"))
}

/// References become references to components.
fn rewrite(schema: &mut Value) {
    if let Some(name) = reference(schema).map(str::to_owned) {
        schema["$ref"] = Value::String(format!("#/components/schemas/{name}"));
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(inner).filter(|inner| inner.is_object()) {
            rewrite(inner);
            wrap_reference(inner);
        }
    }
}

/// In OpenAPI 3.0 nothing may stand beside a reference: with company it moves into `allOf`.
fn wrap_reference(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.len() > 1
        && let Some(reference) = object.remove("$ref")
    {
        object.insert("allOf".into(), json!([{ "$ref": reference }]));
    }
}

fn special(name: &str, schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("x-kubernetes-int-or-string");
    match name {
        QUANTITY => {
            object.insert("oneOf".into(), json!([{ "type": "string" }, { "type": "number" }]));
        }
        INT_OR_STRING => {
            object.insert("format".into(), json!("int-or-string"));
            object.insert("oneOf".into(), json!([{ "type": "integer" }, { "type": "string" }]));
        }
        _ => {}
    }
}
