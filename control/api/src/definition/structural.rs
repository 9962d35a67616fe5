//! What makes a schema structural (Kubernetes documentation, "Specifying a structural schema"): every value has a type,
//! and alternatives (`allOf`, `anyOf`, `oneOf`, `not`) only narrow what is described outside of them.

use serde_json::{Value, json};

use super::alternatives;
use crate::custom;
use crate::object::{at, flag, items, members, text};
use crate::validation::FieldError;

/// Where a schema stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

impl Level {
    fn untyped(self) -> &'static str {
        match self {
            Self::Root => "must not be empty at the root",
            Self::Item => "must not be empty for specified array items",
            Self::Field => "must not be empty for specified object fields",
        }
    }
}

/// Checks a schema, in the order of what there is to say.
pub(super) fn check(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    let mut found = Vec::new();
    walk(path, schema, Level::Root, &mut found);
    alternatives::complete(path, schema, &mut found);
    found.sort_by_cached_key(ToString::to_string);
    errors.extend(found);
}

pub(super) fn extension(schema: &Value, name: &str) -> bool {
    flag(schema, &[&format!("x-kubernetes-{name}")])
}

fn walk(path: &str, schema: &Value, level: Level, errors: &mut Vec<FieldError>) {
    if text(schema, &["type"]) == "array" && at(schema, &["items"]).is_none() {
        errors.push(FieldError::required(format!("{path}.items"), "must be specified"));
    }
    if let Some(inner) = at(schema, &["items"]).filter(|inner| inner.is_object()) {
        walk(&format!("{path}.items"), inner, Level::Item, errors);
    }
    for (name, inner) in members(schema, &["properties"]) {
        walk(&format!("{path}.properties[{name}]"), inner, Level::Field, errors);
    }
    if let Some(more) = at(schema, &["additionalProperties"]) {
        let path = format!("{path}.additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&path, "must not be used at the root"));
        }
        if more.is_object() {
            walk(&path, more, Level::Field, errors);
        }
    }
    if extension(schema, "int-or-string") {
        for name in ["preserve-unknown-fields", "embedded-resource"] {
            if extension(schema, name) {
                let why = "must be false if x-kubernetes-int-or-string is true";
                errors.push(FieldError::invalid(format!("{path}.x-kubernetes-{name}"), true, why));
            }
        }
    }
    pattern(path, schema, errors);
    alternatives::check(path, schema, errors);
    kind(path, schema, level, errors);
    resource(path, schema, level, errors);
}

/// Whether the pattern of a schema is one.
pub(super) fn pattern(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    let pattern = text(schema, &["pattern"]);
    if let (false, Err(why)) = (pattern.is_empty(), custom::compile_pattern(pattern)) {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(format!("{path}.pattern"), pattern, why));
    }
}

/// What type a schema has to have.
fn kind(path: &str, schema: &Value, level: Level, errors: &mut Vec<FieldError>) {
    let (kind, path) = (text(schema, &["type"]), format!("{path}.type"));
    let loose = extension(schema, "int-or-string") || extension(schema, "preserve-unknown-fields");
    if extension(schema, "embedded-resource") && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(wrong_type(&path, kind, why));
    } else if kind.is_empty() && !loose {
        errors.push(FieldError::required(&path, level.untyped()));
    }
    if level == Level::Root && !matches!(kind, "" | "object") {
        errors.push(FieldError::invalid(path, kind, "must be object at the root"));
    }
}

/// A type that is another than it must be, or missing.
pub(super) fn wrong_type(path: &str, kind: &str, why: &str) -> FieldError {
    match kind {
        "" => FieldError::required(path, why),
        kind => FieldError::invalid(path, kind, why),
    }
}

/// What a schema of a whole object may say of the members that every object has.
fn resource(path: &str, schema: &Value, level: Level, errors: &mut Vec<FieldError>) {
    let embedded = extension(schema, "embedded-resource");
    if embedded && at(schema, &["additionalProperties"]).is_some() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(format!("{path}.additionalProperties"), why));
    }
    if embedded
        && members(schema, &["properties"]).next().is_none()
        && !extension(schema, "preserve-unknown-fields")
    {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(format!("{path}.properties"), why));
    }
    let whole = level == Level::Root || embedded;
    for (name, wanted) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        let Some(inner) = at(schema, &["properties", name]).filter(|_| whole) else { continue };
        let kind = text(inner, &["type"]);
        if kind != wanted {
            let at = format!("{path}.properties[{name}].type");
            errors.push(FieldError::invalid(at, kind, format!("must be {wanted}")));
        }
    }
    if let Some(metadata) = at(schema, &["properties", "metadata"]).filter(|_| level == Level::Root)
        && says_more(metadata)
    {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(format!("{path}.properties[metadata]"), why));
    }
}

/// Whether a schema of metadata says more than of names.
fn says_more(metadata: &Value) -> bool {
    let is_zero =
        |value: &Value| [json!(null), json!(false), json!(""), json!([]), json!({})].contains(value);
    let beyond =
        members(metadata, &["properties"]).any(|(name, _)| !matches!(name.as_str(), "name" | "generateName"));
    let other = members(metadata, &[])
        .any(|(name, value)| !matches!(name.as_str(), "type" | "default" | "properties") && !is_zero(value));
    beyond || other
}

/// Whether somewhere there is what a structural schema has no place for at all. That is told of elsewhere.
pub(super) fn is_unreadable(schema: &Value) -> bool {
    const OTHERS: [&str; 7] =
        ["id", "$schema", "$ref", "patternProperties", "dependencies", "additionalItems", "definitions"];
    OTHERS.iter().any(|name| at(schema, &[name]).is_some())
        || schema["x-kubernetes-preserve-unknown-fields"] == false
        || schema["items"].is_array()
        || super::schema::below("", schema).iter().any(|(_, inner)| is_unreadable(inner))
        || items(schema, &["items"]).iter().any(is_unreadable)
}
