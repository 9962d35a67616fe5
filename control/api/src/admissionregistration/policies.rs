//! Rules for policies and their bindings (`pkg/apis/admissionregistration/validation`).

use serde_json::Value;

use super::webhooks::{self, POLICIES, REINVOCATIONS, choice};
use crate::object::{at, items, name, text};
use crate::policy::{self, Names};
use crate::registry::split_group_version;
use crate::validation::{FieldError, names, selector};

const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
const PATCHES: [&str; 2] = ["ApplyConfiguration", "JSONPatch"];
/// So many audit annotations a policy may make.
const ANNOTATIONS: usize = 20;
/// The longest expression of one (bytes).
const LONGEST_ANNOTATION: usize = 5 << 10;

/// What both kinds of policies have: failure policy, parameters, constraints, conditions, variables. Calls `rest` with the
/// names that expressions may use.
fn common(
    object: &Value,
    old: Option<&Value>,
    errors: &mut Vec<FieldError>,
    rest: impl FnOnce(&Value, &Names<'_>, &mut Vec<FieldError>),
) {
    let spec = &object["spec"];
    if text(spec, &["failurePolicy"]).is_empty() {
        errors.push(FieldError::required("spec.failurePolicy", ""));
    }
    choice("spec", spec, "failurePolicy", &POLICIES, errors);
    let params = at(spec, &["paramKind"]);
    if let Some(kind) = params {
        param_kind(kind, errors);
    }
    match at(spec, &["matchConstraints"]) {
        None => errors.push(FieldError::required("spec.matchConstraints", "")),
        Some(constraints) => {
            match_resources("spec.matchConstraints", constraints, errors);
            if items(constraints, &["resourceRules"]).is_empty() {
                errors.push(FieldError::required("spec.matchConstraints.resourceRules", ""));
            }
        }
    }
    let params = params.is_some();
    let same = |member: &str| old.is_some_and(|old| old["spec"][member] == spec[member]);
    if !(same("matchConditions") && same("paramKind")) {
        let names = Names { params, authorizer: true, variables: &[] };
        webhooks::conditions("spec.matchConditions", items(spec, &["matchConditions"]), &names, errors);
    }
    let variables = variables(spec, params, errors);
    rest(spec, &Names { params, authorizer: true, variables: &variables }, errors);
}

fn variables(spec: &Value, params: bool, errors: &mut Vec<FieldError>) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for (index, variable) in items(spec, &["variables"]).iter().enumerate() {
        let path = format!("spec.variables[{index}]");
        let (name, expression) = (text(variable, &["name"]), text(variable, &["expression"]));
        if name.trim().is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), "name is not specified"));
        } else if !is_identifier(name) {
            let why = "must be a valid CEL identifier";
            errors.push(FieldError::invalid(format!("{path}.name"), name, why));
        }
        if expression.trim().is_empty() {
            errors.push(FieldError::required(format!("{path}.expression"), "expression is not specified"));
        } else {
            let names = Names { params, authorizer: true, variables: &known };
            compiled(
                &format!("{path}.expression"),
                expression,
                policy::check_any(expression, &names),
                errors,
            );
        }
        known.push(name.to_owned());
    }
    known
}

