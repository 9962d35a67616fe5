//! Rules of node selectors: terms of expressions over labels, and over the name.

use super::names;
use super::place::{Errors, Place};

pub(super) fn check(selector: &Place<'_>, errors: &mut Errors) {
    let terms = selector.get("nodeSelectorTerms");
    if terms.count() == 0 {
        return terms.required("must have at least one node selector term", errors);
    }
    terms.items().for_each(|one| term(&one, true, errors));
}

/// One term. Values of terms that only prefer are not checked, as upstream has it.
pub(super) fn term(term: &Place<'_>, required: bool, errors: &mut Errors) {
    term.each("matchExpressions").for_each(|one| expression(&one, required, errors));
    term.each("matchFields").for_each(|one| field(&one, errors));
}

fn expression(expression: &Place<'_>, required: bool, errors: &mut Errors) {
    let (operator, values) = (expression.get("operator"), expression.get("values"));
    match operator.text() {
        "In" | "NotIn" if values.count() == 0 => {
            values.required("must be specified when `operator` is 'In' or 'NotIn'", errors);
        }
        "Exists" | "DoesNotExist" if values.count() > 0 => {
            values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'", errors);
        }
        "Gt" | "Lt" if values.count() != 1 => {
            values.required("must be specified single value when `operator` is 'Lt' or 'Gt'", errors);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => operator.invalid("not a valid selector operator", errors),
    }
    expression.get("key").judge_key(errors);
    if required {
        for value in values.items() {
            value.judge(names::label_value, errors);
        }
    }
}

fn field(field: &Place<'_>, errors: &mut Errors) {
    let (operator, values, key) = (field.get("operator"), field.get("values"), field.get("key"));
    match operator.text() {
        "In" | "NotIn" if values.count() != 1 => {
            let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            values.required(why, errors);
        }
        "In" | "NotIn" => {}
        _ => operator.invalid("not a valid selector operator", errors),
    }
    if key.text() == "metadata.name" {
        for value in values.items() {
            value.judge(names::dns_subdomain, errors);
        }
    } else {
        key.invalid("not a valid field selector key", errors);
    }
}
