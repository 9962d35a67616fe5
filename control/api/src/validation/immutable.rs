//! What may not change once an object is there.

use serde_json::Value;

use super::field::FieldError;
use super::{claim, core, devices, event, networking, persistent_volume, pod_update, service, storage};
use crate::object::{at, carry, flag, items, remove, text};
use crate::protobuf;
use crate::registry::Resource;

const IMMUTABLE: &str = "field is immutable";

pub(super) fn check(resource: &Resource, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("apps", "deployments" | "replicasets" | "daemonsets") => {
            fixed(new, old, &["spec", "selector"], errors)
        }
        ("apps", "statefulsets") => stateful_set(new, old, errors),
        ("apps", "controllerrevisions") => fixed(new, old, &["data"], errors),
        ("batch", "jobs") => job(new, old, errors),
        ("", "pods") => pod_update::check(&new["spec"], &old["spec"], errors),
        ("", "services") => service::update(new, old, errors),
        ("", "configmaps") => sealed(new, old, &["data", "binaryData"], errors),
        ("", "secrets") => {
            keep(new, old, &["type"], IMMUTABLE, errors);
            sealed(new, old, &["data"], errors);
        }
        ("", "persistentvolumeclaims") => claim::update(new, old, errors),
        ("", "persistentvolumes") => persistent_volume::update(new, old, errors),
        ("", "nodes") => core::node_update(new, old, errors),
        ("", "resourcequotas") => scopes(new, old, errors),
        ("events.k8s.io", _) => event::update(new, old, errors),
        ("networking.k8s.io", _) => networking::update(resource, new, old, errors),
        ("resource.k8s.io", _) => devices::update(resource, new, old, errors),
        ("storage.k8s.io", _) => storage::update(resource, new, old, errors),
        ("discovery.k8s.io", "endpointslices") => fixed(new, old, &["addressType"], errors),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            keep(new, old, &["roleRef"], "cannot change roleRef", errors);
        }
        ("scheduling.k8s.io", "priorityclasses") => {
            if new.get("value") != old.get("value") {
                errors.push(FieldError::forbidden("value", "may not be changed in an update."));
            }
            fixed(new, old, &["preemptionPolicy"], errors);
        }
        ("node.k8s.io", "runtimeclasses") => fixed(new, old, &["handler"], errors),
        ("certificates.k8s.io", _) => fixed(new, old, &["spec"], errors),
        _ => {}
    }
}

/// A field that stays as it was.
fn fixed(new: &Value, old: &Value, path: &[&str], errors: &mut Vec<FieldError>) {
    keep(new, old, path, IMMUTABLE, errors);
}

fn keep(new: &Value, old: &Value, path: &[&str], detail: &str, errors: &mut Vec<FieldError>) {
    let (now, before) = (at(new, path), at(old, path));
    if now != before {
        errors.push(FieldError::invalid(path.join("."), now.cloned().unwrap_or(Value::Null), detail));
    }
}

/// ConfigMaps and Secrets that say they are immutable.
fn sealed(new: &Value, old: &Value, fields: &[&str], errors: &mut Vec<FieldError>) {
    if !flag(old, &["immutable"]) {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if !flag(new, &["immutable"]) {
        errors.push(FieldError::forbidden("immutable", detail));
    }
    for field in fields {
        if at(new, &[field]) != at(old, &[field]) {
            errors.push(FieldError::forbidden(*field, detail));
        }
    }
}

fn stateful_set(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let mut rest = new["spec"].clone();
    let mut before = old["spec"].clone();
    for name in [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ] {
        remove(&mut rest, name);
        remove(&mut before, name);
    }
    if rest != before {
        errors.push(FieldError::forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ));
    }
}

/// A job's pods are made from one template, which may change only while none are made.
fn job(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    completions(new, old, errors);
    fixed(new, old, &["spec", "selector"], errors);
    job_template(new, old, errors);
    for (name, of) in [
        ("completionMode", ""),
        ("podFailurePolicy", "batch/v1.PodFailurePolicy"),
        ("backoffLimitPerIndex", ""),
        ("managedBy", ""),
        ("successPolicy", "batch/v1.SuccessPolicy"),
    ] {
        let found = errors.len();
        fixed(new, old, &["spec", name], errors);
        let value = at(new, &["spec", name]);
        if let (Some(error), Some(value), false) = (errors.get_mut(found), value, of.is_empty()) {
            error.shown = Some(protobuf::shown(of, value));
        }
    }
}

fn job_template(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let suspended = flag(old, &["spec", "suspend"]);
    let started = at(old, &["status", "startTime"]).is_some();
    let rests = items(old, &["status", "conditions"])
        .iter()
        .any(|one| one["type"] == "Suspended" && one["status"] == "True");
    let runs = old["status"]["active"].as_i64().unwrap_or(0) > 0;
    let now = &new["spec"]["template"];
    let mut before = old["spec"]["template"].clone();
    // A suspended job that has not run yet, or runs no longer, may be told where it is to run, and with what.
    let is_at_rest = suspended && (!started || rests) && !runs;
    if !is_at_rest {
        if *now != before {
            errors.push(FieldError::invalid("spec.template", now.clone(), IMMUTABLE));
        }
        return;
    }
    for name in ["nodeSelector", "tolerations", "schedulingGates"] {
        carry(&mut before["spec"], &now["spec"], name);
    }
    let node_affinity = now["spec"]["affinity"]["nodeAffinity"].clone();
    let mut affinity = before["spec"]["affinity"].clone();
    match node_affinity.is_null() {
        true => drop(remove(&mut affinity, "nodeAffinity")),
        false => affinity["nodeAffinity"] = node_affinity,
    }
    let is_set = |affinity: &Value| affinity.as_object().is_some_and(|members| !members.is_empty());
    if is_set(&affinity) || now["spec"]["affinity"].is_object() {
        before["spec"]["affinity"] = affinity;
    } else {
        remove(&mut before["spec"], "affinity");
    }
    for list in ["containers", "initContainers"] {
        let given = items(now, &["spec", list]);
        let kept = before["spec"].get_mut(list).and_then(Value::as_array_mut);
        for (one, now) in kept.filter(|kept| kept.len() == given.len()).into_iter().flatten().zip(given) {
            if one["name"] == now["name"] {
                carry(one, now, "resources");
            }
        }
    }
    if now["spec"] != before["spec"] {
        errors.push(FieldError::invalid("spec.template.spec", now["spec"].clone(), IMMUTABLE));
    }
}

/// An indexed job may grow or shrink, as long as it runs all of its pods at once.
fn completions(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (now, before) = (at(new, &["spec", "completions"]), at(old, &["spec", "completions"]));
    if text(new, &["spec", "completionMode"]) != "Indexed" {
        return fixed(new, old, &["spec", "completions"], errors);
    }
    let Some(value) = now.filter(|_| now != before) else { return };
    if new["spec"]["parallelism"] != *value {
        let why = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid("spec.completions", value.clone(), why));
    }
}

/// The scopes of a quota, in whatever order.
fn scopes(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let sorted = |quota: &Value| {
        let list = quota["spec"]["scopes"].as_array().into_iter().flatten();
        let mut all: Vec<String> = list.map(ToString::to_string).collect();
        all.sort();
        all.dedup();
        all
    };
    if sorted(new) != sorted(old) {
        let value = new["spec"]["scopes"].clone();
        errors.push(FieldError::invalid("spec.scopes", value, IMMUTABLE));
    }
}
