//! What every object carries: name, namespace, labels, annotations, owners, finalizers.

use serde_json::Value;

use super::field::FieldError;
use super::{address, names};
use crate::object::{at, flag, items, members, text};
use crate::registry::Resource;

/// All annotations of an object together may have this many bytes.
const ANNOTATIONS: usize = 256 << 10;

/// How the names of a kind are checked.
fn name_rule(resource: &Resource) -> fn(&str) -> names::Verdict {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "namespaces") | ("apps", "statefulsets") => names::dns_label,
        ("", "services") => names::dns_label,
        ("rbac.authorization.k8s.io" | "apiregistration.k8s.io", _) => names::path_segment,
        ("networking.k8s.io", "ipaddresses") => address::canonical,
        ("certificates.k8s.io", "certificatesigningrequests") | ("policy", _) => names::path_segment,
        // The older group takes what components have always sent.
        ("", "events") => names::path_segment,
        _ => names::dns_subdomain,
    }
}

/// Rules for a new object.
pub(super) fn create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let rule = name_rule(resource);
    let (name, prefix) = (text(object, &["metadata", "name"]), text(object, &["metadata", "generateName"]));
    if !prefix.is_empty() {
        // The prefix of a generated name may end with a dash: what follows makes it whole.
        let whole = match prefix.strip_suffix('-').and_then(|rest| rest.char_indices().next_back()) {
            Some((at, _)) => format!("{}a", &prefix[..at]),
            None => prefix.to_owned(),
        };
        if let Err(why) = rule(&whole) {
            errors.push(FieldError::invalid("metadata.generateName", prefix, why));
        }
    }
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else if let Err(why) = rule(name) {
        errors.push(FieldError::invalid("metadata.name", name, why));
    }
    let namespace = text(object, &["metadata", "namespace"]);
    if resource.namespaced {
        if namespace.is_empty() {
            errors.push(FieldError::required("metadata.namespace", ""));
        } else if let Err(why) = names::dns_label(namespace) {
            errors.push(FieldError::invalid("metadata.namespace", namespace, why));
        }
    } else if !namespace.is_empty() {
        errors.push(FieldError::forbidden("metadata.namespace", "not allowed on this type"));
    }
    shared(resource, object, &mut errors);
    errors
}

/// Rules for an object that replaces another.
pub(super) fn update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for name in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        let (now, before) = (at(new, &["metadata", name]), at(old, &["metadata", name]));
        if now != before && !(now.is_none() && before == Some(&Value::String(String::new()))) {
            let value = now.cloned().unwrap_or(Value::Null);
            errors.push(FieldError::invalid(format!("metadata.{name}"), value, "field is immutable"));
        }
    }
    let leaving = at(old, &["metadata", "deletionTimestamp"]).is_some();
    if leaving {
        let before = items(old, &["metadata", "finalizers"]);
        let added: Vec<&str> = items(new, &["metadata", "finalizers"])
            .iter()
            .filter(|one| !before.contains(one))
            .filter_map(Value::as_str)
            .collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            errors.push(FieldError::forbidden("metadata.finalizers", detail));
        }
    }
    shared(resource, new, &mut errors);
    errors
}

/// Whether finalizers must be well known or say whose they are: so for the kinds of upstream's main server, and not for
/// those of its two add-on servers and of admission, nor for the older events.
fn wants_qualified_finalizers(resource: &Resource) -> bool {
    let generic = ["admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"];
    let old_event = resource.group.is_empty() && resource.plural == "events";
    resource.custom.is_none() && !generic.contains(&resource.group.as_str()) && !old_event
}

fn shared(resource: &Resource, object: &Value, errors: &mut Vec<FieldError>) {
    let metadata = &object["metadata"];
    labels("metadata.labels", metadata.get("labels"), errors);
    annotations("metadata.annotations", metadata.get("annotations"), errors);
    for (index, finalizer) in items(metadata, &["finalizers"]).iter().enumerate() {
        let finalizer = finalizer.as_str().unwrap_or_default();
        // Which of them upstream does not say of names that are none.
        let faults = names::label_key_faults(finalizer).into_iter();
        errors.extend(faults.map(|why| FieldError::invalid("metadata.finalizers", finalizer, why)));
        if wants_qualified_finalizers(resource)
            && !finalizer.contains('/')
            && !matches!(finalizer, "orphan" | "foregroundDeletion" | "kubernetes")
        {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(format!("metadata.finalizers[{index}]"), finalizer, why));
        }
    }
    owners(metadata, errors);
}

fn owners(metadata: &Value, errors: &mut Vec<FieldError>) {
    const PATH: &str = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    for owner in items(metadata, &["ownerReferences"]) {
        let member = |name: &str| text(owner, &[name]);
        // With two slashes it is no group and version.
        let (group, version) = member("apiVersion").split_once('/').unwrap_or(("", member("apiVersion")));
        let version = if version.contains('/') { "" } else { version };
        // Upstream does not say which of them.
        for (name, is_missing, why) in [
            ("apiVersion", version.is_empty(), "version must not be empty"),
            ("kind", member("kind").is_empty(), "must not be empty"),
            ("name", member("name").is_empty(), "must not be empty"),
            ("uid", member("uid").is_empty(), "must not be empty"),
        ] {
            if is_missing {
                errors.push(FieldError::invalid(format!("{PATH}.{name}"), member(name), why));
            }
        }
        if (group, version, member("kind")) == ("", "v1", "Event") {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(PATH, owner.clone(), why).shown_as(shown_owner(owner)));
        }
        if flag(owner, &["controller"]) {
            let this = format!("{}/{}", member("kind"), member("name"));
            let Some(first) = &controller else {
                controller = Some(this);
                continue;
            };
            let why = format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
            );
            let value = metadata["ownerReferences"].clone();
            let shown: Vec<String> = items(metadata, &["ownerReferences"]).iter().map(shown_owner).collect();
            errors.push(FieldError::invalid(PATH, value, why).shown_as(format!("[{}]", shown.join(","))));
        }
    }
}

/// An owner as upstream writes it: its members in the order of the type.
fn shown_owner(owner: &Value) -> String {
    let order = ["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"];
    let written = order.iter().filter_map(|name| {
        let value = match owner.get(name) {
            None if matches!(*name, "controller" | "blockOwnerDeletion") => return None,
            found => found.cloned().unwrap_or_else(|| "".into()),
        };
        Some(format!("{name:?}:{value}"))
    });
    format!("{{{}}}", written.collect::<Vec<_>>().join(","))
}

/// Rules for labels wherever they are.
pub(super) fn labels(path: &str, labels: Option<&Value>, errors: &mut Vec<FieldError>) {
    for (key, value) in labels.into_iter().flat_map(|labels| members(labels, &[])) {
        let faults = names::label_key_faults(key).into_iter();
        errors.extend(faults.map(|why| FieldError::invalid(path, key.as_str(), why)));
        let faults = names::label_value_faults(value.as_str().unwrap_or_default()).into_iter();
        errors.extend(faults.map(|why| FieldError::invalid(path, value.clone(), why)));
    }
}

/// Rules for annotations: keys like labels', values free, a limit on the whole.
pub(super) fn annotations(path: &str, annotations: Option<&Value>, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flat_map(|annotations| members(annotations, &[])) {
        // The key is compared in lower case, as upstream does for the sake of old objects.
        let faults = names::label_key_faults(&key.to_ascii_lowercase()).into_iter();
        errors.extend(faults.map(|why| FieldError::invalid(path, key.as_str(), why)));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS {
        errors.push(FieldError::too_long(path, ANNOTATIONS));
    }
}
