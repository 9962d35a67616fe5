//! Tells Prometheus, whenever it asks, how much of each level is in use.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::levels::Active;
use super::{Inner, uses};

/// Shows levels as long as they are there.
struct Shown {
    inner: Weak<Inner>,
    descriptions: Vec<Desc>,
}

impl Collector for Shown {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(inner) = self.inner.upgrade() else { return Vec::new() };
        let levels = inner.levels.read().clone();
        let now = inner.now();
        let of = |(name, active): (_, &Arc<Active>)| {
            let name: &Arc<str> = name;
            (name.clone(), active.state.queues.lock().uses(now))
        };
        let all: Vec<_> = levels.levels.iter().map(of).collect();
        let all: Vec<_> = all.iter().map(|(name, uses)| (&**name, uses.clone())).collect();
        uses::families(&all)
    }
}

/// Shows the levels in this registry from now on.
pub(super) fn register(registry: &Registry, inner: &Arc<Inner>) {
    let described = uses::described().map(|(name, help)| {
        Desc::new(name, help.to_owned(), vec!["priority_level".to_owned()], HashMap::new())
    });
    let descriptions = described.map(|found| found.expect("names of metrics are valid")).collect();
    let shown = Shown { inner: Arc::downgrade(inner), descriptions };
    if let Err(error) = registry.register(Box::new(shown)) {
        tracing::debug!(%error, "a metric is registered already");
    }
}
