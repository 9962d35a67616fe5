//! The zeros of Go's types: those of `omitempty` fields are not written, those of all others are.
//!
//! Upstream keeps objects as structs, so that a field which nobody has set shows in JSON all the same unless its tag says
//! otherwise. Clients see it (`status.disruptionsAllowed: 0`), a JSON patch can test it, and `metadata.managedFields` tells
//! what was there before from what was not.

use serde_json::{Map, Value};

use crate::schema::{Schema, Shape, Type, Types, Zero};

/// Puts in what is written in any case.
pub(super) fn fill(schema: &Schema, value: &mut Value) {
    if let Value::Object(members) = value {
        fill_object(&schema.types, schema.root_type(), members);
    }
}

/// Makes null what upstream has lost when it comes out of its store: protobuf does not tell an empty list from none.
pub(super) fn settle(schema: &Schema, value: &mut Value) {
    if let Value::Object(members) = value {
        settle_object(&schema.types, schema.root_type(), members);
    }
}

fn settle_object(types: &Types, of: &Type, members: &mut Map<String, Value>) {
    for (name, value) in members.iter_mut() {
        let Some(field) = of.field(name) else { continue };
        settle_value(types, &field.shape, value);
        let is_container = matches!(field.shape, Shape::List(_) | Shape::Map(_));
        if is_container && field.written == Some(Zero::Null) && is_zero(&field.shape, value) {
            *value = Value::Null;
        }
    }
}

fn settle_value(types: &Types, shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Object(id), Value::Object(members)) => settle_object(types, types.get(*id), members),
        (Shape::List(shape), Value::Array(items)) if is_deep(shape) => {
            items.iter_mut().for_each(|item| settle_value(types, shape, item));
        }
        (Shape::Map(shape), Value::Object(members)) if is_deep(shape) => {
            members.values_mut().for_each(|item| settle_value(types, shape, item));
        }
        _ => {}
    }
}

fn fill_object(types: &Types, of: &Type, members: &mut Map<String, Value>) {
    for (name, value) in members.iter_mut() {
        if let Some(field) = of.field(name) {
            fill_value(types, &field.shape, value);
        }
    }
    for (field, zero) in of.always_written() {
        match members.get_mut(&field.name) {
            Some(Value::Null) if zero == Zero::Plain => {
                members.insert(field.name.clone(), plain(types, &field.shape));
            }
            Some(_) => {}
            None => {
                let value = if zero == Zero::Null { Value::Null } else { plain(types, &field.shape) };
                members.insert(field.name.clone(), value);
            }
        }
    }
}

fn fill_value(types: &Types, shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Object(id), Value::Object(members)) => fill_object(types, types.get(*id), members),
        (Shape::List(shape), Value::Array(items)) if is_deep(shape) => {
            items.iter_mut().for_each(|item| fill_value(types, shape, item));
        }
        (Shape::Map(shape), Value::Object(members)) if is_deep(shape) => {
            members.values_mut().for_each(|item| fill_value(types, shape, item));
        }
        _ => {}
    }
}

/// The zero of a type that is not nil.
fn plain(types: &Types, shape: &Shape) -> Value {
    match shape {
        Shape::String => "".into(),
        Shape::Boolean => false.into(),
        Shape::Int32 | Shape::Int64 | Shape::Number | Shape::IntOrString => 0.into(),
        Shape::Quantity => "0".into(),
        Shape::Object(id) => {
            let mut members = Map::new();
            fill_object(types, types.get(*id), &mut members);
            Value::Object(members)
        }
        Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Any | Shape::List(_) | Shape::Map(_) => {
            Value::Null
        }
    }
}

pub(super) fn omit(schema: &Schema, value: &mut Value) {
    if let Value::Object(members) = value {
        object(&schema.types, schema.root_type(), members);
    }
}

fn object(types: &Types, of: &Type, members: &mut Map<String, Value>) {
    members.retain(|name, value| {
        let Some(field) = of.field(name) else { return true };
        inside(types, &field.shape, value);
        !(field.omits_zero && is_zero(&field.shape, value)) || is_kept(of, name)
    });
}

/// An empty list of rules by which to scale is not the same as none, for which there is a default: it is refused.
fn is_kept(of: &Type, name: &str) -> bool {
    name == "policies" && of.short_name() == "HPAScalingRules"
}

/// What is in a list or map stays; what it is made of may have zeros.
fn inside(types: &Types, shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Object(id), Value::Object(members)) => object(types, types.get(*id), members),
        (Shape::List(shape), Value::Array(items)) if is_deep(shape) => {
            items.iter_mut().for_each(|item| inside(types, shape, item));
        }
        (Shape::Map(shape), Value::Object(members)) if is_deep(shape) => {
            members.values_mut().for_each(|item| inside(types, shape, item));
        }
        _ => {}
    }
}

fn is_deep(shape: &Shape) -> bool {
    matches!(shape, Shape::Object(_) | Shape::List(_) | Shape::Map(_))
}

fn is_zero(shape: &Shape, value: &Value) -> bool {
    match (shape, value) {
        (Shape::List(_), Value::Array(items)) => items.is_empty(),
        (Shape::Map(_), Value::Object(members)) => members.is_empty(),
        (Shape::String | Shape::Bytes, Value::String(text)) => text.is_empty(),
        (Shape::Int32 | Shape::Int64 | Shape::Number, Value::Number(number)) => number.as_f64() == Some(0.0),
        (Shape::Boolean, Value::Bool(flag)) => !flag,
        _ => false,
    }
}
