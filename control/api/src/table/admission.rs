//! Rows of what the API server itself goes by: admission policies and their bindings, flow control, other API servers.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{NONE, age, or_none, selector};
use crate::object::{at, items, name, text};

const UNSET: &str = "<unset>";

/// A policy with so many rules at `rules`.
pub(super) fn policy(object: &Value, rules: &str, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let kind = match at(spec, &["paramKind"]) {
        Some(kind) => format!("{}/{}", text(kind, &["apiVersion"]), text(kind, &["kind"])),
        None => UNSET.to_owned(),
    };
    vec![name(object).into(), items(spec, &[rules]).len().into(), kind.into(), age(object, now)]
}

pub(super) fn policy_binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let reference = at(spec, &["paramRef"]);
    let field = |field: &str| reference.map(|one| text(one, &[field])).unwrap_or_default();
    let parameter: Value =
        match (field("namespace"), field("name"), reference.and_then(|one| one.get("selector"))) {
            // Whether the parameter has a namespace cannot be told from here.
            ("", name, _) if !name.is_empty() => format!("*/{name}").into(),
            (namespace, name, _) if !name.is_empty() => format!("{namespace}/{name}").into(),
            (_, _, Some(by)) if by.is_object() => selector(Some(by)),
            _ => UNSET.into(),
        };
    vec![name(object).into(), text(spec, &["policyName"]).into(), parameter, age(object, now)]
}

pub(super) fn api_service(object: &Value, now: Timestamp) -> Vec<Value> {
    let service = match at(object, &["spec", "service"]) {
        Some(service) => format!("{}/{}", text(service, &["namespace"]), text(service, &["name"])),
        None => "Local".to_owned(),
    };
    let conditions = items(object, &["status", "conditions"]);
    let available = conditions.iter().find(|one| text(one, &["type"]) == "Available");
    let available = match available.map(|one| (text(one, &["status"]), text(one, &["reason"]))) {
        None => "Unknown".to_owned(),
        Some(("True", _)) => "True".to_owned(),
        Some((status, reason)) => format!("{status} ({reason})"),
    };
    vec![name(object).into(), service.into(), available.into(), age(object, now)]
}

pub(super) fn flow_schema(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let missing =
        items(object, &["status", "conditions"]).iter().find(|one| text(one, &["type"]) == "Dangling");
    vec![
        name(object).into(),
        text(spec, &["priorityLevelConfiguration", "name"]).into(),
        at(spec, &["matchingPrecedence"]).cloned().unwrap_or(Value::Null),
        or_none(text(spec, &["distinguisherMethod", "type"])),
        age(object, now),
        missing.map_or("?", |one| text(one, &["status"])).into(),
    ]
}

pub(super) fn priority_level(object: &Value, now: Timestamp) -> Vec<Value> {
    let limited = &object["spec"]["limited"];
    let number = |path: &[&str]| at(limited, path).cloned().unwrap_or_else(|| NONE.into());
    let queuing = |field: &str| number(&["limitResponse", "queuing", field]);
    vec![
        name(object).into(),
        text(object, &["spec", "type"]).into(),
        number(&["nominalConcurrencyShares"]),
        queuing("queues"),
        queuing("handSize"),
        queuing("queueLengthLimit"),
        age(object, now),
    ]
}
