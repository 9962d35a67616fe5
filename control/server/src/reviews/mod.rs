//! The review APIs: who is this token, who am I, may this be done. They answer and store nothing.
//!
//! Kinds: TokenReview and SelfSubjectReview of authentication.k8s.io; SubjectAccessReview, LocalSubjectAccessReview,
//! SelfSubjectAccessReview and SelfSubjectRulesReview of authorization.k8s.io.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Map, Value, json};
use skep_api::status::Status;

use crate::authn::Chain;
use crate::authz::Authz;
use crate::authz::selectors;
use crate::gate::{Authorizer, Verdict};
use crate::refusal;
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// Answers reviews.
pub struct Reviews {
    authorizer: Arc<Authz>,
    authenticator: Arc<Chain>,
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviews").finish_non_exhaustive()
    }
}

impl Reviews {
    /// Reviews by the same parts that decide about requests.
    pub fn new(authorizer: Arc<Authz>, authenticator: Arc<Chain>) -> Self {
        Self { authorizer, authenticator }
    }

    /// Answers the creation of a review: the body with its status filled in. `now` is a time in the API's form.
    ///
    /// # Errors
    ///
    /// 400 or 422 for a body that is not the review that the path names; 404 for an unknown one.
    pub async fn create(
        &self,
        user: &UserInfo,
        request: &RequestInfo,
        mut body: Value,
        now: &str,
    ) -> Result<Value, Status> {
        let (kind, version) = kind_of(request).ok_or_else(refusal::no_such_path)?;
        accept(&mut body, kind, version)?;
        let status = match kind {
            "TokenReview" => self.token(&body["spec"]).await?,
            "SelfSubjectReview" => json!({"userInfo": user_value(user)}),
            "SelfSubjectAccessReview" => self.access(user, kind, &body["spec"]).await?,
            "SelfSubjectRulesReview" => self.rules(user, &body["spec"])?,
            "SubjectAccessReview" => self.access(&subject(kind, &body["spec"])?, kind, &body["spec"]).await?,
            _ => {
                is_local(kind, request, &body["spec"])?;
                self.access(&subject(kind, &body["spec"])?, kind, &body["spec"]).await?
            }
        };
        match kind {
            // Nobody asks what they asked.
            "SelfSubjectRulesReview" => body["spec"] = json!({}),
            "SelfSubjectReview" => body["metadata"]["creationTimestamp"] = json!(now),
            _ => {}
        }
        body["status"] = status;
        Ok(body)
    }

    async fn token(&self, spec: &Value) -> Result<Value, Status> {
        let Some(token) = spec["token"].as_str().filter(|token| !token.is_empty()) else {
            return Err(refusal::bad_request("token is required for TokenReview in authentication"));
        };
        Ok(match self.authenticator.token(token, &strings(&spec["audiences"])).await {
            Ok(known) => {
                let user = crate::authn::authenticated(known.user);
                json!({"authenticated": true, "user": user_value(&user), "audiences": known.audiences})
            }
            Err(reason) => json!({"user": {}, "error": reason}),
        })
    }

    async fn access(&self, user: &UserInfo, kind: &str, spec: &Value) -> Result<Value, Status> {
        let (request, ignored) = attributes(kind, spec)?;
        let decision = self.authorizer.authorize(user, &request).await;
        let mut status = json!({"allowed": decision.is_allowed()});
        if decision.verdict == Verdict::Deny {
            status["denied"] = json!(true);
        }
        let errors: Vec<String> =
            Some(decision.error).into_iter().filter(|error| !error.is_empty()).chain(ignored).collect();
        for (field, text) in [("reason", decision.reason), ("evaluationError", errors.join("; "))] {
            if !text.is_empty() {
                status[field] = json!(text);
            }
        }
        Ok(status)
    }

    fn rules(&self, user: &UserInfo, spec: &Value) -> Result<Value, Status> {
        let Some(namespace) = spec["namespace"].as_str().filter(|namespace| !namespace.is_empty()) else {
            return Err(refusal::bad_request("no namespace on request"));
        };
        let held = self.authorizer.rules_for(user, namespace);
        let (resources, paths): (Vec<_>, Vec<_>) = held.rules.iter().map(|rule| rule.describe()).unzip();
        let mut status = json!({
            "resourceRules": resources.into_iter().flatten().collect::<Vec<_>>(),
            "nonResourceRules": paths.into_iter().flatten().collect::<Vec<_>>(),
            "incomplete": held.incomplete,
        });
        if !held.errors.is_empty() {
            status["evaluationError"] = json!(held.errors.join(", "));
        }
        Ok(status)
    }
}

/// Whether a local review is about the namespace of its path.
fn is_local(kind: &str, request: &RequestInfo, spec: &Value) -> Result<(), Status> {
    let fail = |field: &str, value: &Value, why: &str| {
        Err(refusal::invalid("authorization.k8s.io", kind, "", field, value, why))
    };
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if path.is_object() {
        return fail("spec.nonResourceAttributes", path, "disallowed on this kind of request");
    }
    let namespace = &resource["namespace"];
    if resource.is_object() && namespace.as_str().unwrap_or_default() != request.namespace {
        return fail("spec.resourceAttributes.namespace", namespace, "must match metadata.namespace");
    }
    Ok(())
}

