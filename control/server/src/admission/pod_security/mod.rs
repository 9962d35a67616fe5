//! PodSecurity: what a namespace's labels allow pods to be (the Pod Security Standards).
//!
//! A pod that violates the enforced level is refused; what violates the levels for audit and warning is written down and
//! told, for the templates of workloads, too. The checks are pure functions of a pod ([`baseline`], [`restricted`]);
//! [`checks`] says which of them make up a level as of a release.

mod baseline;
mod checks;
mod config;
mod metrics;
mod namespaces;
mod policy;
mod restricted;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use skep_api::object::{at, items, text};
use skep_api::status::Status;
use skep_api::validation::FieldError;

use self::checks::{Pod, Violation, details, evaluate};
use self::config::Config;
use self::metrics::Mode;
pub(super) use self::metrics::PodSecurityMetrics;
use self::policy::{Level, Policy, Standard, of_labels};
use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::cache::Cache;
use crate::failure;
use crate::gate::ObjectReader;

const ANNOTATION: &str = "pod-security.kubernetes.io/";
/// Parts of pods that change nothing of what a pod may do.
const HARMLESS: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

struct PodSecurity {
    cache: Arc<Cache>,
    config: Config,
    metrics: PodSecurityMetrics,
}

pub(super) fn make(
    from: &Ingredients,
    configuration: Option<&Value>,
) -> Result<Box<dyn Plugin>, ConfigError> {
    let config = configuration.map(Config::read).transpose()?.unwrap_or_default();
    let metrics = from.metrics.pod_security().clone();
    Ok(Box::new(PodSecurity { cache: from.cache.clone(), config, metrics }))
}

/// Where the template of a workload's pods is.
fn template_path(attributes: &Attributes<'_>) -> Option<&'static [&'static str]> {
    let resource = attributes.scope.resource;
    if resource.custom.is_some() {
        return None;
    }
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "podtemplates") => Some(&["template"]),
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some(&["spec", "template"]),
        ("batch", "cronjobs") => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

#[async_trait]
impl Plugin for PodSecurity {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        if !attributes.creates() && !attributes.updates() {
            return false;
        }
        let subresource = attributes.subresource();
        attributes.is("", "namespaces")
            || (attributes.concerns("", "pods") && !HARMLESS.contains(&subresource))
            || (subresource.is_empty() && template_path(attributes).is_some())
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        if attributes.concerns("", "namespaces") {
            return self.validate_namespace(attributes, object);
        }
        if let Some(why) = self.exemption(attributes) {
            self.metrics.exempted(attributes);
            attributes.notes.annotate(&format!("{ANNOTATION}exempt"), why);
            return Ok(());
        }
        let is_pod = attributes.concerns("", "pods");
        let found = self.policy_of(attributes.namespace()).await;
        let (policy, faults) = found.inspect_err(|_| self.metrics.failed(true, attributes))?;
        let unjudged = if is_pod {
            policy.is_open()
        } else {
            policy.warn.level == Level::Privileged && policy.audit.level == Level::Privileged
        };
        if unjudged && faults.is_empty() {
            if is_pod {
                self.metrics.evaluated(true, policy.enforce, Mode::Enforce, attributes);
                annotate(attributes, "enforce-policy", Standard::OPEN.to_string());
            }
            return Ok(());
        }
        let Some(template) = at(object, template_path(attributes).unwrap_or(&[])) else { return Ok(()) };
        if is_pod && attributes.old.is_some_and(|old| !is_significant(template, old)) {
            return Ok(());
        }
        self.judge(attributes, policy, &faults, template)
    }
}

fn annotate(attributes: &Attributes<'_>, what: &str, value: String) {
    attributes.notes.annotate(&format!("{ANNOTATION}{what}"), value);
}

impl PodSecurity {
    /// Why nothing of this request is judged.
    fn exemption(&self, attributes: &Attributes<'_>) -> Option<&'static str> {
        let listed = |list: &[String], name: &str| list.iter().any(|one| one == name);
        if listed(&self.config.namespaces, attributes.namespace()) {
            return Some("namespace");
        }
        listed(&self.config.usernames, &attributes.user().name).then_some("user")
    }

    fn exempts_class(&self, spec: &Value) -> bool {
        let class = text(spec, &["runtimeClassName"]);
        !class.is_empty() && self.config.runtime_classes.iter().any(|one| one == class)
    }

    async fn policy_of(&self, namespace: &str) -> Result<(Policy, Vec<FieldError>), Status> {
        let find = || self.cache.get("", "namespaces", "", namespace);
        let found = match find() {
            Some(found) => Some(found),
            None => {
                self.cache.catch_up().await.map_err(failure::read)?;
                find()
            }
        };
        let found =
            found.ok_or_else(|| Status::internal(format!("failed to lookup namespace {namespace:?}")))?;
        Ok(of_labels(&found["metadata"]["labels"], self.config.defaults))
    }

    /// Judges a pod, or the template of pods, which is only told about.
    fn judge(
        &self,
        attributes: &Attributes<'_>,
        policy: Policy,
        faults: &[FieldError],
        template: &Value,
    ) -> Result<(), Status> {
        if self.exempts_class(&template["spec"]) {
            self.metrics.exempted(attributes);
            annotate(attributes, "exempt", "runtimeClass".to_owned());
            return Ok(());
        }
        if !faults.is_empty() {
            self.metrics.failed(false, attributes);
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            annotate(attributes, "error", format!("Failed to parse policy: {}", faults.join(", ")));
        }
        let pod = Pod { metadata: &template["metadata"], spec: &template["spec"] };
        let mut known: HashMap<Standard, Vec<Violation>> = HashMap::new();
        let mut of = |standard: Standard| {
            let violations = known.entry(standard).or_insert_with(|| evaluate(standard, pod));
            (!violations.is_empty()).then(|| format!("PodSecurity \"{standard}\": {}", details(violations)))
        };
        let mut refused = None;
        if attributes.concerns("", "pods") {
            annotate(attributes, "enforce-policy", policy.enforce.to_string());
            refused = of(policy.enforce);
            self.metrics.evaluated(refused.is_none(), policy.enforce, Mode::Enforce, attributes);
        }
        if let Some(violated) = of(policy.audit) {
            self.metrics.evaluated(false, policy.audit, Mode::Audit, attributes);
            annotate(attributes, "audit-violations", format!("would violate {violated}"));
        }
        if let Some(violated) = refused {
            return Err(attributes.forbid(&format!("violates {violated}")));
        }
        if let Some(violated) = of(policy.warn) {
            self.metrics.evaluated(false, policy.warn, Mode::Warn, attributes);
            attributes.notes.warn(format!("would violate {violated}"));
        }
        Ok(())
    }
}

/// Whether an update of a pod changes what runs in it.
fn is_significant(new: &Value, old: &Value) -> bool {
    let images = |pod: &Value, list: &str| -> Vec<String> {
        items(pod, &["spec", list]).iter().map(|one| text(one, &["image"]).to_owned()).collect()
    };
    let others = ["containers", "initContainers"].iter().any(|list| images(new, list) != images(old, list));
    let known = items(old, &["spec", "ephemeralContainers"]);
    others
        || items(new, &["spec", "ephemeralContainers"]).iter().any(|one| {
            let before = known.iter().find(|other| other["name"] == one["name"]);
            before.is_none_or(|before| before["image"] != one["image"])
        })
}
