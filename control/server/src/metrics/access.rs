//! What the gate counts: who came, and what they were let do.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, Registry};

use super::{counter, doubling, histogram, register};
use crate::gate::{Decision, Verdict};

/// Upstream's buckets of how long a client's certificate is still good, in seconds.
const LEFT: [f64; 14] = [
    0.0,
    1800.0,
    3600.0,
    7200.0,
    21_600.0,
    43_200.0,
    86_400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
];

/// How it ended to ask who somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Somebody, or nobody in particular.
    Somebody,
    /// There were no credentials.
    Nobody,
    /// Those that there were are not good.
    Pretender,
}

impl Known {
    fn label(self) -> &'static str {
        match self {
            Self::Somebody => "success",
            Self::Nobody => "failure",
            Self::Pretender => "error",
        }
    }
}

/// The counters. Clones count together.
#[derive(Clone)]
pub(crate) struct AccessMetrics {
    users: IntCounterVec,
    attempts: IntCounterVec,
    asking: HistogramVec,
    decisions: IntCounterVec,
    deciding: HistogramVec,
    certificates: Histogram,
}

impl AccessMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let certificates = HistogramOpts::new(
            "apiserver_client_certificate_expiration_seconds",
            "How long the certificates of clients are still good, at each of their requests.",
        );
        let certificates = Histogram::with_opts(certificates.buckets(LEFT.to_vec()));
        Self {
            users: counter(
                registry,
                "authenticated_user_requests",
                "Requests whose user is known, by kind of user.",
                &["username"],
            ),
            attempts: counter(
                registry,
                "authentication_attempts",
                "Requests that had to say who they are from, by outcome.",
                &["result"],
            ),
            asking: histogram(
                registry,
                "authentication_duration_seconds",
                "How long it took to find out who a request is from.",
                &["result"],
                doubling(0.001, 15),
            ),
            decisions: counter(
                registry,
                "authorization_attempts_total",
                "Requests that were allowed or not.",
                &["result"],
            ),
            deciding: histogram(
                registry,
                "authorization_duration_seconds",
                "How long it took to decide whether a request is allowed.",
                &["result"],
                doubling(0.001, 15),
            ),
            certificates: register(registry, certificates.expect("names of metrics are valid")),
        }
    }

    pub(crate) fn authenticated(&self, outcome: Known, user: Option<&str>, after: Duration) {
        if let Some(user) = user {
            self.users.with_label_values(&[kind(user)]).inc();
        }
        let labels = [outcome.label()];
        self.attempts.with_label_values(&labels).inc();
        self.asking.with_label_values(&labels).observe(after.as_secs_f64());
    }

    pub(crate) fn decided(&self, decision: &Decision, after: Duration) {
        let result = match decision.verdict {
            Verdict::Allow => "allowed",
            _ if !decision.error.is_empty() => "error",
            Verdict::Deny => "denied",
            Verdict::NoOpinion => "no-opinion",
        };
        self.decisions.with_label_values(&[result]).inc();
        self.deciding.with_label_values(&[result]).observe(after.as_secs_f64());
    }

    /// A client showed a certificate that is good for so many seconds.
    pub(crate) fn certificate(&self, left: i64) {
        self.certificates.observe(left as f64);
    }
}

/// Names of users are no labels: there are too many, and they are nobody's business.
fn kind(user: &str) -> &str {
    match user {
        "admin" | "client" | "kube_proxy" | "kubelet" | "system:serviceaccount:kube-system:default" => user,
        _ if user.contains('@') => "email_id",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_counted_by_kind_only() {
        for (user, expected) in [("admin", "admin"), ("jane@example.org", "email_id"), ("jane", "other")] {
            assert_eq!(kind(user), expected);
        }
    }
}
