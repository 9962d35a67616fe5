//! Tokens of other issuers, and their keys.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{HistogramVec, IntGaugeVec, Registry};

use super::reloads::hash;
use super::{gauge, histogram};

/// Upstream's buckets of how long it takes to know a token, in seconds.
const KNOWING: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const FETCH: [&str; 3] = ["result", "jwt_issuer_hash", "apiserver_id_hash"];
const SET: [&str; 3] = ["jwt_issuer_hash", "apiserver_id_hash", "hash"];

/// The counters. Clones count together.
#[derive(Clone, Debug)]
pub struct IssuerMetrics {
    /// Which server this is.
    server: String,
    knowing: HistogramVec,
    fetched: IntGaugeVec,
    sets: IntGaugeVec,
}

fn result(good: bool) -> &'static str {
    if good { "success" } else { "failure" }
}

impl IssuerMetrics {
    /// Counters of the server of this name.
    pub fn new(registry: &Registry, server: &str) -> Self {
        let name = |end: &str| format!("apiserver_authentication_jwt_authenticator_{end}");
        Self {
            server: hash(server),
            knowing: histogram(
                registry,
                &name("latency_seconds"),
                "How long it took to find out whose a token of an issuer is.",
                &["result", "jwt_issuer_hash"],
                KNOWING.to_vec(),
            ),
            fetched: gauge(
                registry,
                &name("jwks_fetch_last_timestamp_seconds"),
                "When an issuer's keys were fetched last, by outcome.",
                &FETCH,
            ),
            sets: gauge(
                registry,
                &name("jwks_fetch_last_key_set_info"),
                "The hash of the keys that an issuer told last.",
                &SET,
            ),
        }
    }

    /// A token that says to be of this issuer is somebody's, or nobody's.
    pub(crate) fn known(&self, issuer: &str, good: bool, after: Duration) {
        self.knowing.with_label_values(&[result(good), &hash(issuer)]).observe(after.as_secs_f64());
    }

    /// The keys of an issuer were fetched, or could not be.
    pub(crate) fn fetched(&self, issuer: &str, keys: Option<&str>, now: SystemTime) {
        let (issuer, server) = (hash(issuer), self.server.as_str());
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let at = self.fetched.with_label_values(&[result(keys.is_some()), &issuer, server]);
        at.set(i64::try_from(seconds).unwrap_or(i64::MAX));
        if let Some(keys) = keys {
            self.forget_set(&issuer);
            self.sets.with_label_values(&[&issuer, server, &hash(keys)]).set(1);
        }
    }

    /// Nobody asks for this issuer any more.
    pub(crate) fn forget(&self, issuer: &str) {
        let issuer = hash(issuer);
        for good in [true, false] {
            // Nothing is lost where there was nothing.
            let _ = self.fetched.remove_label_values(&[result(good), &issuer, &self.server]);
        }
        self.forget_set(&issuer);
    }

    /// Takes away what was told before, whatever it was.
    fn forget_set(&self, issuer: &str) {
        use prometheus::core::Collector;
        for family in self.sets.collect() {
            for metric in family.get_metric() {
                let value = |name: &str| {
                    let found = metric.get_label().iter().find(|label| label.name() == name);
                    found.map(|label| label.value().to_owned()).unwrap_or_default()
                };
                let labels = SET.map(value);
                if labels[0] == issuer && labels[1] == self.server {
                    let _ = self.sets.remove_label_values(&[&labels[0], &labels[1], &labels[2]]);
                }
            }
        }
    }
}