fn kind_of(request: &RequestInfo) -> Option<(&'static str, &'static str)> {
    let kind = match (request.group.as_str(), request.resource.as_str()) {
        ("authentication.k8s.io", "tokenreviews") => ("TokenReview", "authentication.k8s.io/v1"),
        ("authentication.k8s.io", "selfsubjectreviews") => ("SelfSubjectReview", "authentication.k8s.io/v1"),
        ("authorization.k8s.io", "subjectaccessreviews") => {
            ("SubjectAccessReview", "authorization.k8s.io/v1")
        }
        ("authorization.k8s.io", "localsubjectaccessreviews") => {
            ("LocalSubjectAccessReview", "authorization.k8s.io/v1")
        }
        ("authorization.k8s.io", "selfsubjectaccessreviews") => {
            ("SelfSubjectAccessReview", "authorization.k8s.io/v1")
        }
        ("authorization.k8s.io", "selfsubjectrulesreviews") => {
            ("SelfSubjectRulesReview", "authorization.k8s.io/v1")
        }
        _ => return None,
    };
    (request.version == "v1").then_some(kind)
}

fn accept(body: &mut Value, kind: &str, version: &str) -> Result<(), Status> {
    let is = |field: &str, expected: &str| body[field].as_str().is_none_or(|given| given == expected);
    if !body.is_object() || !is("kind", kind) || !is("apiVersion", version) {
        return Err(refusal::bad_request(&format!("expected a {kind} of {version}")));
    }
    if !matches!(body["spec"], Value::Object(_) | Value::Null) {
        return Err(refusal::bad_request("spec must be an object"));
    }
    body["kind"] = json!(kind);
    body["apiVersion"] = json!(version);
    if !body["metadata"].is_object() {
        body["metadata"] = json!({});
    }
    Ok(())
}

fn subject(kind: &str, spec: &Value) -> Result<UserInfo, Status> {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let groups = strings(&spec["groups"]);
    if text("user").is_empty() && groups.is_empty() {
        let message = "at least one of user or group must be specified";
        return Err(refusal::invalid("authorization.k8s.io", kind, "", "spec.user", &spec["user"], message));
    }
    let extra = spec["extra"].as_object().into_iter().flatten();
    let extra = extra.map(|(key, values)| (key.clone(), strings(values))).collect();
    Ok(UserInfo { name: text("user"), uid: text("uid"), groups, extra })
}

/// The request that a review asks about, and what of it was ignored.
fn attributes(kind: &str, spec: &Value) -> Result<(RequestInfo, Vec<String>), Status> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    match (resource.as_object(), path.as_object()) {
        (Some(fields), None) => resource_attributes(kind, fields),
        (None, Some(fields)) => {
            let text = |field: &str| text(fields, field);
            Ok((RequestInfo { path: text("path"), verb: text("verb"), ..RequestInfo::default() }, Vec::new()))
        }
        _ => {
            let both = resource.is_object();
            let message = if both {
                "cannot be specified in combination with resourceAttributes"
            } else {
                "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            };
            let (field, value) = if both {
                ("spec.nonResourceAttributes", path)
            } else {
                ("spec.resourceAttributes", resource)
            };
            Err(refusal::invalid("authorization.k8s.io", kind, "", field, value, message))
        }
    }
}

fn resource_attributes(
    kind: &str,
    fields: &Map<String, Value>,
) -> Result<(RequestInfo, Vec<String>), Status> {
    let text = |field: &str| text(fields, field);
    let mut ignored = Vec::new();
    let mut selector = |field: &str, is_field: bool| {
        let path = format!("spec.resourceAttributes.{field}");
        let read = selectors::of_review(&path, fields.get(field).unwrap_or(&Value::Null), is_field);
        let read = read.map_err(|errors| refusal::invalid_fields("authorization.k8s.io", kind, &errors))?;
        if read.ignored {
            let partially = if read.requirements.is_empty() { "" } else { "partially " };
            ignored.push(format!("{path} {partially}ignored due to parse error"));
        }
        Ok::<_, Status>(read.requirements)
    };
    let field_selector = selector("fieldSelector", true)?;
    let label_selector = selector("labelSelector", false)?;
    let version = Some(text("version")).filter(|version| !version.is_empty());
    let request = RequestInfo {
        is_resource: true,
        verb: text("verb"),
        group: text("group"),
        version: version.unwrap_or_else(|| "*".into()),
        namespace: text("namespace"),
        resource: text("resource"),
        subresource: text("subresource"),
        name: text("name"),
        field_selector,
        label_selector,
        ..RequestInfo::default()
    };
    Ok((request, ignored))
}

fn text(fields: &Map<String, Value>, field: &str) -> String {
    fields.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The texts in a list.
pub(crate) fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// The user in a `UserInfo` of a review.
pub(crate) fn user_of(value: &Value) -> UserInfo {
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let extra = value["extra"].as_object().into_iter().flatten();
    let extra = extra.map(|(key, values)| (key.clone(), strings(values))).collect();
    UserInfo { name: text("username"), uid: text("uid"), groups: strings(&value["groups"]), extra }
}

fn user_value(user: &UserInfo) -> Value {
    let mut value = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        value["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}
