//! Defaults of a schema. A null where none may be stands for a value that was not given.

use serde_json::Value;

use super::Node;
use super::prune::is_of_object;

/// Fills in what is missing, from the top down: a default brings the defaults within it along.
pub(super) fn apply(node: &Node, value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, inner) in &node.properties {
                let Some(default) = &inner.default else { continue };
                let missing = match members.get(name) {
                    None => true,
                    Some(value) => value.is_null() && !inner.nullable,
                };
                if missing {
                    members.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in members {
                if let Some(inner) = node.member(name).filter(|_| !(node.embedded && is_of_object(name))) {
                    null(inner, value);
                    apply(inner, value);
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = &node.items else { return };
            for item in items {
                null(inner, item);
                apply(inner, item);
            }
        }
        _ => {}
    }
}

/// A null item or member takes the default, too.
fn null(node: &Node, value: &mut Value) {
    if let (Value::Null, false, Some(default)) = (&*value, node.nullable, &node.default) {
        *value = default.clone();
    }
}
