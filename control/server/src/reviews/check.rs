//! Whether an access review asks something that can be answered: all that is wrong with it, in upstream's words and order.

use serde_json::{Map, Value, json};
use skep_api::status::Status;
use skep_api::validation::FieldError;

use super::strings;
use crate::authz::selectors;
use crate::refusal;
use crate::request::RequestInfo;

/// Checks the body of a review of this kind.
///
/// # Errors
///
/// 422 with all that is wrong.
pub(super) fn check(kind: &str, request: &RequestInfo, body: &Value) -> Result<(), Status> {
    let (spec, local) = (&body["spec"], kind == "LocalSubjectAccessReview");
    let mut errors = asked(spec);
    if kind != "SelfSubjectAccessReview" {
        let named = spec["user"].as_str().is_some_and(|user| !user.is_empty());
        if !named && strings(&spec["groups"]).is_empty() {
            let why = "at least one of user or group must be specified";
            errors.push(FieldError::invalid("spec.user", "", why));
        }
    }
    for (field, is_field) in [("fieldSelector", true), ("labelSelector", false)] {
        let path = format!("spec.resourceAttributes.{field}");
        let read = selectors::of_review(&path, &spec["resourceAttributes"][field], is_field);
        errors.extend(read.err().into_iter().flatten());
    }
    errors.extend(metadata(&body["metadata"], local));
    if local {
        errors.extend(elsewhere(spec, request));
    }
    // The kind is left out: so it is in upstream's answer.
    if errors.is_empty() { Ok(()) } else { Err(refusal::invalid_fields("authorization.k8s.io", "", &errors)) }
}

fn asked(spec: &Value) -> Vec<FieldError> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    match (resource.is_object(), path.is_object()) {
        (true, true) => {
            let why = "cannot be specified in combination with resourceAttributes";
            vec![FieldError::invalid("spec.nonResourceAttributes", shown(path), why)]
        }
        (false, false) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            vec![FieldError::invalid("spec.resourceAttributes", Value::Null, why)]
        }
        _ => Vec::new(),
    }
}

/// A path as upstream's messages show it.
fn shown(path: &Value) -> Value {
    let text = |field: &str| path[field].as_str().unwrap_or_default();
    json!({ "Path": text("path"), "Verb": text("verb") })
}

/// Reviews are no objects: nothing describes them but who wrote them.
fn metadata(metadata: &Value, local: bool) -> Option<FieldError> {
    let may_be = |key: &str| key == "managedFields" || local && key == "namespace";
    let says = |fields: &Map<String, Value>| {
        let mut said = fields.iter().filter(|(key, _)| !may_be(key));
        said.any(|(_, value)| !matches!(value, Value::Null) && *value != json!("") && *value != json!({}))
    };
    let why = if local { "must be empty except for namespace" } else { "must be empty" };
    metadata
        .as_object()
        .filter(|fields| says(fields))
        .map(|_| FieldError::invalid_struct("metadata", "meta/v1.ObjectMeta", metadata, why))
}

/// What a local review must not ask.
fn elsewhere(spec: &Value, request: &RequestInfo) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let namespace = resource["namespace"].as_str().unwrap_or_default();
    if resource.is_object() && namespace != request.namespace {
        let field = "spec.resourceAttributes.namespace";
        errors.push(FieldError::invalid(field, namespace, "must match metadata.namespace"));
    }
    if path.is_object() {
        let why = "disallowed on this kind of request";
        errors.push(FieldError::invalid("spec.nonResourceAttributes", shown(path), why));
    }
    errors
}
