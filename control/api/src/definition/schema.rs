//! Rules for the schema of a version: it is there, it says nothing that is not supported, it is structural.

use serde_json::Value;

use super::{rules, structural};
use crate::custom::{self, Node};
use crate::object::{at, flag, items, members, text};
use crate::validation::FieldError;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// The deepest nesting of a schema.
const DEPTH: usize = 64;

/// Checks the schema of a version; `place` is that version, or the definition for a schema that all versions share, or
/// nothing if it was checked before.
pub(super) fn check(path: &str, place: Option<&str>, version: &Value, errors: &mut Vec<FieldError>) {
    let Some(schema) = at(version, &["schema", "openAPIV3Schema"]) else {
        errors.push(FieldError::required(format!("{path}.schema.openAPIV3Schema"), "schemas are required"));
        return;
    };
    let path = match place {
        Some("spec") => "spec.validation.openAPIV3Schema".to_owned(),
        Some(path) => format!("{path}.schema.openAPIV3Schema"),
        None => return,
    };
    if flag(schema, &["nullable"]) {
        errors.push(FieldError::forbidden(format!("{path}.nullable"), "nullable cannot be true at the root"));
    }
    let before = errors.len();
    supported(&path, schema, DEPTH, errors);
    structural::check(&path, schema, errors);
    if errors.len() == before {
        if let Ok(node) = Node::of_object(schema) {
            rules::check(&path, schema, &node, errors);
        }
        defaults(&path, schema, errors);
    }
}

/// What no schema of a custom resource may say, wherever.
fn supported(path: &str, schema: &Value, depth: usize, errors: &mut Vec<FieldError>) {
    if depth == 0 {
        errors.push(FieldError::invalid(
            path,
            "",
            format!("schemas may not nest deeper than {DEPTH} levels"),
        ));
        return;
    }
    let mut forbid =
        |member: &str, why: &str| errors.push(FieldError::forbidden(format!("{path}.{member}"), why));
    for member in ["$ref", "definitions", "dependencies", "id", "additionalItems", "patternProperties"] {
        if at(schema, &[member]).is_some() {
            forbid(member, &format!("{member} is not supported"));
        }
    }
    if flag(schema, &["uniqueItems"]) {
        forbid(
            "uniqueItems",
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    if schema["additionalProperties"] == false {
        forbid("additionalProperties", "additionalProperties cannot be set to false");
    }
    let both = at(schema, &["properties"]).is_some() && at(schema, &["additionalProperties"]).is_some();
    if both && schema["additionalProperties"] != false {
        forbid("additionalProperties", "additionalProperties and properties are mutual exclusive");
    }
    if schema["items"].is_array() {
        forbid("items", "items must be a schema object and not an array");
    }
    let kind = text(schema, &["type"]);
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(format!("{path}.type"), kind, &TYPES));
    }
    let pattern = text(schema, &["pattern"]);
    if let (false, Err(why)) = (pattern.is_empty(), custom::compile_pattern(pattern)) {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(format!("{path}.pattern"), pattern, why));
    }
    for (path, inner) in below(path, schema) {
        supported(&path, inner, depth - 1, errors);
    }
}

/// All schemas directly within a schema, with their paths.
pub(super) fn below<'a>(path: &str, schema: &'a Value) -> Vec<(String, &'a Value)> {
    let mut all = Vec::new();
    all.extend(
        members(schema, &["properties"]).map(|(name, one)| (format!("{path}.properties[{name}]"), one)),
    );
    for member in ["items", "additionalProperties", "not"] {
        all.extend(
            at(schema, &[member]).filter(|one| one.is_object()).map(|one| (format!("{path}.{member}"), one)),
        );
    }
    for member in ["allOf", "anyOf", "oneOf"] {
        let many = items(schema, &[member]).iter().enumerate();
        all.extend(many.map(|(index, one)| (format!("{path}.{member}[{index}]"), one)));
    }
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
