//! Rules for rules: what is written of them is complete, their expressions can be read and paid for, and those about changes
//! stand where it can be told what changed.

use std::rc::Rc;

use serde_json::Value;

use super::field_path;
use crate::cel::estimate::{self, Declared};
use crate::custom::{More, Node, Rule};
use crate::object::{at, items, text};
use crate::schema::ListType;
use crate::validation::FieldError;

/// What all rules of a schema may cost together (`StaticEstimatedCRDCostLimit` of upstream).
const LIMIT_OF_ALL: u64 = 100_000_000;

/// Checks the expressions of a schema and of all within it. Where something else is wrong they are not looked at.
pub(super) fn check(path: &str, schema: &Value, root: &Node, errors: &mut Vec<FieldError>) {
    let place = Place { uncorrelated: None, values: Some(1) };
    let mut check = Check { wrong: errors.clone(), costs: Vec::new(), errors };
    check.walk(path, schema, root, &place);
    let total = check.costs.iter().fold(0u64, |sum, (_, cost)| sum.saturating_add(*cost));
    if total <= LIMIT_OF_ALL {
        return;
    }
    check.costs.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
    let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
    let worth_naming = check.costs.iter().take_while(|(_, cost)| *cost >= LIMIT_OF_ALL / 100).take(4);
    check.errors.extend(worth_naming.map(|(path, _)| FieldError::forbidden(path, why)));
    let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
    check.errors.push(FieldError::forbidden(path, exceeds(what, total, LIMIT_OF_ALL)));
}

/// Checks what is written of a rule beside its expressions. `schema` is the one that it stands beside.
pub(super) fn written(path: &str, schema: &Value, rule: &Value, errors: &mut Vec<FieldError>) {
    let (source, message) = (text(rule, &["rule"]).trim(), text(rule, &["message"]));
    let breaks = |text: &str| text.contains(['\n', '\r']);
    if source.is_empty() {
        errors.push(FieldError::required(format!("{path}.rule"), "rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.push(FieldError::invalid(
            format!("{path}.message"),
            message,
            "must be non-empty if specified",
        ));
    } else if breaks(message.trim()) {
        errors.push(FieldError::invalid(format!("{path}.message"), message, "must not contain line breaks"));
    } else if breaks(source) && message.is_empty() {
        let why = "message must be specified if rule contains line breaks";
        errors.push(FieldError::required(format!("{path}.message"), why));
    }
    let expression = text(rule, &["messageExpression"]);
    if !expression.is_empty() && expression.trim().is_empty() {
        let why = "messageExpression must be non-empty if specified";
        errors.push(FieldError::required(format!("{path}.messageExpression"), why));
    }
    let reasons = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    if let Some(reason) = at(rule, &["reason"]).and_then(Value::as_str)
        && !reasons.contains(&reason)
    {
        errors.push(FieldError::not_supported(format!("{path}.reason"), reason, &reasons));
    }
    let field = text(rule, &["fieldPath"]);
    let wrong = [
        (!field.is_empty() && field.trim().is_empty(), "must be non-empty if specified"),
        (breaks(field), "must not contain line breaks"),
        (!field.is_empty() && field_path::find(field, schema, true).is_err(), "must be a valid path"),
    ];
    for (_, why) in wrong.into_iter().filter(|(is_so, _)| *is_so) {
        errors.push(FieldError::invalid(format!("{path}.fieldPath"), field, why));
    }
}

/// What is known of the values at a place in a schema.
#[derive(Clone)]
struct Place {
    /// From where on a value cannot be told to follow another one.
    uncorrelated: Option<String>,
    /// How many values there are at most; nothing when only the size of a request bounds them.
    values: Option<u64>,
}

impl Place {
    /// Within a list or map of at most so many.
    fn within(&self, most: Option<u64>) -> Self {
        let values = self.values.zip(most).map(|(values, most)| values.saturating_mul(most));
        Self { values, ..self.clone() }
    }

    /// Within what is at the path, whose members or items have no counterparts in the object before.
    fn uncorrelated(self, path: &str, is_so: bool) -> Self {
        let uncorrelated = self.uncorrelated.or_else(|| is_so.then(|| path.to_owned()));
        Self { uncorrelated, ..self }
    }
}

/// By how much a cost is too high, in words.
fn exceeds(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        _ if factor > 100.0 => "more than 100x".to_owned(),
        // Else the shorter form would say 1.0.
        ..1.5 => format!("{factor:.6}x"),
        _ => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

struct Check<'e> {
    /// What is wrong with the schema otherwise.
    wrong: Vec<FieldError>,
    /// What each rule costs at most.
    costs: Vec<(String, u64)>,
    errors: &'e mut Vec<FieldError>,
}

impl Check<'_> {
    fn walk(&mut self, path: &str, schema: &Value, node: &Node, place: &Place) {
        for (name, inner) in &node.properties {
            let at = format!("{path}.properties[{name}]");
            self.walk(&at, &schema["properties"][name.as_str()], inner, place);
        }
        if let More::Like(inner) = &node.more {
            let at = format!("{path}.additionalProperties");
            self.walk(&at, &schema["additionalProperties"], inner, &place.within(node.limits.max_properties));
        }
        if let Some(inner) = &node.items {
            let keyed = matches!(node.list_type, Some(ListType::Map));
            let place = place.within(node.limits.max_items).uncorrelated(path, !keyed);
            self.walk(&format!("{path}.items"), &schema["items"], inner, &place);
        }
        if self.wrong.iter().any(|error| error.field.starts_with(path)) {
            return;
        }
        let written = items(schema, &["x-kubernetes-validations"]);
        let declared = if written.is_empty() { None } else { Declared::of(node) };
        for (index, (written, rule)) in written.iter().zip(&node.rules).enumerate() {
            let path = format!("{path}.x-kubernetes-validations[{index}]");
            self.rule(&path, written, rule, declared.as_ref(), place);
        }
    }

    /// Notes what an expression costs, and refuses it where it costs too much alone.
    fn cost(&mut self, path: String, what: &str, cost: u64) {
        if cost > estimate::LIMIT {
            self.errors.push(FieldError::forbidden(&path, exceeds(what, cost, estimate::LIMIT)));
        }
        self.costs.push((path, cost));
    }

    fn rule(
        &mut self,
        path: &str,
        written: &Value,
        rule: &Rule,
        declared: Option<&Rc<Declared>>,
        place: &Place,
    ) {
        let (own, message) = declared.map_or((0, None), |declared| {
            let values = place.values.unwrap_or_else(|| declared.most_values());
            (rule.estimate(declared).saturating_mul(values), rule.message_estimate(declared))
        });
        self.cost(format!("{path}.rule"), "estimated rule cost", own);
        for (member, why) in rule.faults() {
            let why = match member {
                "rule" => format!("compilation failed: {why}"),
                _ => format!("{member} compilation failed: {why}"),
            };
            self.errors.push(FieldError::invalid(format!("{path}.{member}"), text(written, &[member]), why));
        }
        if let Some(cost) = message {
            self.cost(format!("{path}.messageExpression"), "estimated messageExpression cost", cost);
        }
        match &place.uncorrelated {
            Some(place) if rule.about_changes => {
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {place}"
                );
                self.errors.push(FieldError::invalid(format!("{path}.rule"), rule.source.as_str(), why));
            }
            _ if !rule.about_changes && at(written, &["optionalOldSelf"]).is_some() => {
                let value = written["optionalOldSelf"].clone();
                let why = "may not be set if oldSelf is not used in rule";
                self.errors.push(FieldError::invalid(format!("{path}.optionalOldSelf"), value, why));
            }
            _ => {}
        }
    }
}
