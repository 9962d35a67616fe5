//! What encryption counts about itself, under upstream's names.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Registry};

use crate::metrics::{counter, doubling, gauge, histogram};

/// The counters. Clones count together.
#[derive(Clone)]
pub(super) struct EncryptionMetrics {
    transformations: IntCounterVec,
    durations: HistogramVec,
    reloads: IntCounterVec,
    last_reload: IntGaugeVec,
    key_ids: IntCounterVec,
    invalid_key_ids: IntCounterVec,
    operations: HistogramVec,
    seeds: IntGaugeVec,
}

impl EncryptionMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            transformations: counter(
                registry,
                "apiserver_storage_transformation_operations_total",
                "Total number of transformations.",
                &["resource", "transformation_type", "transformer_prefix", "status"],
            ),
            durations: histogram(
                registry,
                "apiserver_storage_transformation_duration_seconds",
                "Latencies in seconds of value transformation operations.",
                &["transformation_type", "transformer_prefix"],
                doubling(5e-6, 25),
            ),
            reloads: counter(
                registry,
                "apiserver_encryption_config_controller_automatic_reloads_total",
                "Total number of reload successes and failures of encryption configuration.",
                &["status"],
            ),
            last_reload: gauge(
                registry,
                "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds",
                "Timestamp of the last successful or failed automatic reload of encryption configuration.",
                &["status"],
            ),
            key_ids: counter(
                registry,
                "apiserver_envelope_encryption_key_id_hash_total",
                "Number of times a keyID is used split by transformation type and provider.",
                &["transformation_type", "provider_name", "key_id_hash"],
            ),
            invalid_key_ids: counter(
                registry,
                "apiserver_envelope_encryption_invalid_key_id_from_status_total",
                "Number of times an invalid keyID is returned by the Status RPC call split by error.",
                &["provider_name", "error"],
            ),
            operations: histogram(
                registry,
                "apiserver_envelope_encryption_kms_operations_latency_seconds",
                "KMS operation duration with gRPC error code status total.",
                &["provider_name", "method_name", "grpc_status_code"],
                doubling(1e-4, 19),
            ),
            seeds: gauge(
                registry,
                "apiserver_envelope_encryption_dek_source_cache_size",
                "Number of records in data encryption key (DEK) source cache.",
                &["provider_name"],
            ),
        }
    }

    pub(super) fn transformed(&self, resource: &str, way: &str, prefix: &str, fine: bool, after: Duration) {
        let status = if fine { "OK" } else { "Unknown" };
        self.transformations.with_label_values(&[resource, way, prefix, status]).inc();
        if fine {
            self.durations.with_label_values(&[way, prefix]).observe(after.as_secs_f64());
        }
    }

    pub(super) fn reloaded(&self, fine: bool, now: i64) {
        let status = if fine { "success" } else { "failure" };
        self.reloads.with_label_values(&[status]).inc();
        self.last_reload.with_label_values(&[status]).set(now);
    }

    pub(super) fn key_id(&self, way: &str, service: &str, hash: &str) {
        self.key_ids.with_label_values(&[way, service, hash]).inc();
    }

    pub(super) fn invalid_key_id(&self, service: &str, word: &str) {
        self.invalid_key_ids.with_label_values(&[service, word]).inc();
    }

    pub(super) fn operation(&self, service: &str, method: &str, code: tonic::Code, after: Duration) {
        let code = format!("{code:?}");
        let code = if code == "Ok" { "OK" } else { &code };
        self.operations.with_label_values(&[service, method, code]).observe(after.as_secs_f64());
    }

    pub(super) fn seeds(&self, service: &str, count: usize) {
        self.seeds.with_label_values(&[service]).set(count as i64);
    }
}
