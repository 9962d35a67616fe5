//! What the authorizers decided, one by one, and how the webhooks among them did.

use std::time::Duration;

use prometheus::{DEFAULT_BUCKETS, HistogramVec, IntCounter, IntCounterVec, Registry};

use super::{counter, histogram};

/// Upstream's buckets of how long match conditions take, in seconds.
pub(crate) const CONDITIONS: [f64; 7] = [0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25];

/// What only webhooks have conditions for.
const WEBHOOK: &str = "Webhook";

/// How it ended to ask a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Answered,
    TooLate,
    Failed,
}

impl Asked {
    fn label(self) -> &'static str {
        match self {
            Self::Answered => "success",
            Self::TooLate => "timeout",
            Self::Failed => "error",
        }
    }
}

/// The counters. Clones count together.
#[derive(Clone)]
pub(crate) struct AuthorizationMetrics {
    decisions: IntCounterVec,
    asked: IntCounterVec,
    asking: HistogramVec,
    passed_by: IntCounterVec,
    errors: IntCounterVec,
    exclusions: IntCounterVec,
    conditions: HistogramVec,
}

impl AuthorizationMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let name = |end: &str| format!("apiserver_authorization_{end}");
        let counter = |end: &str, help: &str, labels: &[&str]| counter(registry, &name(end), help, labels);
        let seconds = |end: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            histogram(registry, &name(end), help, labels, buckets.to_vec())
        };
        Self {
            decisions: counter(
                "decisions_total",
                "Requests that an authorizer allowed or denied, so that no other was asked.",
                &["type", "name", "decision"],
            ),
            asked: counter(
                "webhook_evaluations_total",
                "Questions to authorization webhooks, by how that ended.",
                &["name", "result"],
            ),
            asking: seconds(
                "webhook_duration_seconds",
                "How long an authorization webhook took.",
                &["name", "result"],
                DEFAULT_BUCKETS,
            ),
            passed_by: counter(
                "webhook_evaluations_fail_open_total",
                "Questions to authorization webhooks that failed and left the decision to others.",
                &["name", "result"],
            ),
            errors: counter(
                "match_condition_evaluation_errors_total",
                "Requests of which an authorizer's match conditions could not tell whether it is asked.",
                &["type", "name"],
            ),
            exclusions: counter(
                "match_condition_exclusions_total",
                "Requests that an authorizer was not asked about because of its match conditions.",
                &["type", "name"],
            ),
            conditions: seconds(
                "match_condition_evaluation_seconds",
                "How long it took to evaluate an authorizer's match conditions.",
                &["type", "name"],
                &CONDITIONS,
            ),
        }
    }

    /// The counters of what one authorizer allows and denies.
    pub(crate) fn decisions(&self, kind: &str, name: &str) -> [IntCounter; 2] {
        ["allowed", "denied"].map(|decision| self.decisions.with_label_values(&[kind, name, decision]))
    }

    /// A webhook was asked; `open` if it failed and others decide.
    pub(crate) fn asked(&self, webhook: &str, how: Asked, after: Duration, open: bool) {
        let labels = [webhook, how.label()];
        self.asked.with_label_values(&labels).inc();
        self.asking.with_label_values(&labels).observe(after.as_secs_f64());
        if open && how != Asked::Answered {
            self.passed_by.with_label_values(&labels).inc();
        }
    }

    /// The conditions of a webhook were evaluated: they hold, or do not, or that cannot be told.
    pub(crate) fn matched<E>(&self, webhook: &str, outcome: &Result<bool, E>, after: Duration) {
        let labels = [WEBHOOK, webhook];
        match outcome {
            Ok(true) => {}
            Ok(false) => self.exclusions.with_label_values(&labels).inc(),
            Err(_) => self.errors.with_label_values(&labels).inc(),
        }
        self.conditions.with_label_values(&labels).observe(after.as_secs_f64());
    }
}
