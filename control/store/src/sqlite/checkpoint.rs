//! Copying the write-ahead log into the data file, beside the writer, so that no write waits for it.
//!
//! SQLite forces the data file to the disk only when a run has copied the whole log, so under constant load that would
//! be left to whoever does the last piece: the writer, with all that earlier runs had copied. Therefore each run here
//! forces what it copied itself, through a handle of its own, and only a little is left when the writer takes its turn.
//! That turn is needed because the log can only start over when all of it was copied and no write came in between.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::{priority, schema};

/// Log written between two runs, in bytes: what the disk is given to do at a time. Handing it over takes the kernel half a
/// millisecond, in which it gives the processor to nobody else.
const EVERY: usize = 512 << 10;

/// How the scheduler weighs the thread (nice(2)): whoever serves clients goes first.
const PRIORITY: i32 = 10;

/// A row dirties about this much beyond its own bytes.
const ROW_COST: usize = 8192;

/// A log of so many frames (pages of 4 KiB) should start over.
const LONG: i64 = 2048;

/// So many frames are quickly copied by the writer.
const REST: i64 = 384;

/// Most runs in a row that try to leave no more than that.
const RUNS: usize = 6;

/// Whose turn it is. While the writer finishes, a run beside it would keep the log from starting over.
mod turn {
    /// The thread may run.
    pub(super) const THREAD: u8 = 0;
    /// The thread has left the rest to the writer.
    pub(super) const ASKED: u8 = 1;
    /// The writer copies the rest, and writes once more.
    pub(super) const WRITER: u8 = 2;
}

/// The thread that copies, and what the writer knows of it.
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    turn: Arc<AtomicU8>,
    thread: Option<JoinHandle<()>>,
    written: usize,
}

/// What a run found and did, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// Frames in the log.
    pub(super) log: i64,
    /// Of these, how many are in the data file by now.
    pub(super) copied: i64,
}

impl Checkpointer {
    /// Starts the thread. `file` is the data file, of which nothing is read or written here. It must not be closed before
    /// the last connection of this process: that would take away the locks of all others.
    pub(super) fn start(path: PathBuf, file: Arc<File>) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel::<()>(1);
        let turn = Arc::new(AtomicU8::new(turn::THREAD));
        let whose = turn.clone();
        let work = move || {
            priority::set(PRIORITY);
            let mut connection = None;
            while woken.recv().is_ok() {
                if whose.load(Ordering::Acquire) != turn::THREAD {
                    continue;
                }
                match shorten(&path, &mut connection, &file) {
                    Ok(true) => whose.store(turn::ASKED, Ordering::Release),
                    Ok(false) => {}
                    Err(error) => {
                        connection = None;
                        tracing::warn!(%error, "could not copy the store's log into its file");
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("store-checkpoint".into()).spawn(work)?;
        Ok(Self { wake: Some(wake), turn, thread: Some(thread), written: 0 })
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

    /// Whether the writer should now copy the rest itself, and write once more before [`Checkpointer::finished`].
    pub(super) fn is_asked(&self) -> bool {
        let (asked, writer) = (turn::ASKED, turn::WRITER);
        self.turn.compare_exchange(asked, writer, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The writer has had its turn.
    pub(super) fn finished(&self) {
        self.turn.store(turn::THREAD, Ordering::Release);
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

/// Copies, and forces what was copied, until the log is short or little of it is left; whether the writer should finish.
fn shorten(
    path: &std::path::Path,
    connection: &mut Option<Connection>,
    file: &File,
) -> Result<bool, Box<dyn std::error::Error>> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(schema::open_checkpointer(path)?),
    };
    let (mut before, mut fresh) = (Copied::default(), i64::MAX);
    for _ in 0..RUNS {
        let now = run(connection)?;
        file.sync_data()?;
        match next(before, now, fresh) {
            Next::Leave => return Ok(false),
            Next::Finish => return Ok(true),
            Next::Again => (before, fresh) = (now, now.copied - before.copied),
        }
    }
    Ok(true)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The log may stay as it is.
    Leave,
    /// Much was written meanwhile.
    Again,
    /// Little is left, for the writer.
    Finish,
}

/// What comes after a run that went from `before` to `now`; the one before it had `fresh` frames to copy.
fn next(before: Copied, now: Copied, fresh: i64) -> Next {
    if now.log < LONG {
        return Next::Leave;
    }
    if now.log - now.copied > REST {
        // A reader needs what is in the way; the next run will find it gone.
        return Next::Leave;
    }
    // What this run found to do is about what the next one would.
    let found = now.copied - before.copied;
    let shrinks = found < fresh / 4 * 3;
    if found > REST && shrinks { Next::Again } else { Next::Finish }
}

/// Copies what can be copied without waiting for anyone.
pub(super) fn run(connection: &Connection) -> rusqlite::Result<Copied> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        Ok(Copied { log: row.get(1)?, copied: row.get(2)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(log: i64, copied: i64) -> Copied {
        Copied { log, copied }
    }

    #[test]
    fn log_is_left_alone_while_it_is_short_or_a_reader_needs_it() {
        assert_eq!(next(at(0, 0), at(LONG - 1, LONG - 1), i64::MAX), Next::Leave);
        assert_eq!(next(at(0, 0), at(3 * LONG, LONG), i64::MAX), Next::Leave);
    }

    #[test]
    fn writer_is_asked_to_finish_once_little_came_while_the_last_run_copied_or_no_less_than_before() {
        let whole = |frames| at(frames, frames);
        assert_eq!(next(whole(0), whole(LONG), i64::MAX), Next::Again);
        assert_eq!(next(whole(LONG), whole(LONG + REST), LONG), Next::Finish);
        assert_eq!(next(whole(LONG), whole(LONG + LONG / 2), LONG), Next::Again);
        assert_eq!(next(whole(LONG), whole(2 * LONG), LONG), Next::Finish);
    }

    #[test]
    fn log_starts_over_after_the_writer_has_finished_and_the_file_has_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        let writer = schema::open_writer(&path, None).unwrap();
        let insert = |first: i64, count: i64| {
            let sql = "WITH RECURSIVE n (i) AS (VALUES (?1) UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
                INSERT INTO entry SELECT i, x'2f', i, NULL, zeroblob(3000) FROM n";
            writer.execute(sql, (first, first + count - 1)).unwrap();
        };
        insert(1, 3000);
        let file = File::open(&path).unwrap();
        let mut connection = None;
        assert!(shorten(&path, &mut connection, &file).unwrap(), "all is copied, the writer finishes");
        let done = run(&writer).unwrap();
        assert!(done.log == done.copied && done.log >= 3000, "{done:?}");
        insert(4000, 1);
        let after = run(&writer).unwrap();
        assert!(after.log < 10, "the log began anew: {after:?}");
        drop((writer, connection));
        assert!(file.metadata().unwrap().len() > 3000 * 3000);
    }
}
