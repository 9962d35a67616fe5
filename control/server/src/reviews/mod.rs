//! The review APIs: who is this token, who am I, may this be done. They answer and store nothing.
//!
//! Kinds: TokenReview and SelfSubjectReview of authentication.k8s.io; SubjectAccessReview, LocalSubjectAccessReview,
//! SelfSubjectAccessReview and SelfSubjectRulesReview of authorization.k8s.io.

mod check;
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

    /// Answers the creation of a review: the body, which was decoded as what the path names, with its status filled in. `now`
    /// is a time in the API's form.
    ///
    /// # Errors
    ///
    /// 400 or 422 for a review that asks nothing that can be answered; 404 for an unknown path.
    pub async fn create(
        &self,
        user: &UserInfo,
        request: &RequestInfo,
        mut body: Value,
        now: &str,
    ) -> Result<Value, Status> {
        let (kind, version) = kind_of(request).ok_or_else(refusal::no_such_path)?;
        complete(&mut body, kind, version);
        let status = match kind {
            "TokenReview" => self.token(&body["spec"]).await?,
            "SelfSubjectReview" => json!({"userInfo": user_value(user)}),
            "SelfSubjectRulesReview" => self.rules(user, &body["spec"])?,
            _ => {
                check::check(kind, request, &body)?;
                let asked =
                    if kind == "SelfSubjectAccessReview" { user.clone() } else { subject(&body["spec"]) };
                self.access(&asked, &body["spec"]).await?
            }
        };
        match kind {
            // Nobody asks what they asked, nor who wrote it.
            "SelfSubjectRulesReview" => {
                body["spec"] = json!({});
                body["metadata"] = json!({});
            }
            "SelfSubjectReview" => body["metadata"] = json!({ "creationTimestamp": now }),
            "LocalSubjectAccessReview" => body["metadata"]["namespace"] = json!(request.namespace),
            _ => {}
        }
        if let Some(asked) = body.pointer_mut("/spec/resourceAttributes").and_then(Value::as_object_mut) {
            asked.retain(|_, value| value != "");
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

    async fn access(&self, user: &UserInfo, spec: &Value) -> Result<Value, Status> {
        let (request, ignored) = attributes(spec)?;
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

/// Makes sure that what is read of any review is there.
fn complete(body: &mut Value, kind: &str, version: &str) {
    body["kind"] = json!(kind);
    body["apiVersion"] = json!(version);
    if !body["metadata"].is_object() {
        body["metadata"] = json!({});
    }
}

/// About whom a review asks.
fn subject(spec: &Value) -> UserInfo {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let extra = spec["extra"].as_object().into_iter().flatten();
    let extra = extra.map(|(key, values)| (key.clone(), strings(values))).collect();
    UserInfo { name: text("user"), uid: text("uid"), groups: strings(&spec["groups"]), extra }
}

/// The request that a review asks about, and what of it was ignored. The review was checked.
fn attributes(spec: &Value) -> Result<(RequestInfo, Vec<String>), Status> {
    if let Some(fields) = spec["resourceAttributes"].as_object() {
        return resource_attributes(fields);
    }
    let text = |field: &str| spec["nonResourceAttributes"][field].as_str().unwrap_or_default().to_owned();
    Ok((RequestInfo { path: text("path"), verb: text("verb"), ..RequestInfo::default() }, Vec::new()))
}

fn resource_attributes(fields: &Map<String, Value>) -> Result<(RequestInfo, Vec<String>), Status> {
    let text = |field: &str| text(fields, field);
    let mut ignored = Vec::new();
    let mut selector = |field: &str, is_field: bool| {
        let path = format!("spec.resourceAttributes.{field}");
        let read = selectors::of_review(&path, fields.get(field).unwrap_or(&Value::Null), is_field);
        let read = read.map_err(|errors| refusal::invalid_fields("authorization.k8s.io", "", &errors))?;
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
