//! Rules of where a pod may run: affinity, tolerations, spreading, gates.

use std::collections::BTreeSet;

use serde_json::json;

use super::field::FieldError;
use super::place::{Errors, Place};
use super::{names, node_selector, selector};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// What a pod wants of its node and of its neighbours.
pub(super) fn affinity(affinity: &Place<'_>, errors: &mut Errors) {
    let nodes = affinity.get("nodeAffinity");
    if nodes.get(REQUIRED).is_set() {
        node_selector::check(&nodes.get(REQUIRED), errors);
    }
    for term in nodes.each(PREFERRED) {
        weight(&term, errors);
        node_selector::term(&term.get("preference"), false, errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.get(kind);
        pods.each(REQUIRED).for_each(|one| pod_term(&one, errors));
        for term in pods.each(PREFERRED) {
            weight(&term, errors);
            pod_term(&term.get("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Place<'_>, errors: &mut Errors) {
    let weight = term.get("weight");
    let value = weight.number().unwrap_or(0);
    if !(1..=100).contains(&value) {
        errors.push(FieldError::invalid(weight.path, value, "must be in the range 1-100"));
    }
}

fn pod_term(term: &Place<'_>, errors: &mut Errors) {
    for name in ["labelSelector", "namespaceSelector"] {
        let one = term.get(name);
        if one.is_set() {
            selector::at(&one, errors);
        }
    }
    for namespace in term.each("namespaces") {
        Place::new(term.child("namespace"), namespace.value).judge(names::dns_label, errors);
    }
    label_keys(term, errors);
    let key = term.get("topologyKey");
    if key.text().is_empty() {
        key.required("can not be empty", errors);
    }
    key.judge_key(errors);
}

/// Keys whose values are taken from the pod's labels.
fn label_keys(holder: &Place<'_>, errors: &mut Errors) {
    let chosen = holder.get("labelSelector");
    for name in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = holder.get(name);
        if keys.count() > 0 && !chosen.is_set() {
            keys.forbidden("must not be specified when labelSelector is not set", errors);
            continue;
        }
        for key in keys.items() {
            key.judge_key(errors);
        }
    }
    let other: BTreeSet<&str> = holder.each("mismatchLabelKeys").map(|key| key.text()).collect();
    for key in holder.each("matchLabelKeys").filter(|key| other.contains(key.text())) {
        key.invalid("exists in both matchLabelKeys and mismatchLabelKeys", errors);
    }
}

/// What a pod waits for.
pub(super) fn gates(spec: &Place<'_>, errors: &mut Errors) {
    for gate in spec.each("readinessGates") {
        gate.get("conditionType").judge_key(errors);
    }
    let mut seen = BTreeSet::new();
    for gate in spec.each("schedulingGates") {
        let name = Place::new(gate.path.clone(), gate.get("name").value);
        name.judge_key(errors);
        if !seen.insert(name.text()) {
            name.duplicate(errors);
        }
    }
}

/// How pods are spread.
pub(super) fn spread(constraints: &Place<'_>, errors: &mut Errors) {
    let all: Vec<Place<'_>> = constraints.items().collect();
    for (index, constraint) in all.iter().enumerate() {
        let (skew, key, action) =
            (constraint.get("maxSkew"), constraint.get("topologyKey"), constraint.get("whenUnsatisfiable"));
        let number = skew.number().unwrap_or(0);
        if number <= 0 {
            errors.push(FieldError::invalid(skew.path, number, "must be greater than zero"));
        }
        if key.text().is_empty() {
            key.required("can not be empty", errors);
        }
        action.one_of(&["DoNotSchedule", "ScheduleAnyway"], errors);
        let same = |other: &Place<'_>| {
            other.get("topologyKey").text() == key.text()
                && other.get("whenUnsatisfiable").text() == action.text()
        };
        if all[index + 1..].iter().any(same) {
            let value = format!("{{{}, {}}}", key.text(), action.text());
            let path = constraint.child("{topologyKey, whenUnsatisfiable}");
            errors.push(FieldError::duplicate(path, value));
        }
        let domains = constraint.get("minDomains");
        if domains.number().is_some_and(|number| number <= 0) {
            domains.invalid("must be greater than zero", errors);
        }
        if domains.is_set() && action.text() != "DoNotSchedule" {
            let why =
                format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", action.text());
            domains.invalid(why, errors);
        }
        for name in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            constraint.get(name).maybe_one_of(&["Honor", "Ignore"], errors);
        }
        label_keys(constraint, errors);
        let chosen = constraint.get("labelSelector");
        if chosen.is_set() {
            selector::at(&chosen, errors);
        }
    }
}

/// Tolerations of taints.
pub(super) fn tolerations(list: &Place<'_>, errors: &mut Errors) {
    for toleration in list.items() {
        let (key, operator) = (toleration.get("key"), toleration.get("operator"));
        let (value, effect) = (toleration.get("value"), toleration.get("effect"));
        if key.is_full() {
            key.judge_key(errors);
        }
        let refuse = |value: &str, why: &str, errors: &mut Errors| {
            errors.push(FieldError::invalid(&operator.path, json!(value), why));
        };
        if key.text().is_empty() && operator.text() != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            refuse(operator.text(), why, errors);
        }
        if toleration.get("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&effect.path, effect.text(), why));
        }
        match operator.text() {
            "Equal" | "" => {
                if let Err(why) = names::label_value(value.text()) {
                    refuse(value.text(), &why, errors);
                }
            }
            "Exists" if value.is_full() => {
                refuse(value.text(), "value must be empty when `operator` is 'Exists'", errors);
            }
            "Exists" => {}
            _ => {
                operator.one_of(&["Equal", "Exists"], errors);
            }
        }
        if effect.is_full() {
            effect.one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
        }
    }
}
