//! How long the rules of custom resources take (`x-kubernetes-validations`), under upstream's names.

use std::time::Instant;

use prometheus::{Histogram, HistogramOpts, Registry};

use super::register;

/// The counters. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct CelMetrics {
    compilation: Histogram,
    evaluation: Histogram,
}

impl CelMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let seconds = |end: &str, help: &str| {
            let options = HistogramOpts::new(format!("apiserver_cel_{end}_duration_seconds"), help);
            register(registry, Histogram::with_opts(options).expect("names of metrics are valid"))
        };
        Self {
            compilation: seconds(
                "compilation",
                "How long it took to read the schema and rules of a definition.",
            ),
            evaluation: seconds("evaluation", "How long it took to check an object by schema and rules."),
        }
    }

    /// Reads rules.
    pub(crate) fn compile<T>(&self, read: impl FnOnce() -> T) -> T {
        timed(&self.compilation, read)
    }

    /// Checks by them.
    pub(crate) fn evaluate<T>(&self, check: impl FnOnce() -> T) -> T {
        timed(&self.evaluation, check)
    }
}

fn timed<T>(histogram: &Histogram, act: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let outcome = act();
    histogram.observe(started.elapsed().as_secs_f64());
    outcome
}
