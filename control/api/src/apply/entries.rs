//! The entries of `metadata.managedFields` in an object: taken out, written, and whether they say anything new.

use serde_json::{Map, Value};

use super::owners::Owners;
use crate::object::{remove, set as put};

/// Takes the entries out.
pub(super) fn take_entries(object: &mut Value) -> Option<Value> {
    remove(object.get_mut("metadata")?, "managedFields")
}

/// Whether two objects are equal, apart from entries of the first.
pub(super) fn is_but_for_entries(object: &Value, bare: &Value) -> bool {
    let (Some(left), Some(right)) = (object.as_object(), bare.as_object()) else { return object == bare };
    left.len() == right.len()
        && left.iter().zip(right).all(|((name, value), (other, found))| {
            let same = match (value.as_object(), found.as_object()) {
                (Some(members), Some(others)) if name == "metadata" => {
                    equal_without(members, others, "managedFields")
                }
                _ => value == found,
            };
            name == other && same
        })
}

/// Whether two objects are equal, apart from one member.
fn equal_without(left: &Map<String, Value>, right: &Map<String, Value>, member: &str) -> bool {
    let others = |members: &Map<String, Value>| members.len() - usize::from(members.contains_key(member));
    others(left) == others(right)
        && left.iter().all(|(name, value)| name == member || right.get(name) == Some(value))
}

/// Writes the owners into the object. When only times differ from before, they stay as they were, so that a write that
/// changes nothing stays one.
pub(super) fn record(mut owners: Owners, before: Option<&Value>, object: &mut Value) {
    owners.strip();
    owners.cap();
    let entries = owners.into_value();
    let kept = before.filter(|before| differ_in_time_only(before, &entries)).cloned();
    write(object, Some(kept.unwrap_or(entries)));
}

/// Whether two lists have the same entries, in whatever order, apart from their times.
fn differ_in_time_only(before: &Value, after: &Value) -> bool {
    let entries = |list: &Value| list.as_array().map_or(0, Vec::len);
    let same = |one: &Value, other: &Value| match (one.as_object(), other.as_object()) {
        (Some(one), Some(other)) => equal_without(one, other, "time"),
        _ => one == other,
    };
    let mut left: Vec<&Value> = after.as_array().into_iter().flatten().collect();
    entries(before) == left.len()
        && before.as_array().into_iter().flatten().all(|entry| {
            let found = left.iter().position(|other| same(entry, other));
            found.map(|at| left.swap_remove(at)).is_some()
        })
}

pub(super) fn write(object: &mut Value, entries: Option<Value>) {
    let Some(metadata) = object.get_mut("metadata") else { return };
    match entries.filter(|entries| entries.as_array().is_some_and(|all| !all.is_empty())) {
        Some(entries) => put(metadata, "managedFields", entries),
        None => drop(remove(metadata, "managedFields")),
    }
}
