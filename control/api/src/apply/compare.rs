//! What differs between two versions of an object, as sets of fields.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::set::FieldSet;
use super::side_by_side::side_by_side;
use super::spot::{Items, Kind, Spot, steps};
use super::step::Step;

/// The differences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

impl Comparison {
    /// What is there and was not, or not so, before.
    pub(super) fn set(&self) -> FieldSet {
        self.added.union(&self.modified)
    }

    /// The same of what is not needed any more.
    pub(super) fn into_set(self) -> FieldSet {
        let Self { mut added, modified, .. } = self;
        added.absorb(modified);
        added
    }

    /// Without what is in `ignored` or within it.
    pub(super) fn outside(self, ignored: &FieldSet) -> Self {
        Self {
            added: self.added.outside(ignored),
            modified: self.modified.outside(ignored),
            removed: self.removed.outside(ignored),
        }
    }

    fn place(&mut self, step: &Step, within: Self) {
        self.added.insert_within(step, within.added);
        self.modified.insert_within(step, within.modified);
        self.removed.insert_within(step, within.removed);
    }
}

/// Compares two values of one place, both there.
///
/// # Errors
/// When a list item has no key.
pub(super) fn compare(spot: &Spot<'_>, old: &Value, new: &Value) -> Result<Comparison, String> {
    let mut found = Comparison::default();
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, before, after) in side_by_side(before, after) {
                // Most are as they were.
                if before != after {
                    one(&mut found, &spot.member(name).0, Step::field(name), before, after)?;
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            if let Kind::Items(by) = spot.kind(new) {
                items(&mut found, spot, &by, before, after)?;
            }
        }
        _ => {}
    }
    Ok(found)
}

/// Compares what stands at one step, before and after.
fn one(
    found: &mut Comparison,
    at: &Spot<'_>,
    step: Step,
    before: Option<&Value>,
    after: Option<&Value>,
) -> Result<(), String> {
    match (before, after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(before), Some(after)) if is_nothing(before) && is_nothing(after) => {
            found.modified.insert_step(step);
        }
        // A list or map that is null counts as one without anything in it.
        (Some(Value::Null), Some(Value::Array(_))) => {
            return one(found, at, step, Some(&Value::Array(Vec::new())), after);
        }
        (Some(Value::Null), Some(Value::Object(_))) => {
            return one(found, at, step, Some(&Value::Object(Map::new())), after);
        }
        (Some(Value::Array(_)), Some(Value::Null)) => {
            return one(found, at, step, before, Some(&Value::Array(Vec::new())));
        }
        (Some(Value::Object(_)), Some(Value::Null)) => {
            return one(found, at, step, before, Some(&Value::Object(Map::new())));
        }
        (Some(before), Some(after)) if is_whole(at, before) || is_whole(at, after) => {
            found.modified.insert_step(step);
        }
        (Some(before), Some(after)) => found.place(&step, compare(at, before, after)?),
        (None, Some(after)) => alone(&mut found.added, at, step, after)?,
        (Some(before), None) => alone(&mut found.removed, at, step, before)?,
        (None, None) => {}
    }
    Ok(())
}

/// A value on one side only: with everything within it.
fn alone(set: &mut FieldSet, at: &Spot<'_>, step: Step, value: &Value) -> Result<(), String> {
    let within = everything(at, value)?;
    set.insert_with(step, true, within);
    Ok(())
}

fn everything(spot: &Spot<'_>, value: &Value) -> Result<FieldSet, String> {
    let mut set = FieldSet::default();
    match (spot.kind(value), value) {
        (Kind::Members, Value::Object(members)) => {
            set = FieldSet::with_capacity(members.len());
            for (name, inner) in members {
                alone(&mut set, &spot.member(name).0, Step::field(name.as_str()), inner)?;
            }
        }
        (Kind::Items(by), Value::Array(items)) => {
            set = FieldSet::with_capacity(items.len());
            for (step, inner) in steps(spot, &by, items)?.into_iter().zip(items) {
                alone(&mut set, &spot.item(), step, inner)?;
            }
        }
        _ => {}
    }
    Ok(set)
}

/// Whether there is nothing in a value that could have parts.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// Whether a value counts as one: it has no parts, or none that are owned apart.
pub(super) fn is_whole(spot: &Spot<'_>, value: &Value) -> bool {
    matches!(spot.kind(value), Kind::Whole)
}

fn items(
    found: &mut Comparison,
    spot: &Spot<'_>,
    by: &Items<'_>,
    before: &[Value],
    after: &[Value],
) -> Result<(), String> {
    let (old, new) = (steps(spot, by, before)?, steps(spot, by, after)?);
    let mut all: BTreeMap<&Step, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for (step, item) in old.iter().zip(before) {
        all.entry(step).or_default().0.push(item);
    }
    for (step, item) in new.iter().zip(after) {
        all.entry(step).or_default().1.push(item);
    }
    for (step, (before, after)) in all {
        match (before.as_slice(), after.as_slice()) {
            (before, after) if before == after => {}
            ([], [after]) => one(found, &spot.item(), step.clone(), None, Some(after))?,
            ([before], []) => one(found, &spot.item(), step.clone(), Some(before), None)?,
            ([before], [after]) => one(found, &spot.item(), step.clone(), Some(before), Some(after))?,
            // Two items of one key count as one thing.
            ([], _) => found.added.insert_step(step.clone()),
            (_, []) => found.removed.insert_step(step.clone()),
            _ => found.modified.insert_step(step.clone()),
        }
    }
    Ok(())
}
