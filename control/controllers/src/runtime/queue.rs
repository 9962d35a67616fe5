//! The work queue: which keys need a look, each at most once at a time, with back-off for those that fail.
//!
//! States of a key, and how it moves:
//! - *idle* -> *ready* on [`Queue::add`]; *idle* -> *later* on [`Queue::add_after`], *later* -> *ready* when due;
//! - *ready* -> *active* when [`Queue::next`] hands it out;
//! - *active* -> *active, dirty* on `add` meanwhile; [`Queue::done`] makes it *ready* again, otherwise *idle*.
//!
//! It does not run anything: [`crate::runtime::worker`] does.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Delay before the first retry of a key; doubles with each failure in a row.
pub const FIRST_RETRY: Duration = Duration::from_millis(5);
/// Longest delay before a retry.
pub const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// A shared handle to a queue of keys.
pub struct Queue<K>(Arc<Shared<K>>);

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

struct State<K> {
    /// Keys to hand out, in order.
    ready: VecDeque<K>,
    /// Keys in `ready`, and keys that were added while active.
    dirty: HashSet<K>,
    /// Keys handed out and not yet done.
    active: HashSet<K>,
    /// Keys to become ready, by when; the number makes entries unique.
    later: BTreeMap<(Instant, u64), K>,
    later_of: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    sequence: u64,
    closed: bool,
}

impl<K: Clone + Eq + Hash> Default for Queue<K> {
    fn default() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                dirty: HashSet::new(),
                active: HashSet::new(),
                later: BTreeMap::new(),
                later_of: HashMap::new(),
                failures: HashMap::new(),
                sequence: 0,
                closed: false,
            }),
            wake: Notify::new(),
        }))
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// Asks for the key to be looked at soon.
    pub fn add(&self, key: K) {
        let mut state = self.0.state.lock();
        if state.add(key) {
            self.0.wake.notify_one();
        }
    }

    /// Asks for the key to be looked at after a delay. An earlier request for the same key wins.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.0.state.lock();
        if state.closed {
            return;
        }
        // A delay beyond what the clock can tell is as good as a year.
        let now = Instant::now();
        let due = now.checked_add(delay).unwrap_or(now + Duration::from_secs(365 * 86_400));
        match state.later_of.get(&key).copied() {
            Some(earlier) if earlier.0 <= due => return,
            Some(later) => {
                state.later.remove(&later);
            }
            None => {}
        }
        state.sequence += 1;
        let slot = (due, state.sequence);
        state.later.insert(slot, key.clone());
        state.later_of.insert(key, slot);
        self.0.wake.notify_one();
    }

    /// Asks for the key again after a failure, later with each failure in a row.
    pub fn retry(&self, key: K) {
        let failures = {
            let mut state = self.0.state.lock();
            let count = state.failures.entry(key.clone()).or_insert(0);
            let before = *count;
            *count = count.saturating_add(1);
            before
        };
        self.add_after(key, backoff(failures));
    }

    /// Forgets the failures of a key.
    pub fn forget(&self, key: &K) {
        self.0.state.lock().failures.remove(key);
    }

    /// How often in a row the key has failed.
    pub fn failures(&self, key: &K) -> u32 {
        self.0.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// The next key, which is the caller's alone until [`Queue::done`]. `None` once the queue is closed.
    pub async fn next(&self) -> Option<K> {
        loop {
            let wake = self.0.wake.notified();
            tokio::pin!(wake);
            wake.as_mut().enable();
            let due = {
                let mut state = self.0.state.lock();
                if state.closed {
                    return None;
                }
                state.promote(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.active.insert(key.clone());
                    if !state.ready.is_empty() {
                        self.0.wake.notify_one();
                    }
                    return Some(key);
                }
                state.later.first_key_value().map(|(slot, _)| slot.0)
            };
            match due {
                Some(at) => tokio::select! { () = wake => {}, () = sleep_until(at) => {} },
                None => wake.await,
            }
        }
    }

    /// Gives a key back. If it was added meanwhile it becomes ready again.
    pub fn done(&self, key: &K) {
        let mut state = self.0.state.lock();
        state.active.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            self.0.wake.notify_one();
        }
    }

    /// Ends the queue: [`Queue::next`] answers `None` to everybody, additions are ignored.
    pub fn close(&self) {
        self.0.state.lock().closed = true;
        self.0.wake.notify_waiters();
        self.0.wake.notify_one();
    }

    /// Keys that are ready, not counting those that wait for their time.
    pub fn depth(&self) -> usize {
        self.0.state.lock().ready.len()
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    /// Whether a worker has something new to do.
    fn add(&mut self, key: K) -> bool {
        if self.closed || !self.dirty.insert(key.clone()) {
            return false;
        }
        if self.active.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn promote(&mut self, now: Instant) {
        while let Some((slot, _)) = self.later.first_key_value() {
            let slot = *slot;
            if slot.0 > now {
                break;
            }
            if let Some(key) = self.later.remove(&slot) {
                self.later_of.remove(&key);
                self.add(key);
            }
        }
    }
}

/// The delay after that many failures in a row: doubles from [`FIRST_RETRY`] to [`LONGEST_RETRY`].
pub fn backoff(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(2_u32.saturating_pow(failures.min(31))).min(LONGEST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn queue_key_added_twice_is_handed_out_once() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn queue_key_added_while_active_comes_back_after_done() {
        let queue = Queue::default();
        queue.add("a");
        let key = queue.next().await.unwrap();
        queue.add("a");
        assert_eq!(queue.depth(), 0, "an active key must not be handed to a second worker");
        queue.done(&key);
        assert_eq!(queue.next().await, Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn queue_delayed_key_arrives_when_due_and_the_earlier_request_wins() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(3));
        queue.add_after("a", Duration::from_secs(60));
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        queue.done(&"a");
        let nothing = tokio::time::timeout(Duration::from_secs(100), queue.next()).await;
        assert!(nothing.is_err(), "the later requests were merged into the earlier one");
    }

    #[tokio::test(start_paused = true)]
    async fn queue_retries_back_off_and_forget_resets() {
        let queue = Queue::default();
        let mut waits = Vec::new();
        for _ in 0..4 {
            let start = Instant::now();
            queue.retry("a");
            queue.next().await.unwrap();
            queue.done(&"a");
            waits.push(start.elapsed().as_millis());
        }
        assert_eq!(waits, [5, 10, 20, 40]);
        queue.forget(&"a");
        assert_eq!(queue.failures(&"a"), 0);
        assert_eq!(backoff(1000), LONGEST_RETRY);
    }

    #[tokio::test(start_paused = true)]
    async fn queue_many_workers_each_key_goes_to_one() {
        let queue = Queue::default();
        let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..4 {
            let (queue, sender) = (queue.clone(), sender.clone());
            tokio::spawn(async move {
                while let Some(key) = queue.next().await {
                    sender.send(key).unwrap();
                    queue.done(&key);
                }
            });
        }
        (0..100).for_each(|key| queue.add(key));
        let mut keys = Vec::new();
        for _ in 0..100 {
            keys.push(seen.recv().await.unwrap());
        }
        keys.sort_unstable();
        assert_eq!(keys, (0..100).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn queue_closed_wakes_every_waiting_worker() {
        let queue: Queue<&str> = Queue::default();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.close();
        for worker in waiting {
            assert_eq!(worker.await.unwrap(), None);
        }
        queue.add("late");
        assert_eq!(queue.next().await, None);
    }
}
