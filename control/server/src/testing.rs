//! What several test modules of the gate need: objects in memory, a clock that stands still, and what was counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus::Registry;
use serde_json::Value;

use crate::gate::{Clock, ObjectReader};

type Key = (String, String, String, String);

/// Objects by group, resource, namespace and name.
#[derive(Default)]
pub(crate) struct Objects {
    objects: Mutex<BTreeMap<Key, Arc<Value>>>,
    generation: AtomicU64,
}

impl Objects {
    /// Adds or replaces an object; namespace and name come from its metadata.
    pub(crate) fn put(&self, group: &str, resource: &str, object: Value) {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = (group.to_owned(), resource.to_owned(), text("namespace"), text("name"));
        self.objects.lock().insert(key, Arc::new(object));
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn remove(&self, group: &str, resource: &str, namespace: &str, name: &str) {
        let key = (group.to_owned(), resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.objects.lock().remove(&key);
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

impl ObjectReader for Objects {
    fn generation(&self, _: &str, _: &str) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let key = (group.to_owned(), resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.objects.lock().get(&key).cloned()
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let objects = self.objects.lock();
        let wanted =
            |key: &Key| key.0 == group && key.1 == resource && (namespace.is_empty() || key.2 == namespace);
        objects.iter().filter(|(key, _)| wanted(key)).map(|(_, object)| Arc::clone(object)).collect()
    }
}

/// A clock that shows the seconds it is set to.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_800_000_000)))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }

    pub(crate) fn clock(&self) -> Clock {
        let this = self.clone();
        Arc::new(move || this.now())
    }
}

/// What is counted under a name, of series whose labels have all of these values: counters and gauges by value,
/// histograms by how much they have seen. Nothing where there is no such series.
pub(crate) fn counted(registry: &Registry, name: &str, values: &[&str]) -> Option<f64> {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name)?;
    let fits = |metric: &&prometheus::proto::Metric| {
        values.iter().all(|value| metric.get_label().iter().any(|label| label.value() == *value))
    };
    let found: Vec<f64> = family
        .get_metric()
        .iter()
        .filter(fits)
        .map(|metric| {
            let seen = metric.get_histogram().get_sample_count() as f64;
            metric.get_counter().get_value() + metric.get_gauge().get_value() + seen
        })
        .collect();
    (!found.is_empty()).then(|| found.iter().sum())
}
