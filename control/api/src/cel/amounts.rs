//! Quantities, and what `math` does with numbers.

use std::rc::Rc;

use super::functions::overflow;
use super::{Fault, Outcome, Value, lists};
use crate::quantity::Quantity;

pub(super) fn call<'a>(name: &str, arguments: &[Value<'a>]) -> Option<Outcome<Value<'a>>> {
    match (name, arguments) {
        ("quantity", [Value::Text(text)]) => Some(parse(text).map(of)),
        ("isQuantity", [Value::Text(text)]) => Some(Ok(Value::Bool(parse(text).is_ok()))),
        (_, [Value::Quantity(one), rest @ ..]) => of_quantity(name, one, rest),
        _ => math(name, arguments),
    }
}

fn of<'a>(quantity: Quantity) -> Value<'a> {
    Value::Quantity(Rc::new(quantity))
}

fn parse(text: &str) -> Outcome<Quantity> {
    Quantity::parse(text).map_err(|why| Fault::error(why.to_string()))
}

fn of_quantity<'a>(name: &str, one: &Quantity, rest: &[Value<'a>]) -> Option<Outcome<Value<'a>>> {
    Some(Ok(match (name, rest) {
        ("isGreaterThan", [Value::Quantity(other)]) => Value::Bool(*one > **other),
        ("isLessThan", [Value::Quantity(other)]) => Value::Bool(*one < **other),
        ("compareTo", [Value::Quantity(other)]) => Value::Int(one.cmp(other) as i64),
        ("add", [Value::Quantity(other)]) => of(*one + **other),
        ("add", [Value::Int(units)]) => of(*one + Quantity::of(*units)),
        ("sub", [Value::Quantity(other)]) => of(*one - **other),
        ("sub", [Value::Int(units)]) => of(*one - Quantity::of(*units)),
        ("sign", []) => Value::Int(match (one.is_negative(), one.is_zero()) {
            (true, _) => -1,
            (_, true) => 0,
            _ => 1,
        }),
        ("isInteger", []) => Value::Bool(one.integer().is_some()),
        ("asInteger", []) => match one.integer() {
            Some(units) => Value::Int(units),
            None => return Some(Err(Fault::error("cannot convert value to integer"))),
        },
        ("asApproximateFloat", []) => Value::Double(one.approximately()),
        _ => return None,
    }))
}

fn math<'a>(name: &str, arguments: &[Value<'a>]) -> Option<Outcome<Value<'a>>> {
    Some(match (name, arguments) {
        ("math.greatest" | "math.least", _) => {
            let greatest = name == "math.greatest";
            let several = match arguments {
                [one] => one.items()?.into_owned(),
                many => many.to_vec(),
            };
            lists::extreme(&several, greatest)
        }
        ("math.abs", [Value::Int(one)]) => one.checked_abs().map(Value::Int).ok_or_else(overflow),
        ("math.abs", [Value::Double(one)]) => Ok(Value::Double(one.abs())),
        ("math.ceil", [Value::Double(one)]) => Ok(Value::Double(one.ceil())),
        ("math.floor", [Value::Double(one)]) => Ok(Value::Double(one.floor())),
        ("math.round", [Value::Double(one)]) => Ok(Value::Double(one.round())),
        _ => return None,
    })
}
