//! Defaults of a schema. A null where none may be stands for a value that was not given: it takes the default, or goes.

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
            members.retain(|name, value| {
                let inner = node.member(name).filter(|_| !(node.embedded && is_of_object(name)));
                !(value.is_null() && inner.is_some_and(|inner| !inner.nullable && inner.default.is_none()))
            });
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nulls_that_may_not_be_take_their_default_or_go() {
        let schema = json!({ "type": "object", "properties": {
            "plain": { "type": "string" },
            "given": { "type": "string", "default": "d" },
            "null": { "type": "string", "nullable": true },
            "map": { "type": "object", "additionalProperties": { "type": "string" } },
            "list": { "type": "array", "items": { "type": "object", "properties": { "a": { "type": "string" } } } },
        } });
        let node = Node::of_object(&schema).unwrap();
        let mut value = json!({
            "plain": null, "given": null, "null": null, "map": { "k": null, "l": "x" }, "list": [{ "a": null }],
        });
        apply(&node, &mut value);
        assert_eq!(value, json!({ "given": "d", "null": null, "map": { "l": "x" }, "list": [{}] }));
    }
}
