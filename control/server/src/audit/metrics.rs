//! What auditing counts about itself, under upstream's names.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::event::Event;
use super::policy::Level;
use crate::metrics::{counter, register};

/// The counters. Clones count together.
#[derive(Clone, Debug)]
pub struct AuditMetrics {
    events: IntCounter,
    errors: IntCounterVec,
    levels: IntCounterVec,
    rejected: IntCounter,
}

impl AuditMetrics {
    /// Counters in `registry`.
    pub fn new(registry: &Registry) -> Self {
        let one = |name: &str, help: &str| {
            let counter = IntCounter::with_opts(Opts::new(name, help)).expect("names of metrics are valid");
            register(registry, counter)
        };
        Self {
            events: one(
                "apiserver_audit_event_total",
                "Counter of audit events generated and sent to the audit backend.",
            ),
            errors: counter(
                registry,
                "apiserver_audit_error_total",
                "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the \
                 error.",
                &["plugin"],
            ),
            levels: counter(
                registry,
                "apiserver_audit_level_total",
                "Counter of policy levels for audit events (1 per request).",
                &["level"],
            ),
            rejected: one(
                "apiserver_audit_requests_rejected_total",
                "Counter of apiserver requests rejected due to an error in audit logging backend.",
            ),
        }
    }

    pub(super) fn event(&self) {
        self.events.inc();
    }

    pub(super) fn level(&self, level: Level) {
        self.levels.with_label_values(&[level.as_str()]).inc();
    }

    pub(super) fn rejected(&self) {
        self.rejected.inc();
    }

    /// Counts events that `plugin` could not write, and says so in the server's own log.
    pub(super) fn lost(&self, plugin: &'static str, reason: &str, events: &[Arc<Event>]) {
        self.errors.with_label_values(&[plugin]).inc_by(events.len() as u64);
        for event in events {
            tracing::error!(plugin, reason, event = event.legacy_line(), "an audit event is lost");
        }
    }
}
