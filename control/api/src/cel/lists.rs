//! Functions of lists and sets.

use std::cmp::Ordering;

use super::{Budget, Fault, Outcome, Value, compare};

pub(super) fn call<'a>(
    name: &str,
    arguments: &[Value<'a>],
    budget: &mut Budget,
) -> Option<Outcome<Value<'a>>> {
    if let ("lists.range", [Value::Int(count)]) = (name, arguments) {
        return Some(range(*count, budget));
    }
    let (first, rest) = arguments.split_first()?;
    if let (true, [Value::Int(from), Value::Int(to)]) = (name == "slice", rest) {
        return Some(slice(&first.items()?, *from, *to));
    }
    let items = first.items()?;
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
        ("sort", []) => sort(&items, budget),
        ("indexOf", [one]) => place(items.iter().enumerate(), one, budget),
        ("lastIndexOf", [one]) => place(items.iter().enumerate().rev(), one, budget),
        ("reverse", []) => Ok(Value::list(items.iter().rev().cloned().collect())),
        ("distinct", []) => distinct(&items, budget),
        ("flatten", []) => flatten(&items, 1, budget),
        ("flatten", [Value::Int(depth)]) if *depth >= 0 => flatten(&items, *depth, budget),
        ("sets.contains", [other]) => all(&other.items()?, &items, budget).map(Value::Bool),
        ("sets.intersects", [other]) => intersect(&other.items()?, &items, budget).map(Value::Bool),
        ("sets.equivalent", [other]) => {
            let other = other.items()?;
            let both = all(&other, &items, budget).and_then(|one| Ok(one && all(&items, &other, budget)?));
            both.map(Value::Bool)
        }
        _ => return None,
    })
}

/// The longest list of numbers that is made out of nothing.
const LONGEST: i64 = 100_000;

fn range<'a>(count: i64, budget: &mut Budget) -> Outcome<Value<'a>> {
    // Who asks for more than there may be pays with all that is left.
    let price = if count > LONGEST { u64::MAX } else { count.max(0) as u64 };
    budget.spend(price)?;
    Ok(Value::list((0..count).map(Value::Int).collect()))
}

fn slice<'a>(items: &[Value<'a>], from: i64, to: i64) -> Outcome<Value<'a>> {
    let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
    let found = range.and_then(|(from, to)| items.get(from..to));
    found.map(|found| Value::list(found.to_vec())).ok_or_else(|| Fault::error("index out of bounds"))
}

fn place<'v, 'a: 'v>(
    items: impl Iterator<Item = (usize, &'v Value<'a>)>,
    one: &Value<'_>,
    budget: &mut Budget,
) -> Outcome<Value<'a>> {
    for (at, item) in items {
        if compare::equal(one, item, budget)? {
            return Ok(Value::Int(at as i64));
        }
    }
    Ok(Value::Int(-1))
}

fn sort<'a>(items: &[Value<'a>], budget: &mut Budget) -> Outcome<Value<'a>> {
    budget.spend(items.len() as u64 * u64::from(items.len().max(2).ilog2()))?;
    let mut sorted = items.to_vec();
    let mut fault = None;
    sorted.sort_by(|a, b| {
        compare::order(a, b).unwrap_or_else(|why| {
            fault = Some(why);
            Ordering::Equal
        })
    });
    fault.map_or_else(|| Ok(Value::list(sorted)), Err)
}

fn distinct<'a>(items: &[Value<'a>], budget: &mut Budget) -> Outcome<Value<'a>> {
    let mut kept: Vec<Value<'a>> = Vec::new();
    for item in items {
        if !compare::any(kept.iter(), item, budget)? {
            kept.push(item.clone());
        }
    }
    Ok(Value::list(kept))
}

fn flatten<'a>(items: &[Value<'a>], depth: i64, budget: &mut Budget) -> Outcome<Value<'a>> {
    let mut flat = Vec::new();
    for item in items {
        match item.items() {
            Some(inner) if depth > 0 => {
                budget.spend(inner.len() as u64)?;
                match flatten(&inner, depth - 1, budget)? {
                    Value::List(inner) => flat.extend(inner.iter().cloned()),
                    other => flat.push(other),
                }
            }
            _ => flat.push(item.clone()),
        }
    }
    Ok(Value::list(flat))
}

/// Whether all of `these` are in `those`.
fn all(these: &[Value<'_>], those: &[Value<'_>], budget: &mut Budget) -> Outcome<bool> {
    these.iter().try_fold(true, |fine, one| Ok(fine && compare::any(those.iter(), one, budget)?))
}

fn intersect(these: &[Value<'_>], those: &[Value<'_>], budget: &mut Budget) -> Outcome<bool> {
    these.iter().try_fold(false, |fine, one| Ok(fine || compare::any(those.iter(), one, budget)?))
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
