//! The queue in front of the writer thread: writes that wait for the next commit.
//!
//! Owns back-pressure, the wake-up of the writer, and which writes share a commit. Whoever writes without pause comes back
//! as soon as they have their answer; a commit that began with the first who did would hold only that one, and the others
//! would wait for its fsync. So the writer waits for as many as the last commit held, if not [for long](PATIENCE), where
//! that held [many](COMPANY): whoever is alone, or one of a few, never waits for anyone. Knows nothing of SQL.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{Expected, Revision, StoreError};

/// Most requests that wait; further callers wait for room.
const ROOM: usize = 4096;

/// How long after a commit began those who come back from it are waited for, at most. Sixteen clients are all back within
/// about a millisecond; who is not may have nothing more to write.
const PATIENCE: Duration = Duration::from_millis(2);

/// Fewer writes than this in the last commit are not waited for: of two clients, the one without a pause would have to wait
/// for the other's.
const COMPANY: usize = 4;

/// What is asked of the writer.
#[derive(Debug)]
pub(super) enum Change {
    /// Write a value.
    Put { key: String, value: Bytes, expected: Expected, ttl: Option<Duration> },
    /// Delete a key.
    Delete { key: String, expected: Revision },
    /// Forget history.
    Compact(Revision),
}

/// A change with the caller who waits for it.
pub(super) struct Request {
    pub(super) change: Change,
    pub(super) reply: oneshot::Sender<Result<Revision, StoreError>>,
    _room: OwnedSemaphorePermit,
}

/// Requests in the order in which they came.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    room: Arc<Semaphore>,
    patience: Duration,
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    closed: bool,
    /// For so many the writer waits: it is not woken before.
    wanted: usize,
    last: Option<Last>,
}

/// The last commit.
struct Last {
    began: Instant,
    writes: usize,
}

/// What the writer finds.
pub(super) enum Taken {
    /// The requests of the next commit; none when the deadline came first.
    Requests(Vec<Request>),
    /// Nothing is left, and nothing will come.
    Closed,
}

impl Default for Queue {
    fn default() -> Self {
        Self::new(PATIENCE)
    }
}

impl Queue {
    /// A queue whose writer waits so long for those who were in the last commit.
    fn new(patience: Duration) -> Self {
        let room = Arc::new(Semaphore::new(ROOM));
        Self { waiting: Mutex::default(), arrived: Condvar::new(), room, patience }
    }

    /// Adds a change and waits for its outcome. Once queued, the change happens even if the caller goes away.
    pub(super) async fn submit(&self, change: Change) -> Result<Revision, StoreError> {
        let room = self.room.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (reply, outcome) = oneshot::channel();
        let enough = {
            let mut waiting = self.waiting.lock();
            if waiting.closed {
                return Err(StoreError::Closed);
            }
            waiting.requests.push_back(Request { change, reply, _room: room });
            waiting.requests.len() >= waiting.wanted
        };
        if enough {
            self.arrived.notify_one();
        }
        outcome.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Takes up to `most` requests; waits for the first one until `deadline`, without one for ever.
    pub(super) fn take(&self, most: usize, deadline: Option<Instant>) -> Taken {
        let mut waiting = self.waiting.lock();
        self.gather(&mut waiting, most);
        waiting.wanted = 1;
        while waiting.requests.is_empty() {
            if waiting.closed {
                return Taken::Closed;
            }
            match deadline {
                None => self.arrived.wait(&mut waiting),
                Some(deadline) => {
                    if self.arrived.wait_until(&mut waiting, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        let count = waiting.requests.len().min(most);
        waiting.last = Some(Last { began: Instant::now(), writes: count });
        Taken::Requests(waiting.requests.drain(..count).collect())
    }

    /// Waits for as many as were in the last commit, if those were many.
    fn gather(&self, waiting: &mut MutexGuard<'_, Waiting>, most: usize) {
        let Some(Last { began, writes }) = waiting.last.take().filter(|last| last.writes >= COMPANY) else {
            return;
        };
        let until = began + self.patience;
        waiting.wanted = writes.min(most);
        while waiting.requests.len() < waiting.wanted && !waiting.closed {
            if self.arrived.wait_until(waiting, until).timed_out() {
                break;
            }
        }
    }

    /// Takes no more requests.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Takes no more requests and fails those that wait.
    pub(super) fn abandon(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.requests.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR_EVER: Duration = Duration::from_secs(3600);

    /// So many changes wait in the queue.
    async fn fill(queue: &Arc<Queue>, count: usize) {
        for _ in 0..count {
            let before = queue.waiting.lock().requests.len();
            let queue = queue.clone();
            let there = queue.clone();
            tokio::spawn(async move { queue.submit(Change::Compact(Revision(1))).await });
            while there.waiting.lock().requests.len() == before {
                tokio::task::yield_now().await;
            }
        }
    }

    fn taken(queue: &Queue, most: usize) -> usize {
        match queue.take(most, None) {
            Taken::Requests(requests) => requests.len(),
            Taken::Closed => 0,
        }
    }

    #[tokio::test]
    async fn one_of_a_few_is_taken_at_once() {
        for few in 1..COMPANY {
            let queue = Arc::new(Queue::new(FOR_EVER));
            fill(&queue, few).await;
            assert_eq!(taken(&queue, 512), few);
            fill(&queue, 1).await;
            assert_eq!(taken(&queue, 512), 1);
        }
    }

    #[tokio::test]
    async fn commit_waits_for_as_many_as_the_last_one_held() {
        let queue = Arc::new(Queue::new(FOR_EVER));
        fill(&queue, COMPANY + 1).await;
        assert_eq!(taken(&queue, 512), COMPANY + 1);
        fill(&queue, 1).await;
        let writer = std::thread::spawn({
            let queue = queue.clone();
            move || taken(&queue, 512)
        });
        fill(&queue, COMPANY).await;
        assert_eq!(writer.join().unwrap(), COMPANY + 1, "not what was there first");
    }

    #[tokio::test]
    async fn commit_waits_for_no_more_than_it_may_hold() {
        let queue = Arc::new(Queue::new(FOR_EVER));
        fill(&queue, COMPANY).await;
        assert_eq!(taken(&queue, 512), COMPANY);
        fill(&queue, 2).await;
        assert_eq!(taken(&queue, 2), 2);
    }

    #[tokio::test]
    async fn commit_does_not_wait_for_long() {
        let queue = Arc::new(Queue::new(Duration::ZERO));
        fill(&queue, COMPANY).await;
        assert_eq!(taken(&queue, 512), COMPANY);
        fill(&queue, 1).await;
        assert_eq!(taken(&queue, 512), 1, "the others of the last one may not come back");
    }

    #[tokio::test]
    async fn closing_ends_the_wait_for_others() {
        let queue = Arc::new(Queue::new(FOR_EVER));
        fill(&queue, COMPANY).await;
        assert_eq!(taken(&queue, 512), COMPANY);
        fill(&queue, 1).await;
        let writer = std::thread::spawn({
            let queue = queue.clone();
            move || taken(&queue, 512)
        });
        queue.close();
        assert_eq!(writer.join().unwrap(), 1);
    }
}
