//! Optional values.

use std::rc::Rc;

use super::{Budget, Fault, Outcome, Value, compare};

pub(super) fn call<'a>(name: &str, arguments: &[Value<'a>]) -> Option<Outcome<Value<'a>>> {
    let some = |value: &Value<'a>| Value::Optional(Some(Rc::new(value.clone())));
    Some(match (name, arguments) {
        ("optional.of", [one]) => Ok(some(one)),
        ("optional.none", []) => Ok(Value::Optional(None)),
        ("optional.ofNonZeroValue", [one]) => {
            Ok(if is_zero(one) { Value::Optional(None) } else { some(one) })
        }
        ("hasValue", [Value::Optional(one)]) => Ok(Value::Bool(one.is_some())),
        ("value", [Value::Optional(Some(one))]) => Ok(Value::clone(one)),
        ("value", [Value::Optional(None)]) => Err(Fault::error("optional.none() dereference")),
        ("orValue", [Value::Optional(one), other]) => Ok(one.as_deref().unwrap_or(other).clone()),
        ("or", [Value::Optional(one), other]) => {
            Ok(if one.is_some() { Value::Optional(one.clone()) } else { other.clone() })
        }
        _ => return None,
    })
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) => true,
        Value::Double(one) => *one == 0.0,
        Value::Text(text) => text.is_empty(),
        other => other.count() == Some(0),
    }
}

/// An element that may not be there, of something that may not be there.
pub(super) fn element<'a>(many: &Value<'a>, index: &Value<'a>, budget: &mut Budget) -> Outcome<Value<'a>> {
    let many = match many {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => Value::clone(inner),
        many => many.clone(),
    };
    if let (Value::Variables(known), Value::Text(name)) = (&many, index) {
        let found = known.iter().find(|(known, _)| known == name);
        return found.map_or(Ok(Value::Optional(None)), |(_, outcome)| {
            outcome.clone().map(|value| Value::Optional(Some(Rc::new(value))))
        });
    }
    let found = match (many.is_map(), many.count(), index) {
        (false, Some(_), Value::Int(at)) => usize::try_from(*at).ok().and_then(|at| many.item(at)),
        (true, _, Value::Text(name)) => many.member(name),
        (true, Some(_), _) => {
            let mut found = None;
            for (key, value) in many.entries().as_deref().into_iter().flatten() {
                if compare::equal(key, index, budget)? {
                    found = Some(value.clone());
                    break;
                }
            }
            found
        }
        _ => return Err(Fault::error(format!("no such overload: {} has no elements", many.type_name()))),
    };
    Ok(Value::Optional(found.map(Rc::new)))
}
