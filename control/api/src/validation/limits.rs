//! Rules of LimitRanges and ResourceQuotas.

use std::collections::BTreeSet;

use serde_json::json;

use super::field::FieldError;
use super::names;
use super::place::{Errors, Place};
use super::resources;
use crate::quota::COMPUTE;

const STANDARD: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "storage"];
/// What quotas count besides objects of any kind (`count/...`) and requests.
const QUOTA: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
    "storage",
];
/// Those that are counted in whole numbers.
const WHOLE: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

pub(super) fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name) || QUOTA.contains(&name) || is_huge(name)
}

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

fn resource_name(path: &str, name: &str, errors: &mut Errors) -> bool {
    let why = match names::label_key(name) {
        Err(why) => why,
        Ok(()) if !name.contains('/') && !is_standard(name) => {
            "must be a standard resource type or fully qualified".to_owned()
        }
        Ok(()) => return true,
    };
    errors.push(FieldError::invalid(path, name, why));
    false
}

pub(super) fn range(spec: &Place<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for limit in spec.each("limits") {
        let kind = limit.get("type");
        if kind.judge_key(errors)
            && !kind.text().contains('/')
            && !["Pod", "Container", "PersistentVolumeClaim"].contains(&kind.text())
        {
            kind.invalid("must be a standard limit type or fully qualified", errors);
        }
        if !seen.insert(kind.text()) {
            kind.duplicate(errors);
        }
        range_names(&limit, kind.text(), errors);
        range_amounts(&limit, errors);
    }
}

fn range_names(limit: &Place<'_>, kind: &str, errors: &mut Errors) {
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let amounts = limit.get(list);
        if kind == "Pod" && matches!(list, "default" | "defaultRequest") {
            if amounts.count() > 0 {
                amounts.forbidden("may not be specified when `type` is 'Pod'", errors);
            }
            continue;
        }
        for (name, place) in amounts.entries() {
            match kind {
                "Pod" | "Container" => resources::container_name(&place.path, name, errors),
                _ => drop(resource_name(&place.path, name, errors)),
            }
        }
    }
    let storage = |list: &str| limit.get(list).get("storage").is_set();
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        limit.get("limits").required(why, errors);
    }
}

fn range_amounts(limit: &Place<'_>, errors: &mut Errors) {
    let lists = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
    let names: BTreeSet<&str> = lists
        .iter()
        .flat_map(|list| limit.get(list).entries().collect::<Vec<_>>())
        .map(|(name, _)| name)
        .collect();
    for name in names {
        let amount = |list: &str| limit.get(list).get(name).quantity();
        let words = [
            ("min", "max", "min", "min value", "max value"),
            ("min", "defaultRequest", "defaultRequest", "min value", "default request value"),
            ("defaultRequest", "max", "defaultRequest", "default request value", "max value"),
            ("defaultRequest", "default", "defaultRequest", "default request value", "default limit value"),
            ("min", "default", "default", "min value", "default value"),
            ("default", "max", "default", "default value", "max value"),
        ];
        for (low, high, at, low_word, high_word) in words {
            if let (Some(least), Some(most)) = (amount(low), amount(high))
                && least > most
            {
                let shown = match (low, high) {
                    ("default", "max") => most,
                    ("min", "defaultRequest") => most,
                    _ => least,
                };
                let path = format!("{}.{at}[{name}]", limit.path);
                let why = format!("{low_word} {least} is greater than {high_word} {most}");
                errors.push(FieldError::invalid(path, shown.to_string(), why));
            }
        }
        ratio(limit, name, errors);
    }
}

fn ratio(limit: &Place<'_>, name: &str, errors: &mut Errors) {
    let amount = |list: &str| limit.get(list).get(name).quantity();
    let Some(ratio) = amount("maxLimitRequestRatio") else { return };
    let path = format!("{}.maxLimitRequestRatio[{name}]", limit.path);
    if ratio.milli() < 1000 {
        let why = format!("ratio {ratio} is less than 1");
        errors.push(FieldError::invalid(path.clone(), ratio.to_string(), why));
    }
    if let (Some(least), Some(most)) = (amount("min"), amount("max")) {
        let highest = most.milli() as f64 / least.milli() as f64;
        if ratio.milli() as f64 / 1000.0 > highest {
            let why = format!("ratio {ratio} is greater than max/min = {highest:.6}");
            errors.push(FieldError::invalid(path, ratio.to_string(), why));
        }
    }
}

