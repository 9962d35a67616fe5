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

/// Rules for the selector of a workload: it is there, selects something, and matches the labels of the template.
pub(super) fn of_workload(kind: &str, spec: &Value, errors: &mut Vec<FieldError>) {
    let labels = find(spec, &["template", "metadata", "labels"]);
    let mismatch = || {
        let value = labels.cloned().unwrap_or(Value::Null);
        let why = "`selector` does not match template `labels`";
        FieldError::invalid("spec.template.metadata.labels", value, why)
    };
    let Some(one) = find(spec, &["selector"]) else {
        errors.push(FieldError::required("spec.selector", ""));
        // No selector matches nothing.
        errors.push(mismatch());
        return;
    };
    selector("spec.selector", one, errors);
    let empty =
        members(one, &["matchLabels"]).next().is_none() && items(one, &["matchExpressions"]).is_empty();
    if empty {
        errors.push(FieldError::invalid(
            "spec.selector",
            one.clone(),
            format!("empty selector is invalid for {kind}"),
        ));
    }
    let matches = LabelSelector::from_object(one).is_some_and(|selector| selector.matches_labels(labels));
    if !matches && find(spec, &["template"]).is_some() {
        errors.push(mismatch());
    }
}
