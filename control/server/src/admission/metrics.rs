//! What admission counts about itself, under upstream's names.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounterVec, Registry};

use skep_api::policy::Match;

use super::Operation;
use super::pod_security::PodSecurityMetrics;
use crate::metrics::{CONDITIONS, counter, histogram};

/// Upstream's buckets, in seconds.
const DURATIONS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const POLICIES: [f64; 5] = [0.000_000_5, 0.001, 0.01, 0.1, 1.0];
const CALLS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// Codes that webhooks make up are not counted one by one.
const HIGHEST: u16 = 600;

/// Which half of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Plug-ins may change the object.
    Admit,
    /// They may only refuse it.
    Validate,
}

impl Phase {
    fn label(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validate",
        }
    }
}

/// What has match conditions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matcher<'a> {
    name: &'a str,
    kind: &'static str,
    /// What upstream calls what it does.
    phase: &'static str,
}

impl<'a> Matcher<'a> {
    pub(super) fn webhook(name: &'a str, mutating: bool) -> Self {
        Self { name, kind: "webhook", phase: if mutating { "admit" } else { "validating" } }
    }

    /// A policy, of either kind.
    pub(super) fn policy(name: &'a str) -> Self {
        Self { name, kind: "policy", phase: "validate" }
    }
}

const MATCHERS: [&str; 4] = ["name", "kind", "type", "operation"];

fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// Durations of one plug-in, or of all together: by phase, operation and outcome, looked up once each.
pub(super) struct Durations {
    of: HistogramVec,
    name: Option<&'static str>,
    known: [OnceLock<Histogram>; 16],
}

impl Durations {
    pub(super) fn observe(&self, phase: Phase, operation: Operation, rejected: bool, after: Duration) {
        let index = (phase as usize * 4 + operation as usize) * 2 + usize::from(rejected);
        let known = self.known[index].get_or_init(|| {
            let rest = [phase.label(), operation.word(), truth(rejected)];
            let labels: Vec<&str> = self.name.into_iter().chain(rest).collect();
            self.of.with_label_values(&labels)
        });
        known.observe(after.as_secs_f64());
    }
}

/// How a call of a webhook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Called {
    /// It consents.
    Consent,
    /// It refuses, with this code.
    Refusal(u16),
    /// It did not answer, or with nonsense; the write fails with it, or it does not.
    Failure {
        /// Whether the write goes on all the same.
        ignored: bool,
    },
}

/// The counters. Clones count together.
#[derive(Clone)]
pub(crate) struct AdmissionMetrics {
    steps: HistogramVec,
    controllers: HistogramVec,
    webhooks: HistogramVec,
    webhook_requests: IntCounterVec,
    webhook_rejections: IntCounterVec,
    webhooks_failed_open: IntCounterVec,
    condition_errors: IntCounterVec,
    condition_exclusions: IntCounterVec,
    conditions: HistogramVec,
    pod_security: PodSecurityMetrics,
    validating_policies: Policies,
    mutating_policies: Policies,
}

/// Counters and durations of what policies of a kind decided.
#[derive(Clone)]
struct Policies {
    total: IntCounterVec,
    seconds: HistogramVec,
}

impl Policies {
    fn new(registry: &Registry, kind: &str, labels: &[&str]) -> Self {
        let name = |end: &str| format!("apiserver_{kind}_admission_policy_check_{end}");
        Self {
            total: counter(registry, &name("total"), "What policies decided, by binding.", labels),
            seconds: histogram(
                registry,
                &name("duration_seconds"),
                "How long it took to decide it.",
                labels,
                POLICIES.to_vec(),
            ),
        }
    }

    fn count(&self, labels: &[&str], after: Duration) {
        self.total.with_label_values(labels).inc();
        self.seconds.with_label_values(labels).observe(after.as_secs_f64());
    }
}

impl AdmissionMetrics {
    /// What Pod Security counts.
    pub(super) fn pod_security(&self) -> &PodSecurityMetrics {
        &self.pod_security
    }

    /// The match conditions of a webhook or policy were evaluated, which took so long.
    pub(super) fn matched(&self, of: Matcher<'_>, operation: Operation, found: &Match, after: Duration) {
        let labels = [of.name, of.kind, of.phase, operation.word()];
        match found {
            Match::Yes => {}
            // Upstream counts only webhooks that are passed by, not policies.
            Match::No if of.kind == "webhook" => self.condition_exclusions.with_label_values(&labels).inc(),
            Match::No => {}
            Match::Unknown(_) => self.condition_errors.with_label_values(&labels).inc(),
        }
        self.conditions.with_label_values(&labels).observe(after.as_secs_f64());
    }

