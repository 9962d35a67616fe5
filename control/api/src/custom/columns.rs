//! The columns that a definition adds to the table of its objects.

use jiff::Timestamp;
use serde_json::Value;

use super::{Custom, JsonPath};
use crate::object::{name, number, text};
use crate::registry::Column;

/// A column and where its cells come from.
#[derive(Clone, Debug)]
pub(crate) struct PrinterColumn {
    pub(crate) column: Column,
    pub(crate) description: String,
    path: Option<JsonPath>,
}

/// Reads the columns of a version; a version without any has the age.
pub(super) fn read(columns: &[Value]) -> Vec<PrinterColumn> {
    let one = |column: &Value| PrinterColumn {
        column: Column {
            name: text(column, &["name"]).to_owned(),
            kind: text(column, &["type"]).to_owned(),
            format: text(column, &["format"]).to_owned(),
            priority: number(column, &["priority"]).and_then(|one| i32::try_from(one).ok()).unwrap_or(0),
        },
        description: text(column, &["description"]).to_owned(),
        path: JsonPath::parse(text(column, &["jsonPath"])).ok(),
    };
    if columns.is_empty() {
        let age = serde_json::json!({
            "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
            "description": "Time since the object was created.",
        });
        return vec![one(&age)];
    }
    columns.iter().map(one).collect()
}

/// The cells of an object: its name, then one for each column.
pub(crate) fn cells(custom: &Custom, object: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![name(object).into()];
    cells.extend(custom.columns.iter().map(|column| {
        let found = column.path.as_ref().map(|path| path.find(object)).unwrap_or_default();
        cell(&column.column.kind, &found, now)
    }));
    cells
}

/// What the first value found is in a column of that type; null when there is none, or it is of another type.
fn cell(kind: &str, found: &[&Value], now: Timestamp) -> Value {
    let Some(first) = found.first() else { return Value::Null };
    match (kind, first) {
        ("integer", Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(fraction)) => (fraction as i64).into(),
            _ => Value::Null,
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => (*first).clone(),
        ("date", Value::String(time)) => {
            let age = crate::table::since(time, now);
            if age.is_empty() { "<invalid>".into() } else { age.into() }
        }
        ("string", _) => {
            let texts: Vec<String> = found
                .iter()
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                .collect();
            texts.join(" ").into()
        }
        _ => Value::Null,
    }
}
