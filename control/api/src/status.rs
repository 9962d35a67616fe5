//! The error that a client sees: Kubernetes' `Status` with the codes, reasons and wording of `apimachinery/pkg/api/errors`.
//!
//! Owns construction and the body. Does not own which internal failure becomes which status; the server maps those.

use serde_json::{Map, Value, json};

use crate::registry::Resource;
use crate::validation::FieldError;

/// A failure, as a client reads it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
    /// `StatusDetails`, if any.
    pub details: Option<Value>,
    /// Seconds after which to try again, also sent as `Retry-After`.
    pub retry_after: Option<u32>,
    /// The body, where somebody else decided: it may have a reason that nobody here knows.
    pub whole: Option<Box<Value>>,
}

impl Status {
    /// A failure without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, retry_after: None, whole: None }
    }

    /// A failure that somebody else decided on, such as a webhook: a `Status` object, passed on with what it says.
    pub fn passed_on(mut whole: Value) -> Self {
        let code = whole["code"].as_u64().and_then(|code| u16::try_from(code).ok());
        let code = code.filter(|code| (400..600).contains(code)).unwrap_or(500);
        if !whole.is_object() {
            whole = json!({});
        }
        for (member, value) in
            [("kind", json!("Status")), ("apiVersion", json!("v1")), ("metadata", json!({}))]
        {
            whole[member] = value;
        }
        whole["status"] = json!("Failure");
        whole["code"] = json!(code);
        let message = whole["message"].as_str().unwrap_or_default().to_owned();
        let retry_after =
            whole["details"]["retryAfterSeconds"].as_u64().and_then(|one| u32::try_from(one).ok());
        let details = whole.get("details").filter(|details| details.is_object()).cloned();
        Self { details, retry_after, whole: Some(Box::new(whole)), ..Self::new(code, "", message) }
    }

    /// The same, about an object: its group, its kind or resource, and its name, each unless it is empty.
    pub fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let mut details = Map::new();
        for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
            if !value.is_empty() {
                details.insert(key.into(), value.into());
            }
        }
        self.details = Some(Value::Object(details));
        self
    }

    fn retry(mut self, seconds: u32) -> Self {
        let details = self.details.get_or_insert_with(|| json!({}));
        details["retryAfterSeconds"] = seconds.into();
        self.retry_after = Some(seconds);
        self
    }

    /// 404: no such object.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified());
        Self::new(404, "NotFound", message).about(&resource.group, &resource.plural, name)
    }

    /// 404: the path leads nowhere.
    pub fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource").about("", "", "")
    }

    /// 409: an object of that name is there.
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        Self::new(409, "AlreadyExists", message).about(&resource.group, &resource.plural, name)
    }

    /// 409: somebody else wrote in between, or a precondition does not hold.
    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified());
        Self::new(409, "Conflict", message).about(&resource.group, &resource.plural, name)
    }

    /// 409: the resource version sent is not the one stored.
    pub fn modified(resource: &Resource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 422: the object breaks rules; each is a cause.
    pub fn invalid(resource: &Resource, name: &str, errors: Vec<FieldError>) -> Self {
        let qualified = match resource.group.as_str() {
            "" => resource.kind.clone(),
            group => format!("{}.{group}", resource.kind),
        };
        let text = FieldError::together(&errors);
        let mut status = Self::new(422, "Invalid", format!("{qualified} {name:?} is invalid: {text}")).about(
            &resource.group,
            &resource.kind,
            name,
        );
        if let Some(details) = &mut status.details {
            details["causes"] = errors.iter().map(FieldError::to_cause).collect();
        }
        status
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401: the credentials are missing or not valid.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403: known, but not allowed. The message names user, verb and resource; `why` follows it.
    pub fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let qualified = qualify(group, plural);
        let message = match (qualified.as_str(), name) {
            ("", _) => format!("forbidden: {why}"),
            (qualified, "") => format!("{qualified} is forbidden: {why}"),
            (qualified, name) => format!("{qualified} {name:?} is forbidden: {why}"),
        };
        Self::new(403, "Forbidden", message).about(group, plural, name)
    }

    /// 405: the resource is there, the verb is not.
    pub fn method_not_allowed(group: &str, plural: &str, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind {:?}", qualify(group, plural));
        Self::new(405, "MethodNotAllowed", message).about(group, plural, "")
    }

    /// 406: none of the media types that the client takes is one that we have.
    pub fn not_acceptable(offered: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", offered.join(", "));
        Self::new(406, "NotAcceptable", message)
    }

    /// 415: a body in a media type that we do not read.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 413: the body exceeds the limit (bytes).
    pub fn too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    /// 410: the revision asked for has been compacted away.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 410: what was asked for is gone for good.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, "Gone", message)
    }

    /// 500: our fault.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        let mut status =
            Self::new(500, "InternalError", format!("Internal error occurred: {cause}")).about("", "", "");
        if let Some(details) = &mut status.details {
            details["causes"] = json!([{ "message": cause.to_string() }]);
        }
        status
    }

    /// 503: not now.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504: what was asked for did not happen in time.
    pub fn timeout(message: impl Into<String>, retry_after: u32) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {}", message.into())).about("", "", "").retry(retry_after)
    }

    /// 429: ask again later.
    pub fn too_many_requests(message: impl Into<String>, retry_after: u32) -> Self {
        Self::new(429, "TooManyRequests", message).about("", "", "").retry(retry_after)
    }

    /// The `Status` object.
    pub fn to_value(&self) -> Value {
        if let Some(whole) = &self.whole {
            return Value::clone(whole);
        }
        let mut body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if self.reason.is_empty() {
            // Nothing better than the code is known.
            crate::object::remove(&mut body, "reason");
        }
        if let Some(details) = &self.details {
            body["details"] = details.clone();
        }
        body
    }
}

