//! Label selectors inside objects, and pod templates that must match them.

use serde_json::Value;

use super::field::FieldError;
use super::place::{Errors, Place};
use super::{meta, names};
use crate::object::{at as find, items, members, text};
use crate::select::LabelSelector;

/// Rules for a `LabelSelector` that is there or not.
pub(super) fn at(place: &Place<'_>, errors: &mut Errors) {
    selector(&place.path, place.value, errors);
}

/// Rules for a `LabelSelector`.
pub(crate) fn selector(path: &str, selector: &Value, errors: &mut Vec<FieldError>) {
    meta::labels(&format!("{path}.matchLabels"), selector.get("matchLabels"), errors);
    for (index, expression) in items(selector, &["matchExpressions"]).iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let values = items(expression, &["values"]);
        match text(expression, &["operator"]) {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                format!("{path}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                format!("{path}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                format!("{path}.operator"),
                other,
                "not a valid selector operator",
            )),
        }
        let key = text(expression, &["key"]);
        let faults = names::label_key_faults(key).into_iter();
        errors.extend(faults.map(|why| FieldError::invalid(format!("{path}.key"), key, why)));
        for (at, value) in values.iter().enumerate() {
            if let Err(why) = names::label_value(value.as_str().unwrap_or_default()) {
                errors.push(FieldError::invalid(format!("{path}.values[{at}]"), value.clone(), why));
            }
        }
    }
}

/// The workloads whose selectors are judged alike but for some words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workload {
    DaemonSet,
    Deployment,
    StatefulSet,
}

impl Workload {
    fn word(self) -> &'static str {
        match self {
            Self::DaemonSet => "daemonset",
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
        }
    }
}

/// Rules for the selector of a workload: it is there, selects something, and matches the labels of the template.
pub(super) fn of_workload(kind: Workload, spec: &Value, errors: &mut Vec<FieldError>) {
    let labels = find(spec, &["template", "metadata", "labels"]);
    let mismatch = || {
        let value = labels.cloned().unwrap_or(Value::Null);
        let why = "`selector` does not match template `labels`";
        FieldError::invalid("spec.template.metadata.labels", value, why)
    };
    let Some(one) = find(spec, &["selector"]) else {
        if kind != Workload::DaemonSet {
            errors.push(FieldError::required("spec.selector", ""));
        }
        // No selector matches nothing.
        errors.push(mismatch());
        return;
    };
    let before = errors.len();
    selector("spec.selector", one, errors);
    let is_broken = errors.len() > before;
    let invalid = |why: &str| FieldError::invalid("spec.selector", one.clone(), why).shown_as(written(one));
    let empty =
        members(one, &["matchLabels"]).next().is_none() && items(one, &["matchExpressions"]).is_empty();
    if empty {
        errors.push(invalid(&format!("empty selector is invalid for {}", kind.word())));
    }
    let matches = LabelSelector::from_object(one).is_some_and(|selector| selector.matches_labels(labels));
    match kind {
        Workload::Deployment if is_broken => errors.push(invalid("invalid label selector")),
        Workload::StatefulSet if is_broken => errors.push(invalid("")),
        Workload::DaemonSet if is_broken => {}
        _ if !matches && find(spec, &["template"]).is_some() => errors.push(mismatch()),
        _ => {}
    }
}

/// A selector with its members in the order of upstream's type.
fn written(selector: &Value) -> String {
    let mut parts = Vec::new();
    if members(selector, &["matchLabels"]).next().is_some() {
        parts.push(format!("\"matchLabels\":{}", selector["matchLabels"]));
    }
    let one = |expression: &Value| {
        let word = |name: &str| Value::from(text(expression, &[name]));
        let values = match items(expression, &["values"]) {
            [] => String::new(),
            values => format!(",\"values\":{}", Value::from(values.to_vec())),
        };
        format!("{{\"key\":{},\"operator\":{}{values}}}", word("key"), word("operator"))
    };
    let expressions: Vec<String> = items(selector, &["matchExpressions"]).iter().map(one).collect();
    if !expressions.is_empty() {
        parts.push(format!("\"matchExpressions\":[{}]", expressions.join(",")));
    }
    format!("{{{}}}", parts.join(","))
}
