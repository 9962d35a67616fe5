//! Functions of lists and sets.

use std::cmp::Ordering;

use super::{Fault, Outcome, Value, compare};

pub(super) fn call<'a>(name: &str, arguments: &[Value<'a>]) -> Option<Outcome<Value<'a>>> {
    let (first, rest) = arguments.split_first()?;
    let items = first.items()?;
    let has = |many: &[Value<'a>], one: &Value<'a>| many.iter().any(|item| compare::equal(one, item));
    let place = |at: Option<usize>| Ok(Value::Int(at.map_or(-1, |at| at as i64)));
    Some(match (name, rest) {
        ("isSorted", []) => {
            let sorted = items.windows(2).try_fold(true, |sorted, pair| {
                compare::order(&pair[0], &pair[1]).map(|order| sorted && order.is_le())
            });
            sorted.map(Value::Bool)
        }
        ("sum", []) => sum(&items),
        ("min", []) => extreme(&items, false),
        ("max", []) => extreme(&items, true),
        ("indexOf", [one]) => place(items.iter().position(|item| compare::equal(one, item))),
        ("lastIndexOf", [one]) => place(items.iter().rposition(|item| compare::equal(one, item))),
        ("reverse", []) => Ok(Value::list(items.iter().rev().cloned().collect())),
        ("distinct", []) => {
            let fresh = items.iter().enumerate().filter(|(at, item)| !has(&items[..*at], item));
            Ok(Value::list(fresh.map(|(_, item)| item.clone()).collect()))
        }
        ("flatten", []) => {
            let flat = items.iter().flat_map(|item| match item.items() {
                Some(inner) => inner.into_owned(),
                None => vec![item.clone()],
            });
            Ok(Value::list(flat.collect()))
        }
        ("slice", [Value::Int(from), Value::Int(to)]) => {
            let range = usize::try_from(*from).ok().zip(usize::try_from(*to).ok());
            let found = range.and_then(|(from, to)| items.get(from..to));
            found.map(|found| Value::list(found.to_vec())).ok_or_else(|| Fault::error("index out of bounds"))
        }
        ("sets.contains", [other]) => Ok(Value::Bool(other.items()?.iter().all(|one| has(&items, one)))),
        ("sets.intersects", [other]) => Ok(Value::Bool(other.items()?.iter().any(|one| has(&items, one)))),
        ("sets.equivalent", [other]) => {
            let other = other.items()?;
            Ok(Value::Bool(
                other.iter().all(|one| has(&items, one)) && items.iter().all(|one| has(&other, one)),
            ))
        }
        _ => return None,
    })
}

/// The smallest or the largest of some values.
pub(super) fn extreme<'a>(items: &[Value<'a>], largest: bool) -> Outcome<Value<'a>> {
    let wanted = if largest { Ordering::Greater } else { Ordering::Less };
    let (first, rest) = items.split_first().ok_or_else(|| {
        Fault::error(format!("{} called on empty list", if largest { "max" } else { "min" }))
    })?;
    let found = rest.iter().try_fold(first, |best, one| {
        compare::order(one, best).map(|order| if order == wanted { one } else { best })
    });
    found.cloned()
}

fn sum<'a>(items: &[Value<'a>]) -> Outcome<Value<'a>> {
    let overflow = || Fault::error("integer overflow");
    let zero = match items.first() {
        Some(Value::Double(_)) => Value::Double(0.0),
        Some(Value::Duration(_)) => Value::Duration(0),
        Some(Value::Uint(_)) => Value::Uint(0),
        _ => Value::Int(0),
    };
    items.iter().try_fold(zero, |sum, item| match (sum, item) {
        (Value::Int(a), Value::Int(b)) => a.checked_add(*b).map(Value::Int).ok_or_else(overflow),
        (Value::Uint(a), Value::Uint(b)) => a.checked_add(*b).map(Value::Uint).ok_or_else(overflow),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::Duration(a), Value::Duration(b)) => Ok(Value::Duration(a + b)),
        (_, item) => Err(Fault::error(format!("no such overload: sum of {}", item.type_name()))),
    })
}
