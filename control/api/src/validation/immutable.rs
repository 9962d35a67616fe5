//! What may not change once an object is there.

use serde_json::Value;

use super::field::FieldError;
use super::pod_update;
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
        ("batch", "jobs") => {
            for name in
                ["selector", "completionMode", "podFailurePolicy", "successPolicy", "backoffLimitPerIndex"]
            {
                fixed(new, old, &["spec", name], errors);
            }
            if text(new, &["spec", "completionMode"]) != "Indexed" {
                fixed(new, old, &["spec", "completions"], errors);
            }
            if !flag(old, &["spec", "suspend"]) {
                fixed(new, old, &["spec", "template"], errors);
            }
        }
        ("", "pods") => pod_update::check(&new["spec"], &old["spec"], errors),
        ("", "services") => service(new, old, errors),
        ("", "configmaps") => sealed(new, old, &["data", "binaryData"], errors),
        ("", "secrets") => {
            keep(new, old, &["type"], IMMUTABLE, errors);
            sealed(new, old, &["data"], errors);
        }
        ("", "persistentvolumeclaims") => claim(new, old, errors),
        ("", "persistentvolumes") => fixed(new, old, &["spec", "volumeMode"], errors),
        ("discovery.k8s.io", "endpointslices") => fixed(new, old, &["addressType"], errors),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            keep(new, old, &["roleRef"], "cannot change roleRef", errors);
        }
        ("storage.k8s.io", "storageclasses") => {
            for (name, detail) in [
                ("parameters", "updates to parameters are forbidden."),
                ("provisioner", "updates to provisioner are forbidden."),
                ("reclaimPolicy", "updates to reclaimPolicy are forbidden."),
            ] {
                if at(new, &[name]) != at(old, &[name]) {
                    errors.push(FieldError::forbidden(name, detail));
                }
            }
            fixed(new, old, &["volumeBindingMode"], errors);
        }
        ("scheduling.k8s.io", "priorityclasses") => {
            if new.get("value") != old.get("value") {
                errors.push(FieldError::forbidden("value", "may not be changed in an update."));
            }
            fixed(new, old, &["preemptionPolicy"], errors);
        }
        ("node.k8s.io", "runtimeclasses") => fixed(new, old, &["handler"], errors),
        ("certificates.k8s.io", _) => fixed(new, old, &["spec"], errors),
        ("networking.k8s.io", "ingressclasses") => fixed(new, old, &["spec", "controller"], errors),
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

fn service(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let has_address = |one: &Value| text(one, &["spec", "type"]) != "ExternalName";
    if !has_address(new) || !has_address(old) {
        return;
    }
    let (now, before) = (text(new, &["spec", "clusterIP"]), text(old, &["spec", "clusterIP"]));
    if !before.is_empty() && now != before {
        let value = serde_json::json!([now]);
        errors.push(FieldError::invalid("spec.clusterIPs[0]", value, "may not change once set"));
    }
}

fn claim(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let bare = |claim: &Value| -> Value {
        let mut spec = claim["spec"].clone();
        for name in ["resources", "volumeAttributesClassName", "volumeName"] {
            remove(&mut spec, name);
        }
        spec
    };
    let bound = text(old, &["spec", "volumeName"]);
    let moved = !bound.is_empty() && text(new, &["spec", "volumeName"]) != bound;
    if moved || bare(new) != bare(old) {
        errors.push(FieldError::forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        ));
    }
}
