//! Rules for what a schema says of merging: how lists and maps behave under server-side apply.

use serde_json::Value;

use super::structural::wrong_type;
use crate::object::{at, flag, items, text};
use crate::validation::FieldError;

pub(super) fn check(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    map_type(path, schema, errors);
    list_type(path, schema, errors);
    let keys = items(schema, &["x-kubernetes-list-map-keys"]);
    let list = at(schema, &["x-kubernetes-list-type"]).and_then(Value::as_str);
    if !keys.is_empty() && list != Some("map") {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(wrong_type(&format!("{path}.x-kubernetes-list-type"), list.unwrap_or_default(), why));
    }
    if list == Some("map") {
        map_of(path, schema, keys, errors);
    }
    if let Some(list @ ("map" | "set")) = list {
        always_there(path, &schema["items"], list, keys, errors);
    }
}

fn map_type(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    let Some(map) = at(schema, &["x-kubernetes-map-type"]).and_then(Value::as_str) else { return };
    let kind = text(schema, &["type"]);
    if kind != "object" {
        let why = "must be object if x-kubernetes-map-type is specified";
        errors.push(wrong_type(&format!("{path}.type"), kind, why));
    }
    if !matches!(map, "atomic" | "granular") {
        let at = format!("{path}.x-kubernetes-map-type");
        errors.push(FieldError::not_supported(at, map, &["atomic", "granular"]));
    }
}

fn list_type(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    let Some(list) = at(schema, &["x-kubernetes-list-type"]).and_then(Value::as_str) else { return };
    let (kind, item) = (text(schema, &["type"]), &schema["items"]);
    let member = match text(item, &["type"]) {
        "array" => "x-kubernetes-list-type",
        "object" => "x-kubernetes-map-type",
        _ => "",
    };
    // Lists are atomic unless they say otherwise, objects only when they say so.
    let said = at(item, &[member]).and_then(Value::as_str);
    let atomic = said == Some("atomic") || member == "x-kubernetes-list-type" && said.is_none();
    if kind != "array" {
        let why = "must be array if x-kubernetes-list-type is specified";
        errors.push(wrong_type(&format!("{path}.type"), kind, why));
    } else if list == "set" && !member.is_empty() && !atomic {
        let shown = item["x-kubernetes-list-type"].clone();
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        errors.push(FieldError::invalid(format!("{path}.items.{member}"), shown, why));
    }
    if !matches!(list, "atomic" | "set" | "map") {
        let at = format!("{path}.x-kubernetes-list-type");
        errors.push(FieldError::not_supported(at, list, &["atomic", "map", "set"]));
    }
}

/// A list whose items are told apart by these members.
fn map_of(path: &str, schema: &Value, keys: &[Value], errors: &mut Vec<FieldError>) {
    let keys_path = format!("{path}.x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.push(FieldError::required(&keys_path, "must not be empty if x-kubernetes-list-type is map"));
    }
    let Some(item) = at(schema, &["items"]).filter(|item| item.is_object()) else {
        let why = "must have a schema if x-kubernetes-list-type is map";
        errors.push(FieldError::required(format!("{path}.items"), why));
        return;
    };
    let kind = text(item, &["type"]);
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(format!("{path}.items.type"), kind, why));
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        match item["properties"].get(name) {
            Some(property) if matches!(text(property, &["type"]), "object" | "array") => {
                let at = format!("{path}.items.properties[{name}].type");
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(FieldError::invalid(at, kind, why));
            }
            Some(_) => {}
            None => {
                let why = "entries must all be names of item properties";
                errors.push(FieldError::invalid(&keys_path, keys.to_vec(), why));
            }
        }
        if keys[..index].contains(key) {
            errors.push(FieldError::invalid(&keys_path, keys.to_vec(), "must not contain duplicate entries"));
        }
    }
}

/// What items are told apart by is never missing or null, and neither are they.
fn always_there(path: &str, item: &Value, list: &str, keys: &[Value], errors: &mut Vec<FieldError>) {
    if flag(item, &["nullable"]) {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list}");
        errors.push(FieldError::forbidden(format!("{path}.items.nullable"), why));
    }
    for key in keys.iter().filter(|_| list == "map") {
        let name = key.as_str().unwrap_or_default();
        let Some(property) = item["properties"].get(name) else { continue };
        let path = format!("{path}.items.properties[{name}]");
        let of = "this property is in x-kubernetes-list-map-keys, so it";
        if !items(item, &["required"]).contains(key) && at(property, &["default"]).is_none() {
            let why = format!("{of} must have a default or be a required property");
            errors.push(FieldError::required(format!("{path}.default"), why));
        }
        if flag(property, &["nullable"]) {
            errors
                .push(FieldError::forbidden(format!("{path}.nullable"), format!("{of} cannot be nullable")));
        }
    }
}
