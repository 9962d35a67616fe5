//! Taking out what the schema does not know.

use std::fmt::Write as _;

use serde_json::Value;

use super::{More, Node};

/// How many unknown fields are named before the rest goes unmentioned.
const REPORTED: usize = 64;

/// Takes unknown fields out of an object; returns their paths.
pub(crate) fn prune(node: &Node, object: &mut Value) -> Vec<String> {
    let mut walk = Walk { gone: Vec::new(), path: String::new() };
    walk.value(node, object);
    walk.gone
}

struct Walk {
    gone: Vec<String>,
    path: String,
}

impl Walk {
    fn value(&mut self, node: &Node, value: &mut Value) {
        let length = self.path.len();
        match value {
            Value::Object(members) => {
                members.retain(|name, _| {
                    let known = is_known(node, name);
                    if !known && self.gone.len() < REPORTED {
                        let dot = if self.path.is_empty() { "" } else { "." };
                        self.gone.push(format!("{}{dot}{name}", self.path));
                    }
                    known
                });
                for (name, inner) in members {
                    // The metadata of an object has a schema of its own.
                    let Some(node) = node.member(name).filter(|_| !(node.embedded && is_of_object(name)))
                    else {
                        continue;
                    };
                    if length > 0 {
                        self.path.push('.');
                    }
                    self.path.push_str(name);
                    self.value(node, inner);
                    self.path.truncate(length);
                }
            }
            Value::Array(items) => {
                let Some(node) = &node.items else { return };
                for (index, item) in items.iter_mut().enumerate() {
                    let _ = write!(self.path, "[{index}]");
                    self.value(node, item);
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }
}

fn is_known(node: &Node, name: &str) -> bool {
    node.preserve_unknown
        || node.properties.contains_key(name)
        || matches!(node.more, More::Any | More::Like(_))
        || (node.embedded && is_of_object(name))
}

/// The members that every object has.
pub(super) fn is_of_object(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}
