//! What Pod Security decided, under upstream's names.

use prometheus::{IntCounterVec, Registry};

use super::policy::{Level, Standard, Version};
use crate::admission::Attributes;
use crate::metrics::counter;

/// Standards as of later releases than this one's are counted together.
const OWN_MINOR: u32 = 36;

/// What comes of a judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Enforce,
    Audit,
    Warn,
}

impl Mode {
    fn label(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
            Self::Warn => "warn",
        }
    }
}

/// The counters. Clones count together.
#[derive(Clone)]
pub(in crate::admission) struct PodSecurityMetrics {
    evaluations: IntCounterVec,
    exemptions: IntCounterVec,
    errors: IntCounterVec,
}

/// Operation, kind and part of what is judged.
fn about<'a>(attributes: &Attributes<'a>) -> [&'a str; 3] {
    let resource = match (attributes.concerns("", "pods"), attributes.concerns("", "namespaces")) {
        (true, _) => "pod",
        (_, true) => "namespace",
        _ => "controller",
    };
    [if attributes.creates() { "create" } else { "update" }, resource, attributes.subresource()]
}

fn version(standard: Standard) -> String {
    match standard.version {
        Version::Latest => "latest".to_owned(),
        _ if standard.level == Level::Privileged => "latest".to_owned(),
        Version::Minor(minor) if minor <= OWN_MINOR => format!("v1.{minor}"),
        Version::Minor(_) => "future".to_owned(),
    }
}

impl PodSecurityMetrics {
    pub(in crate::admission) fn new(registry: &Registry) -> Self {
        let about = ["request_operation", "resource", "subresource"];
        let and = |before: &[&'static str]| [before, &about[..]].concat();
        Self {
            evaluations: counter(
                registry,
                "pod_security_evaluations_total",
                "Pods and templates that a policy was held against, those left out that it is not about.",
                &and(&["decision", "policy_level", "policy_version", "mode"]),
            ),
            exemptions: counter(
                registry,
                "pod_security_exemptions_total",
                "Pods and templates that no policy was held against because they are exempt.",
                &about,
            ),
            errors: counter(
                registry,
                "pod_security_errors_total",
                "Pods and templates of which the policy is not known, or not all of it.",
                &and(&["fatal"]),
            ),
        }
    }

    pub(super) fn evaluated(&self, allowed: bool, standard: Standard, mode: Mode, of: &Attributes<'_>) {
        let (decision, version) = (if allowed { "allow" } else { "deny" }, version(standard));
        let judged = [decision, standard.level.name(), &version, mode.label()];
        self.evaluations.with_label_values(&[&judged[..], &about(of)].concat()).inc();
    }

    pub(super) fn exempted(&self, of: &Attributes<'_>) {
        self.exemptions.with_label_values(&about(of)).inc();
    }

    /// The policy is not known, or (not `fatal`) labels that it is made of make no sense.
    pub(super) fn failed(&self, fatal: bool, of: &Attributes<'_>) {
        let fatal = [if fatal { "true" } else { "false" }];
        self.errors.with_label_values(&[&fatal[..], &about(of)].concat()).inc();
    }
}
