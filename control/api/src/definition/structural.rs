//! What makes a schema structural (Kubernetes documentation, "Specifying a structural schema"): every value has a type,
//! and alternatives (`allOf`, `anyOf`, `oneOf`, `not`) only narrow what is described outside of them.

use serde_json::Value;

use super::schema::below;
use crate::object::{at, flag, items, members, text};
use crate::validation::FieldError;

/// What an alternative may not say.
const OUTSIDE: [&str; 10] = [
    "description",
    "default",
    "title",
    "example",
    "nullable",
    "type",
    "additionalProperties",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-list-type",
];

pub(super) fn check(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    match text(schema, &["type"]) {
        "object" | "" => {}
        other => {
            errors.push(FieldError::invalid(format!("{path}.type"), other, "must be object at the root"));
        }
    }
    metadata(path, schema, errors);
    walk(path, schema, "at the root", errors);
}

/// The metadata of the object is described by the server; a schema may only narrow the names.
fn metadata(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    let Some(metadata) = at(schema, &["properties", "metadata"]) else { return };
    let path = format!("{path}.properties[metadata]");
    let known = |name: &str| matches!(name, "name" | "generateName");
    let other = members(metadata, &[])
        .any(|(name, _)| !matches!(name.as_str(), "type" | "description" | "properties"));
    let beyond = members(metadata, &["properties"]).any(|(name, _)| !known(name));
    if other || beyond {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(path, why));
    } else if !matches!(text(metadata, &["type"]), "object" | "") {
        let kind = metadata["type"].clone();
        errors.push(FieldError::invalid(format!("{path}.type"), kind, "must be object"));
    }
}

fn walk(path: &str, schema: &Value, place: &str, errors: &mut Vec<FieldError>) {
    let extension = |name: &str| flag(schema, &[&format!("x-kubernetes-{name}")]);
    let kind = text(schema, &["type"]);
    let loose = extension("int-or-string") || extension("preserve-unknown-fields");
    if kind.is_empty() && !loose {
        errors.push(FieldError::required(format!("{path}.type"), format!("must not be empty {place}")));
    }
    if extension("int-or-string") && !kind.is_empty() {
        let why = "must be empty if x-kubernetes-int-or-string is true";
        errors.push(FieldError::invalid(format!("{path}.type"), kind, why));
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        let member = format!("{path}.x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(member, false, "must be true or undefined"));
    }
    if extension("embedded-resource") {
        if kind != "object" {
            errors.push(FieldError::invalid(
                format!("{path}.type"),
                kind,
                "must be object if x-kubernetes-embedded-resource is true",
            ));
        }
        if at(schema, &["properties"]).is_none() && !extension("preserve-unknown-fields") {
            let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            errors.push(FieldError::required(format!("{path}.properties"), why));
        }
    }
    if kind == "array" && at(schema, &["items"]).is_none() {
        errors.push(FieldError::required(format!("{path}.items"), "must be specified"));
    }
    lists(path, schema, errors);
    alternatives(path, schema, schema, errors);
    for (name, inner) in members(schema, &["properties"]) {
        let own = place == "at the root" && name == "metadata";
        if !own {
            walk(&format!("{path}.properties[{name}]"), inner, "for specified object fields", errors);
        }
    }
    if let Some(inner) = at(schema, &["items"]).filter(|inner| inner.is_object()) {
        walk(&format!("{path}.items"), inner, "for specified array items", errors);
    }
    if let Some(inner) = at(schema, &["additionalProperties"]).filter(|inner| inner.is_object()) {
        walk(&format!("{path}.additionalProperties"), inner, "for specified object fields", errors);
    }
}

/// How lists and maps merge under server-side apply.
fn lists(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    let (kind, list) = (text(schema, &["type"]), text(schema, &["x-kubernetes-list-type"]));
    let keys = items(schema, &["x-kubernetes-list-map-keys"]);
    let keys_path = format!("{path}.x-kubernetes-list-map-keys");
    let map = text(schema, &["x-kubernetes-map-type"]);
    if !matches!(map, "" | "atomic" | "granular") {
        let at = format!("{path}.x-kubernetes-map-type");
        errors.push(FieldError::not_supported(at, map, &["atomic", "granular"]));
    } else if !map.is_empty() && kind != "object" {
        let why = "must be object if x-kubernetes-map-type is specified";
        errors.push(FieldError::invalid(format!("{path}.type"), kind, why));
    }
    match list {
        "" | "atomic" | "set" | "map" => {}
        other => {
            let at = format!("{path}.x-kubernetes-list-type");
            errors.push(FieldError::not_supported(at, other, &["atomic", "map", "set"]));
        }
    }
    if !list.is_empty() && kind != "array" {
        let why = "must be array if x-kubernetes-list-type is specified";
        errors.push(FieldError::invalid(format!("{path}.type"), kind, why));
    }
    match (list, keys.is_empty()) {
        ("map", true) => {
            let why = "must not be empty if x-kubernetes-list-type is map";
            errors.push(FieldError::required(keys_path, why));
        }
        ("map", false) => map_keys(path, schema, keys, errors),
        (_, false) => {
            let at = format!("{path}.x-kubernetes-list-type");
            errors.push(FieldError::invalid(
                at,
                list,
                "must be map if x-kubernetes-list-map-keys is non-empty",
            ));
        }
        _ => {}
    }
}

fn map_keys(path: &str, schema: &Value, keys: &[Value], errors: &mut Vec<FieldError>) {
    let item = &schema["items"];
    if text(item, &["type"]) != "object" {
        let kind = item["type"].clone();
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(format!("{path}.items.type"), kind, why));
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        let at = format!("{path}.x-kubernetes-list-map-keys[{index}]");
        let name = key.as_str().unwrap_or_default();
        let Some(property) = item["properties"].get(name) else {
            errors.push(FieldError::invalid(at, name, "entries must all be names of item properties"));
            continue;
        };
        if keys[..index].contains(key) {
            errors.push(FieldError::duplicate(at, name));
        }
        let required = items(item, &["required"]).contains(key) || property.get("default").is_some();
        if !required {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(format!("{path}.items.properties[{name}].default"), why));
        }
        if matches!(text(property, &["type"]), "object" | "array") {
            let at = format!("{path}.items.properties[{name}].type");
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(at, property["type"].clone(), why));
        }
    }
}

