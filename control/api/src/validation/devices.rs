//! Rules of resource.k8s.io: claims of devices, classes, and what drivers offer.
//!
//! CEL selectors are checked for their length; whether they compile is found out by who evaluates them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::field::FieldError;
use super::place::{Errors, IMMUTABLE, Place};
use super::{names, node_selector, storage};
use crate::registry::Resource;

const REQUESTS: usize = 32;
const ALTERNATIVES: usize = 8;
const SELECTORS: usize = 32;
const EXPRESSION: usize = 10 * 1024;
const PARAMETERS: usize = 10 * 1024;
const DEVICES: usize = 128;
const POOL: usize = 253;
const RESERVED: usize = 256;
const OR_REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

pub(super) fn check(resource: &Resource, object: &Value, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    match resource.plural.as_str() {
        "resourceclaims" => claim(&spec.get("devices"), errors),
        "resourceclaimtemplates" => claim(&spec.get("spec").get("devices"), errors),
        "deviceclasses" => {
            selectors(&spec.get("selectors"), errors);
            spec.get("config").at_most(REQUESTS, errors);
            spec.each("config").for_each(|one| configuration(&one, errors));
            let name = spec.get("extendedResourceName");
            if name.is_set() && !name.text().contains('/') {
                name.invalid("doesn't follow extended resource name standard", errors);
            }
        }
        "resourceslices" => slice(&spec, errors),
        _ => {}
    }
}

/// The names of requests, with those of their alternatives.
fn request_names<'a>(devices: &Place<'a>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let named = |one: &Place<'a>| one.get("name").text();
    devices
        .each("requests")
        .map(|one| (named(&one), one.each("firstAvailable").map(|sub| named(&sub)).collect()))
        .collect()
}

fn claim(devices: &Place<'_>, errors: &mut Errors) {
    let known = request_names(devices);
    let requests = devices.get("requests");
    requests.at_most(REQUESTS, errors);
    unique(&requests, errors);
    requests.items().for_each(|one| request(&one, errors));
    devices.get("constraints").at_most(REQUESTS, errors);
    for constraint in devices.each("constraints") {
        references(&constraint.get("requests"), &known, errors);
        let (same, different) = (constraint.get("matchAttribute"), constraint.get("distinctAttribute"));
        match (same.is_set(), different.is_set()) {
            (false, false) => constraint.required(
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
                errors,
            ),
            (true, _) => qualified(&same, errors),
            (false, true) => qualified(&different, errors),
        }
    }
    devices.get("config").at_most(REQUESTS, errors);
    for config in devices.each("config") {
        references(&config.get("requests"), &known, errors);
        configuration(&config, errors);
    }
}

fn unique(list: &Place<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for name in list.items().map(|one| one.get("name")) {
        if name.is_full() && !seen.insert(name.text()) {
            name.duplicate(errors);
        }
    }
}

fn request(request: &Place<'_>, errors: &mut Errors) {
    request.get("name").judge_full(names::dns_label, errors);
    let (exact, first) = (request.get("exactly"), request.get("firstAvailable"));
    match (exact.is_set(), first.count() > 0) {
        (false, false) => {
            request.required("exactly one of `exactly` or `firstAvailable` is required", errors);
        }
        (true, true) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.push(FieldError::invalid(&request.path, Value::Null, why));
        }
        (true, false) => devices(&exact, errors),
        (false, true) => {
            first.at_most(ALTERNATIVES, errors);
            unique(&first, errors);
            for one in first.items() {
                one.get("name").judge_full(names::dns_label, errors);
                devices(&one, errors);
            }
        }
    }
}

fn devices(request: &Place<'_>, errors: &mut Errors) {
    request.get("deviceClassName").judge_full(names::dns_subdomain, errors);
    selectors(&request.get("selectors"), errors);
    let (mode, count) = (request.get("allocationMode"), request.get("count"));
    let number = count.number().unwrap_or(0);
    match mode.text() {
        "All" if number != 0 => {
            count.invalid("must not be specified when allocationMode is 'All'", errors);
        }
        "ExactCount" if number <= 0 => {
            errors.push(FieldError::invalid(&count.path, number, "must be greater than zero"));
        }
        "All" | "ExactCount" => {}
        _ => {
            mode.one_of(&["All", "ExactCount"], errors);
        }
    }
}

fn selectors(list: &Place<'_>, errors: &mut Errors) {
    list.at_most(SELECTORS, errors);
    for selector in list.items() {
        let cel = selector.get("cel");
        if !cel.is_set() {
            cel.required("", errors);
        } else if cel.get("expression").text().len() > EXPRESSION {
            cel.get("expression").too_long(EXPRESSION, errors);
        }
    }
}

fn references(list: &Place<'_>, known: &BTreeMap<&str, BTreeSet<&str>>, errors: &mut Errors) {
    list.at_most(REQUESTS, errors);
    let mut seen = BTreeSet::new();
    for one in list.items() {
        if !seen.insert(one.text()) {
            one.duplicate(errors);
        }
        let (name, sub) =
            one.text().split_once('/').map_or((one.text(), None), |(name, sub)| (name, Some(sub)));
        let found = known.get(name).is_some_and(|subs| sub.is_none_or(|sub| subs.contains(sub)));
        if !found {
            one.invalid(OR_REQUEST, errors);
        }
    }
}

