//! Laying an applied object over the live one, and taking fields out of an object.

use serde_json::{Map, Value};

use super::set::FieldSet;
use super::side_by_side::side_by_side;
use super::spot::{Items, Kind, Spot, steps};
use super::step::Step;

/// The live value with what the applied one sets. Items that both have come in the order of the applied list.
///
/// # Errors
/// When a list item has no key.
pub(super) fn merge(spot: &Spot<'_>, live: &Value, applied: &Value) -> Result<Value, String> {
    match (spot.kind(applied), live, applied) {
        (Kind::Members, Value::Object(live), Value::Object(applied)) => {
            let merged = side_by_side(live, applied).map(|(name, live, applied)| {
                let value = match (live, applied) {
                    (Some(live), Some(applied)) => merge(&spot.member(name).0, live, applied)?,
                    (one, other) => one.or(other).cloned().unwrap_or_default(),
                };
                Ok((name.to_owned(), value))
            });
            merged.collect()
        }
        (Kind::Items(by), Value::Array(live), Value::Array(applied)) => items(spot, &by, live, applied),
        (_, _, applied) => Ok(applied.clone()),
    }
}

/// Merges two lists: live items keep their places, applied items come in their order, as structured-merge-diff has it.
fn items(spot: &Spot<'_>, by: &Items<'_>, live: &[Value], applied: &[Value]) -> Result<Value, String> {
    let (left, right) = (steps(spot, by, live)?, steps(spot, by, applied)?);
    let at = spot.item();
    let of_live = |step: &Step| left.iter().position(|one| one == step).map(|at| &live[at]);
    let join = |step: &Step, applied: &Value| match of_live(step) {
        Some(live) => merge(&at, live, applied),
        None => Ok(applied.clone()),
    };
    let mut shared = right.iter().filter(|step| left.contains(step)).peekable();
    let mut merged = Vec::with_capacity(left.len().max(right.len()));
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() {
            if left[l] == right[r] {
                merged.push(join(&right[r], &applied[r])?);
                (l, r) = (l + 1, r + 1);
                shared.next();
                continue;
            }
            if right.contains(&left[l]) && shared.peek().is_some_and(|next| **next != left[l]) {
                // In both, but its turn comes later.
                l += 1;
                continue;
            }
        }
        if l < left.len() {
            if !right.contains(&left[l]) {
                merged.push(live[l].clone());
                l += 1;
                continue;
            }
            if right[..r].contains(&left[l]) {
                l += 1;
                continue;
            }
        }
        if r < right.len() {
            merged.push(join(&right[r], &applied[r])?);
            if shared.peek() == Some(&&right[r]) {
                shared.next();
            }
            r += 1;
        } else if l < left.len() {
            l += 1;
        }
    }
    Ok(Value::Array(merged))
}

/// The value without the members of a set; nothing when nothing is left of it.
///
/// # Errors
/// When a list item has no key.
pub(super) fn without(spot: &Spot<'_>, value: &Value, set: &FieldSet) -> Result<Option<Value>, String> {
    match (spot.kind(value), value) {
        (Kind::Members, Value::Object(members)) => {
            let mut kept = Map::new();
            for (name, inner) in members {
                let step = Step::field(name.as_str());
                if set.has_step(&step) {
                    continue;
                }
                let left = match set.within(&step) {
                    Some(within) => without(&spot.member(name).0, inner, within)?,
                    None => Some(inner.clone()),
                };
                if let Some(left) = left {
                    kept.insert(name.clone(), left);
                }
            }
            Ok((!kept.is_empty()).then_some(Value::Object(kept)))
        }
        (Kind::Items(by), Value::Array(items)) => {
            let mut kept = Vec::new();
            for (step, inner) in steps(spot, &by, items)?.iter().zip(items) {
                if set.has_step(step) {
                    continue;
                }
                match set.within(step) {
                    Some(within) => kept.extend(without(&spot.item(), inner, within)?),
                    None => kept.push(inner.clone()),
                }
            }
            Ok((!kept.is_empty()).then_some(Value::Array(kept)))
        }
        _ => Ok(None),
    }
}
