//! Rules of the core group.

use std::collections::BTreeSet;

use serde_json::Value;

use super::apps::{not_negative, template};
use super::field::FieldError;
use super::{names, pod, service};
use crate::object::{at, items, members, namespace, text};
use crate::quantity::Quantity;
use crate::registry::Resource;
use crate::select::LabelSelector;

/// What ConfigMaps and Secrets may hold, in bytes.
const DATA: usize = 1 << 20;

pub(super) fn check(resource: &Resource, object: &Value, errors: &mut Vec<FieldError>) {
    match resource.plural.as_str() {
        "pods" => pod::spec("spec", &object["spec"], errors),
        "podtemplates" => pod::spec("template.spec", &object["template"]["spec"], errors),
        "services" => service::service(object, errors),
        "endpoints" => service::endpoints(object, errors),
        "configmaps" => config_map(object, errors),
        "secrets" => secret(object, errors),
        "nodes" => node(object, errors),
        "events" => event(object, errors),
        "replicationcontrollers" => replication_controller(&object["spec"], errors),
        "persistentvolumes" => volume(&object["spec"], errors),
        "persistentvolumeclaims" => claim(&object["spec"], errors),
        "limitranges" => limit_range(object, errors),
        "resourcequotas" => quota(object, errors),
        _ => {}
    }
}

fn keys(path: &str, object: &Value, name: &str, errors: &mut Vec<FieldError>) -> usize {
    let mut size = 0;
    for (key, value) in members(object, &[name]) {
        if let Err(why) = names::config_key(key) {
            errors.push(FieldError::invalid(format!("{path}[{key}]"), key.as_str(), why));
        }
        size += value.as_str().map_or(0, str::len);
    }
    size
}

fn config_map(object: &Value, errors: &mut Vec<FieldError>) {
    let size = keys("data", object, "data", errors) + keys("binaryData", object, "binaryData", errors);
    for (key, _) in members(object, &["binaryData"]) {
        if at(object, &["data", key]).is_some() {
            let path = format!("data[{key}]");
            errors.push(FieldError::invalid(path, key.as_str(), "duplicate of key present in binaryData"));
        }
    }
    if size > DATA {
        errors.push(FieldError::too_long("", DATA));
    }
}

fn secret(object: &Value, errors: &mut Vec<FieldError>) {
    if keys("data", object, "data", errors) / 4 * 3 > DATA {
        errors.push(FieldError::too_long("data", DATA));
    }
    let needed: &[&str] = match text(object, &["type"]) {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/service-account-token" => {
            if text(object, &["metadata", "annotations", "kubernetes.io/service-account.name"]).is_empty() {
                let path = "metadata.annotations[kubernetes.io/service-account.name]";
                errors.push(FieldError::required(path, ""));
            }
            &[]
        }
        _ => &[],
    };
    for key in needed.iter().filter(|key| at(object, &["data", key]).is_none()) {
        errors.push(FieldError::required(format!("data[{key}]"), ""));
    }
}

fn node(object: &Value, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, taint) in items(object, &["spec", "taints"]).iter().enumerate() {
        let path = format!("spec.taints[{index}]");
        let (key, effect) = (text(taint, &["key"]), text(taint, &["effect"]));
        if let (false, Err(why)) = (key.is_empty(), names::label_key(key)) {
            errors.push(FieldError::invalid(format!("{path}.key"), key, why));
        }
        if let Err(why) = names::label_value(text(taint, &["value"])) {
            errors.push(FieldError::invalid(format!("{path}.value"), text(taint, &["value"]), why));
        }
        if !seen.insert((key, effect)) {
            errors.push(FieldError::duplicate(path, taint.clone()));
        }
    }
}

/// Events come from many components; only what would make them unreadable is refused.
fn event(object: &Value, errors: &mut Vec<FieldError>) {
    let about = text(object, &["involvedObject", "namespace"]);
    let expected = if about.is_empty() { "default" } else { about };
    if namespace(object) != expected && !(about.is_empty() && namespace(object) == "kube-system") {
        errors.push(FieldError::invalid("involvedObject.namespace", about, "does not match event.namespace"));
    }
}

fn replication_controller(spec: &Value, errors: &mut Vec<FieldError>) {
    not_negative("spec", spec, &["replicas", "minReadySeconds"], errors);
    match LabelSelector::from_map(&spec["selector"]) {
        None => errors.push(FieldError::required("spec.selector", "")),
        Some(selector) if !selector.matches_labels(at(spec, &["template", "metadata", "labels"])) => {
            errors.push(FieldError::invalid(
                "spec.template.metadata.labels",
                at(spec, &["template", "metadata", "labels"]).cloned().unwrap_or(Value::Null),
                "`selector` does not match template `labels`",
            ));
        }
        Some(_) => {}
    }
    template(spec, &["Always"], errors);
}

/// Fields of a PersistentVolume that are not its source.
const NOT_A_SOURCE: [&str; 10] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
    "name",
];

fn volume(spec: &Value, errors: &mut Vec<FieldError>) {
    if items(spec, &["accessModes"]).is_empty() {
        errors.push(FieldError::required("spec.accessModes", ""));
    }
    if members(spec, &["capacity"]).next().is_none() {
        errors.push(FieldError::required("spec.capacity", ""));
    }
    let sources: Vec<&String> = members(spec, &[])
        .map(|(name, _)| name)
        .filter(|name| !NOT_A_SOURCE.contains(&name.as_str()))
        .collect();
    match sources.as_slice() {
        [] => errors.push(FieldError::required("spec", "must specify a volume type")),
        [_] => {}
        [_, more @ ..] => {
            for other in more {
                let path = format!("spec.{other}");
                errors.push(FieldError::forbidden(path, "may not specify more than 1 volume type"));
            }
        }
    }
}

fn claim(spec: &Value, errors: &mut Vec<FieldError>) {
    if items(spec, &["accessModes"]).is_empty() {
        errors.push(FieldError::required("spec.accessModes", "at least 1 access mode is required"));
    }
    match at(spec, &["resources", "requests", "storage"]).and_then(Value::as_str) {
        None => errors.push(FieldError::required("spec.resources[storage]", "")),
        Some(amount) => {
            if Quantity::parse(amount).is_ok_and(|amount| amount.is_negative() || amount.is_zero()) {
                let path = "spec.resources[storage]";
                errors.push(FieldError::invalid(path, amount, "must be greater than zero"));
            }
        }
    }
}

fn limit_range(object: &Value, errors: &mut Vec<FieldError>) {
    for (index, limit) in items(object, &["spec", "limits"]).iter().enumerate() {
        let amount = |list: &str, name: &str| {
            limit.get(list)?.get(name)?.as_str().and_then(|text| Quantity::parse(text).ok())
        };
        for (name, value) in members(limit, &["min"]) {
            if let (Some(least), Some(most)) = (amount("min", name), amount("max", name))
                && least > most
            {
                let path = format!("spec.limits[{index}].min[{name}]");
                let detail = format!("min value {least} is greater than max value {most}");
                errors.push(FieldError::invalid(path, value.clone(), detail));
            }
        }
    }
}

fn quota(object: &Value, errors: &mut Vec<FieldError>) {
    for (name, value) in members(object, &["spec", "hard"]) {
        let amount = value.as_str().and_then(|text| Quantity::parse(text).ok());
        if amount.is_some_and(|amount| amount.is_negative()) {
            let path = format!("spec.hard[{name}]");
            errors.push(FieldError::invalid(path, value.clone(), "must be greater than or equal to 0"));
        }
    }
}