/// Amounts by what a quota counts.
pub(super) fn quota_amounts(list: &Place<'_>, errors: &mut Errors) {
    for (name, amount) in list.entries() {
        if resource_name(&amount.path, name, errors)
            && !name.contains('/')
            && !QUOTA.contains(&name)
            && !is_huge(name)
        {
            let why = "must be a standard resource for quota";
            errors.push(FieldError::invalid(&amount.path, name, why));
        }
        amount.amount_not_negative(errors);
        let whole = WHOLE.contains(&name) || name.starts_with("count/");
        if whole && amount.quantity().is_some_and(|amount| !amount.is_whole()) {
            amount.invalid("must be an integer", errors);
        }
    }
}

pub(super) fn quota(spec: &Place<'_>, errors: &mut Errors) {
    let hard = spec.get("hard");
    quota_amounts(&hard, errors);
    let scopes = spec.get("scopes");
    let named: Vec<&str> = scopes.items().map(|one| one.text()).collect();
    for scope in &named {
        if !SCOPES.contains(scope) {
            scopes.invalid("unsupported scope", errors);
        }
        if !suits_all(scope, &hard) {
            scopes.invalid("unsupported scope applied to resource", errors);
        }
    }
    conflicts(&scopes, &named, errors);
    let selector = spec.get("scopeSelector");
    let mut selected = Vec::new();
    for one in selector.each("matchExpressions") {
        // Upstream leaves the index out.
        let one = Place::new(format!("{}.matchExpressions", selector.path), one.value);
        let (scope, operator, values) = (one.get("scopeName"), one.get("operator"), one.get("values"));
        if !SCOPES.contains(&scope.text()) {
            scope.invalid("unsupported scope", errors);
        }
        if !suits_all(scope.text(), &hard) {
            let why = "unsupported scope applied to resource";
            errors.push(FieldError::invalid(&one.path, selector.value.clone(), why));
        }
        let plain = !matches!(scope.text(), "PriorityClass" | "VolumeAttributesClass");
        if plain && SCOPES.contains(&scope.text()) && operator.text() != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                       ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort \
                       or ResourceQuotaScopeCrossNamespacePodAffinity";
            operator.invalid(why, errors);
        }
        match operator.text() {
            "In" | "NotIn" if values.count() == 0 => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                values.required(why, errors);
            }
            "Exists" | "DoesNotExist" if values.count() > 0 => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                values.invalid(why, errors);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => operator.invalid("not a valid selector operator", errors),
        }
        selected.push(scope.text());
    }
    conflicts(&scopes, &selected, errors);
}

fn conflicts(scopes: &Place<'_>, named: &[&str], errors: &mut Errors) {
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| named.contains(scope)) {
            let value = if scopes.is_set() { scopes.value.clone() } else { json!(null) };
            errors.push(FieldError::invalid(&scopes.path, value, "conflicting scopes"));
        }
    }
}

/// Whether the scope can restrict everything that is counted.
fn suits_all(scope: &str, hard: &Place<'_>) -> bool {
    hard.entries().filter(|(name, _)| QUOTA.contains(name)).all(|(name, _)| match scope {
        "BestEffort" => name == "pods",
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" => COMPUTE.contains(&name),
        "CrossNamespacePodAffinity" => COMPUTE.contains(&name),
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_a_limit_range_are_in_order() {
        let value = json!({ "limits": [{
            "type": "Container", "min": { "cpu": "2" }, "max": { "cpu": "1" }, "default": { "cpu": "3" },
            "maxLimitRequestRatio": { "cpu": "500m" },
        }] });
        let mut errors = Errors::new();
        range(&Place::new("spec", &value), &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
                "spec.limits[0].default[cpu]: Invalid value: \"1\": default value 3 is greater than max value 1",
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
            ]
        );
    }
}
