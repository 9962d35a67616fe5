//! The authorizers of a chain, with the names that they are counted by.

use std::sync::{Arc, OnceLock};

use prometheus::IntCounter;

use super::abac::Policies;
use super::webhook::Webhook;
use crate::gate::{Decision, Verdict};
use crate::metrics::AuthorizationMetrics;

/// What decides.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Node,
    Rbac,
    Webhook(Arc<Webhook>),
    Abac(Arc<Policies>),
    AlwaysAllow,
    AlwaysDeny,
}

impl Kind {
    /// The type in configurations.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Rbac => "RBAC",
            Self::Webhook(_) => "Webhook",
            Self::Abac(_) => "ABAC",
            Self::AlwaysAllow => "AlwaysAllow",
            Self::AlwaysDeny => "AlwaysDeny",
        }
    }
}

/// One authorizer of a chain.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) kind: Kind,
    name: String,
    /// Of what it allowed and denied, from its first decision on.
    counters: OnceLock<[IntCounter; 2]>,
}

impl Layer {
    /// An authorizer of this name.
    pub(super) fn new(kind: Kind, name: &str) -> Self {
        Self { kind, name: name.to_owned(), counters: OnceLock::new() }
    }

    /// One under the name that upstream has for its type.
    pub(super) fn of_type(kind: Kind) -> Self {
        let name = kind.name().to_ascii_lowercase();
        Self::new(kind, &name)
    }

    /// Counts a decision, if it is one.
    pub(super) fn decided(&self, decision: &Decision, metrics: &AuthorizationMetrics) {
        let which = match decision.verdict {
            Verdict::Allow => 0,
            Verdict::Deny => 1,
            Verdict::NoOpinion => return,
        };
        let counters = self.counters.get_or_init(|| metrics.decisions(self.kind.name(), &self.name));
        counters[which].inc();
    }
}