/// The `Status` object that answers a deletion which is complete.
pub fn deleted(resource: &Resource, name: &str, uid: &str) -> Value {
    let mut details = json!({ "name": name, "kind": resource.plural, "uid": uid });
    if !resource.group.is_empty() {
        details["group"] = resource.group.clone().into();
    }
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details })
}

fn qualify(group: &str, plural: &str) -> String {
    match group {
        "" => plural.to_owned(),
        group => format!("{plural}.{group}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::registry;
    use crate::validation::FieldError;

    #[test]
    fn invalid_with_causes_has_upstreams_body() {
        let deployments = registry().find("apps", "v1", "deployments").unwrap();
        let status = Status::invalid(
            deployments,
            "x",
            vec![FieldError::required("spec.template.spec.containers", "")],
        );
        insta::assert_json_snapshot!(status.to_value(), @r#"
        {
          "apiVersion": "v1",
          "code": 422,
          "details": {
            "causes": [
              {
                "field": "spec.template.spec.containers",
                "message": "Required value",
                "reason": "FieldValueRequired"
              }
            ],
            "group": "apps",
            "kind": "Deployment",
            "name": "x"
          },
          "kind": "Status",
          "message": "Deployment.apps \"x\" is invalid: spec.template.spec.containers: Required value",
          "metadata": {},
          "reason": "Invalid",
          "status": "Failure"
        }
        "#);
    }

    #[test]
    fn conflict_after_change_names_the_resource_with_its_group() {
        let pods = registry().find("", "v1", "pods").unwrap();
        assert_eq!(
            Status::modified(pods, "a").message,
            "Operation cannot be fulfilled on pods \"a\": the object has been modified; please apply your changes to \
             the latest version and try again"
        );
        let deployments = registry().find("apps", "v1", "deployments").unwrap();
        assert_eq!(Status::not_found(deployments, "a").message, "deployments.apps \"a\" not found");
    }
}