    pub(crate) fn new(registry: &Registry) -> Arc<Self> {
        let name = |end: &str| format!("apiserver_admission_{end}");
        let labels = ["name", "type", "operation", "rejected"];
        let counter = |end: &str, help: &str, labels: &[&str]| counter(registry, &name(end), help, labels);
        let seconds = |end: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            histogram(registry, &name(end), help, labels, buckets.to_vec())
        };
        Arc::new(Self {
            steps: seconds(
                "step_admission_duration_seconds",
                "How long a phase of admission took.",
                &labels[1..],
                &DURATIONS,
            ),
            controllers: seconds(
                "controller_admission_duration_seconds",
                "How long a plug-in took.",
                &labels,
                &DURATIONS,
            ),
            webhooks: seconds(
                "webhook_admission_duration_seconds",
                "How long a webhook took.",
                &labels,
                &CALLS,
            ),
            webhook_requests: counter(
                "webhook_request_total",
                "Calls of webhooks.",
                &["name", "type", "operation", "code", "rejected"],
            ),
            webhook_rejections: counter(
                "webhook_rejection_count",
                "Writes that a webhook refused, or that failed with it.",
                &["name", "type", "operation", "error_type", "rejection_code"],
            ),
            webhooks_failed_open: counter(
                "webhook_fail_open_count",
                "Calls of webhooks that failed and were ignored.",
                &["name", "type"],
            ),
            condition_errors: counter(
                "match_condition_evaluation_errors_total",
                "Writes of which match conditions could not tell whether they are looked at.",
                &MATCHERS,
            ),
            condition_exclusions: counter(
                "match_condition_exclusions_total",
                "Writes that are not looked at because of match conditions.",
                &MATCHERS,
            ),
            conditions: seconds(
                "match_condition_evaluation_seconds",
                "How long it took to evaluate match conditions.",
                &MATCHERS,
                &CONDITIONS,
            ),
            pod_security: PodSecurityMetrics::new(registry),
            validating_policies: Policies::new(
                registry,
                "validating",
                &["policy", "policy_binding", "error_type", "enforcement_action"],
            ),
            mutating_policies: Policies::new(
                registry,
                "mutating",
                &["policy", "policy_binding", "error_type"],
            ),
        })
    }

    /// The durations of a plug-in.
    pub(super) fn of(&self, plugin: &'static str) -> Durations {
        Durations { of: self.controllers.clone(), name: Some(plugin), known: Default::default() }
    }

    /// The durations of whole phases.
    pub(super) fn phases(&self) -> Durations {
        Durations { of: self.steps.clone(), name: None, known: Default::default() }
    }

    /// Counts a call of a webhook that judges or (`mutating`) changes.
    pub(super) fn called(
        &self,
        webhook: &str,
        mutating: bool,
        operation: Operation,
        how: Called,
        after: Duration,
    ) {
        let kind = if mutating { "admit" } else { "validating" };
        let operation = operation.word();
        let (code, error) = match how {
            Called::Consent => (200, None),
            Called::Refusal(code) => (code.min(HIGHEST), Some("no_error")),
            Called::Failure { ignored } => (500, Some("calling_webhook_error").filter(|_| !ignored)),
        };
        let (code, rejected) = (code.to_string(), truth(error.is_some()));
        self.webhooks.with_label_values(&[webhook, kind, operation, rejected]).observe(after.as_secs_f64());
        self.webhook_requests.with_label_values(&[webhook, kind, operation, &code, rejected]).inc();
        if let Some(error) = error {
            self.webhook_rejections.with_label_values(&[webhook, kind, operation, error, &code]).inc();
        }
        if how == (Called::Failure { ignored: true }) {
            self.webhooks_failed_open.with_label_values(&[webhook, kind]).inc();
        }
    }

    /// A validation of a policy did not hold, which is `why`, and led to this action: `deny`, `warn`, `audit`, or `allow`
    /// where it could not be evaluated and need not be.
    pub(super) fn validated(&self, policy: &str, binding: &str, why: &str, action: &str, after: Duration) {
        self.validating_policies.count(&[policy, binding, error_type(why), action], after);
    }

    /// A policy changed an object, or could not, which is `why`.
    pub(super) fn mutated(&self, policy: &str, binding: &str, why: Option<&str>, after: Duration) {
        self.mutating_policies.count(&[policy, binding, why.map_or("no_error", error_type)], after);
    }
}

/// As upstream tells them apart, by what is said. What is refused as it should be counts as the last of them there, too.
fn error_type(why: &str) -> &'static str {
    if why.starts_with("compilation") {
        "compile_error"
    } else if why.starts_with("validation failed due to running out of cost budget") {
        "out_of_budget"
    } else {
        "invalid_error"
    }
}
