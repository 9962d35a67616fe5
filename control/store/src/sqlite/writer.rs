//! The writer thread: the only one that changes the data file.
//!
//! Takes what waits, puts it into one transaction together with the expiries that are due and a step of forgetting,
//! commits, publishes, answers. Sleeps without a timer when nothing waits and nothing will expire.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};

use super::checkpoint::{self, Checkpointer};
use super::clock::StoreClock;
use super::commit::{Batch, Outcome, next_expiry};
use super::failure::Failure;
use super::metrics::Metrics;
use super::options::SqliteOptions;
use super::priority;
use super::queue::{Queue, Request, Taken};
use super::schema::State;
use super::sweep::{self, Marks, PAGE, Pages};
use crate::StoreError;
use crate::feed::Feed;

/// Most keys that expire in one commit.
const EXPIRE_STEP: usize = 256;
/// Revisions forgotten per commit, beyond twice the writes in it.
const SWEEP_STEP: u64 = 128;
/// Revisions forgotten per commit when nobody waits.
const IDLE_SWEEP_STEP: u64 = 1024;
/// Pages given back per commit.
const VACUUM_STEP: u32 = 64;
/// Longest time that a commit spends on forgetting and giving back, about: whoever writes next waits for it.
const CLEAN_UP: Duration = Duration::from_millis(8);
/// How the scheduler weighs this thread (nice(2)). A commit waits for the disk some times, and after each for a processor:
/// behind threads that serve clients without pause that takes up to 4 ms each time (a tick of Linux 6.18), and whoever writes
/// waits for all of it.
const PRIORITY: i32 = -15;
/// How long the writer leaves expiry and forgetting alone after a failed commit.
const BACK_OFF: Duration = Duration::from_secs(5);

/// What the thread owns.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) options: SqliteOptions,
    pub(super) clock: StoreClock,
    pub(super) state: State,
    pub(super) queue: Arc<Queue>,
    pub(super) feed: Arc<Feed>,
    /// The compacted revision, for watches that start.
    pub(super) compacted: Arc<AtomicU64>,
    pub(super) metrics: Metrics,
    pub(super) checkpointer: Checkpointer,
    pub(super) marks: Marks,
    pub(super) next_expiry: Option<i64>,
    pub(super) quiet_until: Option<Instant>,
}

/// What a commit did.
struct Committed {
    outcomes: Vec<Outcome>,
    bytes: usize,
    /// The file before it. Asking is a statement that is prepared each time, so it is asked once.
    pages: Pages,
    /// Time spent on the changes themselves, on forgetting, and on waiting for the disk.
    phases: [Duration; 3],
}

