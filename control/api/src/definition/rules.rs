//! Rules for rules: their expressions can be read, and those about changes stand where it can be told what changed.

use super::schema::below;
use crate::cel::estimate;
use crate::custom::{Node, Rule};
use crate::object::{items, text};
use crate::schema::ListType;
use crate::validation::FieldError;
use serde_json::Value;

/// Checks the rules of a schema and of all within it.
pub(super) fn check(path: &str, schema: &Value, root: &Node, errors: &mut Vec<FieldError>) {
    let place = Place { correlated: true, values: Some(1) };
    walk(path, schema, root, place, errors);
    outside(path, schema, errors);
}

/// What is known of the values at a place in a schema.
#[derive(Clone, Copy)]
struct Place {
    /// Whether a value here can be told to follow another one.
    correlated: bool,
    /// How many values there are at most; nothing when only the size of a request bounds them.
    values: Option<u64>,
}

impl Place {
    /// Within a list or map of at most so many.
    fn within(self, most: Option<u64>, correlated: bool) -> Self {
        let values = self.values.zip(most).map(|(values, most)| values.saturating_mul(most));
        Self { correlated: self.correlated && correlated, values }
    }
}

/// Refuses a rule that could never be paid for.
fn cost(path: &str, rule: &Rule, node: &Node, place: Place, errors: &mut Vec<FieldError>) {
    let values = place.values.unwrap_or_else(|| estimate::most_values(node));
    let cost = rule.estimate(node).saturating_mul(values);
    if cost > estimate::LIMIT {
        let factor = cost as f64 / estimate::LIMIT as f64;
        let factor =
            if factor > 100.0 { "more than 100x".to_owned() } else { format!("factor of {factor:.1}x") };
        let why = format!(
            "estimated rule cost exceeds budget by {factor} (try simplifying the rule, or adding maxItems, \
             maxProperties, and maxLength where arrays, maps, and strings are declared)"
        );
        errors.push(FieldError::forbidden(path, why));
    }
}

fn walk(path: &str, schema: &Value, node: &Node, place: Place, errors: &mut Vec<FieldError>) {
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
        cost(&format!("{at}.rule"), rule, node, place, errors);
        if rule.about_changes && !place.correlated {
            let why = "oldSelf cannot be used on the uncorrelatable portion of the schema";
            errors.push(FieldError::invalid(format!("{at}.rule"), rule.source.as_str(), why));
        }
    }
    for (name, inner) in &node.properties {
        let at = format!("{path}.properties[{name}]");
        walk(&at, &schema["properties"][name.as_str()], inner, place, errors);
    }
    if let crate::custom::More::Like(inner) = &node.more {
        walk(
            &format!("{path}.additionalProperties"),
            &schema["additionalProperties"],
            inner,
            place.within(node.limits.max_properties, true),
            errors,
        );
    }
    if let Some(inner) = &node.items {
        let keyed = matches!(node.list_type, Some(ListType::Map));
        walk(
            &format!("{path}.items"),
            &schema["items"],
            inner,
            place.within(node.limits.max_items, keyed),
            errors,
        );
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
