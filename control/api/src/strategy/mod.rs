//! What happens to an object on its way into the store, whatever the client sent: fields that only the server or only a
//! subresource may set are put right, generations count, deletion gets its grace.
//!
//! The server sets uid, creationTimestamp, resourceVersion and generated names, before [`prepare_create`] runs.

mod claim;
mod daemon_set;
mod job;
mod narrow;
mod pod;
mod service;
mod update;
mod volume;

use serde_json::{Value, json};

use crate::decode;
use crate::object::{at, carry, items, members, number, put_back, remove, set, take_unchanged, text};
use crate::registry::Resource;

pub(crate) use daemon_set::TEMPLATE_GENERATION;
pub use narrow::{Narrow, prepare_narrow};
pub use pod::{qos_class, total_request};
pub use update::{is_created_by_update, is_named_by_server, is_updated_unconditionally};

/// Whether changes of what the owner wishes are counted in `metadata.generation`.
pub fn counts_generation(resource: &Resource) -> bool {
    if resource.custom.is_some() {
        return true;
    }
    matches!(
        (resource.group.as_str(), resource.plural.as_str()),
        ("apps", "daemonsets" | "deployments" | "replicasets" | "statefulsets")
            | ("", "pods" | "podtemplates" | "replicationcontrollers")
            | ("batch", "cronjobs" | "jobs")
            | ("networking.k8s.io", "ingresses" | "ingressclasses" | "networkpolicies")
            | ("policy", "poddisruptionbudgets")
            | ("discovery.k8s.io", "endpointslices")
            | ("flowcontrol.apiserver.k8s.io", _)
            | ("admissionregistration.k8s.io", _)
            | ("apiextensions.k8s.io", _)
            | ("resource.k8s.io", "deviceclasses" | "resourceslices")
            | ("scheduling.k8s.io", "priorityclasses")
            | ("storage.k8s.io", "csidrivers")
    )
}

/// The object as it is about to be created.
pub fn prepare_create(resource: &Resource, object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata") {
        for name in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            remove(metadata, name);
        }
    }
    if !object["metadata"].is_object() {
        set(object, "metadata", json!({}));
    }
    if counts_generation(resource) {
        // Upstream counts the changes of these only.
        match resource.plural == "csidrivers" && resource.custom.is_none() {
            true => drop(remove(&mut object["metadata"], "generation")),
            false => set(&mut object["metadata"], "generation", 1),
        }
    }
    if resource.custom.is_some() {
        if resource.has_status() {
            remove(object, "status");
        }
        return;
    }
    if resource.has_status() {
        set(object, "status", json!({}));
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => pod::create(object),
        ("", "services") => set(object, "status", json!({ "loadBalancer": {} })),
        ("", "namespaces") => {
            set(object, "status", json!({ "phase": "Active" }));
            if !object["spec"].is_object() {
                set(object, "spec", json!({}));
            }
            let mut finalizers = items(object, &["spec", "finalizers"]).to_vec();
            if !finalizers.iter().any(|one| one == "kubernetes") {
                finalizers.push("kubernetes".into());
            }
            set(&mut object["spec"], "finalizers", finalizers);
        }
        ("", "persistentvolumes") => {
            let now = object["metadata"]["creationTimestamp"].clone();
            set(object, "status", json!({ "phase": "Pending", "lastPhaseTransitionTime": now }));
        }
        ("", "persistentvolumeclaims") => {
            set(object, "status", json!({ "phase": "Pending" }));
            volume::known_source(object, None);
            volume::one_source(object);
        }
        ("", "serviceaccounts") => only_names(object),
        ("apps", "daemonsets") => daemon_set::create(object),
        ("batch", "jobs") => job::create(object),
        ("apiextensions.k8s.io", _) => crate::definition::record_storage_version(object),
        _ => {}
    }
    decode::fill_zeros(resource, object);
    decode::settle_zeros(resource, object);
}

/// Of the secrets of a service account the names are kept.
fn only_names(account: &mut Value) {
    for secret in account.get_mut("secrets").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(members) = secret.as_object_mut() {
            members.retain(|member, _| member == "name");
        }
    }
}

/// The new object as it is about to replace the old one through the main resource.
pub fn prepare_update(resource: &Resource, new: &mut Value, old: &Value) {
    decode::settle_zeros(resource, new);
    keep_metadata(new, old);
    if resource.has_status() {
        carry(new, old, "status");
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        _ if resource.custom.is_some() => {}
        ("apiextensions.k8s.io", _) => crate::definition::record_storage_version(new),
        ("", "services") => service::update(new, old),
        ("", "persistentvolumeclaims") => {
            volume::known_source(new, Some(old));
            volume::one_source(new);
        }
        ("", "serviceaccounts") => only_names(new),
        ("apps", "daemonsets") => daemon_set::update(new, old),
        ("", "namespaces") => {
            let finalizers = at(old, &["spec", "finalizers"]).cloned();
            if !new["spec"].is_object() {
                set(new, "spec", json!({}));
            }
            match finalizers {
                Some(finalizers) => set(&mut new["spec"], "finalizers", finalizers),
                None => drop(remove(&mut new["spec"], "finalizers")),
            }
        }
        _ => {}
    }
    count_generation(resource, new, old);
}

