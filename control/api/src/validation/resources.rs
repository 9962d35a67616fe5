//! Rules of requests and limits, of a container or of a pod as a whole.

use std::collections::BTreeSet;

use super::field::FieldError;
use super::place::{Errors, NOT_NEGATIVE, Place};
use super::{limits, names};
use crate::quantity::Quantity;
use crate::resources::is_native;

/// Whose resources they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// A container's.
    Container,
    /// A whole pod's.
    Pod,
}

const HUGE: &str = "hugepages-";

/// The name of something that a container can ask for.
pub(super) fn container_name(path: &str, name: &str, errors: &mut Errors) {
    resource_name(path, name, Of::Container, errors);
}

fn resource_name(path: &str, name: &str, of: Of, errors: &mut Errors) {
    let before = errors.len();
    let faults = names::label_key_faults(name).into_iter();
    errors.extend(faults.map(|why| FieldError::invalid(path, name, why)));
    if errors.len() == before && !name.contains('/') && !limits::is_standard(name) {
        let why = "must be a standard resource type or fully qualified";
        errors.push(FieldError::invalid(path, name, why));
    }
    match of {
        Of::Pod if errors.len() > before => {}
        Of::Pod => {
            let known = matches!(name, "cpu" | "memory") || name.starts_with(HUGE);
            if !known {
                errors.push(FieldError::not_supported(path, name, &["cpu", "hugepages-", "memory"]));
            }
        }
        Of::Container if !name.contains('/') => {
            let standard = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with(HUGE);
            if !standard {
                let why = "must be a standard resource for containers";
                errors.push(FieldError::invalid(path, name, why));
            }
        }
        Of::Container if !is_native(name) => {
            if name.starts_with("requests.") || names::label_key(&format!("requests.{name}")).is_err() {
                errors.push(FieldError::invalid(
                    path,
                    name,
                    "doesn't follow extended resource name standard",
                ));
            }
        }
        Of::Container => {}
    }
}

fn is_overcommittable(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE)
}

/// Names and amounts of one list.
pub(super) fn amounts(list: &Place<'_>, of: Of, errors: &mut Errors) {
    for (name, amount) in list.entries() {
        resource_name(&amount.path, name, of, errors);
        let Some(quantity) = amount.quantity() else { continue };
        if quantity.is_negative() {
            amount.invalid(NOT_NEGATIVE, errors);
        }
        let whole = !is_native(name);
        if whole && !quantity.is_whole() {
            amount.invalid("must be an integer", errors);
        }
        if let Some(page) = name.strip_prefix(HUGE).and_then(|page| Quantity::parse(page).ok()) {
            let divides = page.units() > 0 && quantity.is_whole() && quantity.units() % page.units() == 0;
            if !divides {
                let why = format!("{quantity} is not positive integer multiple of {name}");
                amount.invalid(why, errors);
            }
        }
    }
}

/// Requests and limits at a path. `claims` are the names of the pod's resource claims.
pub(super) fn requirements(resources: &Place<'_>, of: Of, claims: &BTreeSet<&str>, errors: &mut Errors) {
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    amounts(&limits, of, errors);
    amounts(&requests, of, errors);
    for (name, request) in requests.entries() {
        let limit = limits.get(name);
        let (Some(wanted), over) = (request.quantity(), is_overcommittable(name)) else { continue };
        let refuse = |why: String, errors: &mut Errors| {
            errors.push(FieldError::invalid(&requests.path, request.value.clone(), why));
        };
        match limit.quantity() {
            Some(most) if wanted != most && !over => {
                refuse(format!("must be equal to {name} limit of {most}"), errors);
            }
            Some(most) if wanted > most => {
                refuse(format!("must be less than or equal to {name} limit of {most}"), errors);
            }
            None if !over => {
                limits.required("Limit must be set for non overcommitable resources", errors);
            }
            _ => {}
        }
    }
    let has = |rule: fn(&str) -> bool| limits.entries().chain(requests.entries()).any(|(name, _)| rule(name));
    if has(|name| name.starts_with(HUGE)) && !has(|name| matches!(name, "cpu" | "memory")) {
        resources.forbidden("HugePages require cpu or memory", errors);
    }
    claim_names(&resources.get("claims"), claims, errors);
}

fn claim_names(list: &Place<'_>, claims: &BTreeSet<&str>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for one in list.items() {
        let (name, request) = (one.get("name"), one.get("request"));
        if name.text().is_empty() {
            one.required("", errors);
            continue;
        }
        request.judge_full(names::dns_label, errors);
        if !seen.insert((name.text(), request.text())) {
            let slash = if request.is_full() { "/" } else { "" };
            let both = format!("{}{slash}{}", name.text(), request.text());
            errors.push(FieldError::duplicate(&one.path, both));
        }
        if !claims.contains(name.text()) {
            let mut error = FieldError::not_found(&one.path, name.text());
            let all: Vec<&str> = claims.iter().copied().collect();
            error.detail = match all.is_empty() {
                true => "must be one of the names in pod.spec.resourceClaims which is empty".to_owned(),
                false => format!("must be one of the names in pod.spec.resourceClaims: {}", all.join(", ")),
            };
            errors.push(error);
        }
    }
}

/// A pod's own requests and limits.
pub(super) fn of_pod(spec: &Place<'_>, claims: &BTreeSet<&str>, errors: &mut Errors) {
    let own = spec.get("resources");
    if !own.is_set() {
        return;
    }
    if own.get("claims").is_set() {
        own.get("claims").forbidden("claims may not be set for Resources at pod-level", errors);
    }
    requirements(&own, Of::Pod, claims, errors);
    for (name, request) in own.get("requests").entries() {
        let sum = crate::strategy::total_request(spec.value, name);
        if let (Some(sum), Some(most)) = (sum, request.quantity())
            && sum > most
        {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            request.invalid(why, errors);
        }
    }
    let limits = own.get("limits");
    for (index, container) in spec.each("containers").enumerate() {
        for (name, limit) in container.get("resources").get("limits").entries() {
            if let (Some(one), Some(most)) = (limit.quantity(), limits.get(name).quantity())
                && one > most
            {
                let path = format!("{}.containers[{index}][{name}].limits", own.path);
                let why = format!("must be less than or equal to pod limits of {most}");
                errors.push(FieldError::invalid(path, limit.value.clone(), why));
            }
        }
    }
}
