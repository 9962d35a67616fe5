//! Rules for `spec.conversion`: who brings objects from one version into another.
//!
//! Messages name the fields as upstream's internal form does (`webhookClientConfig`).

use serde_json::Value;

use crate::object::{at, flag, items, text};
use crate::validation::{FieldError, webhooks};

pub(super) fn check(spec: &Value, errors: &mut Vec<FieldError>) {
    let conversion = &spec["conversion"];
    match text(conversion, &["strategy"]) {
        "None" | "" => none(conversion, errors),
        "Webhook" => {
            if flag(spec, &["preserveUnknownFields"]) {
                let why = "must be None if spec.preserveUnknownFields is true";
                errors.push(FieldError::invalid("spec.conversion.strategy", "Webhook", why));
            }
            webhook(conversion, errors);
        }
        other => {
            errors.push(FieldError::not_supported("spec.conversion.strategy", other, &["None", "Webhook"]))
        }
    }
}

fn none(conversion: &Value, errors: &mut Vec<FieldError>) {
    let why = "should not be set when strategy is not set to Webhook";
    if at(conversion, &["webhook", "clientConfig"]).is_some() {
        errors.push(FieldError::forbidden("spec.conversion.webhookClientConfig", why));
    }
    if !items(conversion, &["webhook", "conversionReviewVersions"]).is_empty() {
        errors.push(FieldError::forbidden("spec.conversion.conversionReviewVersions", why));
    }
}

fn webhook(conversion: &Value, errors: &mut Vec<FieldError>) {
    let path = "spec.conversion.webhookClientConfig";
    match at(conversion, &["webhook", "clientConfig"]) {
        None => errors.push(FieldError::required(path, "required when strategy is set to Webhook")),
        Some(config) => {
            webhooks::client_config(path, config, errors);
            webhooks::bundle(&format!("{path}.caBundle"), text(config, &["caBundle"]), errors);
        }
    }
    let path = "spec.conversion.conversionReviewVersions";
    let versions = items(conversion, &["webhook", "conversionReviewVersions"]);
    webhooks::reviews(path, versions, "", errors);
}
