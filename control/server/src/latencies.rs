//! Where a request that was slow has been, for the audit log: `apiserver.latency.k8s.io/*`, as upstream has it.
//!
//! Owns the times of one request by layer and how they are told. They are taken of every request, by the clock of the
//! runtime and without room of their own, and told of slow ones only.
//!
//! Some layers are others than upstream's. What is in the store has been decoded before anybody asks, so decoding is counted
//! only of lists out of the past. `etcd` is the store, whichever it is, with waiting for a place at its door and until what
//! was written can be read. Tables are made and written out in one go, which is counted as writing them out; transforming
//! is what conversion webhooks take.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::duration;

/// Requests that last no longer have nothing to explain.
const SLOW: Duration = Duration::from_millis(500);
const PREFIX: &str = "apiserver.latency.k8s.io";

/// Where a request can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Authentication,
    Impersonation,
    QueueWait,
    Authorization,
    MutatingWebhook,
    ValidatingWebhook,
    Storage,
    Decode,
    Transform,
    Serialize,
    ResponseWrite,
}

impl Layer {
    const ALL: [Self; 11] = [
        Self::Authentication,
        Self::Impersonation,
        Self::QueueWait,
        Self::Authorization,
        Self::MutatingWebhook,
        Self::ValidatingWebhook,
        Self::Storage,
        Self::Decode,
        Self::Transform,
        Self::Serialize,
        Self::ResponseWrite,
    ];

    fn key(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Impersonation => "impersonation",
            Self::QueueWait => "apf-queue-wait",
            Self::Authorization => "authorization",
            Self::MutatingWebhook => "mutating-webhook",
            Self::ValidatingWebhook => "validating-webhook",
            Self::Storage => "etcd",
            Self::Decode => "decode-response-object",
            Self::Transform => "transform-response-object",
            Self::Serialize => "serialize-response-object",
            Self::ResponseWrite => "response-write",
        }
    }

    /// Times of one layer together: of what happens at once, the longest counts.
    fn together(self, one: Duration, other: Duration) -> Duration {
        match self {
            Self::ValidatingWebhook | Self::Authorization | Self::QueueWait => one.max(other),
            _ => one + other,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Spent {
    time: Duration,
    /// Since when the request is there now.
    since: Option<Instant>,
}

/// The times of one request.
#[derive(Debug)]
pub(crate) struct Latencies(Mutex<[Spent; Layer::ALL.len()]>);

/// The request is in a layer as long as this lives.
pub(crate) struct Inside<'a> {
    latencies: &'a Latencies,
    layer: Layer,
    since: Instant,
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new([Spent { time: Duration::ZERO, since: None }; Layer::ALL.len()]))
    }

    /// It was in a layer for so long.
    pub(crate) fn took(&self, layer: Layer, time: Duration) {
        let spent = &mut self.0.lock()[layer as usize];
        spent.time = layer.together(spent.time, time);
    }

    /// It was there since `from`, which is now from here on; how long that was.
    pub(crate) fn lap(&self, layer: Layer, from: &mut Instant) -> Duration {
        let now = Instant::now();
        let took = now - *from;
        self.took(layer, took);
        *from = now;
        took
    }

    /// It enters a layer.
    pub(crate) fn enter(&self, layer: Layer) -> Inside<'_> {
        let since = Instant::now();
        self.0.lock()[layer as usize].since.get_or_insert(since);
        Inside { latencies: self, layer, since }
    }

    fn of(&self, layer: Layer) -> Duration {
        let spent = self.0.lock()[layer as usize];
        let open = spent.since.map(|since| since.elapsed()).unwrap_or_default();
        layer.together(spent.time, open)
    }

    /// How long it waited for others: webhooks of users, a seat.
    pub(crate) fn waiting(&self) -> Duration {
        let others = [Layer::MutatingWebhook, Layer::ValidatingWebhook, Layer::QueueWait];
        others.into_iter().map(|layer| self.of(layer)).sum()
    }

    /// The annotations of a request that took so long in all; none of one that is not slow.
    pub(crate) fn annotations(&self, total: Duration) -> Vec<(String, String)> {
        if total <= SLOW {
            return Vec::new();
        }
        let times = Layer::ALL.map(|layer| (layer.key(), self.of(layer)));
        let told: Vec<_> = times.into_iter().filter(|(_, time)| !time.is_zero()).collect();
        let total = (!told.is_empty()).then_some(("total", total));
        let all = told.into_iter().chain(total);
        all.map(|(key, time)| (format!("{PREFIX}/{key}"), duration::text(time))).collect()
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let spent = &mut self.latencies.0.lock()[self.layer as usize];
        spent.time = self.layer.together(spent.time, self.since.elapsed());
        if spent.since == Some(self.since) {
            spent.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn told(latencies: &Latencies, total: Duration) -> Vec<String> {
        let all = latencies.annotations(total).into_iter();
        all.map(|(key, value)| format!("{}={value}", key.trim_start_matches("apiserver.latency.k8s.io/")))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn slow_request_tells_where_it_was_and_a_fast_one_does_not() {
        let latencies = Latencies::new();
        latencies.took(Layer::Storage, ms(200));
        latencies.took(Layer::Storage, ms(250));
        latencies.took(Layer::ValidatingWebhook, ms(40));
        latencies.took(Layer::ValidatingWebhook, ms(30));
        assert!(told(&latencies, ms(500)).is_empty());
        assert_eq!(told(&latencies, ms(501)), ["validating-webhook=40ms", "etcd=450ms", "total=501ms"]);
        assert!(told(&Latencies::new(), ms(501)).is_empty(), "it was nowhere");
        assert_eq!(latencies.waiting(), ms(40));
    }

    #[tokio::test(start_paused = true)]
    async fn layer_that_the_request_is_still_in_counts() {
        let latencies = Latencies::new();
        let inside = latencies.enter(Layer::Storage);
        let second = latencies.enter(Layer::Storage);
        tokio::time::advance(ms(600)).await;
        assert_eq!(told(&latencies, ms(600)), ["etcd=600ms", "total=600ms"]);
        drop(second);
        drop(inside);
        tokio::time::advance(ms(600)).await;
        assert_eq!(told(&latencies, ms(1200))[0], "etcd=1.2s", "both were there, and are no longer");
        let mut from = Instant::now();
        tokio::time::advance(ms(7)).await;
        latencies.lap(Layer::Authentication, &mut from);
        latencies.lap(Layer::Authorization, &mut from);
        assert_eq!(told(&latencies, ms(1207))[0], "authentication=7ms");
    }
}
