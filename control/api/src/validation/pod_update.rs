//! What may change in a pod that is there: images, the deadline, more tolerations, fewer scheduling gates.

use serde_json::Value;

use super::field::FieldError;
use crate::object::{carry, items, number, text};

const MESSAGE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn check(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    for list in ["containers", "initContainers"] {
        let (now, before) = (items(new, &[list]).len(), items(old, &[list]).len());
        if now != before {
            errors.push(FieldError::forbidden(
                format!("spec.{list}"),
                "pod updates may not add or remove containers",
            ));
            return;
        }
    }
    deadline(new, old, errors);
    if items(old, &["tolerations"]).iter().any(|one| !kept(one, items(new, &["tolerations"]))) {
        errors.push(FieldError::forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        ));
    }
    let gates = items(old, &["schedulingGates"]);
    for (at, gate) in items(new, &["schedulingGates"]).iter().enumerate() {
        if !gates.contains(gate) {
            let name = text(gate, &["name"]);
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(FieldError::forbidden(format!("spec.schedulingGates[{at}].name"), why));
        }
    }
    if !same_otherwise(new, old, !gates.is_empty()) {
        errors.push(FieldError::forbidden("spec", MESSAGE));
    }
}

/// A toleration is kept when it is there with the same or another time limit.
fn kept(toleration: &Value, list: &[Value]) -> bool {
    let bare = |one: &Value| {
        let mut one = one.clone();
        crate::object::remove(&mut one, "tolerationSeconds");
        one
    };
    let wanted = bare(toleration);
    list.iter().any(|one| bare(one) == wanted)
}

fn deadline(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let path = "spec.activeDeadlineSeconds";
    match (number(new, &["activeDeadlineSeconds"]), number(old, &["activeDeadlineSeconds"])) {
        (Some(now), _) if !(0..=i64::from(i32::MAX)).contains(&now) => {
            errors.push(FieldError::invalid(path, now, "must be between 0 and 2147483647, inclusive"));
        }
        (Some(now), Some(before)) if now > before => {
            errors.push(FieldError::invalid(path, now, "must be less than or equal to previous value"));
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(path, Value::Null, detail));
        }
        _ => {}
    }
}

/// Whether all is the same but for what may change. While a pod is gated its node selection may still become narrower.
fn same_otherwise(new: &Value, old: &Value, gated: bool) -> bool {
    let mut new = new.clone();
    for list in ["containers", "initContainers"] {
        let before = items(old, &[list]).to_vec();
        for (one, before) in new[list].as_array_mut().into_iter().flatten().zip(&before) {
            carry(one, before, "image");
        }
        if before.is_empty() {
            carry(&mut new, old, list);
        }
    }
    for name in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        carry(&mut new, old, name);
    }
    if gated {
        carry(&mut new, old, "nodeSelector");
        carry(&mut new, old, "affinity");
    }
    let negative = number(old, &["terminationGracePeriodSeconds"]).is_some_and(|seconds| seconds < 0);
    if negative && number(&new, &["terminationGracePeriodSeconds"]) == Some(1) {
        carry(&mut new, old, "terminationGracePeriodSeconds");
    }
    new == *old
}
