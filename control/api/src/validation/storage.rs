//! Rules of storage.k8s.io.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::field::FieldError;
use super::place::{Errors, Place};
use super::{names, persistent_volume, selector};
use crate::object::at;
use crate::registry::Resource;

const PARAMETERS: usize = 512;
const SIZE: usize = 256 << 10;
const MESSAGE: usize = 1024;
const NODE_ID: usize = 256;

pub(super) fn check(resource: &Resource, object: &Value, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    match resource.plural.as_str() {
        "storageclasses" => class(object, errors),
        "volumeattributesclasses" => {
            provisioner(&Place::of(object, "driverName"), errors);
            parameters(&Place::of(object, "parameters"), false, errors);
        }
        "volumeattachments" => attachment(object, &spec, errors),
        "csinodes" => node(&spec, errors),
        "csidrivers" => driver(&spec, errors),
        "csistoragecapacities" => {
            let topology = Place::of(object, "nodeTopology");
            if topology.is_set() {
                selector::at(&topology, errors);
            }
            Place::of(object, "storageClassName").judge(names::dns_subdomain, errors);
            Place::of(object, "capacity").amount_not_negative(errors);
        }
        _ => {}
    }
}

fn provisioner(name: &Place<'_>, errors: &mut Errors) {
    if name.text().is_empty() {
        return name.required("", errors);
    }
    let lower = name.text().to_lowercase();
    let faults = names::label_key_faults(&lower).into_iter();
    errors.extend(faults.map(|why| FieldError::invalid(&name.path, lower.as_str(), why)));
}

fn parameters(parameters: &Place<'_>, may_be_empty: bool, errors: &mut Errors) {
    if parameters.count() > PARAMETERS {
        return parameters.too_long(PARAMETERS, errors);
    }
    let mut size = 0;
    for (key, value) in parameters.entries() {
        if key.is_empty() {
            errors.push(FieldError::invalid(&parameters.path, key, "field can not be empty."));
        }
        size += key.len() + value.text().len();
    }
    if size > SIZE {
        parameters.too_long(SIZE, errors);
    }
    if !may_be_empty && parameters.count() == 0 {
        parameters.required("must contain at least one key/value pair", errors);
    }
}

fn class(object: &Value, errors: &mut Errors) {
    provisioner(&Place::of(object, "provisioner"), errors);
    parameters(&Place::of(object, "parameters"), true, errors);
    let reclaim = Place::of(object, "reclaimPolicy");
    if reclaim.is_full() {
        // The type knows one more policy, which is for volumes alone.
        errors.retain(|error| error.field != "reclaimPolicy");
        reclaim.one_of(&["Delete", "Retain"], errors);
    }
    let mode = Place::of(object, "volumeBindingMode");
    if mode.is_set() {
        mode.one_of(&["Immediate", "WaitForFirstConsumer"], errors);
    } else {
        mode.required("", errors);
    }
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for term in Place::of(object, "allowedTopologies").items() {
        let expressions = topology_term(&term, errors);
        if seen.contains(&expressions) {
            errors.push(FieldError::duplicate(term.child("matchLabelExpressions"), ""));
        }
        seen.push(expressions);
    }
}

fn topology_term<'a>(term: &Place<'a>, errors: &mut Errors) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut found = BTreeMap::new();
    for expression in term.each("matchLabelExpressions") {
        let (key, values) = (expression.get("key"), expression.get("values"));
        let mut all = BTreeSet::new();
        if values.count() == 0 {
            values.required("", errors);
        }
        for value in values.items() {
            if !all.insert(value.text()) {
                value.duplicate(errors);
            }
        }
        if found.insert(key.text(), all).is_some() {
            key.duplicate(errors);
        }
        key.judge_key(errors);
    }
    found
}

/// The name of a CSI driver.
pub(super) fn driver_name(name: &Place<'_>, errors: &mut Errors) {
    if name.text().is_empty() {
        return name.required("", errors);
    }
    if name.text().len() > 63 {
        name.too_long(63, errors);
    }
    if let Err(why) = names::dns_subdomain(&name.text().to_lowercase()) {
        name.invalid(why, errors);
    }
}

fn attachment(object: &Value, spec: &Place<'_>, errors: &mut Errors) {
    driver_name(&spec.get("attacher"), errors);
    let source = spec.get("source");
    let (inline, volume) = (source.get("inlineVolumeSpec"), source.get("persistentVolumeName"));
    let one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline.is_set(), volume.is_set()) {
        (false, false) => source.required(one, errors),
        (true, true) => source.forbidden(one, errors),
        (true, false) => persistent_volume::spec(&inline, "", true, errors),
        (false, true) if volume.text().is_empty() => {
            volume.required("must specify non empty persistentVolumeName", errors);
        }
        (false, true) => {
            volume.judge(names::dns_subdomain, errors);
        }
    }
    spec.get("nodeName").judge(names::dns_subdomain, errors);
    attachment_status(object, errors);
}

