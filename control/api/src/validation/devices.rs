//! Rules of resource.k8s.io: claims of devices and classes of them. What drivers offer is in [`super::device_slice`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::field::FieldError;
use super::place::{Errors, IMMUTABLE, Place};
use super::{device_slice, meta, names, storage};
use crate::expression;
use crate::registry::Resource;

const REQUESTS: usize = 32;
const ALTERNATIVES: usize = 8;
const SELECTORS: usize = 32;
const EXPRESSION: usize = 10 * 1024;
const PARAMETERS: usize = 10 * 1024;
const RESERVED: usize = 256;
const IDENTIFIER: usize = 32;
const OR_REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
pub(super) const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

pub(super) fn check(resource: &Resource, object: &Value, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    match resource.plural.as_str() {
        "resourceclaims" => claim(&spec.get("devices"), errors),
        "resourceclaimtemplates" => {
            let metadata = spec.get("metadata");
            let path = metadata.path.to_string();
            meta::annotations(&format!("{path}.annotations"), metadata.value.get("annotations"), errors);
            meta::labels(&format!("{path}.labels"), metadata.value.get("labels"), errors);
            claim(&spec.get("spec").get("devices"), errors);
        }
        "deviceclasses" => {
            selectors(&spec.get("selectors"), errors);
            let configurations = spec.get("config");
            if configurations.at_most(REQUESTS, errors) {
                configurations.items().for_each(|one| configuration(&one, errors));
            }
            let name = spec.get("extendedResourceName");
            if name.is_set() && !is_extended(name.text()) {
                name.invalid("must be a valid extended resource name", errors);
            }
        }
        "resourceslices" => device_slice::check(&spec, errors),
        _ => {}
    }
}

fn is_extended(name: &str) -> bool {
    crate::resources::is_extended(name) && names::label_key(&format!("requests.{name}")).is_ok()
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
    set(&requests, REQUESTS, "name", errors, request);
    let constraints = devices.get("constraints");
    if constraints.at_most(REQUESTS, errors) {
        for constraint in constraints.items() {
            references(&constraint.get("requests"), &known, errors);
            let (same, different) = (constraint.get("matchAttribute"), constraint.get("distinctAttribute"));
            match (same.is_set(), different.is_set()) {
                (false, false) => constraint.required(
                    "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
                    errors,
                ),
                (true, _) => fully_qualified(&same, errors),
                (false, true) => fully_qualified(&different, errors),
            }
        }
    }
    let configurations = devices.get("config");
    if configurations.at_most(REQUESTS, errors) {
        for config in configurations.items() {
            references(&config.get("requests"), &known, errors);
            configuration(&config, errors);
        }
    }
}

/// A list of so many at most, whose items differ in the member `key`. One that is too long is not looked at further.
pub(super) fn set(
    list: &Place<'_>,
    most: usize,
    key: &str,
    errors: &mut Errors,
    rule: impl Fn(&Place<'_>, &mut Errors),
) {
    if !list.at_most(most, errors) {
        return;
    }
    list.items().for_each(|one| rule(&one, errors));
    let mut seen = BTreeSet::new();
    for one in list.items() {
        let name = one.value[key].as_str().unwrap_or_default();
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&one.path, name));
        }
    }
}

fn request(request: &Place<'_>, errors: &mut Errors) {
    request.get("name").judge(names::dns_label, errors);
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
        (false, true) => set(&first, ALTERNATIVES, "name", errors, |one, errors| {
            one.get("name").judge(names::dns_label, errors);
            devices(one, errors);
        }),
    }
}

fn devices(request: &Place<'_>, errors: &mut Errors) {
    request.get("deviceClassName").must(names::dns_subdomain, errors);
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
    request.each("tolerations").for_each(|one| toleration(&one, errors));
}

fn toleration(toleration: &Place<'_>, errors: &mut Errors) {
    let key = toleration.get("key");
    if key.is_full() {
        key.judge_key(errors);
    }
    let (operator, value, effect) =
        (toleration.get("operator"), toleration.get("value"), toleration.get("effect"));
    match operator.text() {
        "Exists" if value.is_full() => value.invalid("must be empty for operator `Exists`", errors),
        "Exists" => {}
        "Equal" => {
            value.judge(names::label_value, errors);
        }
        "" => operator.required("", errors),
        _ => {
            operator.one_of(&["Equal", "Exists"], errors);
        }
    }
    if effect.is_full() {
        effect.one_of(&EFFECTS, errors);
    }
}

