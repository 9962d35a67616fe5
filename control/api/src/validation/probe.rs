//! Rules of probes and of the handlers that they share with lifecycle hooks.

use serde_json::Value;

use super::field::FieldError;
use super::names;
use crate::object::{at, items, number, text};

/// A probe at a path. `single` is set for those whose success threshold must be one.
pub(super) fn check(path: &str, probe: &Value, single: bool, errors: &mut Vec<FieldError>) {
    handler(path, probe, &["exec", "httpGet", "tcpSocket", "grpc"], errors);
    for name in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        if let Some(value) = number(probe, &[name]).filter(|value| *value < 0) {
            let path = format!("{path}.{name}");
            errors.push(FieldError::invalid(path, value, "must be greater than or equal to 0"));
        }
    }
    if let Some(value) = number(probe, &["successThreshold"]).filter(|value| single && *value != 1) {
        errors.push(FieldError::invalid(format!("{path}.successThreshold"), value, "must be 1"));
    }
    if let Some(value) = number(probe, &["terminationGracePeriodSeconds"]).filter(|value| *value <= 0) {
        let path = format!("{path}.terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(path, value, "must be greater than 0"));
    }
}

/// Exactly one of the ways to act.
pub(super) fn handler(path: &str, holder: &Value, ways: &[&str], errors: &mut Vec<FieldError>) {
    let present: Vec<&str> = ways.iter().copied().filter(|way| at(holder, &[way]).is_some()).collect();
    let Some(first) = present.first() else {
        errors.push(FieldError::required(path, "must specify a handler type"));
        return;
    };
    for other in &present[1..] {
        let path = format!("{path}.{other}");
        errors.push(FieldError::forbidden(path, "may not specify more than 1 handler type"));
    }
    let path = format!("{path}.{first}");
    let way = &holder[*first];
    match *first {
        "exec" if items(way, &["command"]).is_empty() => {
            errors.push(FieldError::required(format!("{path}.command"), ""));
        }
        "httpGet" => {
            if text(way, &["path"]).is_empty() {
                errors.push(FieldError::required(format!("{path}.path"), ""));
            }
            port(&path, &way["port"], errors);
        }
        "tcpSocket" => port(&path, &way["port"], errors),
        "grpc" => {
            let number = number(way, &["port"]).unwrap_or(0);
            if let Err(why) = names::port_number(number) {
                errors.push(FieldError::invalid(format!("{path}.port"), number, why));
            }
        }
        _ => {}
    }
}

/// A port by number or name.
fn port(path: &str, port: &Value, errors: &mut Vec<FieldError>) {
    let verdict = match port {
        Value::String(name) => names::port_name(name),
        Value::Number(number) => names::port_number(number.as_i64().unwrap_or(0)),
        _ => names::port_number(0),
    };
    if let Err(why) = verdict {
        let value = if port.is_null() { 0.into() } else { port.clone() };
        errors.push(FieldError::invalid(format!("{path}.port"), value, why));
    }
}
