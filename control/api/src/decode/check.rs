//! A value against its schema: types, unknown fields, nulls, and the canonical form of amounts and times.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::quantity::Quantity;
use crate::schema::{Field, Schema, Shape, Type, Types};

/// How many unknown fields are named before the rest goes unmentioned.
const REPORTED: usize = 64;

/// What a value is called in messages.
pub(super) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Checks the whole object; gives the path of each unknown field that was taken out.
///
/// # Errors
/// A sentence on the first wrong type.
pub(crate) fn walk(schema: &Schema, value: &mut Value) -> Result<Vec<String>, String> {
    let root = schema.root_type();
    let (names, path) = (Vec::new(), String::new());
    let mut walk = Walk { types: &schema.types, unknown: Vec::new(), fields: Vec::new(), names, path };
    match value {
        Value::Object(members) => walk.object(root, members)?,
        other => {
            return Err(format!(
                "json: cannot unmarshal {} into Go value of type {}",
                json_type(other),
                root.versioned_name()
            ));
        }
    }
    Ok(walk.unknown)
}

struct Walk<'a> {
    types: &'a Types,
    unknown: Vec<String>,
    /// The fields of the members that are left, in order: those of the object at hand behind those of the ones around it.
    fields: Vec<&'a Field>,
    /// The names of the fields on the way, which messages about types have.
    names: Vec<&'a str>,
    /// The same with indices and map keys, which messages about unknown fields have.
    path: String,
}

impl<'a> Walk<'a> {
    fn object(&mut self, of: &'a Type, members: &mut Map<String, Value>) -> Result<(), String> {
        let around = self.fields.len();
        // Null is the same as absent for a field that has a type.
        members.retain(|name, value| {
            let known = of.field(name);
            if known.is_none() && self.unknown.len() < REPORTED {
                let dot = if self.path.is_empty() { "" } else { "." };
                let path = format!("{}{dot}{name}", self.path);
                self.unknown.push(path);
            }
            let known = known.filter(|field| !value.is_null() || field.shape == Shape::Any);
            self.fields.extend(known);
            known.is_some()
        });
        for (at, (name, value)) in (around..).zip(members.iter_mut()) {
            let field = self.fields[at];
            let length = self.path.len();
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(name);
            self.names.push(&field.name);
            self.value(of, &field.shape, value)?;
            self.names.pop();
            self.path.truncate(length);
        }
        self.fields.truncate(around);
        Ok(())
    }

