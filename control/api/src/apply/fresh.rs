//! What the author of a new object owns, in the `FieldsV1` form at once: every create needs it, and nobody else's fields
//! have to be held against it.

use serde_json::{Map, Value};

use super::compare::{is_nothing, is_whole};
use super::set::{FieldSet, node_of};
use super::side_by_side::side_by_side;
use super::spot::{Kind, Spot, steps};
use super::step::Step;

/// Fields that do not come in: of the first neither they nor what is within them, of the second only they themselves.
#[derive(Clone, Copy)]
pub(super) struct But<'a> {
    pub(super) outside: Option<&'a FieldSet>,
    pub(super) themselves: Option<&'a FieldSet>,
}

impl<'a> But<'a> {
    fn within(self, step: &Step) -> Self {
        let within = |set: Option<&'a FieldSet>| set?.within(step);
        Self { outside: within(self.outside), themselves: within(self.themselves) }
    }
}

type Members = Vec<(String, Value)>;

/// The fields that are in `new` and not, or not so, in `nothing`; `None` where that takes a closer look: a list that has an
/// item twice, or one without its key.
pub(super) fn fields(
    spot: &Spot<'_>,
    nothing: &Value,
    new: &Value,
    but: But<'_>,
) -> Option<Map<String, Value>> {
    changed(spot, nothing, new, but).map(|members| members.into_iter().collect())
}

fn changed(spot: &Spot<'_>, before: &Value, after: &Value, but: But<'_>) -> Option<Members> {
    let mut members = Members::new();
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, before, after) in side_by_side(before, after) {
                let Some(after) = after.filter(|after| before != Some(after)) else { continue };
                one(&mut members, &spot.member(name).0, Step::field(name), before, after, but)?;
            }
        }
        (Value::Array(before), Value::Array(_)) if before.is_empty() => return everything(spot, after, but),
        _ => return None,
    }
    Some(members)
}

/// Puts in what becomes of one step, where something was and is now something else.
fn one(
    members: &mut Members,
    at: &Spot<'_>,
    step: Step,
    before: Option<&Value>,
    after: &Value,
    but: But<'_>,
) -> Option<()> {
    if but.outside.is_some_and(|set| set.has_step(&step)) {
        return Some(());
    }
    let inside = but.within(&step);
    let (member, within) = match before {
        None => (true, everything(at, after, inside)?),
        Some(before) if is_nothing(before) && is_nothing(after) => (true, Members::new()),
        Some(Value::Array(_) | Value::Object(_)) if after.is_null() => return None,
        // Nothing counts as a list or a map without anything in it.
        Some(Value::Null) if after.is_array() => within(at, &Value::Array(Vec::new()), after, inside)?,
        Some(Value::Null) if after.is_object() => within(at, &Value::Object(Map::new()), after, inside)?,
        Some(before) => within(at, before, after, inside)?,
    };
    let member = member && !but.themselves.is_some_and(|set| set.has_step(&step));
    if member || !within.is_empty() {
        members.push((step.into_text(), node_of(member, within)));
    }
    Some(())
}

/// Whether a value that is another now counts as one, and else what is within it.
fn within(at: &Spot<'_>, before: &Value, after: &Value, but: But<'_>) -> Option<(bool, Members)> {
    if is_nothing(before) && is_nothing(after) || is_whole(at, before) || is_whole(at, after) {
        return Some((true, Members::new()));
    }
    Some((false, changed(at, before, after, but)?))
}

/// All that is within a value that was not there.
fn everything(spot: &Spot<'_>, value: &Value, but: But<'_>) -> Option<Members> {
    let mut members = Members::new();
    match (spot.kind(value), value) {
        (Kind::Members, Value::Object(inner)) => {
            members.reserve(inner.len());
            for (name, inner) in inner {
                one(&mut members, &spot.member(name).0, Step::field(name), None, inner, but)?;
            }
        }
        (Kind::Items(by), Value::Array(items)) => {
            let steps = steps(spot, &by, items).ok()?;
            if (1..steps.len()).any(|at| steps[..at].contains(&steps[at])) {
                return None;
            }
            members.reserve(items.len());
            for (step, inner) in steps.into_iter().zip(items) {
                one(&mut members, &spot.item(), step, None, inner, but)?;
            }
        }
        _ => {}
    }
    Some(members)
}
