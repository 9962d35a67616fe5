//! One step of a path from the root of an object to a field: by name, by the keys of a list item, by value, by index.
//!
//! Owns the text of a step in `FieldsV1` (`f:name`, `k:{"name":"a"}`, `v:"a"`, `i:0`; apimachinery's
//! `fieldpath/serialize-pe.go`) and its form in messages.

use std::fmt;

use serde_json::{Map, Value};

/// A step. The order of the variants is that of upstream's sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A member of an object.
    Field(String),
    /// An item of a list by its keys: JSON of an object, members in order of their names.
    Key(String),
    /// An item of a set: JSON of the value.
    Value(String),
    /// An item by its place.
    Index(i64),
}

impl Step {
    /// The step into a member.
    pub fn field(name: impl AsRef<str>) -> Self {
        let name = name.as_ref();
        // With room for what comes before it in its text.
        let mut own = String::with_capacity(name.len() + 2);
        own.push_str(name);
        Self::Field(own)
    }

    /// The step to the item with these keys.
    pub fn key(keys: Map<String, Value>) -> Self {
        Self::Key(text_of(&Value::Object(keys)))
    }

    /// The step to the item with this value.
    pub fn value(value: &Value) -> Self {
        Self::Value(text_of(value))
    }

    /// Reads the text of a step; `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self::field(rest)),
            "k" => match serde_json::from_str(rest).ok()? {
                Value::Object(keys) => Some(Self::key(keys)),
                _ => None,
            },
            "v" => Some(Self::value(&serde_json::from_str(rest).ok()?)),
            "i" => Some(Self::Index(rest.parse().ok()?)),
            _ => None,
        }
    }

    /// Whether a text is what [`Self::into_text`] gives for some step.
    pub(super) fn is_text(text: &str) -> bool {
        text.starts_with("f:") || Self::parse(text).is_some_and(|step| step.into_text() == text)
    }

    /// The text of the step in `FieldsV1`.
    pub(super) fn text(&self) -> String {
        self.clone().into_text()
    }

    /// The same.
    pub fn into_text(self) -> String {
        let (kind, mut text) = match self {
            Self::Field(name) => ("f:", name),
            Self::Key(json) => ("k:", json),
            Self::Value(json) => ("v:", json),
            Self::Index(at) => ("i:", at.to_string()),
        };
        text.insert_str(0, kind);
        text
    }
}

/// The text of a value, the same for equal values.
fn text_of(value: &Value) -> String {
    // Not by `to_string` of the value, which goes through a formatter, token by token.
    let text = |value: &Value| serde_json::to_string(value).expect("a value is JSON");
    if is_sorted(value) { text(value) } else { text(&sorted(value)) }
}

/// Whether the members of every object are in order of their names already, which is the rule.
fn is_sorted(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.keys().is_sorted() && members.values().all(is_sorted),
        Value::Array(items) => items.iter().all(is_sorted),
        _ => true,
    }
}

/// A value with the members of every object in order of their names, so that equal values have equal texts.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> =
                members.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(members.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

/// The form in messages: `.spec`, `[name="a"]`, `[="a"]`, `[0]`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(json) => {
                let keys: Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
                let keys: Vec<_> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
            Self::Value(json) => write!(f, "[={json}]"),
            Self::Index(at) => write!(f, "[{at}]"),
        }
    }
}

/// A path in messages: `.spec.containers[name="a"].image`.
pub fn path_text(path: &[Step]) -> String {
    path.iter().map(Step::to_string).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_survive_their_text() {
        for text in ["f:spec", "f:a:b", "f:", r#"k:{"port":80,"protocol":"TCP"}"#, r#"v:"x""#, "v:1", "i:3"] {
            assert_eq!(Step::parse(text).unwrap().into_text(), text);
        }
        for text in ["", "spec", "x:a", "k:[]", "k:{", "v:", "i:x"] {
            assert_eq!(Step::parse(text), None, "{text}");
        }
    }

    #[test]
    fn keys_are_the_same_in_any_order() {
        let one = Step::parse(r#"k:{"protocol":"TCP","port":80}"#);
        assert_eq!(one, Step::parse(r#"k:{"port":80,"protocol":"TCP"}"#));
    }

    #[test]
    fn paths_read_as_upstreams() {
        let key = Step::key(serde_json::from_value(json!({ "protocol": "TCP", "port": 80 })).unwrap());
        let path = [Step::field("spec"), Step::field("ports"), key, Step::field("name")];
        assert_eq!(path_text(&path), r#".spec.ports[port=80,protocol="TCP"].name"#);
        let path = [Step::field("metadata"), Step::field("finalizers"), Step::value(&json!("x"))];
        assert_eq!(path_text(&path), r#".metadata.finalizers[="x"]"#);
    }
}
