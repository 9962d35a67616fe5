//! Which fields an object sets (structured-merge-diff's `ToFieldSet`): what an applier owns.

use serde_json::Value;

use super::set::FieldSet;
use super::spot::{Kind, Spot, steps};
use super::step::Step;

/// The fields within a value. The value itself is for the caller to put in, which [`is_owned_itself`] decides.
///
/// # Errors
/// When a list item has no key.
pub(super) fn fields(spot: &Spot<'_>, value: &Value) -> Result<FieldSet, String> {
    let mut set = FieldSet::default();
    match (spot.kind(value), value) {
        (Kind::Members, Value::Object(members)) => {
            set = FieldSet::with_capacity(members.len());
            for (name, inner) in members {
                let (at, named) = spot.member(name);
                let itself = !named || is_owned_itself(&at, inner);
                set.insert_with(Step::field(name.as_str()), itself, fields(&at, inner)?);
            }
        }
        (Kind::Items(by), Value::Array(items)) => {
            let all = steps(spot, &by, items)?;
            for (step, inner) in all.iter().zip(items) {
                // Two items of one key are owned together, as a whole.
                if all.iter().filter(|other| *other == step).count() == 1 {
                    set.insert_within(step, fields(&spot.item(), inner)?);
                }
                set.insert_step(step.clone());
            }
        }
        _ => {}
    }
    Ok(set)
}

/// Whether a field of a type with this value is owned itself, and not only by what is within it.
fn is_owned_itself(spot: &Spot<'_>, value: &Value) -> bool {
    match (spot.kind(value), value) {
        (Kind::Members, Value::Object(members)) => members.is_empty(),
        (Kind::Items(_), _) => false,
        _ => true,
    }
}

/// The first item that a list has twice, as a sentence: an applied list must not.
///
/// # Errors
/// The sentence.
pub(super) fn check(spot: &Spot<'_>, value: &Value, path: &mut Vec<Step>) -> Result<(), String> {
    match (spot.kind(value), value) {
        (Kind::Members, Value::Object(members)) => {
            for (name, inner) in members {
                path.push(Step::field(name.as_str()));
                check(&spot.member(name).0, inner, path)?;
                path.pop();
            }
        }
        (Kind::Items(by), Value::Array(items)) => {
            let here = |path: &[Step]| super::step::path_text(path);
            let all = steps(spot, &by, items).map_err(|why| format!("{}: element: {why}", here(path)))?;
            for (at, (step, inner)) in all.iter().zip(items).enumerate() {
                if all[..at].contains(step) {
                    return Err(format!("{}: duplicate entries for key {step}", here(path)));
                }
                path.push(step.clone());
                check(&spot.item(), inner, path)?;
                path.pop();
            }
        }
        _ => {}
    }
    Ok(())
}
