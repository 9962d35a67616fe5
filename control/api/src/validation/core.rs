//! Rules of the core group, but for pods, services and volumes.

use std::collections::BTreeSet;

use base64::Engine as _;
use serde_json::Value;

use super::field::FieldError;
use super::place::{Errors, Place};
use super::{address, apps, claim, event, limits, names, persistent_volume, pod, service};
use crate::object::{at, items, members, text};
use crate::protobuf;
use crate::registry::Resource;

/// What ConfigMaps and Secrets may hold, in bytes.
const DATA: usize = 1 << 20;

pub(super) fn check(resource: &Resource, object: &Value, creating: bool, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    match resource.plural.as_str() {
        "pods" => pod::pod(object, creating, errors),
        "podtemplates" => apps::template_content("template", &object["template"], errors),
        "services" => service::service(object, errors),
        "endpoints" => service::endpoints(object, errors),
        "configmaps" => config_map(object, errors),
        "secrets" => secret(object, errors),
        "nodes" => node(object, &spec, creating, errors),
        "events" => event::core(object, errors),
        "replicationcontrollers" => apps::replication_controller(object, errors),
        "persistentvolumes" => {
            persistent_volume::spec(&spec, text(object, &["metadata", "name"]), false, errors)
        }
        "persistentvolumeclaims" => claim::spec(&spec, errors),
        "limitranges" => limits::range(&spec, errors),
        "resourcequotas" => limits::quota(&spec, errors),
        "namespaces" => {
            for finalizer in spec.each("finalizers") {
                finalizer_of_namespace(&Place::new("spec.finalizers", finalizer.value), errors);
            }
        }
        _ => {}
    }
}

/// The rules for the finalizers of a namespace when they are what is written.
pub(super) fn finalize(object: &Value, errors: &mut Errors) {
    for finalizer in Place::new("spec", &object["spec"]).each("finalizers") {
        finalizer_of_namespace(&finalizer, errors);
    }
}

fn finalizer_of_namespace(place: &Place<'_>, errors: &mut Errors) {
    place.judge_key(errors);
    if !matches!(place.text(), "kubernetes" | "orphan" | "foregroundDeletion") && !place.text().contains('/')
    {
        place.invalid("name is neither a standard finalizer name nor is it fully qualified", errors);
    }
}

/// The size of what text in base64 stands for.
fn decoded_size(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

fn keys(object: &Value, name: &str, errors: &mut Errors) {
    for (key, _) in members(object, &[name]) {
        if let Err(why) = names::config_key(key) {
            errors.push(FieldError::invalid(format!("{name}[{key}]"), key.as_str(), why));
        }
    }
}

fn config_map(object: &Value, errors: &mut Errors) {
    keys(object, "data", errors);
    let mut size = 0;
    for (key, value) in members(object, &["data"]) {
        if at(object, &["binaryData", key]).is_some() {
            let path = format!("data[{key}]");
            errors.push(FieldError::invalid(path, key.as_str(), "duplicate of key present in binaryData"));
        }
        size += value.as_str().map_or(0, str::len);
    }
    keys(object, "binaryData", errors);
    size += members(object, &["binaryData"])
        .map(|(_, one)| decoded_size(one.as_str().unwrap_or_default()))
        .sum::<usize>();
    if size > DATA {
        errors.push(FieldError::too_long("[]", DATA));
    }
}

fn secret(object: &Value, errors: &mut Errors) {
    keys(object, "data", errors);
    let size: usize =
        members(object, &["data"]).map(|(_, one)| decoded_size(one.as_str().unwrap_or_default())).sum();
    if size > DATA {
        errors.push(FieldError::too_long("data", DATA));
    }
    let missing = |key: &str, errors: &mut Errors| {
        errors.push(FieldError::required(format!("data[{key}]"), ""));
    };
    let has = |key: &str| at(object, &["data", key]).is_some();
    match text(object, &["type"]) {
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].into_iter().filter(|key| !has(key)) {
                missing(key, errors);
            }
        }
        "kubernetes.io/dockercfg" => docker_config(object, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => docker_config(object, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            missing("username", errors);
            missing("password", errors);
        }
        "kubernetes.io/ssh-auth" if text(object, &["data", "ssh-privatekey"]).is_empty() => {
            missing("ssh-privatekey", errors);
        }
        "kubernetes.io/service-account-token"
            if text(object, &["metadata", "annotations", "kubernetes.io/service-account.name"])
                .is_empty() =>
        {
            let path = "metadata.annotations[kubernetes.io/service-account.name]";
            errors.push(FieldError::required(path, ""));
        }
        _ => {}
    }
}

