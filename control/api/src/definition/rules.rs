//! Rules for rules: their expressions can be read, and those about changes stand where it can be told what changed.

use super::schema::below;
use crate::custom::Node;
use crate::object::{items, text};
use crate::schema::ListType;
use crate::validation::FieldError;
use serde_json::Value;

/// Checks the rules of a schema and of all within it.
pub(super) fn check(path: &str, schema: &Value, root: &Node, errors: &mut Vec<FieldError>) {
    walk(path, schema, root, true, errors);
    outside(path, schema, errors);
}

/// `correlated` is whether a value here can be told to follow another one.
fn walk(path: &str, schema: &Value, node: &Node, correlated: bool, errors: &mut Vec<FieldError>) {
    for (index, (written, rule)) in
        items(schema, &["x-kubernetes-validations"]).iter().zip(&node.rules).enumerate()
    {
        let at = format!("{path}.x-kubernetes-validations[{index}]");
        if text(written, &["rule"]).trim().is_empty() {
            errors.push(FieldError::required(format!("{at}.rule"), "rule is not specified"));
            continue;
        }
        let message = text(written, &["message"]);
        if message.contains('\n') {
            errors.push(FieldError::invalid(
                format!("{at}.message"),
                message,
                "message must not contain line breaks",
            ));
        }
        if text(written, &["rule"]).trim().contains('\n') && message.is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(format!("{at}.message"), why));
        }
        let reason = text(written, &["reason"]);
        let reasons =
            ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
        if !reason.is_empty() && !reasons.contains(&reason) {
            errors.push(FieldError::not_supported(format!("{at}.reason"), reason, &reasons));
        }
        for (member, why) in rule.faults() {
            let why = format!("compilation failed: {why}");
            errors.push(FieldError::invalid(format!("{at}.{member}"), text(written, &[member]), why));
        }
        if rule.about_changes && !correlated {
            let why = "oldSelf cannot be used on the uncorrelatable portion of the schema";
            errors.push(FieldError::invalid(format!("{at}.rule"), rule.source.as_str(), why));
        }
    }
    for (name, inner) in &node.properties {
        let at = format!("{path}.properties[{name}]");
        walk(&at, &schema["properties"][name.as_str()], inner, correlated, errors);
    }
    if let crate::custom::More::Like(inner) = &node.more {
        walk(
            &format!("{path}.additionalProperties"),
            &schema["additionalProperties"],
            inner,
            correlated,
            errors,
        );
    }
    if let Some(inner) = &node.items {
        let keyed = matches!(node.list_type, Some(ListType::Map));
        walk(&format!("{path}.items"), &schema["items"], inner, correlated && keyed, errors);
    }
}

/// Within alternatives there are no rules.
fn outside(path: &str, schema: &Value, errors: &mut Vec<FieldError>) {
    for (at, inner) in below(path, schema) {
        let member = at[path.len()..].trim_start_matches('.');
        let alternative = ["allOf", "anyOf", "oneOf", "not"].iter().any(|word| member.starts_with(word));
        if alternative && !items(inner, &["x-kubernetes-validations"]).is_empty() {
            let at = format!("{at}.x-kubernetes-validations");
            errors.push(FieldError::forbidden(at, "must be empty to be structural"));
        }
        outside(&at, inner, errors);
    }
}
