//! Rules of groups with a kind or two: policy, coordination, scheduling, node.

use std::collections::BTreeSet;

use serde_json::Value;

use super::field::FieldError;
use super::place::{Errors, Place, at_most_all, number_or_percent};
use super::{meta, names, pod_scheduling, resources, selector};
use crate::object::{flag, number, text};

/// Classes that every cluster has, and their values.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
const HIGHEST: i64 = 1_000_000_000;

pub(super) fn disruption_budget(object: &Value, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    let (least, most) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if least.is_set() && most.is_set() {
        spec.invalid("minAvailable and maxUnavailable cannot be both set", errors);
    }
    for place in [least, most].iter().filter(|place| place.is_set()) {
        number_or_percent(place, errors);
        at_most_all(place, errors);
    }
    let chosen = spec.get("selector");
    if chosen.is_set() {
        selector::at(&chosen, errors);
    }
    spec.get("unhealthyPodEvictionPolicy").maybe_one_of(&["AlwaysAllow", "IfHealthyBudget"], errors);
}

pub(super) fn disruption_budget_status(object: &Value, errors: &mut Errors) {
    let status = Place::of(object, "status");
    conditions(&status.get("conditions"), errors);
    let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
    status.not_negative_at(&counts, errors);
}

/// Conditions of the common form (`metav1.Condition`).
pub(super) fn conditions(conditions: &Place<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for condition in conditions.items() {
        let kind = condition.get("type");
        if kind.text().is_empty() {
            kind.required("must be set", errors);
        } else {
            kind.judge_key(errors);
        }
        if !seen.insert(kind.text()) {
            kind.duplicate(errors);
        }
        condition.get("status").one_of(&["True", "False", "Unknown"], errors);
        condition.not_negative_at(&["observedGeneration"], errors);
        if !condition.get("lastTransitionTime").is_full() {
            condition.get("lastTransitionTime").required("must be set", errors);
        }
        let (reason, message) = (condition.get("reason"), condition.get("message"));
        if reason.text().is_empty() {
            reason.required("must be set", errors);
        } else if reason.text().len() > 1024 {
            reason.too_long(1024, errors);
        }
        if message.text().len() > 32 << 10 {
            message.too_long(32 << 10, errors);
        }
    }
}

pub(super) fn lease(object: &Value, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    let seconds = spec.get("leaseDurationSeconds");
    if seconds.number().is_some_and(|seconds| seconds <= 0) {
        seconds.invalid("must be greater than 0", errors);
    }
    spec.not_negative_at(&["leaseTransitions"], errors);
    let strategy = spec.get("strategy");
    if strategy.is_set() {
        let place = Place::new(strategy.child("strategy"), strategy.value);
        match strategy.text().contains('/') {
            false => {
                place.one_of(&["OldestEmulationVersion"], errors);
            }
            true => {
                place.judge_key(errors);
            }
        }
    }
    if spec.get("preferredHolder").is_full() && !strategy.is_full() {
        let why = "may only be specified if `strategy` is defined";
        spec.get("preferredHolder").forbidden(why, errors);
    }
}

pub(super) fn priority_class(object: &Value, errors: &mut Errors) {
    let (name, value) = (text(object, &["metadata", "name"]), number(object, &["value"]).unwrap_or(0));
    if name.starts_with("system-") {
        let refuse = |why: &str, errors: &mut Errors| {
            let why = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            );
            errors.push(FieldError::forbidden("metadata.name", why));
        };
        match SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) {
            None => refuse(&format!("{name} is not a known system priority class"), errors),
            Some((_, expected)) if *expected != value => {
                refuse(&format!("value of {name} PriorityClass must be {expected}"), errors);
            }
            Some(_) if flag(object, &["globalDefault"]) => {
                refuse(&format!("globalDefault of {name} PriorityClass must be false"), errors);
            }
            Some(_) => {}
        }
    } else if value > HIGHEST {
        let why = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        errors.push(FieldError::forbidden("value", why));
    }
    let preemption = Place::of(object, "preemptionPolicy");
    if preemption.is_set() && preemption.text().is_empty() {
        preemption.required("", errors);
    } else if preemption.is_set() {
        preemption.one_of(&["PreemptLowerPriority", "Never"], errors);
    }
}

pub(super) fn runtime_class(object: &Value, errors: &mut Errors) {
    Place::of(object, "handler").must(names::dns_label, errors);
    let overhead = Place::of(object, "overhead");
    if overhead.is_set() {
        let amounts = overhead.get("podFixed");
        let limits = Place::new(overhead.child("limits"), amounts.value);
        resources::amounts(&limits, resources::Of::Container, errors);
    }
    let scheduling = Place::of(object, "scheduling");
    if !scheduling.is_set() {
        return;
    }
    let nodes = scheduling.get("nodeSelector");
    meta::labels(&nodes.path, Some(nodes.value), errors);
    let tolerations = scheduling.get("tolerations");
    pod_scheduling::tolerations(&tolerations, errors);
    let mut seen = BTreeSet::new();
    for one in tolerations.items() {
        let key = ["key", "operator", "value", "effect"].map(|name| one.get(name).text());
        if !seen.insert(key) {
            let error = FieldError::duplicate(&one.path, one.value.clone());
            errors.push(error.shown_as(crate::protobuf::shown("core/v1.Toleration", one.value)));
        }
    }
}
