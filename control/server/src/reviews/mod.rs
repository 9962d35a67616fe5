//! The review APIs: who is this token, who am I, may this be done. They answer and store nothing.
//!
//! Kinds: TokenReview and SelfSubjectReview of authentication.k8s.io; SubjectAccessReview, LocalSubjectAccessReview,
//! SelfSubjectAccessReview and SelfSubjectRulesReview of authorization.k8s.io.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::{Map, Value, json};
use skep_api::status::Status;

use crate::authz::Authz;
use crate::gate::{Authenticator, Authorizer, Credentials, Decision};
use crate::refusal;
use crate::request::RequestInfo;
use crate::tokens::Tokens;
use crate::user::UserInfo;

/// Answers reviews.
pub struct Reviews {
    authorizer: Arc<Authz>,
    authenticator: Arc<dyn Authenticator>,
    tokens: Arc<Tokens>,
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviews").finish_non_exhaustive()
    }
}

impl Reviews {
    /// Reviews by the same parts that decide about requests.
    pub fn new(authorizer: Arc<Authz>, authenticator: Arc<dyn Authenticator>, tokens: Arc<Tokens>) -> Self {
        Self { authorizer, authenticator, tokens }
    }

    /// Answers the creation of a review: the body with its status filled in.
    ///
    /// # Errors
    ///
    /// 400 or 422 for a body that is not the review that the path names; 404 for an unknown one.
    pub async fn create(
        &self,
        user: &UserInfo,
        request: &RequestInfo,
        mut body: Value,
    ) -> Result<Value, Status> {
        let (kind, version) = kind_of(request).ok_or_else(refusal::no_such_path)?;
        accept(&mut body, kind, version)?;
        let status = match kind {
            "TokenReview" => self.token(&body["spec"]).await?,
            "SelfSubjectReview" => json!({"userInfo": user_value(user)}),
            "SelfSubjectAccessReview" => self.access(user, kind, &body["spec"])?,
            "SelfSubjectRulesReview" => self.rules(user, &body["spec"])?,
            "SubjectAccessReview" => self.access(&subject(kind, &body["spec"])?, kind, &body["spec"])?,
            _ => {
                let namespace = &body["spec"]["resourceAttributes"]["namespace"];
                if *namespace != request.namespace {
                    let message = "must match the namespace of the request";
                    let field = "spec.resourceAttributes.namespace";
                    return Err(refusal::invalid(
                        "authorization.k8s.io",
                        kind,
                        "",
                        field,
                        namespace,
                        message,
                    ));
                }
                self.access(&subject(kind, &body["spec"])?, kind, &body["spec"])?
            }
        };
        body["status"] = status;
        Ok(body)
    }

    async fn token(&self, spec: &Value) -> Result<Value, Status> {
        let token = spec["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Err(refusal::bad_request("token is required for TokenReview in authentication"));
        }
        let audiences = strings(&spec["audiences"]);
        let credentials = Credentials { bearer: Some(token.to_owned()), ..Credentials::default() };
        let found = if self.tokens.claims_to_be_ours(token) {
            self.tokens.verify(token, &audiences).map(|verified| (verified.user, verified.audiences))
        } else {
            match self.authenticator.authenticate(&credentials).await {
                // Other tokens carry no audience: they are for the API server.
                Ok(Some(user)) => intersection(self.tokens.audiences(), &audiences).map(|both| (user, both)),
                Ok(None) => Err("unknown token".to_owned()),
                Err(reason) => Err(reason),
            }
        };
        Ok(match found {
            Ok((user, audiences)) => {
                json!({"authenticated": true, "user": user_value(&user), "audiences": audiences})
            }
            Err(reason) => json!({"user": {}, "error": reason}),
        })
    }

    fn access(&self, user: &UserInfo, kind: &str, spec: &Value) -> Result<Value, Status> {
        let request = attributes(kind, spec)?;
        Ok(match self.authorizer.authorize(user, &request) {
            Decision::Allow => json!({"allowed": true}),
            Decision::Deny(reason) if reason.is_empty() => json!({"allowed": false}),
            Decision::Deny(reason) => json!({"allowed": false, "reason": reason}),
        })
    }

    fn rules(&self, user: &UserInfo, spec: &Value) -> Result<Value, Status> {
        let Some(namespace) = spec["namespace"].as_str().filter(|namespace| !namespace.is_empty()) else {
            return Err(refusal::bad_request("no namespace on request"));
        };
        let rules = self.authorizer.rules_for(user, namespace);
        let (resources, paths): (Vec<_>, Vec<_>) =
            rules.iter().map(|rule| rule.describe()).partition(|(resource, _)| *resource);
        let values = |list: Vec<(bool, Value)>| list.into_iter().map(|(_, value)| value).collect::<Vec<_>>();
        Ok(json!({
            "resourceRules": values(resources),
            "nonResourceRules": values(paths),
            // What the Node authorizer adds cannot be listed as rules.
            "incomplete": crate::authz::node_of(user).is_some(),
        }))
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
        body["metadata"] = json!({"creationTimestamp": null});
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

/// The request that a review asks about.
fn attributes(kind: &str, spec: &Value) -> Result<RequestInfo, Status> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    match (resource.as_object(), path.as_object()) {
        (Some(fields), None) => Ok(resource_attributes(fields)),
        (None, Some(fields)) => {
            let text = |field: &str| text(fields, field);
            Ok(RequestInfo { path: text("path"), verb: text("verb"), ..RequestInfo::default() })
        }
        _ => {
            let message = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            let field = "spec.resourceAttributes";
            Err(refusal::invalid("authorization.k8s.io", kind, "", field, resource, message))
        }
    }
}

fn resource_attributes(fields: &Map<String, Value>) -> RequestInfo {
    let text = |field: &str| text(fields, field);
    RequestInfo {
        is_resource: true,
        verb: text("verb"),
        group: text("group"),
        version: text("version"),
        namespace: text("namespace"),
        resource: text("resource"),
        subresource: text("subresource"),
        name: text("name"),
        ..RequestInfo::default()
    }
}

fn text(fields: &Map<String, Value>, field: &str) -> String {
    fields.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// What of `ours` is wanted; everything where nothing in particular is.
fn intersection(ours: &[String], wanted: &[String]) -> Result<Vec<String>, String> {
    let both: Vec<String> =
        ours.iter().filter(|audience| wanted.is_empty() || wanted.contains(audience)).cloned().collect();
    if both.is_empty() { Err("the token is not for the target audiences".into()) } else { Ok(both) }
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