impl Writer {
    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        priority::set(PRIORITY);
        // Callers get an answer, and watches an end, even if this thread panics.
        let _end = End { queue: self.queue.clone(), feed: self.feed.clone() };
        while let Taken::Requests(requests) = self.queue.take(self.options.batch.max(1), self.deadline()) {
            self.serve(requests);
        }
    }

    /// When the writer has something to do of its own accord.
    fn deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        let sweep = (self.state.swept < self.state.compacted).then_some(now);
        let expiry = self.next_expiry.map(|at| {
            let wait = u64::try_from(at.saturating_sub(self.clock.at(now))).unwrap_or_default();
            // What lies beyond a year is looked at again then.
            now + Duration::from_millis(wait).min(Duration::from_secs(366 * 86_400))
        });
        let next = [sweep, expiry].into_iter().flatten().min()?;
        Some(self.quiet_until.map_or(next, |quiet| quiet.max(next)))
    }

    fn serve(&mut self, requests: Vec<Request>) {
        let begun = Instant::now();
        let finishing = self.checkpointer.is_asked();
        if finishing {
            if let Err(error) = checkpoint::run(&self.connection) {
                tracing::warn!(%error, "could not finish copying the store's log");
            }
            self.metrics.note_phase("copy", begun.elapsed());
        }
        let committed = self.commit(&requests);
        if finishing {
            self.checkpointer.finished();
        }
        match committed {
            Ok(committed) => {
                self.quiet_until = None;
                self.measure(begun, requests.len(), &committed);
                for (request, outcome) in requests.into_iter().zip(committed.outcomes) {
                    // A caller that went away does not want to know.
                    let _ = request.reply.send(outcome);
                }
            }
            Err(error) => self.fail(requests, error),
        }
    }

    fn commit(&mut self, requests: &[Request]) -> rusqlite::Result<Committed> {
        let now = Instant::now();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut batch = Batch {
            transaction,
            state: self.state,
            events: Vec::with_capacity(requests.len()),
            earliest_expiry: self.next_expiry,
            now: self.clock.at(now),
        };
        let mut outcomes = Vec::with_capacity(requests.len());
        for request in requests {
            outcomes.push(batch.apply(&request.change)?);
        }
        if batch.earliest_expiry.is_some_and(|at| at <= batch.now) {
            batch.earliest_expiry = batch.expire(EXPIRE_STEP)?;
        }
        let applied = Instant::now();
        let pages = Pages::count(&batch.transaction)?;
        let step = if requests.is_empty() { IDLE_SWEEP_STEP } else { SWEEP_STEP + 2 * requests.len() as u64 };
        batch.state.compacted =
            sweep::target(&batch.state, pages, &mut self.marks, now, &self.options.retention, step);
        let swept = batch.state.swept.0;
        sweep::sweep(&batch.transaction, &mut batch.state, step, applied + CLEAN_UP)?;
        let rows = batch.events.len() + (batch.state.swept.0 - swept) as usize;
        if batch.state != self.state {
            let pages = if batch.state.swept.0 == swept { pages } else { Pages::count(&batch.transaction)? };
            sweep::vacuum(&batch.transaction, pages, VACUUM_STEP, applied + CLEAN_UP)?;
        }
        let cleaned = Instant::now();
        if batch.state != self.state {
            batch.state.clock = batch.now;
            batch.state.write(&batch.transaction)?;
            batch.transaction.commit()?;
            self.marks.note(now, batch.state.revision);
        }
        let phases = [applied - now, cleaned - applied, cleaned.elapsed()];
        self.state = batch.state;
        self.next_expiry = batch.earliest_expiry;
        self.compacted.store(self.state.compacted.0, Ordering::Release);
        let bytes =
            batch.events.iter().filter_map(|event| event.current.as_ref()).map(|kv| kv.value.len()).sum();
        self.checkpointer.note(rows, bytes);
        self.feed.publish(batch.events);
        Ok(Committed { outcomes, bytes, pages, phases })
    }

    fn measure(&self, begun: Instant, writes: usize, committed: &Committed) {
        let bytes = committed.bytes;
        self.metrics.commit_seconds.observe(begun.elapsed().as_secs_f64());
        for (phase, took) in ["apply", "forget", "commit"].into_iter().zip(committed.phases) {
            self.metrics.note_phase(phase, took);
        }
        if writes > 0 {
            self.metrics.batch_writes.observe(writes as f64);
        }
        self.metrics.live_bytes.set(self.state.live_bytes);
        self.metrics.revision.set(i64::try_from(self.state.revision.0).unwrap_or(i64::MAX));
        self.metrics.compacted.set(i64::try_from(self.state.compacted.0).unwrap_or(i64::MAX));
        self.metrics.file_bytes.set(committed.pages.all * PAGE);
        tracing::trace!(writes, bytes, revision = self.state.revision.0, "committed");
    }

    /// Answers everyone in a transaction that did not happen, and reads again what is in the file.
    fn fail(&mut self, requests: Vec<Request>, error: rusqlite::Error) {
        self.metrics.failures.inc();
        self.quiet_until = Some(Instant::now() + BACK_OFF);
        tracing::error!(%error, writes = requests.len(), "commit failed, nothing was written");
        let failure = Failure { operation: "commit", path: &self.path };
        let text = error.to_string();
        let code = error.sqlite_error().copied();
        for request in requests {
            let copy = match code {
                Some(code) => rusqlite::Error::SqliteFailure(code, Some(text.clone())),
                None => rusqlite::Error::ToSqlConversionFailure(text.clone().into()),
            };
            let _ = request.reply.send(Err::<_, StoreError>(failure.explain(copy)));
        }
        self.reload();
    }

    /// Should the file hold more than this thread believes, watches find it in the file's history.
    fn reload(&mut self) {
        if let Ok(state) = State::read(&self.connection) {
            if state.revision != self.state.revision {
                self.feed.reset(state.revision);
            }
            self.state = state;
        }
        if let Ok(next) = next_expiry(&self.connection) {
            self.next_expiry = next;
        }
    }
}

/// Ends waiting callers and watches when the writer ends.
struct End {
    queue: Arc<Queue>,
    feed: Arc<Feed>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.queue.abandon();
        self.feed.close();
    }
}
