//! Requests: how many, how long they took and where, how large their answers are, and what became of those cut off.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounterVec, Registry};

use super::{counter, histogram, scope};
use crate::request::RequestInfo;

/// Upstream's buckets of request durations, in seconds.
const DURATIONS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
/// What is asked of the server's own part of them: the finest two are not told apart.
const FINEST: usize = 2;
/// Upstream's buckets of how long a filter takes, in seconds.
const FILTERS: [f64; 13] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 5.0, 10.0, 15.0, 30.0];
/// Upstream's buckets of how large a body is: the first, what each has more (bytes), and how many there are.
const BODIES: [u32; 3] = [50_000, 100_000, 31];
/// Which server's requests these are; aggregated ones count their own.
pub(super) const COMPONENT: &str = "apiserver";

/// What is counted about an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) code: u16,
    /// Bytes, where that is known.
    pub(crate) size: Option<u64>,
    pub(crate) dry_run: bool,
    /// Whether it took too long, or there was no seat.
    pub(crate) cut_off: bool,
    pub(crate) after: Duration,
    /// So much of that was waiting for others.
    pub(crate) waited: Duration,
}

/// What stands before the handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    Authentication,
    Audit,
    Impersonation,
    Fairness,
    Authorization,
}

/// What became of a handler whose client was told that it took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Afterwards {
    Answered,
    Failed,
    Panicked,
}

impl Afterwards {
    fn label(self) -> &'static str {
        match self {
            Self::Answered => "ok",
            Self::Failed => "error",
            Self::Panicked => "panic",
        }
    }
}

/// The counters.
pub(crate) struct RequestMetrics {
    total: IntCounterVec,
    durations: HistogramVec,
    own_durations: HistogramVec,
    sizes: HistogramVec,
    terminations: IntCounterVec,
    bodies: HistogramVec,
    filters: [Histogram; 5],
    afterwards: IntCounterVec,
}

impl RequestMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let labels = ["verb", "group", "version", "resource", "subresource", "scope", "component"];
        let and = |more: &[&'static str]| [&labels[..], more].concat();
        let filters = histogram(
            registry,
            "apiserver_request_filter_duration_seconds",
            "How long it took before the handler, for each thing that is done there.",
            &["filter"],
            FILTERS.to_vec(),
        );
        Self {
            total: counter(
                registry,
                "apiserver_request_total",
                "Requests that were answered.",
                &and(&["code", "dry_run"]),
            ),
            durations: histogram(
                registry,
                "apiserver_request_duration_seconds",
                "Duration of requests, long-running ones left out.",
                &and(&["dry_run"]),
                DURATIONS.to_vec(),
            ),
            own_durations: histogram(
                registry,
                "apiserver_request_sli_duration_seconds",
                "The same without what webhooks of users took, and waiting for a seat.",
                &labels,
                DURATIONS[FINEST..].to_vec(),
            ),
            sizes: histogram(
                registry,
                "apiserver_response_sizes",
                "Bytes of answers to requests that read, where they are known at the beginning.",
                &labels,
                // From 1000 bytes, each ten times as many.
                (3..10).map(|exponent| 10_f64.powi(exponent)).collect(),
            ),
            terminations: counter(
                registry,
                "apiserver_request_terminations_total",
                "Requests that were ended to protect the server.",
                &and(&["code"]),
            ),
            bodies: histogram(
                registry,
                "apiserver_request_body_size_bytes",
                "Bytes of the bodies of requests.",
                &["group", "resource", "verb"],
                (0..BODIES[2]).map(|at| f64::from(BODIES[0] + at * BODIES[1])).collect(),
            ),
            // In the order of the variants.
            filters: ["authentication", "audit", "impersonation", "priorityandfairness", "authorization"]
                .map(|filter| filters.with_label_values(&[filter])),
            afterwards: counter(
                registry,
                "apiserver_request_post_timeout_total",
                "Handlers that ended after their clients were told that they took too long.",
                &["source", "status"],
            ),
        }
    }

    /// Counts an answer. Names that are no kinds of ours are not taken into labels.
    pub(crate) fn answered(&self, info: &RequestInfo, known: bool, answer: &Answered) {
        let verb = info.verb.to_ascii_uppercase();
        let scope = if known { scope(info) } else { "" };
        let of = |text: &str| if known { text.to_owned() } else { String::new() };
        let verb = match verb.as_str() {
            known @ ("GET" | "LIST" | "WATCH" | "CREATE" | "UPDATE" | "PATCH" | "DELETE"
            | "DELETECOLLECTION" | "POST" | "PUT" | "HEAD") => known,
            _ => "other",
        };
        let (group, version) = (of(&info.group), of(&info.version));
        let (resource, subresource) = (of(&info.resource), of(&info.subresource));
        let labels = [verb, &group, &version, &resource, &subresource, scope, COMPONENT];
        let code = answer.code.to_string();
        let dry_run = if answer.dry_run { "All" } else { "" };
        self.total.with_label_values(&[&labels[..], &[&code, dry_run]].concat()).inc();
        if let (Some(size), "GET" | "LIST") = (answer.size, verb) {
            self.sizes.with_label_values(&labels).observe(size as f64);
        }
        if answer.cut_off {
            self.terminations.with_label_values(&[&labels[..], &[&code]].concat()).inc();
        }
        if !info.is_long_running() {
            let durations = self.durations.with_label_values(&[&labels[..], &[dry_run]].concat());
            durations.observe(answer.after.as_secs_f64());
            if !answer.dry_run {
                let own = answer.after.saturating_sub(answer.waited);
                self.own_durations.with_label_values(&labels).observe(own.as_secs_f64());
            }
        }
    }

    /// A request for a resource came with a body of so many bytes.
    pub(crate) fn body(&self, info: &RequestInfo, bytes: usize) {
        let verb = if info.verb == "deletecollection" { "delete_collection" } else { info.verb.as_str() };
        let labels = [&*info.group, &info.resource, verb];
        self.bodies.with_label_values(&labels).observe(bytes as f64);
    }

    /// A request went through a filter.
    pub(crate) fn passed(&self, filter: Filter, after: Duration) {
        self.filters[filter as usize].observe(after.as_secs_f64());
    }

    /// A handler ended whose client was told that it took too long.
    pub(crate) fn ended_afterwards(&self, how: Afterwards) {
        self.afterwards.with_label_values(&["rest-handler", how.label()]).inc();
    }
}
