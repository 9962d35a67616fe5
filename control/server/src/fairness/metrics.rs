//! What fairness counts about itself, under upstream's names.

use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::demand::Smoothed;
use super::queues::{Meters, Running};
use crate::metrics::{counter, gauge, gauge as all_gauges, register};

const LEVEL: &str = "priority_level";
const BOTH: [&str; 2] = [LEVEL, "flow_schema"];
/// Upstream's buckets of waiting and execution, in seconds.
const DURATIONS: [f64; 13] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const LENGTHS: [f64; 8] = [0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
const WATCHERS: [f64; 6] = [0.0, 1.0, 10.0, 100.0, 1000.0, 10_000.0];
const SEATS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 100.0];

/// The counters.
pub(super) struct FairnessMetrics {
    rejected: IntCounterVec,
    dispatched: IntCounterVec,
    waiting: IntGaugeVec,
    waiting_seats: IntGaugeVec,
    executing: IntGaugeVec,
    executing_seats: IntGaugeVec,
    lengths: HistogramVec,
    waits: HistogramVec,
    executions: HistogramVec,
    estimated: HistogramVec,
    watchers: HistogramVec,
    unseated: IntCounterVec,
    in_queue: IntGaugeVec,
    progress: GaugeVec,
    dispatch: [GaugeVec; 2],
    next: [GaugeVec; 2],
    fair_fraction: Gauge,
    nominal: IntGaugeVec,
    lower: IntGaugeVec,
    upper: IntGaugeVec,
    current: IntGaugeVec,
    demand: [GaugeVec; 4],
    target: GaugeVec,
}

fn name(end: &str) -> String {
    format!("apiserver_flowcontrol_{end}")
}

fn floats(registry: &Registry, end: &str, help: &str) -> GaugeVec {
    let vec = GaugeVec::new(Opts::new(name(end), help), &[LEVEL]).expect("names of metrics are valid");
    register(registry, vec)
}

fn bounds(registry: &Registry, end: &str, help: &str) -> GaugeVec {
    let vec = GaugeVec::new(Opts::new(name(end), help), &[LEVEL, "bound"]);
    register(registry, vec.expect("names of metrics are valid"))
}

fn fair_fraction(registry: &Registry) -> Gauge {
    let help = "The part of what they want that the levels got when seats were given last.";
    register(registry, Gauge::new(name("seat_fair_frac"), help).expect("names of metrics are valid"))
}

fn histogram(registry: &Registry, end: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    let options = HistogramOpts::new(name(end), help).buckets(buckets.to_vec());
    register(registry, HistogramVec::new(options, labels).expect("names of metrics are valid"))
}

