//! Copying the write-ahead log into the data file, beside the writer, so that no write waits for it.
//!
//! The log can only start over when all of it was copied and no write came in between. Under constant load that never
//! happens by itself: so, after a run here, the writer copies the little that was added meanwhile (`take_finish`).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::schema;

/// Log written before a run, in bytes.
const EVERY: usize = 8 << 20;

/// A row dirties about this much beyond its own bytes.
const ROW_COST: usize = 4096;

/// The thread that copies, and what the writer knows of it.
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    finish: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    written: usize,
}

impl Checkpointer {
    /// Starts the thread.
    pub(super) fn start(path: PathBuf) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel::<()>(1);
        let finish = Arc::new(AtomicBool::new(false));
        let done = finish.clone();
        let work = move || {
            while woken.recv().is_ok() {
                let result = schema::open_checkpointer(&path).and_then(|connection| run(&connection));
                match result {
                    Ok(()) => done.store(true, Ordering::Release),
                    Err(error) => tracing::warn!(%error, "could not copy the store's log into its file"),
                }
            }
        };
        let thread = std::thread::Builder::new().name("store-checkpoint".into()).spawn(work)?;
        Ok(Self { wake: Some(wake), finish, thread: Some(thread), written: 0 })
    }

    /// Notes what a commit added to the log.
    pub(super) fn note(&mut self, rows: usize, bytes: usize) {
        self.written += rows * ROW_COST + bytes;
        if self.written >= EVERY
            && let Some(wake) = &self.wake
        {
            // A full channel means that a run is coming anyway.
            let _ = wake.try_send(());
            self.written = 0;
        }
    }

    /// Whether the writer should now copy the rest itself.
    pub(super) fn take_finish(&self) -> bool {
        self.finish.swap(false, Ordering::Acquire)
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Copies what can be copied without waiting for anyone.
pub(super) fn run(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