/// Within alternatives there are only limits, on what is described outside.
fn alternatives(path: &str, described: &Value, schema: &Value, errors: &mut Vec<FieldError>) {
    for (at, inner) in below(path, schema) {
        let member = at[path.len()..].trim_start_matches('.');
        if ["allOf", "anyOf", "oneOf", "not"].iter().any(|word| member.starts_with(word)) {
            alternative(&at, path, described, inner, errors);
        }
    }
}

fn alternative(path: &str, outside: &str, described: &Value, schema: &Value, errors: &mut Vec<FieldError>) {
    let int_or_string = flag(described, &["x-kubernetes-int-or-string"]);
    for member in OUTSIDE {
        let allowed = member == "type" && int_or_string;
        if at(schema, &[member]).is_some_and(|value| *value != false) && !allowed {
            errors.push(FieldError::forbidden(format!("{path}.{member}"), "must be empty to be structural"));
        }
    }
    alternatives_within(path, outside, described, schema, errors);
    let open = flag(described, &["x-kubernetes-preserve-unknown-fields"]);
    for (name, inner) in members(schema, &["properties"]) {
        let (at, there) = (format!("{path}.properties[{name}]"), format!("{outside}.properties[{name}]"));
        let found = described["properties"].get(name);
        let found = found.or_else(|| described.get("additionalProperties").filter(|more| more.is_object()));
        match found {
            Some(found) => alternative(&at, &there, found, inner, errors),
            None if open => {}
            None => errors.push(FieldError::required(there, format!("because it is defined in {at}"))),
        }
    }
    if let Some(inner) = at(schema, &["items"]).filter(|inner| inner.is_object()) {
        let (at, there) = (format!("{path}.items"), format!("{outside}.items"));
        match described.get("items") {
            Some(found) => alternative(&at, &there, found, inner, errors),
            None if open => {}
            None => errors.push(FieldError::required(there, format!("because it is defined in {at}"))),
        }
    }
}

/// Alternatives within alternatives are about the same value.
fn alternatives_within(
    path: &str,
    outside: &str,
    described: &Value,
    schema: &Value,
    errors: &mut Vec<FieldError>,
) {
    for (at, inner) in below(path, schema) {
        let member = at[path.len()..].trim_start_matches('.');
        if ["allOf", "anyOf", "oneOf", "not"].iter().any(|word| member.starts_with(word)) {
            alternative(&at, outside, described, inner, errors);
        }
    }
}
