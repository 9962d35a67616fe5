//! What may not change once an object is there.

use serde_json::Value;

use super::field::FieldError;
use super::{claim, core, devices, event, networking, persistent_volume, pod_update, service, storage};
use crate::object::{at, flag, remove, text};
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
    for name in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        fixed(new, old, &["spec", name], errors);
    }
    completions(new, old, errors);
    let suspended = flag(old, &["spec", "suspend"]);
    let started = at(old, &["status", "startTime"]).is_some();
    let mut before = old["spec"]["template"].clone();
    // A suspended job that has not run yet, or is to run elsewhere, may be told where.
    if suspended && !started {
        let now = &new["spec"]["template"];
        for name in ["labels", "annotations"] {
            crate::object::carry(&mut before["metadata"], &now["metadata"], name);
        }
        for name in ["nodeSelector", "tolerations", "schedulingGates", "affinity"] {
            crate::object::carry(&mut before["spec"], &now["spec"], name);
        }
        for list in ["containers", "initContainers"] {
            let given = now["spec"][list].as_array().cloned().unwrap_or_default();
            for (one, now) in before["spec"][list].as_array_mut().into_iter().flatten().zip(&given) {
                if one["name"] == now["name"] {
                    crate::object::carry(one, now, "resources");
                }
            }
        }
        for member in ["metadata", "spec"] {
            if before[member].is_null() {
                remove(&mut before, member);
            }
        }
        if let Some(spec) = before["spec"].as_object_mut() {
            spec.retain(|_, value| !value.is_null());
        }
    }
    if new["spec"]["template"] != before {
        let value = new["spec"]["template"].clone();
        errors.push(FieldError::invalid("spec.template", value, IMMUTABLE));
    }
}

/// An indexed job may grow or shrink, as long as it runs all of its pods at once.
fn completions(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (now, before) = (at(new, &["spec", "completions"]), at(old, &["spec", "completions"]));
    if now == before {
        return;
    }
    let elastic = text(new, &["spec", "completionMode"]) == "Indexed";
    if !elastic || now.is_none() || before.is_none() {
        return fixed(new, old, &["spec", "completions"], errors);
    }
    let parallel = |job: &Value| job["spec"]["completions"] == job["spec"]["parallelism"];
    if !parallel(new) || !parallel(old) {
        let value = now.cloned().unwrap_or(Value::Null);
        let why =
            format!("can only be modified in tandem with spec.parallelism: field is immutable, got {value}");
        errors.push(FieldError::invalid("spec.completions", value, why));
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