impl FairnessMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |end: &str, help: &str, labels: &[&str]| counter(registry, &name(end), help, labels);
        let gauge = |end: &str, help: &str, labels: &[&str]| gauge(registry, &name(end), help, labels);
        let both_and = |third| [BOTH[0], BOTH[1], third];
        Self {
            rejected: counter("rejected_requests_total", "Requests that were refused.", &both_and("reason")),
            dispatched: counter("dispatched_requests_total", "Requests that were executed.", &BOTH),
            waiting: gauge("current_inqueue_requests", "Requests that wait.", &BOTH),
            waiting_seats: gauge("current_inqueue_seats", "Seats that those who wait want.", &BOTH),
            executing: gauge("current_executing_requests", "Requests being executed.", &BOTH),
            executing_seats: gauge("current_executing_seats", "Seats that are taken.", &BOTH),
            lengths: histogram(
                registry,
                "request_queue_length_after_enqueue",
                "Length of the queue, as each request sees it.",
                &BOTH,
                &LENGTHS,
            ),
            waits: histogram(
                registry,
                "request_wait_duration_seconds",
                "How long a request waited.",
                &both_and("execute"),
                &DURATIONS,
            ),
            executions: histogram(
                registry,
                "request_execution_seconds",
                "How long a request was executed.",
                &both_and("type"),
                &DURATIONS,
            ),
            estimated: histogram(registry, "work_estimated_seats", "Seats of a request.", &BOTH, &SEATS),
            watchers: histogram(
                registry,
                "watch_count_samples",
                "How many watch what is written, at each write.",
                &BOTH,
                &WATCHERS,
            ),
            unseated: counter(
                "request_dispatch_no_accommodation_total",
                "How often there were seats, but not enough for the request that was next.",
                &BOTH,
            ),
            in_queue: all_gauges(
                registry,
                "apiserver_current_inqueue_requests",
                "Requests that wait, by whether they write.",
                &["request_kind"],
            ),
            progress: floats(registry, "current_r", "R(time of last change)."),
            dispatch: [
                floats(registry, "dispatch_r", "R(time of last dispatch)."),
                floats(registry, "latest_s", "S(most recently dispatched request)."),
            ],
            next: [
                bounds(
                    registry,
                    "next_s_bounds",
                    "Least and most, over queues, of S(oldest waiting request).",
                ),
                bounds(
                    registry,
                    "next_discounted_s_bounds",
                    "The same without what is taken to be under way in the queue.",
                ),
            ],
            fair_fraction: fair_fraction(registry),
            nominal: gauge("nominal_limit_seats", "Seats of the level's own.", &[LEVEL]),
            lower: gauge("lower_limit_seats", "Seats that the level never lends.", &[LEVEL]),
            upper: gauge("upper_limit_seats", "The most seats that the level may have.", &[LEVEL]),
            current: gauge("current_limit_seats", "Seats of the level now.", &[LEVEL]),
            demand: [
                floats(registry, "demand_seats_high_watermark", "The most seats wanted in the last period."),
                floats(registry, "demand_seats_average", "Mean of the seats wanted in the last period."),
                floats(registry, "demand_seats_stdev", "Deviation of the seats wanted in the last period."),
                floats(registry, "demand_seats_smoothed", "Smoothed seats wanted."),
            ],
            target: floats(registry, "target_seats", "Seats that the level was to get, before bounds."),
        }
    }

    pub(super) fn refused(&self, level: &str, schema: &str, reason: &str) {
        self.rejected.with_label_values(&[level, schema, reason]).inc();
    }

    pub(super) fn gave_up(&self, level: &str, schema: &str, waited: f64) {
        self.refused(level, schema, "time-out");
        self.waits.with_label_values(&[level, schema, "false"]).observe(waited);
    }

    pub(super) fn estimated(&self, level: &str, schema: &str, seats: u32) {
        self.estimated.with_label_values(&[level, schema]).observe(f64::from(seats));
    }

    pub(super) fn queued(&self, level: &str, schema: &str, seats: u32, length: usize) {
        self.lengths.with_label_values(&[level, schema]).observe(length as f64);
        self.waits_change(level, schema, i64::from(seats), 1);
    }

    pub(super) fn left(&self, level: &str, schema: &str, seats: u32) {
        self.waits_change(level, schema, -i64::from(seats), -1);
    }

    fn waits_change(&self, level: &str, schema: &str, seats: i64, requests: i64) {
        self.waiting.with_label_values(&[level, schema]).add(requests);
        self.waiting_seats.with_label_values(&[level, schema]).add(seats);
    }

    pub(super) fn started(&self, level: &str, running: &Running) {
        let schema = &*running.schema.name;
        self.dispatched.with_label_values(&[level, schema]).inc();
        self.waits.with_label_values(&[level, schema, "true"]).observe(running.waited);
        self.executing.with_label_values(&[level, schema]).inc();
        self.executing_seats.with_label_values(&[level, schema]).add(i64::from(running.work.width()));
    }

    pub(super) fn finished(&self, level: &str, running: &Running, after: f64, watch: bool) {
        let (schema, kind) = (&*running.schema.name, if watch { "watch" } else { "regular" });
        self.executing.with_label_values(&[level, schema]).dec();
        self.executions.with_label_values(&[level, schema, kind]).observe(after);
    }

    pub(super) fn released(&self, level: &str, running: &Running) {
        let labels = [level, &*running.schema.name];
        self.executing_seats.with_label_values(&labels).sub(i64::from(running.work.width()));
    }

    /// So many watch what is written.
    pub(super) fn written(&self, level: &str, schema: &str, watchers: usize) {
        self.watchers.with_label_values(&[level, schema]).observe(watchers as f64);
    }

    /// Requests that wait and that write, or do not.
    pub(super) fn in_queue(&self, writes: bool) -> IntGauge {
        self.in_queue.with_label_values(&[if writes { "mutating" } else { "readOnly" }])
    }

    /// How far a level is.
    pub(super) fn meters(&self, level: &str, meters: &Meters) {
        self.progress.with_label_values(&[level]).set(meters.progress);
        let (at, begins) = meters.dispatched;
        for (gauge, value) in self.dispatch.iter().zip([at, begins]) {
            gauge.with_label_values(&[level]).set(value);
        }
        for (gauge, (least, most)) in self.next.iter().zip(meters.next.into_iter().flatten()) {
            gauge.with_label_values(&[level, "min"]).set(least);
            gauge.with_label_values(&[level, "max"]).set(most);
        }
        for (schema, count) in &meters.unseated {
            self.unseated.with_label_values(&[level, schema]).inc_by(*count);
        }
    }

    /// All levels together got this part of what they want.
    pub(super) fn fair_fraction(&self, fraction: f64) {
        self.fair_fraction.set(fraction);
    }

    pub(super) fn limits(&self, level: &str, nominal: u32, lower: u32, upper: u32) {
        for (gauge, seats) in [(&self.nominal, nominal), (&self.lower, lower), (&self.upper, upper)] {
            gauge.with_label_values(&[level]).set(i64::from(seats));
        }
    }

    pub(super) fn adjusted(&self, level: &str, demand: &Smoothed, target: f64, current: u32) {
        let seen = [demand.last.most, demand.last.mean, demand.last.deviation, demand.value];
        for (gauge, value) in self.demand.iter().zip(seen) {
            gauge.with_label_values(&[level]).set(value);
        }
        self.target.with_label_values(&[level]).set(target);
        self.current.with_label_values(&[level]).set(i64::from(current));
    }
}
