//! Rules for webhook configurations (`pkg/apis/admissionregistration/validation`).

use serde_json::Value;

use crate::object::{at, items, number, text};
use crate::policy;
use crate::validation::{FieldError, names, selector, webhooks};

pub(super) const POLICIES: [&str; 2] = ["Fail", "Ignore"];
const MATCHES: [&str; 2] = ["Equivalent", "Exact"];
const NO_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
pub(super) const REINVOCATIONS: [&str; 2] = ["IfNeeded", "Never"];
pub(super) const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
/// So many match conditions there may be.
const CONDITIONS: usize = 64;

pub(super) fn check(mutating: bool, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let hooks = items(object, &["webhooks"]);
    for (index, hook) in hooks.iter().enumerate() {
        let path = format!("webhooks[{index}]");
        let before = old.map(|old| items(old, &["webhooks"])).and_then(|all| all.get(index));
        self::hook(&path, mutating, hook, before, errors);
        let name = text(hook, &["name"]);
        if !name.is_empty() && hooks[..index].iter().any(|other| other["name"] == hook["name"]) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
        }
    }
}

fn hook(path: &str, mutating: bool, hook: &Value, before: Option<&Value>, errors: &mut Vec<FieldError>) {
    full_name(&format!("{path}.name"), text(hook, &["name"]), errors);
    for (index, rule) in items(hook, &["rules"]).iter().enumerate() {
        self::rule(&format!("{path}.rules[{index}]"), rule, errors);
    }
    choice(path, hook, "failurePolicy", &POLICIES, errors);
    choice(path, hook, "matchPolicy", &MATCHES, errors);
    if at(hook, &["sideEffects"]).is_none() {
        let why = "must specify one of None, NoneOnDryRun";
        errors.push(FieldError::required(format!("{path}.sideEffects"), why));
    } else {
        choice(path, hook, "sideEffects", &NO_EFFECTS, errors);
    }
    if let Some(seconds) = number(hook, &["timeoutSeconds"]).filter(|seconds| !(1..=30).contains(seconds)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.push(FieldError::invalid(format!("{path}.timeoutSeconds"), seconds, why));
    }
    for member in ["namespaceSelector", "objectSelector"] {
        if let Some(one) = at(hook, &[member]) {
            selector::selector(&format!("{path}.{member}"), one, errors);
        }
    }
    if mutating {
        choice(path, hook, "reinvocationPolicy", &REINVOCATIONS, errors);
    }
    webhooks::client_config(&format!("{path}.clientConfig"), &hook["clientConfig"], errors);
    if before.is_none_or(|before| before["matchConditions"] != hook["matchConditions"]) {
        let names = policy::Names { params: false, authorizer: true, variables: &[] };
        conditions(&format!("{path}.matchConditions"), items(hook, &["matchConditions"]), &names, errors);
    }
    let versions = items(hook, &["admissionReviewVersions"]);
    let missing = "must specify one of v1, v1beta1";
    webhooks::reviews(&format!("{path}.admissionReviewVersions"), versions, missing, errors);
}

fn full_name(path: &str, name: &str, errors: &mut Vec<FieldError>) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if let Err(why) = names::dns_subdomain(name) {
        errors.push(FieldError::invalid(path, name, why));
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(path, name, why));
    }
}

pub(super) fn choice(path: &str, one: &Value, member: &str, choices: &[&str], errors: &mut Vec<FieldError>) {
    if let Some(given) = at(one, &[member]).and_then(Value::as_str)
        && !choices.contains(&given)
    {
        errors.push(FieldError::not_supported(format!("{path}.{member}"), given, choices));
    }
}

/// A rule with its operations.
pub(super) fn rule(path: &str, rule: &Value, errors: &mut Vec<FieldError>) {
    let wild = |list: &[Value]| list.len() > 1 && list.iter().any(|one| one == "*");
    for (member, others) in
        [("operations", "operations"), ("apiGroups", "API groups"), ("apiVersions", "API versions")]
    {
        let (at, list) = (format!("{path}.{member}"), items(rule, &[member]));
        if list.is_empty() {
            errors.push(FieldError::required(at.as_str(), ""));
        }
        if wild(list) {
            let why = format!("if '*' is present, must not specify other {others}");
            errors.push(FieldError::invalid(at.as_str(), list.to_vec(), why));
        }
        for (index, one) in list.iter().enumerate() {
            let word = one.as_str().unwrap_or_default();
            match member {
                "operations" if !OPERATIONS.contains(&word) => {
                    errors.push(FieldError::not_supported(format!("{at}[{index}]"), word, &OPERATIONS));
                }
                "apiVersions" if word.is_empty() => {
                    errors.push(FieldError::required(format!("{at}[{index}]"), ""));
                }
                _ => {}
            }
        }
    }
    resources(&format!("{path}.resources"), items(rule, &["resources"]), errors);
    choice(path, rule, "scope", &SCOPES, errors);
}

fn resources(path: &str, list: &[Value], errors: &mut Vec<FieldError>) {
    if list.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let words: Vec<&str> = list.iter().map(|one| one.as_str().unwrap_or_default()).collect();
    for (index, word) in words.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if word.is_empty() {
            errors.push(FieldError::required(path, ""));
            continue;
        }
        let Some((resource, part)) = word.split_once('/') else { continue };
        for wider in [format!("{resource}/*"), format!("*/{part}")] {
            if words[..index].contains(&wider.as_str()) {
                let why = format!("if '{wider}' is present, must not specify {word}");
                errors.push(FieldError::invalid(path.as_str(), *word, why));
            }
        }
    }
    if words.len() > 1 && words.contains(&"*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(path, list.to_vec(), why));
    }
    if words.contains(&"*") && words.iter().any(|word| *word != "*" && !word.contains('/')) {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, list.to_vec(), why));
    }
}

/// Conditions on which a webhook is called or a policy applies.
pub(super) fn conditions(path: &str, all: &[Value], names: &policy::Names<'_>, errors: &mut Vec<FieldError>) {
    if all.len() > CONDITIONS {
        errors.push(FieldError::too_many(path, all.len(), CONDITIONS));
    }
    for (index, one) in all.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let expression = text(one, &["expression"]);
        if expression.trim().is_empty() {
            errors.push(FieldError::required(format!("{path}.expression"), ""));
        } else if let Err(why) = policy::check_bool(expression.trim(), names) {
            let why = format!("compilation failed: {why}");
            errors.push(FieldError::invalid(format!("{path}.expression"), expression.trim(), why));
        }
        let name = text(one, &["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
            continue;
        }
        let faults = names::label_key_faults(name);
        let is_one = faults.is_empty();
        errors.extend(faults.into_iter().map(|why| FieldError::invalid(format!("{path}.name"), name, why)));
        if is_one && all[..index].iter().any(|other| other["name"] == one["name"]) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
        }
    }
}
