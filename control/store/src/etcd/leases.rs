//! Leases that keys share: a lease per key would cost etcd a write each.
//!
//! Keys with the same time to live that are written within a short window hang on one lease, which ends after the time
//! to live plus the window: a key lives at least its time, and up to the window longer.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use etcd_client::{Client, LeaseTimeToLiveOptions};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{answer, read};
use crate::StoreError;

/// Longest window.
const WIDEST: Duration = Duration::from_secs(60);
/// Most keys on one lease, so that its end is not one huge write.
const MOST_KEYS: u32 = 1000;

/// The leases that still take keys, by time to live in seconds.
pub(super) struct Leases {
    client: Client,
    open: Mutex<HashMap<u64, Lease>>,
}

struct Lease {
    id: i64,
    until: Instant,
    keys: u32,
}

impl Leases {
    pub(super) fn new(client: Client) -> Self {
        Self { client, open: Mutex::default() }
    }

    /// The lease for a key that is written now.
    pub(super) async fn lease(&self, ttl: Duration) -> Result<i64, StoreError> {
        let (seconds, window) = plan(ttl);
        let mut open = self.open.lock().await;
        let now = Instant::now();
        open.retain(|_, lease| lease.until > now && lease.keys < MOST_KEYS);
        if let Some(lease) = open.get_mut(&seconds) {
            lease.keys += 1;
            return Ok(lease.id);
        }
        let whole = i64::try_from(seconds + window.as_secs_f64().ceil() as u64).unwrap_or(i64::MAX);
        // One that was granted twice ends with nothing on it.
        let granted = read("grant a lease of etcd", || {
            let mut client = self.client.lease_client();
            async move { client.grant(whole, None).await }
        })
        .await?;
        open.insert(seconds, Lease { id: granted.id(), until: now + window, keys: 1 });
        Ok(granted.id())
    }

    /// What is left of the life of every key that hangs on a lease, of whomever.
    pub(super) async fn expiries(&self) -> Result<BTreeMap<String, Duration>, StoreError> {
        let mut client = self.client.lease_client();
        let leases = answer("list the leases of etcd", client.leases()).await?;
        let mut left = BTreeMap::new();
        for lease in leases.leases() {
            let options = LeaseTimeToLiveOptions::new().with_keys();
            let told = answer("read a lease of etcd", client.time_to_live(lease.id(), Some(options))).await?;
            // A lease that has just ended says -1.
            let life = Duration::from_secs(u64::try_from(told.ttl()).unwrap_or_default());
            let keys = told.keys().iter().filter_map(|key| String::from_utf8(key.clone()).ok());
            left.extend(keys.map(|key| (key, life)));
        }
        Ok(left)
    }
}

/// Whole seconds to live, and how long the lease takes further keys.
fn plan(ttl: Duration) -> (u64, Duration) {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    (seconds, (Duration::from_secs(seconds) / 20).min(WIDEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_rounds_up_and_bounds_the_window() {
        assert_eq!(plan(Duration::from_millis(1)), (1, Duration::from_millis(50)));
        assert_eq!(plan(Duration::from_secs(100)), (100, Duration::from_secs(5)));
        assert_eq!(plan(Duration::from_secs(3600)), (3600, WIDEST));
    }
}
