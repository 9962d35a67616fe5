//! The queue in front of the writer thread: writes that wait for the next commit.
//!
//! Owns back-pressure and the wake-up of the writer. Knows nothing of SQL.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{Expected, Revision, StoreError};

/// Most requests that wait; further callers wait for room.
const ROOM: usize = 4096;

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
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    closed: bool,
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
        Self { waiting: Mutex::default(), arrived: Condvar::new(), room: Arc::new(Semaphore::new(ROOM)) }
    }
}

impl Queue {
    /// Adds a change and waits for its outcome. Once queued, the change happens even if the caller goes away.
    pub(super) async fn submit(&self, change: Change) -> Result<Revision, StoreError> {
        let room = self.room.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (reply, outcome) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            if waiting.closed {
                return Err(StoreError::Closed);
            }
            waiting.requests.push_back(Request { change, reply, _room: room });
        }
        self.arrived.notify_one();
        outcome.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Takes up to `most` requests; waits for the first one until `deadline`, without one for ever.
    pub(super) fn take(&self, most: usize, deadline: Option<Instant>) -> Taken {
        let mut waiting = self.waiting.lock();
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
        Taken::Requests(waiting.requests.drain(..count).collect())
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