/// What an attacher says of an attachment.
pub(super) fn attachment_status(object: &Value, errors: &mut Errors) {
    let status = Place::of(object, "status");
    let metadata = status.get("attachmentMetadata");
    if metadata.entries().map(|(key, value)| key.len() + value.text().len()).sum::<usize>() > SIZE {
        metadata.too_long(SIZE, errors);
    }
    for name in ["attachError", "detachError"] {
        let error = status.get(name);
        if error.get("message").text().len() > MESSAGE {
            error.get("message").too_long(SIZE, errors);
        }
        let code = error.get("errorCode");
        if code.number().is_some_and(|code| code < 0) {
            code.invalid("must be between 0 and 2147483647, inclusive", errors);
        }
    }
}

fn node(spec: &Place<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for driver in spec.each("drivers") {
        let (name, id) = (driver.get("name"), driver.get("nodeID"));
        driver_name(&name, errors);
        if id.text().is_empty() {
            id.required("", errors);
        } else if id.text().len() > NODE_ID {
            id.invalid(format!("must be {NODE_ID} characters or less"), errors);
        }
        driver.get("allocatable").not_negative_at(&["count"], errors);
        if !seen.insert(name.text()) {
            name.duplicate(errors);
        }
        let mut keys = BTreeSet::new();
        for key in driver.each("topologyKeys") {
            let key = Place::new(driver.path.clone(), key.value);
            if key.text().is_empty() {
                key.required("", errors);
            }
            if !keys.insert(key.text()) {
                key.duplicate(errors);
            }
            key.judge_key(errors);
        }
    }
}

fn driver(spec: &Place<'_>, errors: &mut Errors) {
    for (name, called) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !spec.get(name).is_set() {
            errors.push(FieldError::required(spec.child(called), ""));
        }
    }
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    spec.get("fsGroupPolicy").maybe_one_of(&policies, errors);
    let mut audiences = BTreeSet::new();
    for request in spec.each("tokenRequests") {
        let (audience, seconds) = (request.get("audience"), request.get("expirationSeconds"));
        if !audiences.insert(audience.text()) {
            audience.duplicate(errors);
            continue;
        }
        match seconds.number() {
            Some(..600) => seconds.invalid("may not specify a duration less than 10 minutes", errors),
            Some(number) if number > 1 << 32 => {
                seconds.invalid("may not specify a duration larger than 2^32 seconds", errors);
            }
            _ => {}
        }
    }
    let modes = spec.get("volumeLifecycleModes");
    for mode in modes.items() {
        Place::new(modes.path.clone(), mode.value).one_of(&["Persistent", "Ephemeral"], errors);
    }
    let period = spec.get("nodeAllocatableUpdatePeriodSeconds");
    if period.number().is_some_and(|seconds| seconds < 10) {
        period.invalid("must be greater than or equal to 10 seconds", errors);
    }
    let tokens = spec.get("serviceAccountTokenInSecrets");
    if tokens.is_set() && spec.get("tokenRequests").count() == 0 {
        tokens.invalid("serviceAccountTokenInSecrets is set but no tokenRequests are specified", errors);
    }
}

/// What an update changes that may not change.
pub(super) fn update(resource: &Resource, new: &Value, old: &Value, errors: &mut Errors) {
    let keep = |name: &str, errors: &mut Errors| {
        Place::of(new, name).unchanged(&Place::of(old, name), errors);
    };
    match resource.plural.as_str() {
        "storageclasses" => {
            for name in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                keep(name, errors);
            }
        }
        "volumeattributesclasses" => {
            for name in ["driverName", "parameters"] {
                if at(new, &[name]) != at(old, &[name]) {
                    errors.push(FieldError::forbidden(name, format!("updates to {name} are forbidden.")));
                }
            }
        }
        "volumeattachments" => keep("spec", errors),
        "csistoragecapacities" => {
            ["nodeTopology", "storageClassName"].iter().for_each(|name| keep(name, errors))
        }
        "csidrivers" => {
            let (now, before) = (Place::of(new, "spec"), Place::of(old, "spec"));
            for (name, called) in
                [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
            {
                let place = Place::new(format!("spec.{called}"), now.get(name).value);
                place.unchanged(&before.get(name), errors);
            }
        }
        "csinodes" => {
            let bare = |driver: &Value| {
                let mut driver = driver.clone();
                crate::object::remove(&mut driver, "allocatable");
                driver
            };
            let before = Place::of(old, "spec");
            for now in Place::of(new, "spec").each("drivers") {
                let known = before.each("drivers").find(|one| one.value["name"] == now.value["name"]);
                if known.is_some_and(|known| bare(known.value) != bare(now.value)) {
                    let value = bare(now.value);
                    errors.push(FieldError::invalid("spec.drivers", value, super::place::IMMUTABLE));
                }
            }
        }
        _ => {}
    }
}
