//! The gate's refusals as `Status`, in upstream's words.
//!
//! Owns the sentence of a 403 and the reading of a node's plain-text errors; everything else only names the resource for
//! the constructors of `skep_api::status`.

use http::StatusCode;
use serde_json::{Value, json};
use skep_api::registry::registry;
use skep_api::status::Status;
use skep_api::validation::FieldError;

use crate::request::RequestInfo;
use crate::user::UserInfo;

pub(crate) fn unauthorized() -> Status {
    Status::unauthorized()
}

/// 403: the user may not make this request.
pub(crate) fn forbidden(user: &UserInfo, request: &RequestInfo, reason: &str) -> Status {
    let mut why = if request.is_resource {
        let subresource =
            if request.subresource.is_empty() { String::new() } else { format!("/{}", request.subresource) };
        let scope = if request.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", request.namespace)
        };
        format!(
            "User {:?} cannot {} resource \"{}{subresource}\" in API group {:?} {scope}",
            user.name, request.verb, request.resource, request.group
        )
    } else {
        format!("User {:?} cannot {} path {:?}", user.name, request.verb, request.path)
    };
    if !reason.is_empty() {
        why += &format!(": {reason}");
    }
    Status::forbidden(&request.group, &request.resource, &request.name, &why)
}

/// 403: the request itself is allowed, but not with this object.
pub(crate) fn forbidden_object(group: &str, resource: &str, name: &str, why: &str) -> Status {
    Status::forbidden(group, resource, name, why)
}

pub(crate) fn bad_request(message: &str) -> Status {
    Status::bad_request(message)
}

/// 404: no such object of a core resource.
pub(crate) fn not_found(resource: &str, name: &str) -> Status {
    match registry().find("", "v1", resource) {
        Some(resource) => Status::not_found(resource, name),
        None => no_such_path(),
    }
}

pub(crate) fn no_such_path() -> Status {
    Status::no_such_path()
}

/// 409 about an object that has to do with a token, which upstream calls by its kind.
pub(crate) fn conflict(group: &str, kind: &str, name: &str, why: &str) -> Status {
    let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
    let message = format!("Operation cannot be fulfilled on {qualified} {name:?}: {why}");
    let mut details = json!({ "name": name, "kind": kind });
    if !group.is_empty() {
        details["group"] = json!(group);
    }
    Status { details: Some(details), ..Status::new(409, "Conflict", message) }
}

/// 422 with one cause. The kinds of the gate are answered and never stored, so that no registry entry describes them.
pub(crate) fn invalid(
    group: &str,
    kind: &str,
    name: &str,
    field: &str,
    value: &Value,
    message: &str,
) -> Status {
    let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
    let text = format!("Invalid value: {value}: {message}");
    let mut details = json!({
        "kind": kind,
        "causes": [{"reason": "FieldValueInvalid", "message": text, "field": field}],
    });
    for (key, value) in [("name", name), ("group", group)] {
        if !value.is_empty() {
            details[key] = json!(value);
        }
    }
    let sentence = format!("{qualified} {name:?} is invalid: {field}: {text}");
    Status { details: Some(details), ..Status::new(422, "Invalid", sentence) }
}

/// 422 for the options of a connection, which are an object of the core group with the name of what is connected to.
pub(crate) fn invalid_options(kind: &str, name: &str, errors: &[FieldError]) -> Status {
    let causes: Vec<Value> = errors.iter().map(FieldError::to_cause).collect();
    let details = json!({ "name": name, "kind": kind, "causes": causes });
    let sentence = format!("{kind} {name:?} is invalid: {}", FieldError::together(errors));
    Status { details: Some(details), ..Status::new(422, "Invalid", sentence) }
}

/// 422 with several causes, of such a kind.
pub(crate) fn invalid_fields(group: &str, kind: &str, errors: &[FieldError]) -> Status {
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let text = match texts.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    let causes: Vec<Value> = errors.iter().map(FieldError::to_cause).collect();
    let mut details = json!({"group": group, "causes": causes});
    if !kind.is_empty() {
        details["kind"] = json!(kind);
    }
    let sentence = format!("{kind}.{group} \"\" is invalid: {text}");
    Status { details: Some(details), ..Status::new(422, "Invalid", sentence) }
}

pub(crate) fn method_not_allowed(request: &RequestInfo) -> Status {
    Status::method_not_allowed(&request.group, &request.resource, &request.verb)
}

pub(crate) fn internal(cause: &str) -> Status {
    Status::internal(cause)
}

pub(crate) fn unavailable(message: &str) -> Status {
    Status::service_unavailable(message)
}

/// A node's answer other than 2xx: its status with its text as the message.
pub(crate) fn from_node(code: StatusCode, text: &str) -> Status {
    // A node that speaks `Status` is taken at its word.
    let message = match serde_json::from_str::<Value>(text) {
        Ok(value) if value["kind"] == "Status" => value["message"].as_str().unwrap_or(text).to_owned(),
        _ => text.to_owned(),
    };
    match code.as_u16() {
        400 => Status::bad_request(message),
        404 => Status::new(404, "NotFound", message),
        403 => Status::new(403, "Forbidden", message),
        405 => Status::new(405, "MethodNotAllowed", message),
        401 => Status::internal(format!("the node does not accept the API server's certificate: {message}")),
        503 => Status::service_unavailable(message),
        code @ 400..500 => Status::new(code, "Unknown", message),
        _ => Status::internal(message),
    }
}
