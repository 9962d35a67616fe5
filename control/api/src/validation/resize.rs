//! Rules of `pods/resize`: only processor time and memory of containers change, and the pod's class stays.

use serde_json::{Value, json};

use super::field::FieldError;
use super::place::{Errors, Place};
use super::pod;
use crate::object::{at, items, remove, text};
use crate::strategy::qos_class;

const MIRROR: &str = "kubernetes.io/config.mirror";
const RESIZABLE: [&str; 2] = ["cpu", "memory"];

pub(super) fn check(new: &Value, old: &Value, errors: &mut Errors) {
    pod::pod(new, false, errors);
    let refuse = |why: &str| FieldError::forbidden("", why);
    if at(old, &["metadata", "annotations", MIRROR]).is_some() {
        *errors = vec![refuse("static pods cannot be resized")];
        return;
    }
    if text(old, &["spec", "os", "name"]) == "windows" {
        *errors = vec![refuse("windows pods cannot be resized")];
        return;
    }
    let before = at(old, &["status", "qosClass"]).and_then(Value::as_str).unwrap_or_else(|| qos_class(old));
    if qos_class(new) != before {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid("spec", text(new, &["status", "qosClass"]), why));
    }
    if !is_supported(old) {
        errors.push(FieldError::forbidden("spec", "Pod running on node without support for resize"));
    }
    if !same_containers(new, old, errors) {
        return;
    }
    let found = errors.len();
    for list in ["initContainers", "containers"] {
        for (now, before) in Place::new("spec", &new["spec"]).each(list).zip(items(&old["spec"], &[list])) {
            container(list, &now, before, errors);
        }
    }
    if errors.len() == found && without_amounts(&new["spec"], true) != without_amounts(&old["spec"], true) {
        errors.push(FieldError::forbidden("spec", "only cpu and memory resources are mutable"));
    }
}

/// Whether the node says what the containers have, which it does when it can change that.
fn is_supported(pod: &Value) -> bool {
    let statuses = items(pod, &["status", "containerStatuses"]);
    let running = statuses.iter().find(|one| at(one, &["state", "running"]).is_some());
    running.is_none_or(|one| at(one, &["resources"]).is_some())
}

fn same_containers(new: &Value, old: &Value, errors: &mut Errors) -> bool {
    let found = errors.len();
    for list in ["containers", "initContainers"] {
        let (now, before) = (items(new, &["spec", list]), items(old, &["spec", list]));
        let path = format!("spec.{list}");
        if now.len() != before.len() {
            let why = format!("{list} may not be added or removed on resize");
            errors.push(FieldError::forbidden(path, why));
            continue;
        }
        for (index, (now, before)) in now.iter().zip(before).enumerate() {
            if now["name"] != before["name"] {
                let why = format!("{list} may not be renamed or reordered on resize");
                errors.push(FieldError::forbidden(format!("{path}[{index}].name"), why));
            }
        }
    }
    errors.len() == found
}

fn container(list: &str, now: &Place<'_>, before: &Value, errors: &mut Errors) {
    let sidecar = text(now.value, &["restartPolicy"]) == "Always";
    if list == "initContainers" && !sidecar && now.value != before {
        let restarts =
            now.each("resizePolicy").any(|one| one.get("restartPolicy").text() == "RestartContainer");
        if restarts {
            let why =
                "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            now.forbidden(why, errors);
        }
    }
    for name in ["requests", "limits"] {
        let kept = now.get("resources").get(name);
        let lost = |key: &String| kept.value.get(key).is_none();
        let had = at(before, &["resources", name]).and_then(Value::as_object);
        if had.is_some_and(|had| had.keys().any(lost)) {
            kept.forbidden(format!("resource {name} cannot be removed"), errors);
        }
    }
    if without_amounts(now.value, false) != without_amounts(before, false) {
        match list {
            "containers" => {
                errors.push(FieldError::forbidden("spec", "only cpu and memory resources are mutable"))
            }
            _ => now.forbidden(
                "only cpu and memory resources for init or sidecar containers are mutable",
                errors,
            ),
        }
    }
}

/// A container, or a specification, without what may change.
fn without_amounts(value: &Value, whole: bool) -> Value {
    let mut value = value.clone();
    if whole {
        for list in ["containers", "initContainers"] {
            for one in value[list].as_array_mut().into_iter().flatten() {
                strip(one);
            }
            if value[list].is_null() {
                remove(&mut value, list);
            }
        }
    }
    strip(&mut value);
    value
}

fn strip(holder: &mut Value) {
    let Some(resources) = holder.get_mut("resources") else { return };
    for name in ["requests", "limits"] {
        if let Some(list) = resources.get_mut(name) {
            RESIZABLE.iter().for_each(|one| drop(remove(list, one)));
            if *list == json!({}) {
                remove(resources, name);
            }
        }
    }
    if *resources == json!({}) {
        remove(holder, "resources");
    }
}
