//! What a controller has done that its cache does not show yet.
//!
//! A controller that creates pods from a count in its cache would create them twice if it looked again
//! before the watch told it of the first ones. So it writes down what it expects to see, and creates or
//! deletes nothing more until it has seen it, or until [`LAPSE`] has passed (an event may be lost with a
//! watch; the fresh list after that is the truth).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::key::ObjectKey;

/// After this long an expectation no longer holds anything back.
pub const LAPSE: Duration = Duration::from_secs(300);

/// Outstanding creations and deletions by the key of the object that controls them.
#[derive(Debug, Default)]
pub struct Expectations(Mutex<HashMap<ObjectKey, Expected>>);

#[derive(Debug)]
struct Expected {
    creations: usize,
    /// Uids of objects whose deletion was asked for.
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    /// `count` creations are about to be asked for.
    pub fn expect_creations(&self, key: &ObjectKey, count: usize) {
        self.0.lock().insert(
            key.clone(),
            Expected { creations: count, deletions: HashSet::new(), since: Instant::now() },
        );
    }

    /// The deletion of these objects is about to be asked for.
    pub fn expect_deletions(&self, key: &ObjectKey, uids: impl IntoIterator<Item = String>) {
        let deletions = uids.into_iter().collect();
        self.0.lock().insert(key.clone(), Expected { creations: 0, deletions, since: Instant::now() });
    }

    /// A creation was seen, or failed.
    pub fn creation_observed(&self, key: &ObjectKey) {
        if let Some(expected) = self.0.lock().get_mut(key) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// A deletion was seen, or failed.
    pub fn deletion_observed(&self, key: &ObjectKey, uid: &str) {
        if let Some(expected) = self.0.lock().get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    /// Whether everything expected was seen, or the wait for it has lapsed.
    pub fn satisfied(&self, key: &ObjectKey) -> bool {
        self.0.lock().get(key).is_none_or(|expected| {
            (expected.creations == 0 && expected.deletions.is_empty()) || expected.since.elapsed() > LAPSE
        })
    }

    /// The controlling object is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn expectations_hold_until_every_creation_is_seen() {
        let (expectations, key) = (Expectations::default(), ObjectKey::new("a", "b"));
        assert!(expectations.satisfied(&key));
        expectations.expect_creations(&key, 2);
        expectations.creation_observed(&key);
        assert!(!expectations.satisfied(&key));
        expectations.creation_observed(&key);
        expectations.creation_observed(&key);
        assert!(expectations.satisfied(&key));
    }

    #[tokio::test(start_paused = true)]
    async fn expectations_deletion_seen_twice_counts_once() {
        let (expectations, key) = (Expectations::default(), ObjectKey::new("a", "b"));
        expectations.expect_deletions(&key, ["1".to_owned(), "2".to_owned()]);
        expectations.deletion_observed(&key, "1");
        expectations.deletion_observed(&key, "1");
        assert!(!expectations.satisfied(&key));
        expectations.deletion_observed(&key, "2");
        assert!(expectations.satisfied(&key));
    }

    #[tokio::test(start_paused = true)]
    async fn expectations_lapse_after_five_minutes() {
        let (expectations, key) = (Expectations::default(), ObjectKey::new("a", "b"));
        expectations.expect_creations(&key, 1);
        tokio::time::advance(LAPSE + Duration::from_secs(1)).await;
        assert!(expectations.satisfied(&key));
    }
}