fn docker_config(object: &Value, key: &str, errors: &mut Errors) {
    let Some(data) = at(object, &["data", key]).and_then(Value::as_str) else {
        return errors.push(FieldError::required(format!("data[{key}]"), ""));
    };
    let bytes = base64::engine::general_purpose::STANDARD.decode(data).unwrap_or_default();
    let why = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(_) => "json: cannot unmarshal into Go value of type map[string]interface {}",
        Err(_) if bytes.is_empty() => "unexpected end of JSON input",
        Err(_) => "invalid character in JSON",
    };
    errors.push(FieldError::invalid(format!("data[{key}]"), "<secret contents redacted>", why));
}

fn node(object: &Value, spec: &Place<'_>, creating: bool, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, taint) in spec.each("taints").enumerate() {
        // Upstream has it so.
        let taint = Place::new(format!("metadata.taints[{index}]"), taint.value);
        let (key, effect) = (taint.get("key"), taint.get("effect"));
        key.judge_key(errors);
        taint.get("value").judge(names::label_value, errors);
        if effect.text().is_empty() {
            effect.required("", errors);
        } else {
            effect.one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
        }
        if !seen.insert((key.text(), effect.text())) {
            let mut error = FieldError::duplicate(&taint.path, taint.value.clone());
            error.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(error.shown_as(protobuf::shown("core/v1.Taint", taint.value)));
        }
    }
    node_status(object, errors);
    let cidrs = spec.get("podCIDRs");
    if !creating || cidrs.count() == 0 {
        return;
    }
    let families: Vec<bool> = cidrs
        .items()
        .filter_map(|one| address::cidr(&one, errors))
        .map(|(first, _)| first.is_ipv4())
        .collect();
    let mixed = families.len() == 2 && families[0] != families[1];
    if cidrs.count() > 1 && !mixed {
        cidrs.invalid("may specify no more than one CIDR for each IP family", errors);
    }
}

/// What a node says that it has.
pub(super) fn node_status(object: &Value, errors: &mut Errors) {
    let status = Place::of(object, "status");
    for list in ["capacity", "allocatable"] {
        for (name, amount) in status.get(list).entries() {
            let place = Place::new(format!("status.{list}.{name}"), amount.value);
            place.amount_not_negative(errors);
        }
    }
    let features: Vec<Place<'_>> = status.each("declaredFeatures").collect();
    for pair in features.windows(2) {
        if pair[0].text() == pair[1].text() {
            pair[1].duplicate(errors);
        } else if pair[0].text() > pair[1].text() {
            pair[1].invalid("list must be sorted alphabetically", errors);
        }
    }
}

/// What an update of a node, by whichever part, must keep.
pub(super) fn node_update(new: &Value, old: &Value, errors: &mut Errors) {
    let mut seen: Vec<&Value> = Vec::new();
    for address in Place::of(new, "status").each("addresses") {
        if seen.contains(&address.value) {
            address.duplicate(errors);
        }
        seen.push(address.value);
    }
    let (now, before) = (items(new, &["spec", "podCIDRs"]), items(old, &["spec", "podCIDRs"]));
    if !before.is_empty() && now != before {
        let why = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(FieldError::forbidden("spec.podCIDRs", why));
    }
    let provider = text(old, &["spec", "providerID"]);
    if !provider.is_empty() && text(new, &["spec", "providerID"]) != provider {
        let why = "node updates may not change providerID except from \"\" to valid";
        errors.push(FieldError::forbidden("spec.providerID", why));
    }
    if text(new, &["spec", "externalID"]) != text(old, &["spec", "externalID"]) {
        errors.push(FieldError::forbidden("spec.externalID", "may not be updated"));
    }
}

/// The phase of a namespace follows its deletion.
pub(super) fn namespace_status(object: &Value, errors: &mut Errors) {
    let going = at(object, &["metadata", "deletionTimestamp"]).is_some();
    let phase = text(object, &["status", "phase"]);
    let (expected, state) = if going { ("Terminating", "not empty") } else { ("Active", "empty") };
    if phase != expected {
        let why = format!("may only be '{expected}' if `deletionTimestamp` is {state}");
        errors.push(FieldError::invalid("status.Phase", phase, why));
    }
}
