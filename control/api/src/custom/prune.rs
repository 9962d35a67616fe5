//! Taking out what the schema does not know.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{More, Node};
use crate::decode::check;
use crate::schema::Schema;

/// How many unknown fields are named before the rest goes unmentioned.
const REPORTED: usize = 64;

/// Takes unknown fields out of an object; returns their paths.
pub(crate) fn prune(node: &Node, object: &mut Value) -> Vec<String> {
    let mut walk = Walk::default();
    walk.value(node, object);
    walk.gone
}

/// The same for an object that somebody sends: the metadata of objects within it (`x-kubernetes-embedded-resource`) has to
/// be such, by the types of `schema`, which is that of any kind.
///
/// # Errors
/// A sentence on the first wrong type in such metadata.
pub(crate) fn prune_sent(node: &Node, object: &mut Value, schema: &Schema) -> Result<Vec<String>, String> {
    let mut walk = Walk { schema: Some(schema), ..Walk::default() };
    walk.value(node, object);
    match walk.wrong {
        Some(why) => Err(why),
        None => Ok(walk.gone.into_iter().chain(walk.gone_from_metadata).collect()),
    }
}

#[derive(Default)]
struct Walk<'a> {
    gone: Vec<String>,
    gone_from_metadata: Vec<String>,
    path: String,
    /// By what the metadata of objects within the object is judged, if it is.
    schema: Option<&'a Schema>,
    wrong: Option<String>,
}

impl Walk<'_> {
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
                if node.embedded && length > 0 {
                    self.metadata(members);
                }
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

    /// Judges the metadata of an object within the object.
    fn metadata(&mut self, members: &mut Map<String, Value>) {
        let Some(schema) = self.schema else { return };
        let Some(metadata) = members.remove("metadata") else { return };
        let mut object = json!({ "metadata": metadata });
        match check::walk(schema, &mut object) {
            Ok(unknown) => {
                let room = REPORTED.saturating_sub(self.gone_from_metadata.len());
                let unknown = unknown.into_iter().take(room);
                self.gone_from_metadata.extend(unknown.map(|name| format!("{}.{name}", self.path)));
            }
            Err(why) => {
                self.wrong.get_or_insert_with(|| format!("{}.metadata: {why}", self.path));
            }
        }
        if let Value::Object(object) = object {
            members.extend(object);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::registry;

    /// What is left of an object within an object, and what is said of the rest.
    fn sent(metadata: Value) -> (Value, Result<Vec<String>, String>) {
        let node = Node::of_object(
            &json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": {
            "template": { "type": "object", "x-kubernetes-embedded-resource": true, "properties": {
                "metadata": { "type": "object", "properties": { "name": { "type": "string" } } },
            } },
        } } } }),
        );
        let mut object = json!({ "spec": { "gone": 1, "template": {
            "apiVersion": "v1", "kind": "Sub", "metadata": metadata,
        } } });
        let pods = registry().find("", "v1", "pods").unwrap();
        let said = prune_sent(&node.unwrap(), &mut object, &pods.schema);
        (object["spec"]["template"]["metadata"].take(), said)
    }

    #[test]
    fn metadata_of_an_object_within_the_object_keeps_what_any_has() {
        let (left, said) = sent(json!({ "name": "x", "labels": { "a": "b" }, "other": "bar" }));
        assert_eq!(left, json!({ "name": "x", "labels": { "a": "b" } }));
        assert_eq!(said.unwrap(), ["spec.gone", "spec.template.metadata.other"]);
    }

    #[test]
    fn metadata_of_an_object_within_the_object_has_to_be_such() {
        let said = sent(json!({ "labels": { "a": 1 } })).1.unwrap_err();
        assert!(said.starts_with("spec.template.metadata: json: cannot unmarshal number"), "{said}");
        assert!(sent(json!("x")).1.is_err());
    }
}
