//! Equality and order. Numbers of different types are compared by what they are worth.

use std::cmp::Ordering;

use super::{Budget, Fault, Outcome, Value};
use crate::schema::ListType;

/// Whether two values are equal. Values of types that have nothing to do with each other are not. Every pair of values
/// that is looked at is paid for.
///
/// # Errors
/// When that costs too much.
pub(super) fn equal(a: &Value<'_>, b: &Value<'_>, budget: &mut Budget) -> Outcome<bool> {
    budget.spend(1)?;
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => {
            if a.len() == b.len() {
                budget.spend(a.len() as u64 / 12)?;
            }
            a == b
        }
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(a, b, budget)?,
            (a, b) => a.is_none() && b.is_none(),
        },
        (Value::Address(a), Value::Address(b)) => a == b,
        (Value::Network(a, n), Value::Network(b, m)) => a == b && n == m,
        (Value::Url(a), Value::Url(b)) => a == b,
        (Value::Version(a), Value::Version(b)) => a == b,
        (Value::Format(a), Value::Format(b)) => a == b,
        _ => match (a.count(), b.count(), a.is_map(), b.is_map()) {
            (Some(n), Some(m), left, right) if n != m || left != right => false,
            (Some(_), Some(_), true, _) => maps(a, b, budget)?,
            (Some(_), Some(_), false, _) => lists(a, b, budget)?,
            (None, None, ..) => order(a, b).is_ok_and(Ordering::is_eq),
            _ => false,
        },
    })
}

/// Whether one of some values is equal to one.
///
/// # Errors
/// When that costs too much.
pub(super) fn any<'v, 'a: 'v>(
    mut many: impl Iterator<Item = &'v Value<'a>>,
    one: &Value<'_>,
    budget: &mut Budget,
) -> Outcome<bool> {
    many.try_fold(false, |found, item| Ok(found || equal(one, item, budget)?))
}

fn maps(a: &Value<'_>, b: &Value<'_>, budget: &mut Budget) -> Outcome<bool> {
    let (Some(left), Some(right)) = (a.entries(), b.entries()) else { return Ok(false) };
    for (key, value) in left.iter() {
        let there = match key {
            // Members of JSON are found without looking at the others.
            Value::Text(name) => {
                if matches!(b, Value::Map(_)) {
                    budget.spend(right.len() as u64)?;
                }
                b.member(name)
            }
            key => {
                let mut found = None;
                for (other, value) in right.iter() {
                    if equal(key, other, budget)? {
                        found = Some(value.clone());
                        break;
                    }
                }
                found
            }
        };
        match there {
            Some(there) if equal(value, &there, budget)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Lists that are sets or maps by their schema have no order.
fn lists(a: &Value<'_>, b: &Value<'_>, budget: &mut Budget) -> Outcome<bool> {
    let (Some(left), Some(right)) = (a.items(), b.items()) else { return Ok(false) };
    let unordered = match a {
        Value::Json(_, Some(node)) => matches!(node.list_type, Some(ListType::Set | ListType::Map)),
        _ => false,
    };
    for (at, one) in left.iter().enumerate() {
        let same = if unordered { any(right.iter(), one, budget)? } else { equal(one, &right[at], budget)? };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Which of two values comes first.
///
/// # Errors
/// When they have no order.
pub(super) fn order(a: &Value<'_>, b: &Value<'_>) -> Outcome<Ordering> {
    let floats =
        |a: f64, b: f64| a.partial_cmp(&b).ok_or_else(|| Fault::error("NaN values cannot be ordered"));
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Ok(a.cmp(b)),
        (Value::Int(a), Value::Uint(b)) => Ok(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Uint(a), Value::Int(b)) => Ok(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Double(a), Value::Double(b)) => floats(*a, *b),
        (Value::Double(a), Value::Int(b)) => floats(*a, *b as f64),
        (Value::Int(a), Value::Double(b)) => floats(*a as f64, *b),
        (Value::Double(a), Value::Uint(b)) => floats(*a, *b as f64),
        (Value::Uint(a), Value::Double(b)) => floats(*a as f64, *b),
        (Value::Text(a), Value::Text(b)) => Ok(a.cmp(b)),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
        (Value::Time(a), Value::Time(b)) => Ok(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Ok(a.cmp(b)),
        (Value::Quantity(a), Value::Quantity(b)) => Ok(a.cmp(b)),
        (Value::Version(a), Value::Version(b)) => Ok(a.cmp_precedence(b)),
        _ => Err(Fault::error(format!(
            "no such overload: {} and {} have no order",
            a.type_name(),
            b.type_name()
        ))),
    }
}
