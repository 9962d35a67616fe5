//! Alternatives in a structural schema: within `allOf`, `anyOf`, `oneOf` and `not` there are only limits, and at the root
//! only on what is described outside of them.

use serde_json::{Value, json};

use super::structural::{extension, pattern};
use crate::object::{at, flag, items, members, text};
use crate::validation::FieldError;

/// The alternatives directly within a schema, with their paths, as they are checked.
fn within<'a>(path: &str, schema: &'a Value) -> Vec<(String, &'a Value)> {
    let mut all = Vec::new();
    for member in ["anyOf", "allOf", "oneOf"] {
        let many = items(schema, &[member]).iter().enumerate();
        all.extend(many.map(|(index, one)| (format!("{path}.{member}[{index}]"), one)));
    }
    all.extend(at(schema, &["not"]).filter(|one| one.is_object()).map(|one| (format!("{path}.not"), one)));
    all
}

/// Whether the alternatives are the two types of what is a number or a text: so these may be said.
fn is_int_or_string(schema: &Value) -> bool {
    schema["anyOf"] == json!([{ "type": "integer" }, { "type": "string" }])
}

/// Checks the alternatives of a schema.
pub(super) fn check(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    nested(path, schema, is_int_or_string(schema), true, errors);
}

/// Those within a schema. `typed`: `anyOf` may say types; `outermost`: the first of `allOf` may have such an `anyOf`.
fn nested(path: &str, schema: &Value, typed: bool, outermost: bool, errors: &mut Vec<FieldError>) {
    for (at, one) in within(path, schema) {
        let member = &at[path.len()..];
        if typed && member.starts_with(".anyOf") {
            continue;
        }
        let first = outermost && member == ".allOf[0]" && is_int_or_string(one);
        alternative(&at, one, first, errors);
    }
}

fn alternative(path: &str, schema: &Value, typed: bool, errors: &mut Vec<FieldError>) {
    nested(path, schema, typed, false, errors);
    pattern(path, schema, errors);
    if let Some(inner) = at(schema, &["items"]).filter(|inner| inner.is_object()) {
        alternative(&format!("{path}.items"), inner, false, errors);
    }
    for (name, inner) in members(schema, &["properties"]) {
        alternative(&format!("{path}.properties[{name}]"), inner, false, errors);
    }
    let mut forbid = |member: &str, state: &str| {
        let why = format!("must be {state} to be structural");
        errors.push(FieldError::forbidden(format!("{path}.{member}"), why));
    };
    for member in ["type", "title", "description"] {
        if !text(schema, &[member]).is_empty() {
            forbid(member, "empty");
        }
    }
    if at(schema, &["additionalProperties"]).is_some_and(|more| *more != false) {
        forbid("additionalProperties", "undefined");
    }
    for member in ["default", "x-kubernetes-list-type", "x-kubernetes-map-type"] {
        if at(schema, &[member]).is_some() {
            forbid(member, "undefined");
        }
    }
    if flag(schema, &["nullable"]) {
        forbid("nullable", "false");
    }
    for name in ["preserve-unknown-fields", "embedded-resource", "int-or-string"] {
        if extension(schema, name) {
            forbid(&format!("x-kubernetes-{name}"), "false");
        }
    }
    for member in ["x-kubernetes-list-map-keys", "x-kubernetes-validations"] {
        if !items(schema, &[member]).is_empty() {
            forbid(member, "empty");
        }
    }
    if at(schema, &["properties", "metadata"]).is_some() {
        let at = format!("{path}.properties[metadata]");
        errors.push(FieldError::forbidden(at, "must not be specified in a nested context"));
    }
}

/// Checks that what the alternatives of the root limit is described outside of them. Upstream looks at those of the root
/// alone.
pub(super) fn complete(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    for (at, one) in within(path, schema) {
        described(&at, path, one, schema, errors);
    }
}

fn described(path: &str, outside: &str, schema: &Value, known: &Value, errors: &mut Vec<FieldError>) {
    for (at, one) in within(path, schema) {
        described(&at, outside, one, known, errors);
    }
    let mut inner = Vec::new();
    if let Some(one) = at(schema, &["items"]).filter(|one| one.is_object()) {
        inner.push((".items".to_owned(), one, known.get("items")));
    }
    for (name, one) in members(schema, &["properties"]) {
        inner.push((format!(".properties[{name}]"), one, known["properties"].get(name)));
    }
    for (step, one, known) in inner {
        let (path, outside) = (format!("{path}{step}"), format!("{outside}{step}"));
        match known {
            Some(known) => described(&path, &outside, one, known, errors),
            None => errors.push(FieldError::required(outside, format!("because it is defined in {path}"))),
        }
    }
}
