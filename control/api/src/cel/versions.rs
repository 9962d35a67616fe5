//! Semantic versions, and formats that text can be checked against.

use std::cmp::Ordering;
use std::rc::Rc;

use semver::Version;

use super::{Fault, Outcome, Value};
use crate::custom::fits_format;
use crate::validation::names;

pub(super) fn call<'a>(name: &str, arguments: &[Value<'a>]) -> Option<Outcome<Value<'a>>> {
    match (name, arguments) {
        ("isSemver", [Value::Text(text)]) => Some(Ok(Value::Bool(parse(text, false).is_some()))),
        ("isSemver", [Value::Text(text), Value::Bool(normal)]) => {
            Some(Ok(Value::Bool(parse(text, *normal).is_some())))
        }
        ("semver", [Value::Text(text)]) => Some(version(text, false)),
        ("semver", [Value::Text(text), Value::Bool(normal)]) => Some(version(text, *normal)),
        (_, [Value::Version(one), rest @ ..]) => of_version(name, one, rest),
        ("format.named", [Value::Text(wanted)]) => {
            let found = FORMATS.iter().find(|known| **known == &**wanted);
            Some(Ok(Value::Optional(found.map(|found| Rc::new(Value::Format(found))))))
        }
        ("validate", [Value::Format(format), Value::Text(text)]) => Some(Ok(validate(format, text))),
        (name, []) => {
            let wanted = name.strip_prefix("format.")?;
            FORMATS.iter().find(|known| **known == wanted).map(|found| Ok(Value::Format(found)))
        }
        _ => None,
    }
}

fn version<'a>(text: &str, normal: bool) -> Outcome<Value<'a>> {
    let found = parse(text, normal).map(|one| Value::Version(Rc::new(one)));
    found.ok_or_else(|| Fault::error(format!("Invalid Semver: {text:?}")))
}

/// `normal` takes a leading `v`, missing parts and leading zeros for what they are meant to be.
fn parse(text: &str, normal: bool) -> Option<Version> {
    if !normal {
        return Version::parse(text).ok();
    }
    let text = text.strip_prefix('v').unwrap_or(text);
    let (numbers, rest) = text.split_at(text.find(['-', '+']).unwrap_or(text.len()));
    let mut parts: Vec<&str> = numbers
        .split('.')
        .map(|part| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0",
            part => part,
        })
        .collect();
    while parts.len() < 3 {
        parts.push("0");
    }
    Version::parse(&format!("{}{rest}", parts.join("."))).ok()
}

fn of_version<'a>(name: &str, one: &Version, rest: &[Value<'a>]) -> Option<Outcome<Value<'a>>> {
    let number = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
    Some(Ok(match (name, rest) {
        ("major", []) => number(one.major),
        ("minor", []) => number(one.minor),
        ("patch", []) => number(one.patch),
        ("isGreaterThan", [Value::Version(other)]) => Value::Bool(one.cmp_precedence(other).is_gt()),
        ("isLessThan", [Value::Version(other)]) => Value::Bool(one.cmp_precedence(other).is_lt()),
        ("compareTo", [Value::Version(other)]) => Value::Int(match one.cmp_precedence(other) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }),
        _ => return None,
    }))
}

/// The formats that there are.
pub(super) const FORMATS: [&str; 13] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

/// What is wrong with a text, or nothing.
fn validate<'a>(format: &str, text: &str) -> Value<'a> {
    // Something will follow a prefix.
    let prefix = |check: fn(&str) -> names::Verdict| {
        let start = text.strip_suffix('-').map_or_else(|| text.to_owned(), |start| format!("{start}a"));
        check(&start)
    };
    let schema = |name: &str, why: &str| if fits_format(name, text) { Ok(()) } else { Err(why.to_owned()) };
    let verdict = match format {
        "dns1123Label" => names::dns_label(text),
        "dns1123Subdomain" => names::dns_subdomain(text),
        "dns1035Label" => names::dns_1035_label(text),
        "qualifiedName" => names::label_key(text),
        "dns1123LabelPrefix" => prefix(names::dns_label),
        "dns1123SubdomainPrefix" => prefix(names::dns_subdomain),
        "dns1035LabelPrefix" => prefix(names::dns_1035_label),
        "labelValue" => names::label_value(text),
        "uri" => schema("uri", "must be a valid URI"),
        "uuid" => schema("uuid", "does not match the UUID format"),
        "byte" => schema("byte", "invalid base64"),
        "date" => schema("date", "invalid date"),
        _ => schema("datetime", "invalid datetime"),
    };
    Value::Optional(verdict.err().map(|why| Rc::new(Value::list(vec![Value::text(why)]))))
}
