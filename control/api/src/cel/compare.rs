//! Equality and order. Numbers of different types are compared by what they are worth.

use std::cmp::Ordering;

use super::{Fault, Outcome, Value};
use crate::schema::ListType;

/// Whether two values are equal. Values of types that have nothing to do with each other are not.
pub(super) fn equal(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => equal(a, b),
            (a, b) => a.is_none() && b.is_none(),
        },
        (Value::Address(a), Value::Address(b)) => a == b,
        (Value::Network(a, n), Value::Network(b, m)) => a == b && n == m,
        (Value::Url(a), Value::Url(b)) => a == b,
        _ => match (a.items(), b.items(), a.entries(), b.entries()) {
            (Some(left), Some(right), ..) => lists(a, &left, &right),
            (.., Some(left), Some(right)) => {
                let has = |(key, value): &(Value<'_>, Value<'_>)| {
                    right.iter().any(|(other, there)| equal(key, other) && equal(value, there))
                };
                left.len() == right.len() && left.iter().all(has)
            }
            _ => order(a, b).is_ok_and(Ordering::is_eq),
        },
    }
}

/// Lists that are sets or maps by their schema have no order.
fn lists(a: &Value<'_>, left: &[Value<'_>], right: &[Value<'_>]) -> bool {
    let unordered = match a {
        Value::Json(_, Some(node)) => matches!(node.list_type, Some(ListType::Set | ListType::Map)),
        _ => false,
    };
    left.len() == right.len()
        && if unordered {
            left.iter().all(|one| right.iter().any(|other| equal(one, other)))
        } else {
            left.iter().zip(right).all(|(one, other)| equal(one, other))
        }
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
        _ => Err(Fault::error(format!(
            "no such overload: {} and {} have no order",
            a.type_name(),
            b.type_name()
        ))),
    }
}
