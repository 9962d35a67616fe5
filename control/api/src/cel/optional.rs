//! Optional values.

use std::rc::Rc;

use super::{Fault, Outcome, Value, compare};

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
        other => {
            other.items().is_some_and(|items| items.is_empty())
                || other.entries().is_some_and(|entries| entries.is_empty())
        }
    }
}

/// An element that may not be there, of something that may not be there.
pub(super) fn element<'a>(many: &Value<'a>, index: &Value<'a>) -> Outcome<Value<'a>> {
    let many = match many {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => Value::clone(inner),
        many => many.clone(),
    };
    let found = match (many.items(), many.entries(), index) {
        (Some(items), _, Value::Int(at)) => usize::try_from(*at).ok().and_then(|at| items.get(at).cloned()),
        (_, Some(_), Value::Text(name)) => many.member(name),
        (_, Some(entries), _) => {
            entries.iter().find(|(key, _)| compare::equal(key, index)).map(|(_, value)| value.clone())
        }
        _ => return Err(Fault::error(format!("no such overload: {} has no elements", many.type_name()))),
    };
    Ok(Value::Optional(found.map(Rc::new)))
}
