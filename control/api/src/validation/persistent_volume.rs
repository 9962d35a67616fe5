//! Rules of PersistentVolumes, and of the volumes that attachments carry in themselves.

use serde_json::Value;

use super::field::FieldError;
use super::place::{Errors, Place};
use super::{claim, names, node_selector, storage, volume_source};
use crate::object::at;

/// Fields of a PersistentVolume that are not its source.
const NOT_A_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];
const INLINE: &str = "may not be specified in the context of inline volumes";

fn sources<'a>(spec: &Place<'a>) -> Vec<(&'a str, Place<'a>)> {
    let members = spec.value.as_object().into_iter().flatten();
    let members = members.filter(|(name, value)| !NOT_A_SOURCE.contains(&name.as_str()) && !value.is_null());
    members.map(|(name, _)| (name.as_str(), spec.get(name))).collect()
}

/// The specification; `inline` for one without an object of its own.
pub(super) fn spec(spec: &Place<'_>, name: &str, inline: bool, errors: &mut Errors) {
    if inline {
        for member in ["claimRef", "capacity", "nodeAffinity", "storageClassName"] {
            if spec.get(member).is_full() {
                spec.get(member).forbidden(INLINE, errors);
            }
        }
        if !spec.get("csi").is_set() {
            spec.get("csi").required("has to be specified in the context of inline volumes", errors);
        }
    }
    let modes = spec.get("accessModes");
    if modes.count() == 0 {
        modes.required("", errors);
    }
    claim::access_modes(&modes, errors);
    if !inline {
        capacity(&spec.get("capacity"), errors);
    }
    let reclaim = spec.get("persistentVolumeReclaimPolicy");
    match reclaim.text() {
        "" => {}
        policy if inline && policy != "Retain" => {
            reclaim.forbidden("may only be Retain in the context of inline volumes", errors);
        }
        _ => {
            reclaim.one_of(&["Delete", "Recycle", "Retain"], errors);
        }
    }
    let affinity = spec.get("nodeAffinity");
    if affinity.is_set() && !inline {
        volume_affinity(&affinity, errors);
    }
    source(spec, name, errors);
    classes(spec, inline, errors);
}

fn capacity(capacity: &Place<'_>, errors: &mut Errors) {
    if capacity.count() == 0 {
        capacity.required("", errors);
    }
    if !capacity.get("storage").is_set() || capacity.count() > 1 {
        let value = if capacity.is_set() { capacity.value.clone() } else { Value::Null };
        errors.push(FieldError::not_supported(&capacity.path, value, &["storage"]));
    }
    for (_, amount) in capacity.entries() {
        if amount.quantity().is_some_and(|amount| amount.is_negative()) {
            amount.invalid("must be a valid resource quantity", errors);
        }
        if amount.quantity().is_some_and(|amount| amount.is_negative() || amount.is_zero()) {
            amount.invalid("must be greater than zero", errors);
        }
    }
}

fn volume_affinity(affinity: &Place<'_>, errors: &mut Errors) {
    let required = affinity.get("required");
    if required.is_set() {
        node_selector::check(&required, errors);
    } else {
        required.required("must specify required node constraints", errors);
    }
}

fn source(spec: &Place<'_>, name: &str, errors: &mut Errors) {
    let sources = sources(spec);
    match sources.as_slice() {
        [] => spec.required("must specify a volume type", errors),
        [(kind, first), more @ ..] => {
            volume_source::persistent(kind, first, name, errors);
            for (_, other) in more {
                other.forbidden("may not specify more than 1 volume type", errors);
            }
        }
    }
    if spec.get("local").is_set() && !spec.get("nodeAffinity").is_set() {
        spec.get("nodeAffinity").required("Local volume requires node affinity", errors);
    }
    let path = spec.get("hostPath").get("path");
    let policy = spec.get("persistentVolumeReclaimPolicy");
    let is_root = !path.text().is_empty() && path.text().chars().all(|c| matches!(c, '/' | '.'));
    if is_root && policy.text() == "Recycle" {
        policy.forbidden("may not be 'recycle' for a hostPath mount of '/'", errors);
    }
}

fn classes(spec: &Place<'_>, inline: bool, errors: &mut Errors) {
    if !inline {
        spec.get("storageClassName").judge_full(names::dns_subdomain, errors);
    }
    let mode = spec.get("volumeMode");
    if mode.is_set() {
        if inline && mode.text() != "Filesystem" {
            let why = "may not specify volumeMode other than Filesystem in the context of inline volumes";
            mode.forbidden(why, errors);
        } else if !inline {
            mode.one_of(&["Block", "Filesystem"], errors);
        }
    }
    let class = spec.get("volumeAttributesClassName");
    if !class.is_set() {
        return;
    }
    if class.text().is_empty() {
        class.required("an empty string is disallowed", errors);
    } else {
        class.judge(names::dns_subdomain, errors);
    }
    if !spec.get("csi").is_set() {
        let why = "has to be specified when using volumeAttributesClassName";
        spec.get("csi").required(why, errors);
    }
}

/// What an update changes that may not change.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (now, before) = (Place::of(new, "spec"), Place::of(old, "spec"));
    let bare = |spec: &Place<'_>, with_secret: bool| -> Vec<(String, Value)> {
        let all = sources(spec).into_iter().map(|(name, place)| (name.to_owned(), place.value.clone()));
        all.map(|(name, mut value)| {
            if !with_secret {
                crate::object::remove(&mut value, "controllerExpandSecretRef");
            }
            (name, value)
        })
        .collect()
    };
    // The secret for growing may be added later.
    let had_secret = at(before.value, &["csi", "controllerExpandSecretRef"]).is_some();
    if bare(&now, had_secret) != bare(&before, had_secret) {
        let why = "spec.persistentvolumesource is immutable after creation\n";
        errors.push(FieldError::forbidden("spec.persistentvolumesource", why));
    }
    Place::new("volumeMode", now.get("volumeMode").value).unchanged(&before.get("volumeMode"), errors);
    if before.get("nodeAffinity").is_set() {
        let path = Place::new("nodeAffinity", now.get("nodeAffinity").value);
        path.unchanged(&before.get("nodeAffinity"), errors);
    }
    let class = now.get("volumeAttributesClassName");
    if before.get("volumeAttributesClassName").is_set() && !class.is_set() {
        class.forbidden("update from non-nil value to nil is forbidden", errors);
    }
}

/// The name of a CSI driver in a source.
pub(super) fn csi(source: &Place<'_>, errors: &mut Errors) {
    storage::driver_name(&source.get("driver"), errors);
    let handle = source.get("volumeHandle");
    if handle.text().is_empty() {
        handle.required("", errors);
    }
    for name in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let secret = source.get(name);
        if !secret.is_set() {
            continue;
        }
        secret.get("name").must(names::dns_subdomain, errors);
        secret.get("namespace").must(names::dns_label, errors);
    }
}
