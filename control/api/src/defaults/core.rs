//! Defaults of the core group.

use base64::Engine as _;
use serde_json::{Value, json};

use super::{child, default, default_unset, each, pod, service};
use crate::object::{at, flag, members, name, remove, set, text};
use crate::registry::Resource;

pub(super) fn apply(resource: &Resource, object: &mut Value) {
    match resource.plural.as_str() {
        "pods" => {
            if let Some(spec) = object.get_mut("spec") {
                pod::pod(spec);
            }
        }
        "podtemplates" => template(object),
        "services" => service::service(object),
        "endpoints" => service::endpoints(object),
        "secrets" => secret(object),
        "namespaces" => namespace(object),
        "nodes" => node(object),
        "persistentvolumes" => volume(object),
        "persistentvolumeclaims" => default_unset(child(object, "spec"), "volumeMode", "Filesystem"),
        "replicationcontrollers" => replication_controller(object),
        "limitranges" => limit_range(object),
        _ => {}
    }
}

/// Anything with a `template` of pods.
pub(super) fn template(holder: &mut Value) {
    if let Some(spec) = holder.get_mut("template").and_then(|template| template.get_mut("spec")) {
        pod::spec(spec);
    }
}

/// `stringData` is a way to write `data`, and is never stored.
fn secret(object: &mut Value) {
    default(object, "type", "Opaque");
    if let Some(text) = remove(object, "stringData") {
        let data = child(object, "data");
        for (key, value) in members(&text, &[]) {
            let value = value.as_str().unwrap_or_default();
            set(data, key, base64::engine::general_purpose::STANDARD.encode(value));
        }
    }
}

/// Every namespace can be selected by its name, and is active until it goes.
fn namespace(object: &mut Value) {
    default(child(object, "status"), "phase", "Active");
    let name = name(object).to_owned();
    if !name.is_empty() {
        set(child(child(object, "metadata"), "labels"), "kubernetes.io/metadata.name", name);
    }
}

fn node(object: &mut Value) {
    if let Some(status) = object.get_mut("status").filter(|status| at(status, &["allocatable"]).is_none())
        && let Some(capacity) = at(status, &["capacity"]).cloned()
    {
        set(status, "allocatable", capacity);
    }
    // The old field for one address range and the new one for several say the same.
    let Some(spec) = object.get_mut("spec") else { return };
    let (one, many) = (text(spec, &["podCIDR"]).to_owned(), at(spec, &["podCIDRs"]).cloned());
    match (one.is_empty(), many) {
        (false, Some(many)) if many.get(0).is_some_and(|first| first == &one) => {}
        (false, _) => set(spec, "podCIDRs", json!([one])),
        (true, Some(many)) => {
            if let Some(first) = many.get(0).cloned() {
                set(spec, "podCIDR", first);
            }
        }
        _ => {}
    }
    if !flag(spec, &["unschedulable"]) {
        remove(spec, "unschedulable");
    }
}

fn volume(object: &mut Value) {
    let spec = child(object, "spec");
    default(spec, "persistentVolumeReclaimPolicy", "Retain");
    default_unset(spec, "volumeMode", "Filesystem");
    if let Some(disk) = spec.get_mut("azureDisk").filter(|one| one.is_object()) {
        default(disk, "readOnly", false);
    }
    if let Some(host_path) = spec.get_mut("hostPath").filter(|one| one.get("type").is_none()) {
        set(host_path, "type", "");
    }
}

fn replication_controller(object: &mut Value) {
    let labels = at(object, &["spec", "template", "metadata", "labels"]).cloned();
    if let Some(labels) = labels {
        let spec = child(object, "spec");
        if at(spec, &["selector"]).is_none() {
            set(spec, "selector", labels.clone());
        }
        let metadata = child(object, "metadata");
        if at(metadata, &["labels"]).is_none() {
            set(metadata, "labels", labels);
        }
    }
    let spec = child(object, "spec");
    default(spec, "replicas", 1);
    template(spec);
}

fn limit_range(object: &mut Value) {
    for item in each(child(object, "spec"), "limits") {
        if text(item, &["type"]) != "Container" {
            continue;
        }
        // Each bound falls back on the next wider one.
        for (to, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
            let source: Vec<(String, Value)> =
                members(item, &[from]).map(|(name, value)| (name.clone(), value.clone())).collect();
            for (name, value) in source {
                let target = child(item, to);
                if target.get(&name).is_none() {
                    set(target, &name, value);
                }
            }
        }
    }
}
