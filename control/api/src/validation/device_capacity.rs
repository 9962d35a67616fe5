//! How much of a device there is, and in which portions it is given out.

use std::collections::BTreeSet;

use super::field::FieldError;
use super::place::{Errors, Place};
use crate::quantity::Quantity;

const CHOICES: usize = 10;

/// The capacity at a path. `several`: the device is given to several at once, each a part of it.
pub(super) fn check(capacity: &Place<'_>, several: bool, errors: &mut Errors) {
    let policy = capacity.get("requestPolicy");
    if !policy.is_set() {
        return;
    }
    if !several {
        return policy.forbidden("allowMultipleAllocations must be true", errors);
    }
    let most = capacity.get("value").quantity().unwrap_or(Quantity::of(0));
    let (choices, range, usual) =
        (policy.get("validValues"), policy.get("validRange"), policy.get("default"));
    match (choices.count() > 0, range.is_set()) {
        (true, true) => {
            let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            policy.forbidden(why, errors);
        }
        (true, false) => match usual.quantity() {
            None => usual.required("required when validValues is defined", errors),
            Some(usual) => among(&choices, usual, most, errors),
        },
        (false, true) => match usual.quantity() {
            None => usual.required("required when validRange is defined", errors),
            Some(usual) => within(&range, usual, most, errors),
        },
        (false, false) => {}
    }
}

fn refuse(at: &Place<'_>, value: Quantity, why: impl Into<String>, errors: &mut Errors) {
    errors.push(FieldError::invalid(&at.path, value.to_string(), why));
}

fn among(choices: &Place<'_>, usual: Quantity, most: Quantity, errors: &mut Errors) {
    let all: Vec<(Place<'_>, Quantity)> =
        choices.items().filter_map(|one| one.quantity().map(|amount| (one, amount))).collect();
    for pair in all.windows(2).filter(|pair| pair[0].1 > pair[1].1) {
        refuse(&pair[1].0, pair[1].1, "values must be sorted in ascending order", errors);
    }
    if choices.at_most(CHOICES, errors) {
        for (place, amount) in all.iter().filter(|(_, amount)| *amount > most) {
            refuse(place, *amount, format!("option is larger than capacity value: {most}"), errors);
        }
        let mut seen = BTreeSet::new();
        for (place, amount) in &all {
            if !seen.insert(amount.units()) {
                errors.push(FieldError::duplicate(&place.path, amount.units().to_string()));
            }
        }
    }
    if !all.iter().any(|(_, amount)| *amount == usual) {
        refuse(choices, usual, "default value is not valid according to the requestPolicy", errors);
    }
}

fn within(range: &Place<'_>, usual: Quantity, most: Quantity, errors: &mut Errors) {
    let (low, high, step) = (range.get("min"), range.get("max"), range.get("step"));
    let Some(least) = low.quantity() else {
        return low.required("required when validRange is defined", errors);
    };
    if least > most {
        refuse(&low, least, format!("min is larger than capacity value: {most}"), errors);
    }
    if usual < least {
        refuse(&low, usual, format!("default is less than min: {least}"), errors);
    }
    let end = high.quantity();
    if let Some(end) = end {
        if least > end {
            refuse(&high, least, format!("min is larger than max: {end}"), errors);
        }
        if end > most {
            refuse(&high, end, format!("max is larger than capacity value: {most}"), errors);
        }
        if usual > end {
            refuse(&high, usual, format!("default is more than max: {end}"), errors);
        }
    }
    let Some(by) = step.quantity() else { return };
    let first = least + by;
    if first > most {
        refuse(&step, by, format!("one step {first} is larger than capacity value: {most}"), errors);
    }
    for value in [Some(usual), end].into_iter().flatten() {
        let beyond = value.units().saturating_sub(least.units());
        if beyond.checked_rem(by.units()).is_none_or(|rest| rest != 0) {
            let why = format!("value is not a multiple of a given step ({by}) from ({least})");
            refuse(&step, value, why, errors);
        }
    }
}
