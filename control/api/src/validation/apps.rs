//! Rules of the apps group.

use serde_json::Value;

use super::field::FieldError;
use super::{meta, pod, selector};
use crate::object::{at, number, text};
use crate::registry::Resource;

pub(super) fn check(resource: &Resource, object: &Value, errors: &mut Vec<FieldError>) {
    let spec = &object["spec"];
    match resource.plural.as_str() {
        "controllerrevisions" => {
            if number(object, &["revision"]).is_some_and(|revision| revision < 0) {
                errors.push(FieldError::invalid("revision", object["revision"].clone(), NOT_NEGATIVE));
            }
            if object.get("data").is_none_or(Value::is_null) {
                errors.push(FieldError::required("data", "data is mandatory"));
            }
            return;
        }
        "deployments" => deployment(spec, errors),
        "daemonsets" => rolling("spec.updateStrategy", &spec["updateStrategy"], errors),
        _ => {}
    }
    not_negative("spec", spec, &["replicas", "minReadySeconds", "revisionHistoryLimit"], errors);
    // Upstream has the one sentence for both.
    let kind = if resource.plural == "replicasets" { "deployment" } else { resource.singular.as_str() };
    selector::of_workload(kind, spec, errors);
    template(spec, &["Always"], errors);
}

/// The sentence for numbers that must not be below zero.
pub(super) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// Numbers that must not be below zero.
pub(super) fn not_negative(path: &str, holder: &Value, names: &[&str], errors: &mut Vec<FieldError>) {
    for name in names {
        if let Some(value) = number(holder, &[name]).filter(|value| *value < 0) {
            errors.push(FieldError::invalid(format!("{path}.{name}"), value, NOT_NEGATIVE));
        }
    }
}

/// The template of a workload, whose pods restart as told here.
pub(super) fn template(spec: &Value, policies: &[&str], errors: &mut Vec<FieldError>) {
    template_at("spec.template", &spec["template"], policies, errors);
}

/// The template at a path.
pub(super) fn template_at(path: &str, template: &Value, policies: &[&str], errors: &mut Vec<FieldError>) {
    meta::labels(&format!("{path}.labels"), at(template, &["metadata", "labels"]), errors);
    meta::annotations(&format!("{path}.annotations"), at(template, &["metadata", "annotations"]), errors);
    pod::spec(&format!("{path}.spec"), &template["spec"], errors);
    let policy = text(template, &["spec", "restartPolicy"]);
    if !policy.is_empty() && !policies.contains(&policy) {
        errors.push(FieldError::not_supported(format!("{path}.spec.restartPolicy"), policy, policies));
    }
}

fn deployment(spec: &Value, errors: &mut Vec<FieldError>) {
    let strategy = &spec["strategy"];
    if text(strategy, &["type"]) == "Recreate" && at(strategy, &["rollingUpdate"]).is_some() {
        errors.push(FieldError::forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        ));
    }
    rolling("spec.strategy", strategy, errors);
    let deadline = number(spec, &["progressDeadlineSeconds"]);
    let ready = number(spec, &["minReadySeconds"]).unwrap_or(0);
    if let Some(deadline) = deadline.filter(|deadline| *deadline <= ready) {
        errors.push(FieldError::invalid(
            "spec.progressDeadlineSeconds",
            deadline,
            "must be greater than minReadySeconds",
        ));
    }
}

fn rolling(path: &str, strategy: &Value, errors: &mut Vec<FieldError>) {
    let Some(rolling) = at(strategy, &["rollingUpdate"]) else { return };
    let mut zeros = 0;
    for name in ["maxUnavailable", "maxSurge"] {
        let path = format!("{path}.rollingUpdate.{name}");
        match rolling.get(name) {
            Some(Value::Number(value)) => {
                zeros += u32::from(value.as_i64() == Some(0));
                if value.as_i64().is_some_and(|value| value < 0) {
                    errors.push(FieldError::invalid(path, rolling[name].clone(), NOT_NEGATIVE));
                }
            }
            Some(Value::String(text)) => match text.strip_suffix('%').and_then(|digits| digits.parse::<u32>().ok()) {
                None => errors.push(FieldError::invalid(
                    path,
                    text.as_str(),
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
                     regex used for validation is '[0-9]+%')",
                )),
                Some(percent) => {
                    zeros += u32::from(percent == 0);
                    if name == "maxUnavailable" && percent > 100 {
                        errors.push(FieldError::invalid(path, text.as_str(), "must not be greater than 100%"));
                    }
                }
            },
            _ => {}
        }
    }
    if zeros == 2 {
        errors.push(FieldError::invalid(
            format!("{path}.rollingUpdate.maxUnavailable"),
            rolling["maxUnavailable"].clone(),
            "may not be 0 when `maxSurge` is 0",
        ));
    }
}
