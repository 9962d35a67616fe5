//! From the value of an expression to JSON: what mutations give.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json};

use super::{Fault, Outcome, Value, texts};

/// The JSON of a value. Optional members that are not there are left out.
///
/// # Errors
/// When it has none.
pub(crate) fn of(value: &Value<'_>) -> Outcome<Json> {
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(one) => Json::Bool(*one),
        Value::Int(one) => Json::from(*one),
        Value::Uint(one) => Json::from(*one),
        Value::Double(one) => serde_json::Number::from_f64(*one).map_or(Json::Null, Json::Number),
        Value::Text(text) => Json::String(text.to_string()),
        Value::Bytes(bytes) => Json::String(STANDARD.encode(bytes)),
        Value::List(items) => Json::Array(items.iter().map(of).collect::<Outcome<_>>()?),
        Value::Json(json, _) => (*json).clone(),
        Value::Message(fields) => {
            let mut members = Map::new();
            for (name, value) in fields.iter() {
                members.insert((*name).to_owned(), of(value)?);
            }
            Json::Object(members)
        }
        Value::Map(entries) => {
            let mut members = Map::new();
            for (key, value) in entries.iter() {
                let Value::Text(name) = key else {
                    return Err(Fault::error(format!("{} is no name of a member", key.type_name())));
                };
                members.insert(name.to_string(), of(value)?);
            }
            Json::Object(members)
        }
        Value::Optional(Some(inner)) => of(inner)?,
        Value::Optional(None) => Json::Null,
        other => {
            let text = texts::text_of(other).transpose()?;
            let none = || Fault::error(format!("{} has no JSON form", other.type_name()));
            Json::String(text.ok_or_else(none)?)
        }
    })
}