fn compiled(path: &str, expression: &str, outcome: Result<(), String>, errors: &mut Vec<FieldError>) {
    if let Err(why) = outcome {
        // That the type is another one says so by itself.
        let why =
            if why.starts_with(policy::OTHER_TYPE) { why } else { format!("compilation failed: {why}") };
        errors.push(FieldError::invalid(path, expression, why));
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
        && !crate::cel::RESERVED.contains(&name)
}

pub(super) fn validating(object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    common(object, old, errors, |spec, names, errors| {
        let (validations, annotations) = (items(spec, &["validations"]), items(spec, &["auditAnnotations"]));
        if validations.is_empty() && annotations.is_empty() {
            let why = "validations or auditAnnotations must contain at least one item";
            errors.push(FieldError::required("spec.validations", why));
            errors.push(FieldError::required("spec.auditAnnotations", why));
        }
        for (index, one) in validations.iter().enumerate() {
            validation(&format!("spec.validations[{index}]"), one, names, errors);
        }
        if annotations.len() > ANNOTATIONS {
            let why = format!("must not have more than {ANNOTATIONS} auditAnnotations");
            errors.push(FieldError::invalid("spec.auditAnnotations", annotations.to_vec(), why));
        }
        for (index, one) in annotations.iter().enumerate() {
            let path = format!("spec.auditAnnotations[{index}]");
            annotation(&path, name(object), one, names, errors);
            if annotations[..index].iter().any(|other| other["key"] == one["key"]) {
                errors.push(FieldError::duplicate(format!("{path}.key"), text(one, &["key"])));
            }
        }
    });
}

fn validation(path: &str, one: &Value, names: &Names<'_>, errors: &mut Vec<FieldError>) {
    let expression = text(one, &["expression"]);
    if expression.trim().is_empty() {
        errors.push(FieldError::required(format!("{path}.expression"), "expression is not specified"));
    } else {
        compiled(&format!("{path}.expression"), expression, policy::check_bool(expression, names), errors);
    }
    let message_expression = text(one, &["messageExpression"]);
    if !message_expression.is_empty() {
        let path = format!("{path}.messageExpression");
        if message_expression.trim().is_empty() {
            let why = "must be non-empty if specified";
            errors.push(FieldError::invalid(path, message_expression, why));
        } else {
            let names = Names { authorizer: false, ..*names };
            compiled(&path, message_expression, policy::check_text(message_expression, &names), errors);
        }
    }
    let message = text(one, &["message"]);
    let why = match (message, message.trim()) {
        ("", _) => None,
        (_, "") => Some("must be non-empty if specified"),
        (_, message) if message.contains(['\n', '\r']) => Some("must not contain line breaks"),
        _ => None,
    };
    if let Some(why) = why {
        errors.push(FieldError::invalid(format!("{path}.message"), message, why));
    }
    choice(path, one, "reason", &REASONS, errors);
}

fn annotation(path: &str, policy_name: &str, one: &Value, names: &Names<'_>, errors: &mut Vec<FieldError>) {
    let key = text(one, &["key"]);
    if policy_name.is_empty() {
        let why = "requires metadata.name be non-empty";
        errors.push(FieldError::invalid(format!("{path}.key"), key, why));
    } else if let Err(why) = names::label_key(&format!("{policy_name}/{key}")) {
        errors.push(FieldError::invalid(format!("{path}.key"), format!("{policy_name}/{key}"), why));
    }
    let (path, expression) = (format!("{path}.valueExpression"), text(one, &["valueExpression"]));
    if expression.trim().is_empty() {
        errors.push(FieldError::required(path, "valueExpression is not specified"));
    } else if expression.trim().len() > LONGEST_ANNOTATION {
        let why = format!("must not exceed {LONGEST_ANNOTATION} bytes in length");
        errors.push(FieldError::required(path, why));
    } else {
        compiled(&path, expression, policy::check_annotation(expression.trim(), names), errors);
    }
}

pub(super) fn mutating(object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    common(object, old, errors, |spec, names, errors| {
        for rule in items(&spec["matchConstraints"], &["resourceRules"]) {
            for operation in items(rule, &["operations"]).iter().filter(|one| *one == "DELETE") {
                let path = "spec.matchConstraints.resourceRules.operations";
                let choices = ["*", "CONNECT", "CREATE", "UPDATE"];
                errors.push(FieldError::not_supported(path, operation.clone(), &choices));
            }
        }
        let mutations = items(spec, &["mutations"]);
        if mutations.is_empty() {
            errors.push(FieldError::required("spec.mutations", "mutations must contain at least one item"));
        }
        for (index, one) in mutations.iter().enumerate() {
            mutation(&format!("spec.mutations[{index}]"), one, names, errors);
        }
        if text(spec, &["reinvocationPolicy"]).is_empty() {
            errors.push(FieldError::required("spec.reinvocationPolicy", ""));
        }
        choice("spec", spec, "reinvocationPolicy", &REINVOCATIONS, errors);
    });
}

fn mutation(path: &str, one: &Value, names: &Names<'_>, errors: &mut Vec<FieldError>) {
    let kind = text(one, &["patchType"]);
    let (wanted, other) = match kind {
        "" => return errors.push(FieldError::required(format!("{path}.patchType"), "")),
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        _ => return errors.push(FieldError::not_supported(format!("{path}.patchType"), kind, &PATCHES)),
    };
    match at(one, &[wanted]) {
        None => {
            let why = format!("must be specified when patchType is {kind}");
            errors.push(FieldError::required(format!("{path}.{wanted}"), why));
        }
        Some(patch) => {
            let (path, expression) = (format!("{path}.{wanted}.expression"), text(patch, &["expression"]));
            if expression.trim().is_empty() {
                errors.push(FieldError::required(path, "expression is not specified"));
            } else {
                let outcome = policy::check_mutation(expression, kind == "JSONPatch", names);
                compiled(&path, expression, outcome, errors);
            }
        }
    }
    if at(one, &[other]).is_some() {
        let why = format!("must not be specified when patchType is {kind}");
        errors.push(FieldError::invalid(format!("{path}.{other}"), format!("{{{other}}}"), why));
    }
}

fn param_kind(kind: &Value, errors: &mut Vec<FieldError>) {
    let path = "spec.paramKind.apiVersion";
    let api_version = text(kind, &["apiVersion"]);
    if api_version.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if api_version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {api_version}");
        errors.push(FieldError::invalid(path, api_version, why));
    } else {
        let (group, version) = split_group_version(api_version);
        if let (false, Err(why)) = (group.is_empty(), names::dns_subdomain(group)) {
            errors.push(FieldError::invalid(path, group, why));
        }
        if version.is_empty() {
            errors.push(FieldError::invalid(path, api_version, "version must be specified"));
        } else if let Err(why) = names::dns_1035_label(version) {
            errors.push(FieldError::invalid(path, version, why));
        }
    }
    let (path, name) = ("spec.paramKind.kind", text(kind, &["kind"]));
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if let Err(why) = names::dns_1035_label(&name.to_lowercase()) {
        let why = format!("may have mixed case, but should otherwise match: {why}");
        errors.push(FieldError::invalid(path, name, why));
    }
}

