//! What encryption counts about itself, under upstream's names.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use super::error::TransformError;
use crate::metrics::{counter, doubling, gauge, hash, histogram, register};

/// So many keys are counted one by one; those used longest ago are forgotten.
const MOST_KEYS: usize = 100;

/// Of a use of a key: which way, and the hashes of service and key.
type Use = [String; 3];

/// The counters. Clones count together.
#[derive(Clone)]
pub(super) struct EncryptionMetrics {
    /// Which server this is.
    server: Arc<str>,
    transformations: IntCounterVec,
    durations: HistogramVec,
    misses: IntCounter,
    seed_durations: Histogram,
    seed_failures: IntCounter,
    keys: Keys,
    told: Keys,
    invalid_key_ids: IntCounterVec,
    operations: HistogramVec,
    seeds: IntGaugeVec,
}

/// When keys were used last, and how often.
#[derive(Clone)]
struct Keys {
    total: Option<IntCounterVec>,
    last: IntGaugeVec,
    /// Whose series there are, those used last at the end.
    known: Arc<Mutex<VecDeque<Use>>>,
}

impl Keys {
    fn new(total: Option<IntCounterVec>, last: IntGaugeVec) -> Self {
        Self { total, last, known: Arc::default() }
    }

    /// A key is used. What has no way is told by a service of itself.
    fn used(&self, one: Use, server: &str) {
        let labels = |one: &Use| -> Vec<String> {
            let way = one.iter().filter(|label| !label.is_empty());
            way.cloned().chain([server.to_owned()]).collect()
        };
        let mut known = self.known.lock();
        if known.back() != Some(&one) {
            known.retain(|other| *other != one);
            known.push_back(one.clone());
        }
        if known.len() > MOST_KEYS
            && let Some(gone) = known.pop_front()
        {
            let gone = labels(&gone);
            let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
            // Nothing is lost where there was nothing.
            let _ = self.last.remove_label_values(&gone);
            let _ = self.total.as_ref().map(|total| total.remove_label_values(&gone));
        }
        let labels = labels(&one);
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        self.last.with_label_values(&labels).set(seconds());
        if let Some(total) = &self.total {
            total.with_label_values(&labels).inc();
        }
    }
}

fn seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

fn code_name(code: tonic::Code) -> String {
    if code == tonic::Code::Ok { "OK".to_owned() } else { format!("{code:?}") }
}

impl EncryptionMetrics {
    /// Counters of the server of this name.
    pub(super) fn new(registry: &Registry, server: &str) -> Self {
        let storage = |end: &str| format!("apiserver_storage_{end}");
        let envelope = |end: &str| format!("apiserver_envelope_encryption_{end}");
        let one = |name: String, help: &str| {
            let options = Opts::new(name, help);
            register(registry, IntCounter::with_opts(options).expect("names of metrics are valid"))
        };
        let seed_durations = HistogramOpts::new(
            storage("data_key_generation_duration_seconds"),
            "How long it took to make a data encryption key.",
        );
        let seed_durations = Histogram::with_opts(seed_durations.buckets(doubling(5e-6, 14)));
        let used = ["transformation_type", "provider_name", "key_id_hash", "apiserver_id_hash"];
        let total = counter(registry, &envelope("key_id_hash_total"), "How often a key is used.", &used);
        let last = "key_id_hash_last_timestamp_seconds";
        let last = gauge(registry, &envelope(last), "When a key was used last.", &used);
        let told = "key_id_hash_status_last_timestamp_seconds";
        let told = gauge(registry, &envelope(told), "When a service named a key last.", &used[1..]);
        Self {
            server: hash(server).into(),
            transformations: counter(
                registry,
                &storage("transformation_operations_total"),
                "Values that were encrypted or decrypted, by outcome.",
                &["resource", "transformation_type", "transformer_prefix", "status"],
            ),
            durations: histogram(
                registry,
                &storage("transformation_duration_seconds"),
                "How long that took, where it worked.",
                &["transformation_type", "transformer_prefix"],
                doubling(5e-6, 25),
            ),
            misses: one(
                storage("envelope_transformation_cache_misses_total"),
                "Values for which a service had to open a key.",
            ),
            seed_durations: register(registry, seed_durations.expect("names of metrics are valid")),
            seed_failures: one(
                storage("data_key_generation_failures_total"),
                "Data encryption keys that could not be made.",
            ),
            keys: Keys::new(Some(total), last),
            told: Keys::new(None, told),
            invalid_key_ids: counter(
                registry,
                &envelope("invalid_key_id_from_status_total"),
                "How often a service named a key by a name that it must not have.",
                &["provider_name", "error"],
            ),
            operations: histogram(
                registry,
                &envelope("kms_operations_latency_seconds"),
                "How long calls of services took, by outcome.",
                &["provider_name", "method_name", "grpc_status_code"],
                doubling(1e-4, 20),
            ),
            seeds: gauge(
                registry,
                &envelope("dek_source_cache_size"),
                "Keys that a service opened and that are kept.",
                &["provider_name"],
            ),
        }
    }

