//! Rules of volumes and of where containers mount them.

use std::collections::{BTreeMap, BTreeSet};

use super::names;
use super::place::{Errors, Place};
use super::volume_source::{self, descending};

/// The volumes of a pod that can be mounted: their names, and what they come from.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a str>;

/// The volumes of a pod.
pub(super) fn check<'a>(volumes: &Place<'a>, errors: &mut Errors) -> Volumes<'a> {
    let mut known = Volumes::new();
    let mut seen = BTreeSet::new();
    for volume in volumes.items() {
        let before = errors.len();
        let kinds: Vec<&str> = volume
            .entries()
            .filter(|(name, one)| *name != "name" && one.is_set())
            .map(|(name, _)| name)
            .collect();
        match kinds.as_slice() {
            [] => volume.required("must specify a volume type", errors),
            [first, more @ ..] => {
                volume_source::in_pod(first, &volume.get(first), errors);
                iscsi_session(&volume, errors);
                for other in more {
                    volume.get(other).forbidden("may not specify more than 1 volume type", errors);
                }
            }
        }
        let name = volume.get("name");
        if name.is_full() {
            name.judge(names::dns_label, errors);
        }
        if !seen.insert(name.text()) && name.is_full() {
            name.duplicate(errors);
        }
        if errors.len() == before {
            known.insert(name.text(), kinds.first().copied().unwrap_or_default());
        }
    }
    known
}

/// The mounts and devices of a container. Upstream leaves the index out of some paths.
pub(super) fn mounts(container: &Place<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    let list = container.get("volumeMounts");
    let devices: Vec<(&str, &str)> = container
        .each("volumeDevices")
        .map(|one| (one.get("name").text(), one.get("devicePath").text()))
        .collect();
    let mut seen = BTreeSet::new();
    for mount in list.items() {
        let (name, place) = (mount.get("name"), mount.get("mountPath"));
        if name.text().is_empty() {
            name.required("", errors);
        }
        if !volumes.contains_key(name.text()) {
            not_found(&name, errors);
        }
        if place.is_full() && !seen.insert(place.text()) {
            place.invalid("must be unique", errors);
        }
        if devices.iter().any(|(device, _)| *device == name.text()) {
            name.invalid("must not already exist in volumeDevices", errors);
        }
        if devices.iter().any(|(_, device)| *device == place.text()) {
            place.invalid("must not already exist as a path in volumeDevices", errors);
        }
        let (inner, expression) = (mount.get("subPath"), mount.get("subPathExpr"));
        if inner.is_full() {
            descending(&Place::new(list.child("subPath"), inner.value), errors);
        }
        if expression.is_full() {
            if inner.is_full() {
                expression.invalid("subPathExpr and subPath are mutually exclusive", errors);
            }
            descending(&Place::new(list.child("subPathExpr"), expression.value), errors);
        }
        propagation(container, &list, &mount, errors);
    }
    block_devices(container, volumes, errors);
}

fn not_found(name: &Place<'_>, errors: &mut Errors) {
    errors.push(super::FieldError::not_found(&name.path, name.text()));
}

fn propagation(container: &Place<'_>, list: &Place<'_>, mount: &Place<'_>, errors: &mut Errors) {
    let mode = Place::new(list.child("mountPropagation"), mount.get("mountPropagation").value);
    if mode.is_set() {
        mode.one_of(&["Bidirectional", "HostToContainer", "None"], errors);
        let privileged = container.get("securityContext").get("privileged").flag();
        if mode.text() == "Bidirectional" && !privileged {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            mode.forbidden(why, errors);
        }
    }
    let recursive = Place::new(list.child("recursiveReadOnly"), mount.get("recursiveReadOnly").value);
    match recursive.text() {
        "" if !recursive.is_set() => {}
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.get("readOnly").flag() {
                recursive.forbidden("may only be specified when readOnly is true", errors);
            }
            if !matches!(mode.text(), "" | "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                recursive.forbidden(why, errors);
            }
        }
        _ => {
            recursive.one_of(&["Disabled", "Enabled", "IfPossible"], errors);
        }
    }
}

/// The name of a session is made of the two.
fn iscsi_session(volume: &Place<'_>, errors: &mut Errors) {
    let (source, name) = (volume.get("iscsi"), volume.get("name"));
    let length = name.text().len() + 1 + source.get("targetPortal").text().len();
    if source.get("initiatorName").is_set() && length > 64 {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
            iscsi.initiatorName is specified.";
        name.invalid(why, errors);
    }
}

fn block_devices(container: &Place<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    let mounts: Vec<(&str, &str)> = container
        .each("volumeMounts")
        .map(|one| (one.get("name").text(), one.get("mountPath").text()))
        .collect();
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for device in container.each("volumeDevices") {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        if name.text().is_empty() {
            name.required("", errors);
        } else if !names.insert(name.text()) {
            name.invalid("must be unique", errors);
        }
        match volumes.get(name.text()) {
            None => not_found(&name, errors),
            Some(&("persistentVolumeClaim" | "ephemeral")) => {}
            Some(_) => {
                let why =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                name.invalid(why, errors);
            }
        }
        if path.is_full() && !paths.insert(path.text()) {
            path.invalid("must be unique", errors);
        }
        if path.text().split('/').any(|part| part == "..") {
            path.invalid("can not contain backsteps ('..')", errors);
        }
        if mounts.iter().any(|(mount, _)| *mount == name.text()) {
            name.invalid("must not already exist in volumeMounts", errors);
        }
        if mounts.iter().any(|(_, mount)| *mount == path.text()) {
            path.invalid("must not already exist as a path in volumeMounts", errors);
        }
    }
}
