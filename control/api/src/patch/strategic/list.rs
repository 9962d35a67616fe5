//! Lists under a strategic merge patch: plain values that are added and taken out, and the order that a patch gives.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{Failure, Outcome, PATCH};
use crate::printed::{List, Printed, type_name};

/// Takes the values out that the patch names.
pub(super) fn delete_primitives(target: &mut Map<String, Value>, list: &str, values: &Value) {
    // What is no list deletes nothing.
    let Some(values) = values.as_array() else { return };
    if let Some(Value::Array(items)) = target.get_mut(list) {
        let values: HashSet<&Value> = values.iter().collect();
        items.retain(|item| !values.contains(item));
    }
}

/// Adds the values that are not there.
pub(super) fn merge_primitives(mut list: Vec<Value>, patch: &[Value]) -> Outcome<Vec<Value>> {
    let mut kinds = list.iter().chain(patch).map(type_name);
    let kind = kinds.next();
    if kind == Some("[]interface {}") {
        return Err(Failure::Form("lists of lists are not supported"));
    }
    if kinds.any(|other| Some(other) != kind) {
        let lists = format!("[{} {}]", List(&list), List(patch));
        return Err(Failure::Misfit(format!("list element types are not identical: {lists}")));
    }
    let mut there: HashSet<Value> = list.iter().cloned().collect();
    list.extend(patch.iter().filter(|item| there.insert((*item).clone())).cloned());
    Ok(list)
}

/// The key of an item.
pub(super) fn key_of<'a>(item: &'a Map<String, Value>, key: &str) -> Outcome<&'a Value> {
    item.get(key).ok_or_else(|| {
        let item = Value::Object(item.clone());
        Failure::Misfit(format!("map: {} does not contain declared merge key: {key}", Printed(&item)))
    })
}

/// An item of a list of objects that is none.
pub(super) fn no_object(item: &Value) -> Failure {
    bad_type("map[string]interface {}", item)
}

pub(super) fn bad_type(wanted: &str, found: &Value) -> Failure {
    Failure::Misfit(format!("expected a {wanted}, but received a {}", type_name(found)))
}

/// Checks that the order names all items of the patch, as they follow each other there. Those that it deletes do not count.
pub(super) fn check_order(key: Option<&str>, patch: &[Value], order: &Value) -> Outcome<()> {
    let order = order.as_array().ok_or_else(|| bad_type("[]interface {}", order))?;
    if order.is_empty() || patch.is_empty() {
        return Ok(());
    }
    let identity = |item: &Value| match (key, item) {
        (None, item) => Ok(item.clone()),
        (Some(key), Value::Object(item)) => key_of(item, key).cloned(),
        (Some(_), item) => Err(no_object(item)),
    };
    let mut left = order.iter();
    for item in patch.iter().filter(|item| item.get(PATCH).is_none()) {
        let wanted = identity(item)?;
        let found = left
            .by_ref()
            .map(identity)
            .find(|one| one.as_ref().is_ok_and(|one| *one == wanted) || one.is_err());
        if found.transpose()?.is_none() {
            let (patch, order) = (List(patch), List(order));
            return Err(Failure::Misfit(format!(
                "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n"
            )));
        }
    }
    Ok(())
}

/// Items that the order names come in that order, those that the server does not know before the others; the others keep
/// their place among them as far as the server knows it.
pub(super) fn sorted(
    key: Option<&str>,
    merged: Vec<Value>,
    server: &[Value],
    order: Option<&Value>,
) -> Outcome<Vec<Value>> {
    let Some(order) = order else { return Ok(merged) };
    let order = order.as_array().ok_or_else(|| bad_type("[]interface {}", order))?;
    let identity = |item: &Value| match key {
        Some(key) => item.get(key).cloned().unwrap_or(Value::Null),
        None => item.clone(),
    };
    let ranks = |list: &[Value]| {
        let mut ranks = HashMap::new();
        list.iter().enumerate().for_each(|(at, item)| {
            ranks.entry(identity(item)).or_insert(at);
        });
        ranks
    };
    let (order, server) = (ranks(order), ranks(server));
    let rank = |ranks: &HashMap<Value, usize>, item: &Value| ranks.get(&identity(item)).copied();
    let (mut named, others): (Vec<_>, Vec<_>) =
        merged.into_iter().partition(|item| rank(&order, item).is_some());
    named.sort_by_cached_key(|item| rank(&order, item));
    let mut named = named.into_iter().peekable();
    let mut others = others.into_iter().peekable();
    let mut out = Vec::new();
    loop {
        let named_first = match (named.peek(), others.peek()) {
            (None, None) => return Ok(out),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(left), Some(right)) => match (rank(&server, left), rank(&server, right)) {
                (Some(left), Some(right)) => left < right,
                _ => true,
            },
        };
        out.extend(if named_first { named.next() } else { others.next() });
    }
}