fn match_resources(path: &str, resources: &Value, errors: &mut Vec<FieldError>) {
    choice(path, resources, "matchPolicy", &["Equivalent", "Exact"], errors);
    for member in ["namespaceSelector", "objectSelector"] {
        if let Some(one) = at(resources, &[member]) {
            selector::selector(&format!("{path}.{member}"), one, errors);
        }
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        for (index, rule) in items(resources, &[list]).iter().enumerate() {
            let path = format!("{path}.{list}[{index}]");
            let given = items(rule, &["resourceNames"]);
            for (at, name) in given.iter().enumerate() {
                let path = format!("{path}.resourceNames[{at}]");
                if let Err(why) = names::path_segment(name.as_str().unwrap_or_default()) {
                    errors.push(FieldError::invalid(path.as_str(), name.clone(), why));
                }
                if given[..at].contains(name) {
                    errors.push(FieldError::duplicate(path, name.clone()));
                }
            }
            webhooks::rule(&path, rule, errors);
        }
    }
}

pub(super) fn binding(validating: bool, object: &Value, errors: &mut Vec<FieldError>) {
    let spec = &object["spec"];
    let policy_name = text(spec, &["policyName"]);
    if policy_name.is_empty() {
        errors.push(FieldError::required("spec.policyName", ""));
    } else if let Err(why) = names::dns_subdomain(policy_name) {
        errors.push(FieldError::invalid("spec.policyName", policy_name, why));
    }
    if let Some(reference) = at(spec, &["paramRef"]) {
        param_ref(reference, errors);
    }
    if let Some(resources) = at(spec, &["matchResources"]) {
        match_resources("spec.matchResources", resources, errors);
    }
    if validating {
        actions(items(spec, &["validationActions"]), errors);
    }
}

fn actions(all: &[Value], errors: &mut Vec<FieldError>) {
    let path = "spec.validationActions";
    for (index, action) in all.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if !ACTIONS.iter().any(|known| action == known) {
            errors.push(FieldError::not_supported(path.as_str(), action.clone(), &ACTIONS));
        }
        if all[..index].contains(action) {
            errors.push(FieldError::duplicate(path, action.clone()));
        }
    }
    let has = |action: &str| all.iter().any(|one| one == action);
    if has("Deny") && has("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        errors.push(FieldError::invalid(path, all.to_vec(), why));
    }
    if all.is_empty() {
        errors.push(FieldError::required(path, "at least one validation action is required"));
    }
}

fn param_ref(reference: &Value, errors: &mut Vec<FieldError>) {
    let (name, selected) = (text(reference, &["name"]), at(reference, &["selector"]));
    let exclusive = "name and selector are mutually exclusive";
    if let (false, Err(why)) = (name.is_empty(), names::path_segment(name)) {
        errors.push(FieldError::invalid("spec.paramRef.name", name, why));
    }
    match (name, selected) {
        ("", None) => {
            errors.push(FieldError::required("spec.paramRef", "one of name or selector must be specified"));
        }
        ("", Some(_)) | (_, None) => {}
        (_, Some(_)) => {
            errors.push(FieldError::forbidden("spec.paramRef.name", exclusive));
            errors.push(FieldError::forbidden("spec.paramRef.selector", exclusive));
        }
    }
    if let Some(one) = selected {
        selector::selector("spec.paramRef.selector", one, errors);
    }
    match text(reference, &["parameterNotFoundAction"]) {
        "" => errors.push(FieldError::required("spec.paramRef.parameterNotFoundAction", "")),
        "Deny" | "Allow" => {}
        other => {
            let path = "spec.paramRef.parameterNotFoundAction";
            errors.push(FieldError::not_supported(path, other, &["Deny", "Allow"]));
        }
    }
}