/// The new object as it is about to replace the old one through the `status` subresource: only status and metadata pass.
/// `now` is a time in the API's form.
pub fn prepare_status(resource: &Resource, new: &mut Value, old: &Value, now: &str) {
    let mut unchanged = take_unchanged(new, old);
    let status =
        unchanged.iter().position(|(name, _)| name == "status").map(|at| unchanged.swap_remove(at).1);
    let status = status.or_else(|| remove(new, "status"));
    let metadata = remove(new, "metadata");
    // Whatever else was changed is as it was.
    *new = json!({});
    for (name, value) in old.as_object().into_iter().flatten() {
        let is_there = unchanged.iter().any(|(there, _)| there == name);
        if !is_there && !matches!(name.as_str(), "metadata" | "status") {
            set(new, name, value.clone());
        }
    }
    if let Some(metadata) = metadata {
        set(new, "metadata", metadata);
    }
    match status {
        Some(status) => set(new, "status", status),
        None if resource.custom.is_some() => {}
        None => set(new, "status", json!({})),
    }
    change_status(resource, new, old, now);
    put_back(new, unchanged);
}

/// What becomes of metadata and status in an object that has changed in nothing else, and need not have the rest.
fn change_status(resource: &Resource, new: &mut Value, old: &Value, now: &str) {
    keep_metadata(new, old);
    if resource.custom.is_some() {
        // Nothing but the status, and who owns it.
        let mut metadata = old["metadata"].clone();
        carry(&mut metadata, &new["metadata"], "managedFields");
        carry(&mut metadata, &new["metadata"], "resourceVersion");
        set(new, "metadata", metadata);
        return;
    }
    let (mut new_meta, old_meta) = (new["metadata"].take(), &old["metadata"]);
    for name in ["ownerReferences", "finalizers", "generation"] {
        carry(&mut new_meta, old_meta, name);
    }
    if matches!(resource.group.as_str(), "apps" | "batch" | "policy" | "autoscaling") {
        carry(&mut new_meta, old_meta, "labels");
    }
    new["metadata"] = new_meta;
    if (resource.group.as_str(), resource.plural.as_str()) == ("", "pods") {
        pod::status(new, old);
    }
    if (resource.group.as_str(), resource.plural.as_str()) == ("", "persistentvolumes") {
        volume::time_phase(new, old, now);
    }
    if (resource.group.as_str(), resource.plural.as_str()) == ("resource.k8s.io", "resourceclaims") {
        claim::status(new, old);
    }
    decode::fill_zeros(resource, new);
    decode::settle_zeros(resource, new);
}

/// Whether objects of the kind have time between the request for their deletion and their end.
pub fn is_graceful(resource: &Resource) -> bool {
    (resource.group.as_str(), resource.plural.as_str()) == ("", "pods")
}

/// Seconds from the request until the object goes: 0 is at once. `requested` is what the client asked for.
pub fn deletion_grace(resource: &Resource, object: &Value, requested: Option<i64>) -> i64 {
    if !is_graceful(resource) {
        return 0;
    }
    let unscheduled = text(object, &["spec", "nodeName"]).is_empty();
    let finished = matches!(text(object, &["status", "phase"]), "Failed" | "Succeeded");
    if unscheduled || finished {
        return 0;
    }
    let period =
        requested.or_else(|| number(object, &["spec", "terminationGracePeriodSeconds"])).unwrap_or(0);
    if period < 0 { 1 } else { period }
}

/// What no client may change, and what an update may leave out.
fn keep_metadata(new: &mut Value, old: &Value) {
    if !new["metadata"].is_object() {
        set(new, "metadata", json!({}));
    }
    let metadata = &mut new["metadata"];
    let old = &old["metadata"];
    for name in ["name", "namespace", "uid", "creationTimestamp"] {
        if metadata.get(name).is_none_or(|value| value.is_null() || value.as_str() == Some("")) {
            carry(metadata, old, name);
        }
    }
    for name in ["generation", "generateName", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        carry(metadata, old, name);
    }
    remove(metadata, "selfLink");
}

fn count_generation(resource: &Resource, new: &mut Value, old: &Value) {
    if !counts_generation(resource) {
        return;
    }
    let is_wish = |name: &str| match name {
        "metadata" | "apiVersion" | "kind" => false,
        "status" => resource.custom.is_some() && !resource.has_status(),
        _ => true,
    };
    // A write that begins the deletion counts, too.
    let deleted = |object: &Value| at(object, &["metadata", "deletionTimestamp"]).is_some();
    // Of a Deployment annotations are a wish: rollouts copy them.
    let notes = |object: &Value| match (resource.kind.as_str(), &resource.custom) {
        ("Deployment", None) => at(object, &["metadata", "annotations"]).cloned(),
        _ => None,
    };
    if !are_same(new, old, is_wish) || deleted(new) != deleted(old) || notes(new) != notes(old) {
        let generation = number(old, &["metadata", "generation"]).unwrap_or(0) + 1;
        set(&mut new["metadata"], "generation", generation);
    }
}

/// Whether two objects have the same members of the names that count.
fn are_same(new: &Value, old: &Value, counts: impl Fn(&str) -> bool) -> bool {
    let members = |object| members(object, &[]).filter(|(name, _)| counts(name));
    members(new).eq(members(old))
}

#[cfg(test)]
mod tests;
