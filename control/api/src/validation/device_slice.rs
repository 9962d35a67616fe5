//! Rules of what drivers offer (`resource.k8s.io ResourceSlice`).

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::devices::{EFFECTS, qualified, set};
use super::field::FieldError;
use super::place::{Errors, Place};
use super::{device_capacity, names, node_selector, storage};

const DEVICES: usize = 128;
/// With taints or counters, which take more room.
const DEVICES_OF_MORE: usize = 64;
const POOL: usize = 253;
const COUNTER_SETS: usize = 8;
const COUNTERS: usize = 32;
const CONSUMED_SETS: usize = 2;
const ATTRIBUTES: usize = 32;
const VALUE: usize = 64;
const TAINTS: usize = 16;
const CONDITIONS: usize = 4;
/// A domain, a slash and an identifier: keys beyond it are cut in paths.
const KEY: usize = 63 + 1 + 32;

/// Version 2.0.0 of what a version is.
static VERSION: LazyLock<Regex> = LazyLock::new(|| {
    let (number, more) = (r"(0|[1-9]\d*)", r"[0-9a-zA-Z-]+");
    let before = r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)";
    let whole = format!(r"^{number}\.{number}\.{number}(-{before}(\.{before})*)?(\+{more}(\.{more})*)?$");
    Regex::new(&whole).expect("it is one")
});

pub(super) fn check(spec: &Place<'_>, errors: &mut Errors) {
    storage::driver_name(&spec.get("driver"), errors);
    pool(&spec.get("pool"), errors);
    let names = "`nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection`";
    let where_to = placement(spec, "must be either unset or set to a non-empty string", true, errors);
    match where_to[..] {
        [_] => {}
        [] => spec.required(&format!("exactly one of {names} is required"), errors),
        _ => {
            let why = format!("exactly one of {names} is required, but multiple fields are set");
            let found = format!("{{{}}}", where_to.join(", "));
            errors.push(FieldError::invalid(&spec.path, found, why));
        }
    }
    let (counters, devices) = (spec.get("sharedCounters"), spec.get("devices"));
    if counters.is_set() && devices.is_set() {
        errors.push(FieldError::invalid(
            &spec.path,
            "",
            "only one of `sharedCounters` or `devices` is allowed",
        ));
    }
    let has_more = |one: Place<'_>| one.get("taints").count() + one.get("consumesCounters").count() > 0;
    let most = if devices.items().any(has_more) { DEVICES_OF_MORE } else { DEVICES };
    let each = spec.get("perDeviceNodeSelection").flag();
    set(&devices, most, "name", errors, |one, errors| device(one, each, errors));
    set(&counters, COUNTER_SETS, "name", errors, |one, errors| {
        one.get("name").must(names::dns_label, errors);
        counted(&one.get("counters"), errors);
    });
}

fn pool(pool: &Place<'_>, errors: &mut Errors) {
    pool_name(&pool.get("name"), errors);
    let number = |name| pool.get(name).number().unwrap_or(0);
    if number("resourceSliceCount") <= 0 {
        let (path, count) = (pool.child("resourceSliceCount"), number("resourceSliceCount"));
        errors.push(FieldError::invalid(path, count, "must be greater than zero"));
    }
    if number("generation") < 0 {
        pool.get("generation").invalid("must be greater than or equal to zero", errors);
    }
}

pub(super) fn pool_name(name: &Place<'_>, errors: &mut Errors) {
    if name.text().is_empty() {
        return name.required("", errors);
    }
    if name.text().len() > POOL {
        name.too_long(POOL, errors);
    }
    for part in name.text().split('/') {
        if let Err(why) = names::dns_subdomain(part) {
            errors.push(FieldError::invalid(&name.path, part, why));
        }
    }
}

