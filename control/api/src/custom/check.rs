//! Validation against a structural schema, in the words of upstream (`kube-openapi/pkg/validation`).
//!
//! Of a successor only what changed is judged, so that an object that was valid under an older schema can still be
//! changed elsewhere (ratcheting, KEP-4008).

use std::cmp::Ordering;
use std::collections::HashSet;

use serde_json::Value;

use super::node::{Kind, Limits, More, Node};
use super::number::Number;
use super::prune::is_of_object;
use super::{format, sets};
use crate::validation::{FieldError, Rule};

/// So many errors are told.
const MOST: usize = 100;

/// The rules that an object breaks. Of `old`, its predecessor, what is the same is not looked at.
pub(crate) fn check(node: &Node, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    value(node, "", object, old, &mut errors);
    errors.truncate(MOST);
    errors
}

fn value(node: &Node, path: &str, value: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    if old == Some(value) || errors.len() > MOST {
        return;
    }
    if value.is_null() && node.nullable {
        return;
    }
    if !kind(node, path, value, errors) {
        return;
    }
    limits(&node.limits, path, value, errors);
    alternatives(node, path, value, errors);
    match value {
        Value::Object(members) => {
            for name in &node.required {
                if !members.contains_key(name) {
                    errors.push(FieldError::required(join(path, name), ""));
                }
            }
            for (name, inner) in members {
                let skipped = node.embedded && is_of_object(name);
                let at = join(path, name);
                match (node.member(name), &node.more) {
                    _ if skipped => {}
                    (Some(node), _) => {
                        self::value(node, &at, inner, old.and_then(|old| old.get(name)), errors)
                    }
                    (None, More::None) if !node.preserve_unknown => {
                        let why = format!("{at} in body is a forbidden property");
                        errors.push(FieldError::invalid(at, inner.clone(), why));
                    }
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            let Some(inner) = &node.items else { return };
            let before = sets::Former::of(node, old);
            for (index, item) in items.iter().enumerate() {
                let old = before.counterpart(node, item);
                self::value(inner, &format!("{path}[{index}]"), item, old, errors);
            }
        }
        _ => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// What a value is called.
fn title(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_whole(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_whole(value: &Value) -> bool {
    matches!(Number::of(value), Some(Number::Whole(_)))
}

/// Whether the type is right.
fn kind(node: &Node, path: &str, value: &Value, errors: &mut Vec<FieldError>) -> bool {
    let fits = match (node.kind, value) {
        _ if node.int_or_string => value.is_string() || is_whole(value),
        (None, Value::Null) => node.preserve_unknown,
        (None, _) => true,
        (Some(Kind::Object), Value::Object(_))
        | (Some(Kind::Array), Value::Array(_))
        | (Some(Kind::String), Value::String(_))
        | (Some(Kind::Boolean), Value::Bool(_))
        | (Some(Kind::Number), Value::Number(_)) => true,
        (Some(Kind::Integer), Value::Number(_)) => is_whole(value),
        _ => false,
    };
    if fits {
        return true;
    }
    let wanted = match node.kind {
        _ if node.int_or_string => "integer,string",
        Some(kind) => kind.as_str(),
        // Of an alternative that says nothing of types.
        None => return true,
    };
    let found = title(value);
    let shown = if path.is_empty() { "" } else { path };
    let detail = format!("{shown} in body must be of type {wanted}: {found:?}");
    errors.push(FieldError {
        field: path.to_owned(),
        rule: Rule::TypeInvalid,
        value: Some(found.into()),
        shown: None,
        detail,
    });
    false
}

fn limits(limits: &Limits, path: &str, value: &Value, errors: &mut Vec<FieldError>) {
    let mut broken = |detail: String| {
        errors.push(FieldError::invalid(path, value.clone(), format!("{path} in body {detail}")));
    };
    match value {
        Value::String(text) => {
            let length = text.chars().count() as u64;
            if let Some(least) = limits.min_length.filter(|least| length < *least) {
                broken(format!("should be at least {least} chars long"));
            }
            if limits.pattern.as_ref().is_some_and(|pattern| !pattern.is_match(text)) {
                broken(format!("should match '{}'", limits.written_pattern));
            }
            if !format::fits(&limits.format, text) {
                broken(format!("must be of type {}: {text:?}", limits.format));
            }
            if let Some(most) = limits.max_length.filter(|most| length > *most) {
                errors.push(FieldError::too_long(path, most as usize));
            }
        }
        Value::Number(_) => {
            if let Some(number) = Number::of(value) {
                numeric(limits, number, &mut broken);
            }
        }
        Value::Array(items) => {
            let count = items.len() as u64;
            if let Some(least) = limits.min_items.filter(|least| count < *least) {
                broken(format!("should have at least {least} items"));
            }
            let mut seen = HashSet::new();
            if limits.unique_items && !items.iter().all(|item| seen.insert(item.to_string())) {
                broken("shouldn't contain duplicates".into());
            }
            if let Some(most) = limits.max_items.filter(|most| count > *most) {
                errors.push(FieldError::too_many(path, items.len(), most as usize));
            }
        }
        Value::Object(members) => {
            let count = members.len() as u64;
            if let Some(least) = limits.min_properties.filter(|least| count < *least) {
                broken(format!("should have at least {least} properties"));
            }
            if let Some(most) = limits.max_properties.filter(|most| count > *most) {
                errors.push(FieldError::too_many(path, members.len(), most as usize));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    if !limits.choices.is_empty() && !limits.choices.iter().any(|choice| same(choice, value)) {
        let choices: Vec<String> = limits.choices.iter().map(plain).collect();
        errors.push(FieldError::not_supported(path, value.clone(), &choices));
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Equal, where 1 is 1.0.
fn same(a: &Value, b: &Value) -> bool {
    match (Number::of(a), Number::of(b)) {
        (Some(a), Some(b)) => a.compare(b) == Ordering::Equal,
        _ => a == b,
    }
}

fn numeric(limits: &Limits, number: Number, broken: &mut impl FnMut(String)) {
    if let Some(most) = limits.maximum {
        match (number.compare(most), limits.above_maximum) {
            (Ordering::Greater, false) => broken(format!("should be less than or equal to {most}")),
            (Ordering::Greater | Ordering::Equal, true) => broken(format!("should be less than {most}")),
            _ => {}
        }
    }
    if let Some(least) = limits.minimum {
        match (number.compare(least), limits.below_minimum) {
            (Ordering::Less, false) => broken(format!("should be greater than or equal to {least}")),
            (Ordering::Less | Ordering::Equal, true) => broken(format!("should be greater than {least}")),
            _ => {}
        }
    }
    if let Some(unit) = limits.multiple_of.filter(|unit| !number.is_multiple_of(*unit)) {
        broken(format!("should be a multiple of {unit}"));
    }
    let range = match limits.format.as_str() {
        "int32" => Some((i128::from(i32::MIN), i128::from(i32::MAX))),
        "int64" => Some((i128::from(i64::MIN), i128::from(i64::MAX))),
        _ => None,
    };
    if let (Some((least, most)), Number::Whole(whole)) = (range, number)
        && !(least..=most).contains(&whole)
    {
        broken(format!("must be of type integer: {:?}", limits.format));
    }
}

/// `allOf`, `anyOf`, `oneOf` and `not`.
fn alternatives(node: &Node, path: &str, value: &Value, errors: &mut Vec<FieldError>) {
    let fits = |node: &Node| {
        let mut errors = Vec::new();
        self::value(node, path, value, None, &mut errors);
        errors.is_empty()
    };
    let mut broken = |rule: &str| {
        let shown = if path.is_empty() { "\"\"" } else { path };
        errors.push(FieldError::invalid(path, value.clone(), format!("{shown} {rule}")));
    };
    if !node.any_of.is_empty() && !node.any_of.iter().any(fits) {
        broken("must validate at least one schema (anyOf)");
    }
    if !node.one_of.is_empty() {
        match node.one_of.iter().filter(|node| fits(node)).count() {
            1 => {}
            0 => broken("must validate one and only one schema (oneOf). Found none valid"),
            count => broken(&format!(
                "must validate one and only one schema (oneOf). Found {count} valid alternatives"
            )),
        }
    }
    if node.not.as_ref().is_some_and(|node| fits(node)) {
        broken("must not validate the schema (not)");
    }
    // As upstream: each reason, and that together they were wanted. Each part is looked at once, however deep it lies.
    let mut reasons = Vec::new();
    for one in &node.all_of {
        self::value(one, path, value, None, &mut reasons);
    }
    if !reasons.is_empty() {
        errors.append(&mut reasons);
        let shown = if path.is_empty() { "\"\"" } else { path };
        errors.push(FieldError::invalid(
            path,
            value.clone(),
            format!("{shown} must validate all the schemas (allOf)"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::json;

    use super::*;

    #[test]
    fn nested_parts_are_looked_at_once() {
        let mut schema = json!({ "type": "string", "maxLength": 1 });
        for _ in 0..60 {
            schema = json!({ "allOf": [schema] });
        }
        let node = Node::of_object(&json!({ "type": "object", "properties": { "a": schema } })).unwrap();
        let errors = check(&node, &json!({ "a": "long" }), None);
        assert!(
            errors.iter().any(|error| error.to_string().contains("may not be more than 1 bytes")),
            "{errors:?}"
        );
    }

    #[test]
    fn long_lists_without_duplicates_are_judged_quickly() {
        let list = |kind: &str| {
            let items = json!({ "type": "object", "properties": { "k": { "type": "string" } } });
            json!({ "type": "array", "x-kubernetes-list-type": kind, "x-kubernetes-list-map-keys": ["k"], "items": items })
        };
        let items: Vec<Value> = (0..20_000).map(|n| json!({ "k": n.to_string() })).collect();
        for kind in ["set", "map"] {
            let node =
                Node::of_object(&json!({ "type": "object", "properties": { "l": list(kind) } })).unwrap();
            let (old, mut new) = (json!({ "l": items }), json!({ "l": items }));
            new["l"].as_array_mut().unwrap().reverse();
            new["l"].as_array_mut().unwrap().push(items[7].clone());
            let started = Instant::now();
            let mut errors = check(&node, &new, Some(&old));
            sets::check(&node, &new, Some(&old), &mut errors);
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(errors[0].to_string().starts_with("l[20000]: Duplicate value"), "{errors:?}");
            // Comparing each with each would take 200 million comparisons.
            assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
        }
    }
}
