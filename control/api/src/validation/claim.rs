//! Rules of PersistentVolumeClaims, alone or in a template.

use serde_json::{Value, json};

use super::field::FieldError;
use super::place::{Errors, IMMUTABLE, Place};
use super::{names, selector};
use crate::object::{at, remove, set};

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// Known modes, and the exclusive one alone.
pub(super) fn access_modes(modes: &Place<'_>, errors: &mut Errors) {
    let (mut alone, mut shared) = (false, false);
    for mode in modes.items() {
        let known = Place::new(modes.path.clone(), mode.value).one_of(&MODES, errors);
        alone |= mode.text() == "ReadWriteOncePod";
        shared |= known && mode.text() != "ReadWriteOncePod";
    }
    if alone && shared {
        modes.forbidden("may not use ReadWriteOncePod with other access modes", errors);
    }
}

pub(super) fn spec(spec: &Place<'_>, errors: &mut Errors) {
    let modes = spec.get("accessModes");
    if modes.count() == 0 {
        modes.required("at least 1 access mode is required", errors);
    }
    let chosen = spec.get("selector");
    if chosen.is_set() {
        selector::at(&chosen, errors);
    }
    access_modes(&modes, errors);
    let size = spec.get("resources").get("requests").get("storage");
    let path = format!("{}[storage]", spec.child("resources"));
    match size.quantity() {
        None => errors.push(FieldError::required(path, "")),
        Some(amount) if amount.is_negative() || amount.is_zero() => {
            errors.push(FieldError::invalid(path, size.value.clone(), "must be greater than zero"));
        }
        Some(_) => {}
    }
    spec.get("storageClassName").judge_full(names::dns_subdomain, errors);
    spec.get("volumeMode").maybe_one_of(&["Block", "Filesystem"], errors);
    sources(spec, errors);
    spec.get("volumeAttributesClassName").judge_full(names::dns_subdomain, errors);
}

fn sources(spec: &Place<'_>, errors: &mut Errors) {
    let (source, reference) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    for one in [&source, &reference].into_iter().filter(|one| one.is_set()) {
        for name in ["name", "kind"] {
            if one.get(name).text().is_empty() {
                one.get(name).required("", errors);
            }
        }
        let (group, kind) = (one.get("apiGroup"), one.get("kind"));
        if group.text().is_empty() && kind.text() != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(&one.path, kind.text(), why));
        }
        group.judge_full(names::dns_subdomain, errors);
        one.get("namespace").judge_full(names::dns_label, errors);
    }
    if !source.is_set() {
        return;
    }
    let refuse = |why: &str, errors: &mut Errors| {
        errors.push(FieldError::invalid(&spec.path, json!({}), why));
    };
    if reference.get("namespace").is_full() {
        refuse("may not be specified when dataSourceRef.namespace is specified", errors);
    } else if reference.is_set() {
        let same = ["apiGroup", "kind", "name"]
            .iter()
            .all(|name| source.get(name).value == reference.get(name).value);
        if !same {
            refuse("must match dataSourceRef", errors);
        }
    }
}

/// What an update changes that may not change.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let bound = at(new, &["status", "phase"]) == Some(&json!("Bound"));
    let (mut now, mut before) = (new["spec"].clone(), old["spec"].clone());
    if at(&before, &["volumeName"]).is_none_or(|name| name == "") {
        remove(&mut now, "volumeName");
        remove(&mut before, "volumeName");
    }
    storage_class(new, old, &mut now, &mut before, errors);
    if bound {
        remove(&mut now, "volumeAttributesClassName");
        remove(&mut before, "volumeAttributesClassName");
        let size = at(&before, &["resources", "requests", "storage"]).cloned();
        if let (Some(requests), Some(size)) = (now["resources"].get_mut("requests"), size) {
            set(requests, "storage", size);
        }
    }
    if now != before {
        errors.push(FieldError::forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n",
        ));
    }
    sizes(new, old, errors);
    let (now, before) = (Place::of(new, "spec"), Place::of(old, "spec"));
    Place::new("volumeMode", now.get("volumeMode").value).unchanged(&before.get("volumeMode"), errors);
    let class = now.get("volumeAttributesClassName");
    if at(old, &["status", "currentVolumeAttributesClassName"]).is_some()
        && class.value != before.get("volumeAttributesClassName").value
    {
        let what = match (class.is_set(), class.text().is_empty()) {
            (false, _) => "nil",
            (true, true) => "empty string",
            _ => return,
        };
        let why =
            format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
        class.forbidden(why, errors);
    }
}

/// A class may be set where none was, or move from the annotation to the field.
fn storage_class(new: &Value, old: &Value, now: &mut Value, before: &mut Value, errors: &mut Errors) {
    let annotated = |one: &Value| at(one, &["metadata", "annotations", CLASS_ANNOTATION]).cloned();
    let (then, still) = (annotated(old), annotated(new));
    let (had, has) = (at(before, &["storageClassName"]).is_some(), at(now, &["storageClassName"]).cloned());
    let moves = !had && then.is_some() && has == then && (still.is_none() || still == then);
    if !moves && still != then {
        let value = still.unwrap_or_else(|| json!(""));
        errors.push(FieldError::invalid(
            format!("metadata.annotations[{CLASS_ANNOTATION}]"),
            value,
            IMMUTABLE,
        ));
    }
    if moves || (!had && has.is_some() && (then.is_none() || has == then)) {
        remove(now, "storageClassName");
        remove(before, "storageClassName");
    }
}

fn sizes(new: &Value, old: &Value, errors: &mut Errors) {
    let path = ["spec", "resources", "requests", "storage"];
    let size = |one: &Value, path: &[&str]| {
        let text = at(one, path)?.as_str()?;
        crate::quantity::Quantity::parse(text).ok()
    };
    let (Some(now), Some(before)) = (size(new, &path), size(old, &path)) else { return };
    let given = size(old, &["status", "capacity", "storage"]);
    let least = given.map_or(crate::quantity::Quantity::parse("0").ok(), Some);
    if now < before && least.is_some_and(|least| now <= least) {
        errors.push(FieldError::forbidden(path.join("."), "field can not be less than status.capacity"));
    }
}
