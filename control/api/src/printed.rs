//! JSON values as Go's `%v` prints them, which is how upstream's messages quote patches and lists.
//!
//! Owns the text alone. Nothing reads it back: texts are not quoted, so that the form is not unique.

use std::fmt::{self, Display, Formatter};

use serde_json::Value;

/// A value that displays as Go prints it: `map[a:1 b:[x y]]`, members in the order of their names.
#[derive(Clone, Copy, Debug)]
pub struct Printed<'a>(pub &'a Value);

impl Display for Printed<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("<nil>"),
            Value::Bool(flag) => flag.fmt(f),
            Value::String(text) => f.write_str(text),
            Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => print_float(float, f),
                None => number.fmt(f),
            },
            Value::Array(items) => List(items).fmt(f),
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by_key(|(name, _)| *name);
                f.write_str("map[")?;
                for (at, (name, value)) in members.into_iter().enumerate() {
                    let space = if at > 0 { " " } else { "" };
                    write!(f, "{space}{name}:{}", Printed(value))?;
                }
                f.write_str("]")
            }
        }
    }
}

/// The same of several values: `[x y]`.
#[derive(Clone, Copy, Debug)]
pub struct List<'a>(pub &'a [Value]);

impl Display for List<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, item) in self.0.iter().enumerate() {
            let space = if at > 0 { " " } else { "" };
            write!(f, "{space}{}", Printed(item))?;
        }
        f.write_str("]")
    }
}

/// The type that upstream's decoder gives a value.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// The shortest text of a number with a fraction (`%v` of a `float64`): with an exponent below 1e-4 and from 1e21.
fn print_float(float: f64, f: &mut Formatter<'_>) -> fmt::Result {
    if float == 0.0 || (1e-4..1e21).contains(&float.abs()) {
        return write!(f, "{float}");
    }
    let text = format!("{float:e}");
    let Some((digits, exponent)) = text.split_once('e') else { return f.write_str(&text) };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    write!(f, "{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn value_is_printed_as_go_prints_it() {
        let check = |value: Value, expected: &str| assert_eq!(Printed(&value).to_string(), expected);
        check(json!({"b": [1, "x y", null], "a": {"c": true}}), "map[a:map[c:true] b:[1 x y <nil>]]");
        check(json!([[], {}]), "[[] map[]]");
        check(json!(1.5), "1.5");
        check(json!(2.0), "2");
        check(json!(1e21), "1e+21");
        check(json!(1.5e-7), "1.5e-07");
        check(json!(i64::MIN), "-9223372036854775808");
    }
}
