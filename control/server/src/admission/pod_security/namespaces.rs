//! Labels of namespaces: what is wrong with them, and what the pods that are there would think of new ones.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use skep_api::object::{flag, items, name, text};
use skep_api::status::Status;
use tokio::time::Instant;

use super::PodSecurity;
use super::checks::{Pod, evaluate, reasons};
use super::policy::{Level, Policy, Standard, label, of_labels};
use crate::admission::Attributes;
use crate::gate::ObjectReader;

/// So many pods are looked at when the labels of their namespace change.
const MOST_PODS: usize = 3000;
/// So long they are looked at.
const PATIENCE: Duration = Duration::from_secs(1);

impl PodSecurity {
    pub(super) fn validate_namespace(
        &self,
        attributes: &Attributes<'_>,
        namespace: &Value,
    ) -> Result<(), Status> {
        let (policy, faults) = of_labels(&namespace["metadata"]["labels"], self.config.defaults);
        let invalid = |faults| Err(Status::invalid(attributes.scope.resource, attributes.name, faults));
        let Some(old) = attributes.old else {
            if !faults.is_empty() {
                return invalid(faults);
            }
            self.warn_if_exempt(attributes, namespace, policy);
            return Ok(());
        };
        let (before, old_faults) = of_labels(&old["metadata"]["labels"], self.config.defaults);
        // What was wrong before may stay, so that other labels can be changed.
        if !faults.is_empty() && faults != old_faults {
            return invalid(faults);
        }
        let (new, old) = (policy.enforce, before.enforce);
        let relaxed = new.version == old.version && new.level <= old.level;
        if new == old || new.level == Level::Privileged || relaxed {
            return Ok(());
        }
        if self.config.namespaces.iter().any(|exempt| exempt == attributes.name) {
            self.warn_if_exempt(attributes, namespace, policy);
            return Ok(());
        }
        let pods = self.cache.list("", "pods", attributes.name);
        for warning in self.existing(attributes.name, new, pods) {
            attributes.notes.warn(warning);
        }
        Ok(())
    }

    fn warn_if_exempt(&self, attributes: &Attributes<'_>, namespace: &Value, policy: Policy) {
        let exempt = self.config.namespaces.iter().any(|exempt| exempt == attributes.name);
        if !exempt || policy.is_open() || policy.is_like(&self.config.defaults) {
            return;
        }
        let says = |mode: &str| {
            [mode.to_owned(), format!("{mode}-version")]
                .iter()
                .any(|name| namespace["metadata"]["labels"][label(name)].is_string())
        };
        let modes = [("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn)];
        let said: Vec<String> = modes
            .iter()
            .filter(|(mode, standard)| standard.level != Level::Privileged && says(mode))
            .map(|(mode, standard)| format!("{mode}={standard}"))
            .collect();
        attributes.notes.warn(format!(
            "namespace {:?} is exempt from Pod Security, and the policy ({}) will be ignored",
            attributes.name,
            said.join(", ")
        ));
    }

    /// What the pods of a namespace violate of a standard, as warnings.
    fn existing(&self, namespace: &str, standard: Standard, pods: Vec<Arc<Value>>) -> Vec<String> {
        let pods = prioritized(pods, |pod| self.exempts_class(&pod["spec"]));
        let end = Instant::now() + PATIENCE;
        let mut checked = 0;
        let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
        for pod in pods.iter().take(MOST_PODS) {
            checked += 1;
            let violations = evaluate(standard, Pod { metadata: &pod["metadata"], spec: &pod["spec"] });
            if !violations.is_empty() {
                let (first, count) = found.entry(reasons(&violations)).or_default();
                if *count == 0 || name(pod) < first.as_str() {
                    name(pod).clone_into(first);
                }
                *count += 1;
            }
            if Instant::now() >= end {
                break;
            }
        }
        let mut warnings = Vec::new();
        if checked < pods.len() {
            warnings.push(format!(
                "new PodSecurity enforce level only checked against the first {checked} of {} existing pods",
                pods.len()
            ));
        }
        if !found.is_empty() {
            warnings.push(format!(
                "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""
            ));
        }
        let mut lines: Vec<String> = found
            .into_iter()
            .map(|(reasons, (first, count))| match count {
                1 => format!("{first}: {reasons}"),
                2 => format!("{first} (and 1 other pod): {reasons}"),
                more => format!("{first} (and {} other pods): {reasons}", more - 1),
            })
            .collect();
        lines.sort();
        warnings.append(&mut lines);
        warnings
    }
}

/// One pod of each controller first, for the others are like it.
fn prioritized(pods: Vec<Arc<Value>>, is_exempt: impl Fn(&Value) -> bool) -> Vec<Arc<Value>> {
    let mut seen = HashSet::new();
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for pod in pods.into_iter().filter(|pod| !is_exempt(pod)) {
        let owners = items(&pod, &["metadata", "ownerReferences"]);
        let controller = owners.iter().find(|owner| flag(owner, &["controller"]));
        let fresh = controller.is_none_or(|controller| seen.insert(text(controller, &["uid"]).to_owned()));
        if fresh { first.push(pod) } else { rest.push(pod) }
    }
    first.append(&mut rest);
    first
}
