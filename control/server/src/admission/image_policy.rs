//! ImagePolicyWebhook: a server of the operator says which images pods may have (`imagepolicy.k8s.io/v1alpha1`
//! `ImageReview`).
//!
//! What it says is remembered for a while. Where it does not answer, the configuration says what becomes of the pod.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use skep_api::object::{items, members, text};
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::callout::Fixed;
use crate::expiring::Expiring;

const NAME: &str = "ImagePolicyWebhook";
const VERSION: &str = "imagepolicy.k8s.io/v1alpha1";
/// Annotations of pods that have this in their names are shown to the server.
const SHOWN: &str = ".image-policy.k8s.io/";
/// Before the names of what is written down about it.
const PREFIX: &str = "imagepolicywebhook.image-policy.k8s.io/";
const REMEMBERED: usize = 1024;
/// So long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
struct File {
    #[serde(rename = "imagePolicy")]
    policy: Policy,
}

/// Times are in units of their own; 0 is the default, -1 is never.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Policy {
    kube_config_file: String,
    #[serde(rename = "allowTTL")]
    allow_ttl: i64,
    #[serde(rename = "denyTTL")]
    deny_ttl: i64,
    retry_backoff: i64,
    default_allow: bool,
}

struct ImagePolicy {
    server: Fixed,
    allowed: Duration,
    denied: Duration,
    default_allow: bool,
    answers: Expiring<String, Value>,
}

pub(super) fn make(_: &Ingredients, configuration: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    let bad = |reason| ConfigError::Plugin { name: NAME, reason };
    Ok(Box::new(ImagePolicy::new(configuration).map_err(bad)?))
}

impl ImagePolicy {
    fn new(configuration: Option<&Value>) -> Result<Self, String> {
        let configuration = configuration.ok_or("no config specified")?;
        let File { policy } = File::deserialize(configuration).map_err(|error| error.to_string())?;
        let longest = Duration::from_secs(30 * 60);
        let (second, milli) = (Duration::from_secs(1), Duration::from_millis(1));
        let rest = span(policy.retry_backoff, milli, [Duration::from_nanos(1), 300 * second], 500 * milli)?;
        let allowed = span(policy.allow_ttl, second, [second, longest], 300 * second)?;
        let denied = span(policy.deny_ttl, second, [second, longest], 30 * second)?;
        let server = Fixed::from_kubeconfig(Path::new(&policy.kube_config_file)).map_err(|error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            format!("{error}{}", source.unwrap_or_default())
        })?;
        let default_allow = policy.default_allow;
        Ok(Self {
            server: server.resting(rest),
            allowed,
            denied,
            default_allow,
            answers: Expiring::new(REMEMBERED),
        })
    }

    /// The status that the server gives a review.
    async fn ask(&self, spec: Value) -> Result<Value, String> {
        let key = spec.to_string();
        if let Some(status) = self.answers.get(&key) {
            return Ok(status);
        }
        let review = json!({
            "kind": "ImageReview",
            "apiVersion": VERSION,
            "metadata": {},
            "spec": spec,
            "status": { "allowed": false },
        });
        let mut answer = self.server.ask(&review, PATIENCE).await.map_err(|error| error.to_string())?;
        if answer["kind"] != "ImageReview" || answer["apiVersion"] != VERSION {
            return Err(format!("the answer is no ImageReview of {VERSION}"));
        }
        let status = answer["status"].take();
        let life = if status["allowed"] == true { self.allowed } else { self.denied };
        self.answers.put(key, status.clone(), life);
        Ok(status)
    }
}

/// A time out of the configuration.
fn span(
    value: i64,
    unit: Duration,
    [least, most]: [Duration; 2],
    usual: Duration,
) -> Result<Duration, String> {
    match value {
        -1 => Ok(Duration::ZERO),
        0 => Ok(usual),
        value => {
            let found = u32::try_from(value).ok().and_then(|value| unit.checked_mul(value));
            let found = found.filter(|found| (least..=most).contains(found));
            found.ok_or_else(|| {
                format!("valid value is between {least:?} and {most:?}, got {value} times {unit:?}")
            })
        }
    }
}

/// What the server is told of a pod: of a subresource, what it brings.
fn spec(attributes: &Attributes<'_>, pod: &Value) -> Value {
    let parts = match attributes.subresource() {
        "" => &["containers", "initContainers"][..],
        _ => &["ephemeralContainers"],
    };
    let containers = parts.iter().flat_map(|part| items(pod, &["spec", part]));
    let images: Vec<Value> =
        containers.map(|container| json!({ "image": text(container, &["image"]) })).collect();
    let annotations: Map<String, Value> = members(pod, &["metadata", "annotations"])
        .filter(|(key, _)| key.contains(SHOWN))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut spec = json!({});
    if !images.is_empty() {
        spec["containers"] = images.into();
    }
    if !annotations.is_empty() {
        spec["annotations"] = annotations.into();
    }
    if !attributes.namespace().is_empty() {
        spec["namespace"] = attributes.namespace().into();
    }
    spec
}

#[async_trait]
impl Plugin for ImagePolicy {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        (attributes.creates() || attributes.updates())
            && (attributes.is("", "pods") || attributes.is_part("", "pods", "ephemeralcontainers"))
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        let status = match self.ask(spec(attributes, pod)).await {
            Ok(status) => status,
            Err(why) if self.default_allow => {
                tracing::warn!(why, "the image policy webhook does not answer, the pod is let in");
                attributes.notes.annotate(&format!("{PREFIX}failed-open"), "true");
                return Ok(());
            }
            Err(why) => return Err(attributes.forbid(&why)),
        };
        for (key, value) in members(&status, &["auditAnnotations"]) {
            attributes.notes.annotate(&format!("{PREFIX}{key}"), value.as_str().unwrap_or_default());
        }
        match (status["allowed"] == true, text(&status, &["reason"])) {
            (true, _) => Ok(()),
            (false, "") => Err(attributes.forbid("one or more images rejected by webhook backend")),
            (false, reason) => Err(attributes
                .forbid(&format!("image policy webhook backend denied one or more images: {reason}"))),
        }
    }
}

#[cfg(test)]
#[path = "image_policy_tests.rs"]
mod tests;