/// Which of the ways are taken to say where devices can be reached from.
fn placement(at: &Place<'_>, empty: &str, whole: bool, errors: &mut Errors) -> Vec<&'static str> {
    let mut found = Vec::new();
    let (node, chosen) = (at.get("nodeName"), at.get("nodeSelector"));
    if node.is_set() && node.text().is_empty() {
        node.invalid(empty, errors);
    } else if node.is_set() {
        found.push("`nodeName`");
        node.judge(names::dns_subdomain, errors);
    }
    if chosen.is_set() {
        found.push("`nodeSelector`");
        node_selector::check(&chosen, errors);
        let terms = chosen.get("nodeSelectorTerms");
        if whole && terms.count() != 1 {
            terms.invalid("must have exactly one node selector term", errors);
        }
    }
    let flags = [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")];
    for (name, shown) in &flags[..if whole { 2 } else { 1 }] {
        let flag = at.get(name);
        if flag.flag() {
            found.push(*shown);
        } else if flag.is_set() {
            flag.invalid("must be either unset or set to true", errors);
        }
    }
    found
}

fn device(device: &Place<'_>, placed: bool, errors: &mut Errors) {
    device.get("name").judge(names::dns_label, errors);
    let (attributes, capacity) = (device.get("attributes"), device.get("capacity"));
    let count = attributes.count() + capacity.count();
    if count > ATTRIBUTES {
        let why = format!("the total number of attributes and capacities must not exceed {ATTRIBUTES}");
        errors.push(FieldError::invalid(&device.path, count, why));
    }
    for (key, one) in attributes.entries() {
        qualified(&attributes.path.to_string(), key, errors);
        attribute(&Place::new(cut(&attributes, key, KEY), one.value), errors);
    }
    let several = device.get("allowMultipleAllocations").flag();
    for (key, one) in capacity.entries() {
        qualified(&capacity.path.to_string(), key, errors);
        device_capacity::check(&Place::new(cut(&capacity, key, KEY), one.value), several, errors);
    }
    let taints = device.get("taints");
    if taints.at_most(TAINTS, errors) {
        taints.items().for_each(|one| taint(&one, errors));
    }
    set(&device.get("consumesCounters"), CONSUMED_SETS, "counterSet", errors, |one, errors| {
        one.get("counterSet").must(names::dns_label, errors);
        counted(&one.get("counters"), errors);
    });
    if placed {
        let why = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is \
                   set to true in the ResourceSlice spec";
        match placement(device, "must not be empty", false, errors)[..] {
            [_] => {}
            [] => device.required(why, errors),
            ref several => {
                let found = format!("{{{}}}", several.join(", "));
                errors.push(FieldError::invalid(&device.path, found, why));
            }
        }
    } else if ["nodeName", "nodeSelector", "allNodes"].iter().any(|name| device.get(name).is_set()) {
        let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true \
                   in the ResourceSlice spec";
        errors.push(FieldError::invalid(&device.path, Value::Null, why));
    }
    binding(device, errors);
}

/// The path of a member whose key may be too long to be shown.
fn cut(map: &Place<'_>, key: &str, most: usize) -> String {
    let chars: Vec<char> = key.chars().collect();
    if chars.len() <= most {
        return format!("{}[{key}]", map.path);
    }
    let rest = most - 3;
    let (start, end) = (&chars[..rest.div_ceil(2)], &chars[chars.len() - rest / 2..]);
    format!("{}[{}...{}]", map.path, String::from_iter(start), String::from_iter(end))
}

fn attribute(attribute: &Place<'_>, errors: &mut Errors) {
    let given: Vec<&str> = ["bool", "int", "string", "version"]
        .into_iter()
        .filter(|name| attribute.get(name).is_set())
        .collect();
    for name in &given {
        let value = attribute.get(name);
        if *name == "version" && !VERSION.is_match(value.text()) {
            value.invalid("must be a string compatible with semver.org spec 2.0.0", errors);
        }
        if value.text().len() > VALUE {
            value.too_long(VALUE, errors);
        }
    }
    let why = "exactly one value must be specified";
    match given.len() {
        0 => errors.push(FieldError::invalid(&attribute.path, "", why)),
        1 => {}
        _ => attribute.invalid(why, errors),
    }
}

fn taint(taint: &Place<'_>, errors: &mut Errors) {
    taint.get("key").judge_key(errors);
    taint.get("value").judge_full(names::label_value, errors);
    let effect = taint.get("effect");
    if effect.text().is_empty() {
        effect.required("", errors);
    } else {
        effect.one_of(&EFFECTS, errors);
    }
}

fn counted(counters: &Place<'_>, errors: &mut Errors) {
    if counters.count() == 0 {
        return counters.required("", errors);
    }
    if !counters.at_most(COUNTERS, errors) {
        return;
    }
    for (key, _) in counters.entries() {
        if let Err(why) = names::dns_label(key) {
            errors.push(FieldError::invalid(&counters.path, key, why));
        }
    }
}

fn binding(device: &Place<'_>, errors: &mut Errors) {
    let (good, bad) = (device.get("bindingConditions"), device.get("bindingFailureConditions"));
    for list in [&good, &bad] {
        if list.at_most(CONDITIONS, errors) {
            for one in list.items() {
                one.judge_key(errors);
            }
        }
    }
    for list in [&good, &bad] {
        let mut seen = BTreeSet::new();
        for one in list.items() {
            if !seen.insert(one.text()) {
                one.duplicate(errors);
            }
        }
    }
    for one in bad.items().filter(|one| good.items().any(|other| other.value == one.value)) {
        one.invalid("bindingFailureConditions must not overlap with bindingConditions", errors);
    }
    let mut lonely = |list: &Place<'_>, why: &str| {
        let value = if list.is_set() { json!([]) } else { Value::Null };
        errors.push(FieldError::invalid(&list.path, value, why));
    };
    match (good.count(), bad.count()) {
        (0, 1..) => lonely(&good, "bindingConditions are required to use bindingFailureConditions"),
        (1.., 0) => lonely(&bad, "bindingFailureConditions are required to use bindingConditions"),
        _ => {}
    }
}
