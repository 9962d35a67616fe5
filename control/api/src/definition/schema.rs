//! Rules for the schema of a version: it says nothing that is not supported, it is structural, its defaults are what it takes.

use serde_json::Value;

use super::{merging, rules, structural};
use crate::custom::{self, Node};
use crate::object::{at, flag, items, members, text};
use crate::validation::FieldError;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// The deepest nesting of a schema.
const DEPTH: usize = 64;

/// Checks the schema of a version, if it has one. `place` is that version, or the definition for a schema that all versions
/// share.
pub(super) fn check(place: &str, version: &Value, errors: &mut Vec<FieldError>) {
    let Some(schema) = at(version, &["schema", "openAPIV3Schema"]) else { return };
    let path = match place {
        "spec" => "spec.validation.openAPIV3Schema".to_owned(),
        path => format!("{path}.schema.openAPIV3Schema"),
    };
    if flag(schema, &["nullable"]) {
        errors.push(FieldError::forbidden(format!("{path}.nullable"), "nullable cannot be true at the root"));
    }
    if is_deeper_than(schema, DEPTH) {
        let why = format!("schemas may not nest deeper than {DEPTH} levels");
        errors.push(FieldError::invalid(path, "", why));
        return;
    }
    let before = errors.len();
    let readable = !structural::is_unreadable(schema);
    if readable {
        structural::check(&path, schema, errors);
        if errors.len() == before {
            defaults(&path, schema, errors);
        }
    }
    let sound = readable && errors.len() == before;
    supported(&path, schema, errors);
    if sound && let Ok(node) = Node::of_object(schema) {
        rules::check(&path, schema, &node, errors);
    }
}

fn is_deeper_than(schema: &Value, depth: usize) -> bool {
    depth == 0 || below("", schema).iter().any(|(_, inner)| is_deeper_than(inner, depth - 1))
}

/// What no schema of a custom resource may say, wherever.
fn supported(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    let kind = text(schema, &["type"]);
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(format!("{path}.type"), kind, &TYPES));
    }
    let mut forbid =
        |member: &str, why: &str| errors.push(FieldError::forbidden(format!("{path}.{member}"), why));
    for member in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if at(schema, &[member]).is_some() {
            forbid(member, &format!("{member} is not supported"));
        }
    }
    if kind == "null" {
        forbid("type", "type cannot be set to null, use nullable as an alternative");
    }
    if schema["items"].is_array() {
        forbid("items", "items must be a schema object and not an array");
    }
    if flag(schema, &["uniqueItems"]) {
        forbid(
            "uniqueItems",
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    let named = members(schema, &["properties"]).next().is_some();
    if named && at(schema, &["additionalProperties"]).is_some_and(|more| *more != true) {
        forbid("additionalProperties", "additionalProperties and properties are mutual exclusive");
    }
    for (path, inner) in below(path, schema) {
        supported(&path, inner, errors);
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        let member = format!("{path}.x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(member, false, "must be true or undefined"));
    }
    merging::check(path, schema, errors);
    for (index, rule) in items(schema, &["x-kubernetes-validations"]).iter().enumerate() {
        rules::written(&format!("{path}.x-kubernetes-validations[{index}]"), schema, rule, errors);
    }
}

/// All schemas directly within a schema, with their paths.
pub(super) fn below<'a>(path: &str, schema: &'a Value) -> Vec<(String, &'a Value)> {
    let one = |member: &str| {
        let found = at(schema, &[member]).filter(|one| one.is_object());
        found.map(|one| (format!("{path}.{member}"), one))
    };
    let mut all: Vec<_> = one("additionalProperties").into_iter().collect();
    all.extend(
        members(schema, &["properties"]).map(|(name, one)| (format!("{path}.properties[{name}]"), one)),
    );
    all.extend(one("not"));
    for member in ["allOf", "oneOf", "anyOf"] {
        let many = items(schema, &[member]).iter().enumerate();
        all.extend(many.map(|(index, one)| (format!("{path}.{member}[{index}]"), one)));
    }
    all.extend(one("items"));
    all
}

/// Defaults must be what the schema takes, or every object would be refused because of them.
fn defaults(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    if let Some(default) = at(schema, &["default"])
        && let Ok(node) = Node::read(schema)
    {
        let path = format!("{path}.default");
        let mut pruned = default.clone();
        let gone = custom::prune(&node, &mut pruned);
        if !gone.is_empty() {
            errors.push(FieldError::invalid(
                path.clone(),
                default.clone(),
                format!("must not have unknown fields: {}", gone.join(", ")),
            ));
        }
        for error in custom::check(&node, default, None) {
            let dot = if error.field.is_empty() { "" } else { "." };
            let field = format!("{path}{dot}{}", error.field);
            errors.push(FieldError { field, ..error });
        }
    }
    for (path, inner) in below(path, schema) {
        defaults(&path, inner, errors);
    }
}
