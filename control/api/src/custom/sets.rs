//! Lists whose items are told apart by value or by key: nothing twice, and which item follows which.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::Node;
use super::prune::is_of_object;
use crate::schema::ListType;
use crate::validation::FieldError;

/// Reports items that are there twice. What is the same in the predecessor is not looked at.
pub(super) fn check(node: &Node, value: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    walk(node, "", value, old, errors);
}

fn walk(node: &Node, path: &str, value: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    if old == Some(value) {
        return;
    }
    match value {
        Value::Object(members) => {
            for (name, inner) in members {
                let skipped = node.embedded && is_of_object(name);
                if let Some(node) = node.member(name).filter(|_| !skipped) {
                    let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    walk(node, &at, inner, old.and_then(|old| old.get(name)), errors);
                }
            }
        }
        Value::Array(items) => {
            let identities: Vec<Option<Value>> = items.iter().map(|item| identity(node, item)).collect();
            let mut seen = HashSet::new();
            for (index, one) in identities.iter().enumerate() {
                if let Some(one) = one.as_ref().filter(|one| !seen.insert(one.to_string())) {
                    errors.push(FieldError::duplicate(format!("{path}[{index}]"), one.clone()));
                }
            }
            let Some(inner) = &node.items else { return };
            let before = Former::of(node, old);
            for (index, item) in items.iter().enumerate() {
                let old = before.counterpart(node, item);
                walk(inner, &format!("{path}[{index}]"), item, old, errors);
            }
        }
        _ => {}
    }
}

/// What tells an item apart from the others, if anything does.
pub(super) fn identity(node: &Node, item: &Value) -> Option<Value> {
    match node.list_type? {
        ListType::Atomic => None,
        ListType::Set => Some(item.clone()),
        ListType::Map => {
            let inner = node.items.as_ref();
            let keys = node.list_keys.iter().filter_map(|key| {
                let default = || inner?.properties.get(key)?.default.as_ref();
                Some((key.clone(), item.get(key).or_else(default)?.clone()))
            });
            Some(Value::Object(keys.collect::<Map<_, _>>()))
        }
    }
}

/// The items of the old list, by their keys. In a list without keys an item follows none: of a set, too, only the whole
/// can be the same as before, as upstream has it.
pub(super) struct Former<'a>(HashMap<String, &'a Value>);

impl<'a> Former<'a> {
    pub(super) fn of(node: &Node, old: Option<&'a Value>) -> Self {
        let mut known = HashMap::new();
        if node.list_type != Some(ListType::Map) {
            return Self(known);
        }
        for item in old.and_then(Value::as_array).into_iter().flatten() {
            if let Some(identity) = identity(node, item) {
                known.entry(identity.to_string()).or_insert(item);
            }
        }
        Self(known)
    }

    /// The item that this one follows.
    pub(super) fn counterpart(&self, node: &Node, item: &Value) -> Option<&'a Value> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&identity(node, item)?.to_string()).copied()
    }
}
