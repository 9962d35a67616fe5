//! A webhook that decides: it is asked with a SubjectAccessReview about the requests that its conditions match, and what it
//! says is remembered for a while.
//!
//! Where it does not answer, its failure policy says whether the request is refused or others decide.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use skep_api::expression::Expression;
use tokio::time::Instant;

use super::selectors;
use crate::authn::ReviewVersion;
use crate::callout::Fixed;
use crate::error::Error;
use crate::expiring::Expiring;
use crate::gate::{Decision, Verdict};
use crate::metrics::{Asked, AuthorizationMetrics};
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// So many answers are remembered.
const REMEMBERED: usize = 8192;
/// Requests with longer attributes are not remembered (bytes).
const LONGEST: usize = 10_000;

/// How a webhook is asked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) version: ReviewVersion,
    pub(crate) timeout: Duration,
    /// How long to remember that a request is allowed; zero for not at all.
    pub(crate) authorized: Duration,
    /// The same of requests that are not.
    pub(crate) unauthorized: Duration,
    /// What is decided when there is no answer.
    pub(crate) on_failure: Verdict,
    /// All must hold for the webhook to be asked.
    pub(crate) conditions: Vec<Expression>,
}

/// A webhook.
pub(crate) struct Webhook {
    server: Fixed,
    settings: Settings,
    answers: Expiring<String, Answer>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
struct Answer {
    allowed: bool,
    denied: bool,
    reason: String,
}

impl Answer {
    fn decision(self) -> Decision {
        match self {
            Self { allowed: true, denied: true, reason } => Decision::deny(reason)
                .after("webhook subject access review returned both allow and deny response"),
            Self { denied: true, reason, .. } => Decision::deny(reason),
            Self { allowed: true, reason, .. } => Decision::allow(reason),
            Self { reason, .. } => Decision::none(reason),
        }
    }
}

impl Webhook {
    /// The webhook that a kubeconfig file names.
    ///
    /// # Errors
    ///
    /// When the file cannot be used.
    pub(crate) fn new(kubeconfig: &Path, settings: Settings) -> Result<Self, Error> {
        let server = Fixed::from_kubeconfig(kubeconfig)?;
        Ok(Self { server, settings, answers: Expiring::new(REMEMBERED) })
    }

    /// What the webhook says of a request.
    pub(super) async fn judge(
        &self,
        user: &UserInfo,
        request: &RequestInfo,
        metrics: &AuthorizationMetrics,
    ) -> Decision {
        match self.matches(user, request, metrics) {
            Ok(true) => {}
            Ok(false) => return Decision::none(""),
            Err(error) => return self.failed(&error),
        }
        let spec = spec(user, request);
        let key = spec.to_string();
        if let Some(answer) = self.answers.get(&key) {
            return answer.decision();
        }
        match self.counted(spec, metrics).await {
            Ok(answer) => {
                let Settings { authorized, unauthorized, .. } = self.settings;
                if length(request) < LONGEST {
                    self.answers.put(
                        key,
                        answer.clone(),
                        if answer.allowed { authorized } else { unauthorized },
                    );
                }
                answer.decision()
            }
            Err(error) => {
                tracing::warn!(
                    webhook = self.settings.name,
                    error,
                    "an authorization webhook does not answer"
                );
                self.failed(&error)
            }
        }
    }

    fn failed(&self, error: &str) -> Decision {
        let decided =
            Decision { verdict: self.settings.on_failure, reason: String::new(), error: String::new() };
        decided.after(error)
    }

    /// Whether the webhook is asked about a request.
    fn matches(
        &self,
        user: &UserInfo,
        request: &RequestInfo,
        metrics: &AuthorizationMetrics,
    ) -> Result<bool, String> {
        if self.settings.conditions.is_empty() {
            return Ok(true);
        }
        let started = Instant::now();
        let outcome = self.concerns(user, request);
        metrics.matched(&self.settings.name, &outcome, started.elapsed());
        outcome
    }