/// `domain/name`, of which the name is an identifier.
fn qualified(name: &Place<'_>, errors: &mut Errors) {
    match name.text().split_once('/') {
        None => name.invalid("must include a domain", errors),
        Some((domain, id)) => {
            if let Err(why) = names::dns_subdomain(domain) {
                errors.push(FieldError::invalid(&name.path, domain, why));
            }
            if let Err(why) = names::c_identifier(id) {
                errors.push(FieldError::invalid(&name.path, id, why));
            }
        }
    }
}

fn configuration(config: &Place<'_>, errors: &mut Errors) {
    let opaque = config.get("opaque");
    if !opaque.is_set() {
        return opaque.required("", errors);
    }
    storage::driver_name(&opaque.get("driver"), errors);
    let parameters = opaque.get("parameters");
    match parameters.value {
        Value::Null => parameters.required("", errors),
        Value::Object(_) if parameters.value.to_string().len() > PARAMETERS => {
            parameters.too_long(PARAMETERS, errors);
        }
        Value::Object(_) => {}
        _ => parameters.invalid("must be a valid JSON object", errors),
    }
}

fn slice(spec: &Place<'_>, errors: &mut Errors) {
    storage::driver_name(&spec.get("driver"), errors);
    let pool = spec.get("pool");
    let name = pool.get("name");
    if name.text().is_empty() {
        name.required("", errors);
    } else if name.text().len() > POOL {
        name.too_long(POOL, errors);
    } else {
        for part in name.text().split('/') {
            if let Err(why) = names::dns_subdomain(part) {
                errors.push(FieldError::invalid(&name.path, part, why));
            }
        }
    }
    let count = pool.get("resourceSliceCount");
    if count.number().unwrap_or(0) <= 0 {
        errors.push(FieldError::invalid(
            &count.path,
            count.number().unwrap_or(0),
            "must be greater than zero",
        ));
    }
    pool.get("generation").not_negative(errors);
    let nodes = spec.get("nodeName");
    nodes.judge_full(names::dns_subdomain, errors);
    let chosen = spec.get("nodeSelector");
    if chosen.is_set() {
        node_selector::check(&chosen, errors);
    }
    let ways = [
        nodes.is_full(),
        chosen.is_set(),
        spec.get("allNodes").flag(),
        spec.get("perDeviceNodeSelection").flag(),
    ];
    let names = "`nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection`";
    match ways.iter().filter(|way| **way).count() {
        1 => {}
        0 => spec.required(&format!("exactly one of {names} is required"), errors),
        _ => {
            let why = format!("exactly one of {names} is required, but multiple fields are set");
            errors.push(FieldError::invalid(&spec.path, Value::Null, why));
        }
    }
    let devices = spec.get("devices");
    devices.at_most(DEVICES, errors);
    unique(&devices, errors);
    for device in devices.items() {
        device.get("name").judge(names::dns_label, errors);
    }
}

/// What an update changes that may not change.
pub(super) fn update(resource: &Resource, new: &Value, old: &Value, errors: &mut Errors) {
    let (now, before) = (Place::of(new, "spec"), Place::of(old, "spec"));
    match resource.plural.as_str() {
        "resourceclaims" | "resourceclaimtemplates" => now.unchanged(&before, errors),
        "resourceslices" => {
            now.get("driver").unchanged(&before.get("driver"), errors);
            now.get("nodeName").unchanged(&before.get("nodeName"), errors);
            let path = now.get("pool").get("name");
            path.unchanged(&before.get("pool").get("name"), errors);
        }
        _ => {}
    }
}

/// What the allocation of a claim may become.
pub(super) fn claim_status(new: &Value, old: &Value, errors: &mut Errors) {
    let (now, before) = (Place::of(new, "status"), Place::of(old, "status"));
    let (reserved, allocation) = (now.get("reservedFor"), now.get("allocation"));
    reserved.at_most(RESERVED, errors);
    let mut seen = BTreeSet::new();
    for consumer in reserved.items() {
        for name in ["resource", "name", "uid"] {
            if consumer.get(name).text().is_empty() {
                consumer.get(name).required("", errors);
            }
        }
        if !seen.insert(consumer.get("uid").text()) {
            consumer.duplicate(errors);
        }
    }
    if reserved.count() > 0 && !allocation.is_set() {
        reserved.forbidden("may not be specified when `allocated` is not set", errors);
    }
    let going = new["metadata"]["deletionTimestamp"].is_string();
    let known: Vec<&Value> = before.each("reservedFor").map(|one| one.value).collect();
    if going && reserved.items().any(|one| !known.contains(&one.value)) {
        let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        reserved.forbidden(why, errors);
    }
    let given = before.get("allocation");
    if given.is_set() && allocation.is_set() {
        if given.value != allocation.value {
            allocation.invalid(IMMUTABLE, errors);
        }
    } else if allocation.is_set() {
        let requests = request_names(&Place::of(new, "spec").get("devices"));
        for result in allocation.get("devices").each("results") {
            let name = result.get("request");
            if !requests.contains_key(name.text().split('/').next().unwrap_or_default()) {
                name.invalid(OR_REQUEST, errors);
            }
            storage::driver_name(&result.get("driver"), errors);
        }
    }
}
