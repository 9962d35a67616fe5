//! How much of a level was in use for how long: histograms that see a value at the end of every nanosecond, as upstream
//! has them, so that a quantile over them says how much of the time it was how full.
//!
//! Owns the measure and its form for Prometheus; when something changes, the queues say. Pure.

use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::queues::Seconds;

const NANOS: f64 = 1e9;

/// Upstream's buckets: parts of what there is.
const SEATS: [f64; 13] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0];
const REQUESTS: [f64; 10] = [0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1.0];
const DEMAND: [f64; 12] = [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.8, 4.0, 6.0];

/// An amount as a part of another, over time.
#[derive(Clone, Debug)]
struct Part {
    bounds: &'static [f64],
    /// Nanoseconds by bucket, the last for what is above all bounds.
    nanos: Vec<u64>,
    sum: f64,
    amount: f64,
    whole: f64,
    since: Seconds,
}

impl Part {
    fn new(bounds: &'static [f64], now: Seconds) -> Self {
        Self { bounds, nanos: vec![0; bounds.len() + 1], sum: 0.0, amount: 0.0, whole: 1.0, since: now }
    }

    fn pass(&mut self, now: Seconds) {
        let nanos = ((now - self.since).max(0.0) * NANOS) as u64;
        if nanos == 0 {
            return;
        }
        let value = self.amount / self.whole;
        let at = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        self.nanos[at] += nanos;
        self.sum += value * nanos as f64;
        self.since = now;
    }

    fn set(&mut self, now: Seconds, amount: f64) {
        self.pass(now);
        self.amount = amount;
    }

    /// What it is a part of; of nothing there is one.
    fn of(&mut self, now: Seconds, whole: f64) {
        self.pass(now);
        self.whole = whole.max(1.0);
    }

    fn metric(&self, labels: &[(&str, &str)]) -> Metric {
        let mut seen = 0;
        let bucket = |(bound, nanos): (&f64, &u64)| {
            seen += nanos;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(seen);
            bucket
        };
        let buckets = self.bounds.iter().zip(&self.nanos).map(bucket).collect();
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(self.nanos.iter().sum());
        histogram.set_sample_sum(self.sum);
        let pair = |(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut metric = Metric::from_label(labels.iter().map(pair).collect());
        metric.set_histogram(histogram);
        metric
    }
}

/// How much there is of what a level may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amounts {
    pub(super) seats: u32,
    pub(super) seats_waiting: u32,
    pub(super) executing: usize,
    pub(super) waiting: usize,
}

/// The parts of one level.
#[derive(Clone, Debug)]
pub(super) struct Uses {
    seats: Part,
    executing: Part,
    waiting: Part,
    demand: Part,
}

/// The families, in the order in which [`Uses::metrics`] fills them.
const FAMILIES: [(&str, &str); 3] = [
    (
        "priority_level_seat_utilization",
        "The part of its seats that a level uses, at the end of every nanosecond.",
    ),
    (
        "priority_level_request_utilization",
        "Requests of a level as a part of its seats, or of its places to wait, at the end of every nanosecond.",
    ),
    ("demand_seats", "Seats that a level could use as a part of its own, at the end of every nanosecond."),
];

impl Uses {
    pub(super) fn new(now: Seconds) -> Self {
        let [seats, executing, waiting, demand] =
            [&SEATS[..], &REQUESTS, &REQUESTS, &DEMAND].map(|bounds| Part::new(bounds, now));
        Self { seats, executing, waiting, demand }
    }

    /// It is so much from now on.
    pub(super) fn set(&mut self, now: Seconds, amounts: Amounts) {
        self.seats.set(now, f64::from(amounts.seats));
        self.executing.set(now, amounts.executing as f64);
        self.waiting.set(now, amounts.waiting as f64);
        self.demand.set(now, f64::from(amounts.seats + amounts.seats_waiting));
    }

    /// The level has so many seats, and places to wait, from now on.
    pub(super) fn limit(&mut self, now: Seconds, seats: u32, places: usize) {
        self.seats.of(now, f64::from(seats));
        self.executing.of(now, f64::from(seats));
        self.waiting.of(now, places as f64);
    }

    /// So many seats are its own.
    pub(super) fn own(&mut self, now: Seconds, seats: u32) {
        self.demand.of(now, f64::from(seats));
    }

    /// Nothing changes until now.
    pub(super) fn pass(&mut self, now: Seconds) {
        for part in [&mut self.seats, &mut self.executing, &mut self.waiting, &mut self.demand] {
            part.pass(now);
        }
    }

    fn metrics(&self, level: &str) -> [Vec<Metric>; 3] {
        let level = ("priority_level", level);
        let phase = |part: &Part, phase: &str| part.metric(&[("phase", phase), level]);
        [
            vec![phase(&self.seats, "executing")],
            vec![phase(&self.executing, "executing"), phase(&self.waiting, "waiting")],
            vec![self.demand.metric(&[level])],
        ]
    }
}

/// What Prometheus is told of all levels.
pub(super) fn families(levels: &[(&str, Uses)]) -> Vec<MetricFamily> {
    let mut all: [Vec<Metric>; 3] = Default::default();
    for (level, uses) in levels {
        for (metrics, more) in all.iter_mut().zip(uses.metrics(level)) {
            metrics.extend(more);
        }
    }
    let family = |((end, help), metrics): ((&str, &str), Vec<Metric>)| {
        let mut family = MetricFamily::default();
        family.set_name(format!("apiserver_flowcontrol_{end}"));
        family.set_help(help.to_owned());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(metrics);
        family
    };
    FAMILIES.into_iter().zip(all).map(family).collect()
}

/// Name and help of the families.
pub(super) fn described() -> impl Iterator<Item = (String, &'static str)> {
    FAMILIES.into_iter().map(|(end, help)| (format!("apiserver_flowcontrol_{end}"), help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_where_the_part_was() {
        let mut uses = Uses::new(0.0);
        uses.limit(0.0, 10, 100);
        uses.own(0.0, 5);
        uses.set(1.0, Amounts { seats: 10, seats_waiting: 5, executing: 2, waiting: 50 });
        uses.set(4.0, Amounts { seats: 0, seats_waiting: 0, executing: 0, waiting: 0 });
        uses.pass(5.0);
        let families = families(&[("low", uses)]);
        let histogram =
            |family: usize, metric: usize| families[family].get_metric()[metric].get_histogram().clone();
        let at = |histogram: &Histogram, bound: f64| {
            let found = histogram.get_bucket().iter().find(|bucket| bucket.upper_bound() == bound);
            found.unwrap().cumulative_count() as f64 / NANOS
        };
        let seats = histogram(0, 0);
        assert_eq!((at(&seats, 0.0), at(&seats, 0.99), at(&seats, 1.0)), (2.0, 2.0, 5.0));
        assert_eq!((seats.get_sample_sum() / NANOS, seats.get_sample_count() as f64 / NANOS), (3.0, 5.0));
        let waiting = histogram(1, 1);
        assert_eq!((at(&waiting, 0.25), at(&waiting, 0.5)), (2.0, 5.0));
        let demand = histogram(2, 0);
        assert_eq!((at(&demand, 2.0), at(&demand, 2.8), at(&demand, 4.0)), (2.0, 2.0, 5.0), "thrice its own");
    }
}