    /// A value went this way through a provider, or could not.
    pub(super) fn transformed(
        &self,
        resource: &str,
        way: &str,
        prefix: &str,
        failure: Option<&TransformError>,
        after: Duration,
    ) {
        let status = match failure {
            None => code_name(tonic::Code::Ok),
            Some(TransformError::Service { code, .. }) => code_name(*code),
            Some(_) => "unknown-non-grpc".to_owned(),
        };
        self.transformations.with_label_values(&[resource, way, prefix, &status]).inc();
        if failure.is_none() {
            self.durations.with_label_values(&[way, prefix]).observe(after.as_secs_f64());
        }
    }

    /// A service has to open a key that is not kept.
    pub(super) fn missed(&self) {
        self.misses.inc();
    }

    /// A key was made, or could not be.
    pub(super) fn made_seed(&self, good: bool, after: Duration) {
        match good {
            true => self.seed_durations.observe(after.as_secs_f64()),
            false => self.seed_failures.inc(),
        }
    }

    /// A key was used. Names of keys are not shown, since some services make them of secrets.
    pub(super) fn key_id(&self, way: &str, service: &str, id: &str) {
        self.keys.used([way.to_owned(), service.to_owned(), hash(id)], &self.server);
    }

    /// A service said that this is its key.
    pub(super) fn key_id_told(&self, service: &str, id: &str) {
        self.told.used([String::new(), service.to_owned(), hash(id)], &self.server);
    }

    pub(super) fn invalid_key_id(&self, service: &str, word: &str) {
        self.invalid_key_ids.with_label_values(&[service, word]).inc();
    }

    pub(super) fn operation(&self, service: &str, method: &str, code: tonic::Code, after: Duration) {
        let labels = [service, method, &code_name(code)];
        self.operations.with_label_values(&labels).observe(after.as_secs_f64());
    }

    pub(super) fn seeds(&self, service: &str, count: usize) {
        self.seeds.with_label_values(&[service]).set(count as i64);
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn keys_used_long_ago_are_forgotten() {
        let registry = Registry::new();
        let metrics = EncryptionMetrics::new(&registry, "here");
        for key in 0..MOST_KEYS + 5 {
            metrics.key_id("to_storage", "kms", "first");
            metrics.key_id("to_storage", "kms", &format!("key {key}"));
        }
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for name in ["key_id_hash_total", "key_id_hash_last_timestamp_seconds"] {
            let start = format!("apiserver_envelope_encryption_{name}{{");
            assert_eq!(text.matches(&start).count(), MOST_KEYS, "{name}");
        }
        let of = |key: &str| format!("key_id_hash=\"{}\"", hash(key));
        assert!(text.contains(&of("first")) && !text.contains(&of("key 0")));
        assert!(text.contains(&format!("apiserver_id_hash=\"{}\"", hash("here"))));
    }
}