    fn value(&mut self, of: &'a Type, shape: &'a Shape, value: &mut Value) -> Result<(), String> {
        match (shape, &mut *value) {
            (Shape::Any, _) | (Shape::Boolean, Value::Bool(_)) | (Shape::String, Value::String(_)) => Ok(()),
            (Shape::Number, Value::Number(_)) => Ok(()),
            (Shape::Object(id), Value::Object(members)) => self.object(self.types.get(*id), members),
            (Shape::List(inner), Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let length = self.path.len();
                    let _ = write!(self.path, "[{index}]");
                    zero(inner, item);
                    self.value(of, inner, item)?;
                    self.path.truncate(length);
                }
                Ok(())
            }
            (Shape::Map(inner), Value::Object(members)) => {
                for (key, item) in members.iter_mut() {
                    let length = self.path.len();
                    let _ = write!(self.path, ".{key}");
                    zero(inner, item);
                    self.value(of, inner, item)?;
                    self.path.truncate(length);
                }
                Ok(())
            }
            (Shape::Int32, Value::Number(number)) => {
                match number.as_i64().and_then(|n| i32::try_from(n).ok()) {
                    Some(_) => Ok(()),
                    None => self.whole(of, shape, value),
                }
            }
            (Shape::Int64, Value::Number(number)) if number.is_i64() => Ok(()),
            (Shape::Int64, Value::Number(_)) => self.whole(of, shape, value),
            (Shape::Quantity, Value::String(_) | Value::Number(_)) => quantity(value),
            (Shape::IntOrString, Value::String(_)) => Ok(()),
            (Shape::IntOrString, Value::Number(number)) => {
                match number.as_i64().and_then(|n| i32::try_from(n).ok()) {
                    Some(_) => Ok(()),
                    None => {
                        Err(format!("json: cannot unmarshal number {number} into Go value of type int32"))
                    }
                }
            }
            (Shape::IntOrString, other) => {
                Err(format!("json: cannot unmarshal {} into Go value of type int32", json_type(other)))
            }
            (Shape::Quantity, _) => Err(QUANTITY.into()),
            (Shape::Time | Shape::MicroTime, Value::String(_)) => time(shape, value),
            (Shape::Time | Shape::MicroTime, other) => {
                Err(format!("json: cannot unmarshal {} into Go value of type string", json_type(other)))
            }
            (Shape::Bytes, Value::String(text)) => base64(text),
            (shape, other) => Err(self.wrong(of, shape, json_type(other))),
        }
    }

    /// `1.0` is whole, `1.5` and numbers out of range are not.
    fn whole(&self, of: &Type, shape: &Shape, value: &mut Value) -> Result<(), String> {
        let text = value.to_string();
        Err(self.wrong(of, shape, &format!("number {text}")))
    }

    fn wrong(&self, of: &Type, shape: &Shape, found: &str) -> String {
        format!(
            "json: cannot unmarshal {found} into Go struct field {}.{} of type {}",
            of.short_name(),
            self.names.join("."),
            self.type_name(shape)
        )
    }

    fn type_name(&self, shape: &Shape) -> String {
        match shape {
            Shape::String | Shape::Time | Shape::MicroTime => "string".into(),
            Shape::Bytes => "[]uint8".into(),
            Shape::Boolean => "bool".into(),
            Shape::Int32 | Shape::IntOrString => "int32".into(),
            Shape::Int64 => "int64".into(),
            Shape::Number => "float64".into(),
            Shape::Quantity => "resource.Quantity".into(),
            Shape::Any => "interface {}".into(),
            Shape::Object(id) => self.types.get(*id).versioned_name(),
            Shape::List(inner) => format!("[]{}", self.type_name(inner)),
            Shape::Map(inner) => format!("map[string]{}", self.type_name(inner)),
        }
    }
}

const QUANTITY: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// Null within a list or map is the zero of its type.
fn zero(shape: &Shape, value: &mut Value) {
    if !value.is_null() {
        return;
    }
    *value = match shape {
        Shape::String | Shape::Bytes => Value::String(String::new()),
        Shape::Boolean => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Number | Shape::IntOrString => 0.into(),
        Shape::Quantity => Value::String("0".into()),
        Shape::Object(_) | Shape::Map(_) => Value::Object(Map::new()),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Any | Shape::Time | Shape::MicroTime => Value::Null,
    };
}

fn quantity(value: &mut Value) -> Result<(), String> {
    let text = match &*value {
        Value::String(text) => text.trim().to_owned(),
        number => number.to_string(),
    };
    let quantity = Quantity::parse(&text).map_err(|why| why.to_string())?;
    *value = Value::String(quantity.to_string());
    Ok(())
}

fn time(shape: &Shape, value: &mut Value) -> Result<(), String> {
    *value = Value::String(super::time::canonical(shape, value.as_str().unwrap_or_default())?);
    Ok(())
}

/// Standard alphabet, padded; line ends are skipped.
fn base64(text: &str) -> Result<(), String> {
    let illegal = |at: usize| Err(format!("illegal base64 data at input byte {at}"));
    let (mut count, mut padding) = (0usize, 0usize);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\r' | b'\n' => {}
            b'=' if padding < 2 && count % 4 + padding >= 2 => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => count += 1,
            _ => return illegal(at),
        }
    }
    match (count + padding) % 4 {
        0 => Ok(()),
        // Go says where the group of four begins that is not whole.
        rest if padding == 0 => illegal(text.len() - rest),
        _ => illegal(text.len()),
    }
}