fn selectors(list: &Place<'_>, errors: &mut Errors) {
    if !list.at_most(SELECTORS, errors) {
        return;
    }
    for selector in list.items() {
        let cel = selector.get("cel");
        let source = cel.get("expression");
        if !cel.is_set() {
            cel.required("", errors);
        } else if source.text().len() > EXPRESSION {
            source.too_long(EXPRESSION, errors);
        } else {
            match expression::device_selector(source.text()) {
                Ok(true) => {}
                Ok(false) => source.forbidden("too complex, exceeds cost limit", errors),
                Err(why) => errors.push(FieldError::invalid(&source.path, source.text(), why)),
            }
        }
    }
}

fn references(list: &Place<'_>, known: &BTreeMap<&str, BTreeSet<&str>>, errors: &mut Errors) {
    if !list.at_most(REQUESTS, errors) {
        return;
    }
    list.items().for_each(|one| reference(&one, known, errors));
    let mut seen = BTreeSet::new();
    for one in list.items() {
        if !seen.insert(one.text()) {
            one.duplicate(errors);
        }
    }
}

fn reference(one: &Place<'_>, known: &BTreeMap<&str, BTreeSet<&str>>, errors: &mut Errors) {
    let parts: Vec<&str> = one.text().split('/').collect();
    let refuse = |errors: &mut Errors| errors.push(FieldError::invalid(&one.path, one.text(), OR_REQUEST));
    if parts.len() > 2 {
        return refuse(errors);
    }
    for part in &parts {
        if let Err(why) = names::dns_label(part) {
            errors.push(FieldError::invalid(&one.path, *part, why));
        }
    }
    let found = known.get(parts[0]).is_some_and(|subs| parts.get(1).is_none_or(|sub| subs.contains(sub)));
    if !found {
        refuse(errors);
    }
}

/// `domain/name`, of which the name is an identifier; the domain may be left out.
pub(super) fn qualified(path: &str, name: &str, errors: &mut Errors) {
    let mut identifier = |id: &str| {
        if id.len() > IDENTIFIER {
            errors.push(FieldError::too_long(path, IDENTIFIER));
        }
        if let Err(why) = names::c_identifier(id) {
            errors.push(FieldError::invalid(path, id, why));
        }
    };
    match name.split('/').collect::<Vec<_>>()[..] {
        [id] => identifier(id),
        [domain, id] => {
            if id.is_empty() {
                errors.push(FieldError::invalid(path, "", "the name must not be empty"));
            } else {
                identifier(id);
            }
            if domain.is_empty() {
                errors.push(FieldError::invalid(path, "", "the domain must not be empty"));
            } else {
                let domain = Value::from(domain);
                storage::driver_name(&Place::new(path.to_owned(), &domain), errors);
            }
        }
        // More slashes than one upstream takes as they are.
        _ => {}
    }
}

fn fully_qualified(name: &Place<'_>, errors: &mut Errors) {
    qualified(&name.path.to_string(), name.text(), errors);
    if !name.text().contains('/') {
        name.invalid("a fully qualified name must be a domain and a name separated by a slash", errors);
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
        value if value.to_string().len() > PARAMETERS => parameters.too_long(PARAMETERS, errors),
        Value::Object(_) => {}
        _ => errors.push(FieldError::invalid(
            &parameters.path,
            "<value omitted>",
            "must be a valid JSON object",
        )),
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
    set(&reserved, RESERVED, "uid", errors, |consumer, errors| {
        for name in ["resource", "name", "uid"] {
            if consumer.value[name].as_str().unwrap_or_default().is_empty() {
                errors.push(FieldError::required(format!("{}.{name}", consumer.path), ""));
            }
        }
    });
    if reserved.count() > 0 && !allocation.is_set() {
        reserved.forbidden("may not be specified when `allocated` is not set", errors);
    }
    let going = new["metadata"]["deletionTimestamp"].is_string();
    let known: Vec<&Value> = before.each("reservedFor").map(|one| one.value).collect();
    if going && allocation.is_set() && reserved.items().any(|one| !known.contains(&one.value)) {
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
            reference(&result.get("request"), &requests, errors);
            storage::driver_name(&result.get("driver"), errors);
            device_slice::pool_name(&result.get("pool"), errors);
            result.get("device").judge(names::dns_label, errors);
        }
    }
}
