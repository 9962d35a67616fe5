//! Answers that are remembered for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A map whose entries expire, and that holds a bounded number of them.
pub(crate) struct Expiring<K, V> {
    entries: Mutex<HashMap<K, (V, Instant)>>,
    most: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Expiring<K, V> {
    /// An empty map for at most so many entries.
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: Mutex::default(), most }
    }

    /// What is remembered, unless it has expired.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let mut entries = self.entries.lock();
        let (value, until) = entries.get(key)?;
        if *until > Instant::now() {
            return Some(value.clone());
        }
        entries.remove(key);
        None
    }

    /// Remembers a value; where there are too many, those go that expire first.
    pub(crate) fn put(&self, key: K, value: V, life: Duration) {
        if life.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut entries = self.entries.lock();
        if entries.len() >= self.most {
            entries.retain(|_, (_, until)| *until > now);
        }
        if entries.len() >= self.most {
            let mut ends: Vec<Instant> = entries.values().map(|(_, until)| *until).collect();
            let eighth = ends.len() / 8;
            let (_, limit, _) = ends.select_nth_unstable(eighth);
            let limit = *limit;
            entries.retain(|_, (_, until)| *until > limit);
        }
        entries.insert(key, (value, now + life));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn entry_lives_as_long_as_it_was_given() {
        let map = Expiring::new(8);
        map.put("a", 1, Duration::from_secs(10));
        map.put("b", 2, Duration::ZERO);
        assert_eq!((map.get(&"a"), map.get(&"b")), (Some(1), None));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(map.get(&"a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn number_of_entries_is_bounded() {
        let map = Expiring::new(64);
        for key in 0..10_000 {
            map.put(key, key, Duration::from_secs(10));
        }
        assert!(map.entries.lock().len() <= 64);
        assert_eq!(map.get(&9_999), Some(9_999));
    }
}
