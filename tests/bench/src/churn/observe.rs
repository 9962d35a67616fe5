//! Looking on from outside: sizes of files, memory of the process, and what the disk can do.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinHandle;

use super::load::{TENTHS, Work};

const EVERY: Duration = Duration::from_millis(50);
/// Rest between two appends to the plain file, so that it takes little from the store.
const PLAIN_EVERY: Duration = Duration::from_millis(5);

/// What was seen, in bytes.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) largest_file: f64,
    pub(super) largest_both: f64,
    /// Mean resident memory of the process in each tenth of the work.
    pub(super) memory: [f64; TENTHS],
}

/// Looks on until it is told that the work is done.
pub(super) struct Observer {
    done: Arc<AtomicBool>,
    task: JoinHandle<anyhow::Result<Seen>>,
}

impl Observer {
    /// Watches the data file at `path` and this process.
    pub(super) fn start(path: PathBuf, work: Arc<Work>) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(look_on(path, work, done.clone()));
        Self { done, task }
    }

    pub(super) async fn finish(self) -> anyhow::Result<Seen> {
        self.done.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

async fn look_on(path: PathBuf, work: Arc<Work>, done: Arc<AtomicBool>) -> anyhow::Result<Seen> {
    let log = log_of(&path);
    let mut seen = Seen::default();
    let mut samples = [0.0; TENTHS];
    while !done.load(Ordering::Relaxed) {
        let (file, log) = (size(&path), size(&log));
        seen.largest_file = seen.largest_file.max(file);
        seen.largest_both = seen.largest_both.max(file + log);
        let tenth = work.tenth();
        seen.memory[tenth] += resident()?;
        samples[tenth] += 1.0;
        tokio::time::sleep(EVERY).await;
    }
    for (sum, count) in seen.memory.iter_mut().zip(samples) {
        *sum /= count;
    }
    Ok(seen)
}

/// The write-ahead log of a data file.
pub(super) fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Bytes of a file; 0 when there is none.
pub(super) fn size(path: &Path) -> f64 {
    std::fs::metadata(path).map_or(0.0, |metadata| metadata.len() as f64)
}

/// Resident memory of this process, in bytes.
fn resident() -> anyhow::Result<f64> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    let pages: f64 = pages.split(' ').nth(1).context("format of /proc/self/statm")?.parse()?;
    Ok(pages * 4096.0)
}

/// A plain file beside the store: what an append with an fsync takes at its worst, on this disk and among these threads.
pub(super) struct Plain {
    done: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<std::io::Result<Duration>>,
}

impl Plain {
    /// Appends in `folder` until told to finish.
    pub(super) fn start(folder: &Path) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let (path, until) = (folder.join("plain"), done.clone());
        Self { done, thread: std::thread::spawn(move || append(&path, &until)) }
    }

    /// The longest append, in milliseconds.
    pub(super) fn finish(self) -> anyhow::Result<f64> {
        self.done.store(true, Ordering::Relaxed);
        let slowest =
            self.thread.join().map_err(|_| anyhow::anyhow!("the plain file's thread has panicked"))?;
        Ok(slowest?.as_secs_f64() * 1e3)
    }
}

fn append(path: &Path, done: &AtomicBool) -> std::io::Result<Duration> {
    let mut file = std::fs::File::create(path)?;
    let mut slowest = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let begun = Instant::now();
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        slowest = slowest.max(begun.elapsed());
        std::thread::sleep(PLAIN_EVERY);
    }
    std::fs::remove_file(path)?;
    Ok(slowest)
}
