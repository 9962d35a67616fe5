//! What cells of many kinds are made of.

use jiff::Timestamp;
use serde_json::Value;

use super::age::since;
use crate::object::{at, items, members, name, text};
use crate::registry::Column;

/// What stands where there is nothing.
pub(super) const NONE: &str = "<none>";

/// The age of an object.
pub(super) fn age(object: &Value, now: Timestamp) -> Value {
    since(text(object, &["metadata", "creationTimestamp"]), now).into()
}

/// Text, or `<none>`.
pub(super) fn or_none(text: &str) -> Value {
    if text.is_empty() { NONE.into() } else { text.into() }
}

/// Texts with commas between, or `<none>`.
pub(super) fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> Value {
    or_none(&texts.collect::<Vec<_>>().join(","))
}

/// A number at a path, 0 when it is not there.
pub(super) fn count(object: &Value, path: &[&str]) -> Value {
    at(object, path).cloned().unwrap_or_else(|| 0.into())
}

/// The names of a pod specification's containers.
pub(super) fn containers(spec: &Value) -> Value {
    items(spec, &["containers"]).iter().map(|one| text(one, &["name"])).collect::<Vec<_>>().join(",").into()
}

/// The images of a pod specification's containers.
pub(super) fn images(spec: &Value) -> Value {
    items(spec, &["containers"]).iter().map(|one| text(one, &["image"])).collect::<Vec<_>>().join(",").into()
}

/// A label selector as one would type it.
pub(super) fn selector(selector: Option<&Value>) -> Value {
    let text = selector.and_then(crate::select::LabelSelector::from_object).map(|one| one.to_string());
    or_none(&text.unwrap_or_default())
}

/// A map of labels as one would type it.
pub(super) fn labels(labels: Option<&Value>) -> Value {
    let pairs: Vec<String> = labels
        .into_iter()
        .flat_map(|labels| members(labels, &[]))
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    or_none(&pairs.join(","))
}

/// The cell of a column that no code knows: name, age, creation, or the field of the column's name.
pub(super) fn generic(column: &Column, object: &Value, now: Timestamp) -> Value {
    match column.name.as_str() {
        "Name" => name(object).into(),
        "Age" => age(object, now),
        "Created At" => text(object, &["metadata", "creationTimestamp"]).into(),
        title => {
            let field = field_name(title);
            let found = at(object, &["spec", &field])
                .or_else(|| at(object, &[&field]))
                .or_else(|| at(object, &["status", &field]));
            match (found, column.kind.as_str()) {
                (Some(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))), _) => value.clone(),
                (Some(Value::Array(list)), "integer") => list.len().into(),
                (Some(Value::Array(list)), _) => joined(list.iter().filter_map(Value::as_str)),
                (None, "integer") => 0.into(),
                (None, "boolean") => false.into(),
                _ => NONE.into(),
            }
        }
    }
}

/// `ReclaimPolicy` and `Reclaim Policy` are the column of `reclaimPolicy`.
fn field_name(title: &str) -> String {
    let mut letters = title.chars().filter(char::is_ascii_alphanumeric);
    letters.next().map_or_else(String::new, |first| {
        std::iter::once(first.to_ascii_lowercase()).chain(letters).collect()
    })
}
