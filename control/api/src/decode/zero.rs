//! What is not written: the zeros of fields that are `omitempty` in Go.

use serde_json::{Map, Value};

use crate::schema::{Schema, Shape, Type, Types};

pub(super) fn omit(schema: &Schema, value: &mut Value) {
    if let Value::Object(members) = value {
        object(&schema.types, schema.root_type(), members);
    }
}

fn object(types: &Types, of: &Type, members: &mut Map<String, Value>) {
    members.retain(|name, value| {
        let Some(field) = of.field(name) else { return true };
        inside(types, &field.shape, value);
        !(field.omits_zero && is_zero(&field.shape, value))
    });
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
