//! Rules of probes and of the handlers that they share with lifecycle hooks.

use super::names;
use super::place::{Errors, Place};

const PROBE: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
const HOOK: [&str; 4] = ["exec", "httpGet", "tcpSocket", "sleep"];

/// The probes of a container.
pub(super) fn all(container: &Place<'_>, grace: Option<i64>, errors: &mut Errors) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.get(name);
        if !probe.is_set() {
            continue;
        }
        check(&probe, grace, errors);
        let (threshold, period) = (probe.get("successThreshold"), probe.get("terminationGracePeriodSeconds"));
        if name == "readinessProbe" {
            if period.is_set() {
                period.invalid("must not be set for readinessProbes", errors);
            }
        } else if threshold.number().is_some_and(|value| value != 1) {
            threshold.invalid("must be 1", errors);
        }
    }
}

fn check(probe: &Place<'_>, grace: Option<i64>, errors: &mut Errors) {
    handler(probe, &PROBE, grace, errors);
    probe.not_negative_at(
        &["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"],
        errors,
    );
    let period = probe.get("terminationGracePeriodSeconds");
    if period.number().is_some_and(|value| value <= 0) {
        period.invalid("must be greater than 0", errors);
    }
}

/// The hooks of a container.
pub(super) fn lifecycle(container: &Place<'_>, grace: Option<i64>, system: &str, errors: &mut Errors) {
    let lifecycle = container.get("lifecycle");
    for hook in ["postStart", "preStop"].map(|name| lifecycle.get(name)) {
        if hook.is_set() {
            handler(&hook, &HOOK, grace, errors);
        }
    }
    let signal = lifecycle.get("stopSignal");
    match (signal.is_set(), system) {
        (true, "") => signal.forbidden("may not be set for containers with empty `spec.os.name`", errors),
        (true, "windows") => {
            signal.one_of(&["SIGKILL", "SIGTERM"], errors);
        }
        _ => {}
    }
}

/// Exactly one of the ways to act.
fn handler(holder: &Place<'_>, ways: &[&str], grace: Option<i64>, errors: &mut Errors) {
    let present = ways.iter().map(|way| (*way, holder.get(way)));
    let present: Vec<(&str, Place<'_>)> = present.filter(|(_, place)| place.is_set()).collect();
    let Some(((way, first), more)) = present.split_first() else {
        return holder.required("must specify a handler type", errors);
    };
    for (_, other) in more {
        other.forbidden("may not specify more than 1 handler type", errors);
    }
    match *way {
        "exec" if first.get("command").count() == 0 => first.get("command").required("", errors),
        "httpGet" => {
            if first.get("path").text().is_empty() {
                first.get("path").required("", errors);
            }
            first.get("port").judge_port(errors);
            for header in first.each("httpHeaders") {
                let name = Place::new(first.child("httpHeaders"), header.get("name").value);
                name.judge(names::http_header, errors);
            }
        }
        "tcpSocket" | "grpc" => first.get("port").judge_port(errors),
        "sleep" => {
            let seconds = first.get("seconds").number().unwrap_or(0);
            if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
                let why =
                    format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                errors.push(super::FieldError::invalid(&first.path, seconds, why));
            }
        }
        _ => {}
    }
}