    /// Whether all conditions hold. One that does not is worth more than one that cannot be told.
    fn concerns(&self, user: &UserInfo, request: &RequestInfo) -> Result<bool, String> {
        let value = whole(user, request);
        let mut errors = Vec::new();
        for condition in &self.settings.conditions {
            match condition.evaluate(&[("request", &value)]) {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => return Ok(false),
                Ok(_) => {
                    errors.push(format!("cel evaluation error: {:?} is no truth value", condition.source()))
                }
                Err(why) => {
                    errors.push(format!(
                        "cel evaluation error: expression {:?} resulted in error: {why}",
                        condition.source()
                    ));
                }
            }
        }
        if errors.is_empty() { Ok(true) } else { Err(errors.join(", ")) }
    }

    /// Asks, and counts how that ended.
    async fn counted(&self, spec: Value, metrics: &AuthorizationMetrics) -> Result<Answer, String> {
        let started = Instant::now();
        let answer = self.ask(spec).await;
        let took = started.elapsed();
        let how = match &answer {
            Ok(_) => Asked::Answered,
            Err(_) if took >= self.settings.timeout => Asked::TooLate,
            Err(_) => Asked::Failed,
        };
        let open = self.settings.on_failure == Verdict::NoOpinion;
        metrics.asked(&self.settings.name, how, took, open);
        answer
    }

    async fn ask(&self, spec: Value) -> Result<Answer, String> {
        let api_version = format!("authorization.k8s.io/{}", self.settings.version.as_str());
        let mut review = json!({
            "kind": "SubjectAccessReview",
            "apiVersion": api_version,
            "metadata": {},
            "spec": spec,
            "status": {"allowed": false},
        });
        if self.settings.version == ReviewVersion::V1beta1
            && let Some(spec) = review["spec"].as_object_mut()
            && let Some(groups) = spec.remove("groups")
        {
            // The older version has another name for it.
            spec.insert("group".into(), groups);
        }
        let answer =
            self.server.ask(&review, self.settings.timeout).await.map_err(|error| error.to_string())?;
        if answer["kind"] != "SubjectAccessReview" || answer["apiVersion"] != api_version.as_str() {
            return Err(format!("the answer is no SubjectAccessReview of {api_version}"));
        }
        let status = &answer["status"];
        let Some(allowed) = status["allowed"].as_bool() else {
            return Err("the answer does not decide".into());
        };
        let reason = status["reason"].as_str().unwrap_or_default().to_owned();
        Ok(Answer { allowed, denied: status["denied"] == true, reason })
    }
}

fn length(request: &RequestInfo) -> usize {
    let RequestInfo { path, verb, group, version, namespace, resource, subresource, name, .. } = request;
    [path, verb, group, version, namespace, resource, subresource, name].iter().map(|text| text.len()).sum()
}

/// The `spec` of a review, empty fields left out.
fn spec(user: &UserInfo, request: &RequestInfo) -> Value {
    let mut spec = json!({});
    let mut set = |field: &str, value: Value| spec[field] = value;
    if request.is_resource {
        let mut attributes = json!({});
        for (field, text) in attributes_of(request) {
            if !text.is_empty() {
                attributes[field] = json!(text);
            }
        }
        let selectors =
            [("fieldSelector", &request.field_selector), ("labelSelector", &request.label_selector)];
        for (field, requirements) in selectors {
            if let Some(value) = selectors::to_value(requirements) {
                attributes[field] = value;
            }
        }
        set("resourceAttributes", attributes);
    } else {
        set("nonResourceAttributes", json!({"path": request.path, "verb": request.verb}));
    }
    for (field, text) in [("user", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            set(field, json!(text));
        }
    }
    if !user.groups.is_empty() {
        set("groups", json!(user.groups));
    }
    if !user.extra.is_empty() {
        set("extra", json!(user.extra));
    }
    spec
}

fn attributes_of(request: &RequestInfo) -> [(&'static str, &String); 7] {
    [
        ("namespace", &request.namespace),
        ("verb", &request.verb),
        ("group", &request.group),
        ("version", &request.version),
        ("resource", &request.resource),
        ("subresource", &request.subresource),
        ("name", &request.name),
    ]
}

/// What conditions see as `request`: the spec with every field of text, also those that are empty.
fn whole(user: &UserInfo, request: &RequestInfo) -> Value {
    let mut value = spec(user, request);
    value["user"] = json!(user.name);
    value["uid"] = json!(user.uid);
    value["groups"] = json!(user.groups);
    value["extra"] = json!(user.extra);
    if request.is_resource {
        for (field, text) in attributes_of(request) {
            value["resourceAttributes"][field] = json!(text);
        }
    }
    value
}
