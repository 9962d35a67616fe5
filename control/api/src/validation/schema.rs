//! Rules that the schema carries: text that must be there, and values that must be among the choices.

use serde_json::Value;

use super::field::FieldError;
use crate::schema::{Schema, Shape, Type, Types};

/// Checks the whole object but its status and metadata, which have rules of their own.
pub(super) fn check(schema: &Schema, object: &Value, errors: &mut Vec<FieldError>) {
    let root = schema.root_type();
    for field in &root.fields {
        if matches!(field.name.as_str(), "metadata" | "status" | "apiVersion" | "kind") {
            continue;
        }
        if let Some(value) = object.get(&field.name) {
            leaf(field, &field.name, value, errors);
            walk(&schema.types, &field.shape, value, &field.name, errors);
        } else {
            missing(field, &field.name, errors);
        }
    }
}

fn object(types: &Types, of: &Type, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    for field in &of.fields {
        let path = format!("{path}.{}", field.name);
        match value.get(&field.name) {
            Some(value) => {
                leaf(field, &path, value, errors);
                walk(types, &field.shape, value, &path, errors);
            }
            None => missing(field, &path, errors),
        }
    }
}

fn walk(types: &Types, shape: &Shape, value: &Value, path: &str, errors: &mut Vec<FieldError>) {
    match (shape, value) {
        (Shape::Object(id), Value::Object(_)) => object(types, types.get(*id), value, path, errors),
        (Shape::List(inner), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                walk(types, inner, item, &format!("{path}[{index}]"), errors);
            }
        }
        (Shape::Map(inner), Value::Object(members))
            if matches!(**inner, Shape::Object(_) | Shape::List(_)) =>
        {
            for (key, item) in members {
                walk(types, inner, item, &format!("{path}[{key}]"), errors);
            }
        }
        _ => {}
    }
}

fn leaf(field: &crate::schema::Field, path: &str, value: &Value, errors: &mut Vec<FieldError>) {
    let Value::String(text) = value else { return };
    if text.is_empty() {
        missing(field, path, errors);
    } else if !field.choices.is_empty() && !field.choices.contains(text) {
        errors.push(FieldError::not_supported(path, text.as_str(), &field.choices));
    }
}

fn missing(field: &crate::schema::Field, path: &str, errors: &mut Vec<FieldError>) {
    // Other shapes have a zero that may well be meant; text that is required is never meant to be empty.
    if field.required && field.shape == Shape::String && !may_be_empty(path) {
        errors.push(FieldError::required(path, ""));
    }
}

/// Text that the schema calls required only because upstream always writes it, or that may be meant to be empty.
fn may_be_empty(path: &str) -> bool {
    path.ends_with(".value") || path.ends_with(".audience") || path.contains("imagePullSecrets[")
}
