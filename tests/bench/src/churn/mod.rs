//! A day of churn in minutes: a million updates of ten thousand keys on the embedded store, and then nothing at all.
//!
//! What users of clusters on SQLite report most is a file that grows and grows, and pauses while it is made smaller. So:
//! the file against its live data, the longest wait of a writer against the longest of a plain append with an fsync
//! beside it, and the same in memory, where a wait is the store's own and not the disk's; and memory and latency of the
//! last tenth of the work against those of the first. Idle: what the store's threads do when nobody asks anything.

mod idle;
mod load;
mod observe;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use skep_store::sqlite::{SqliteOptions, SqliteStore};
use skep_store::{ListRequest, Store};

use self::load::{Latencies, Work};
use self::observe::{Observer, Plain};
use crate::{Context, Figure};

/// Updates in all.
const UPDATES: u64 = 1_000_000;
/// This part of them once more without a disk.
const WITHOUT_DISK: u64 = 4;
const MIB: f64 = (1 << 20) as f64;

/// Runs the benchmark.
///
/// # Errors
/// The disk or the store fails.
pub fn run(context: &Context) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(churn(context.updates.unwrap_or(UPDATES)))
}

async fn churn(updates: u64) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir_in("/var/tmp").context("make a folder on a real disk")?;
    let path = folder.path().join("state.db");
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, SqliteOptions::default())?);
    let work = Arc::new(Work::new(updates));
    load::fill(&store).await?;
    let plain = Plain::start(folder.path());
    let observer = Observer::start(path.clone(), work.clone());
    let begun = std::time::Instant::now();
    load::run(&store, &work).await?;
    let took = begun.elapsed();
    let seen = observer.finish().await?;
    let slowest_fsync = plain.finish()?;
    load::events_are_gone(&store).await?;
    let idle = idle::measure(&path).await?;
    let live = live_bytes(&*store).await? / MIB;
    let without_disk = longest_without_disk(updates / WITHOUT_DISK).await?;
    let latencies = &work.latencies;

    let figure = |name: &str, value, unit, baseline: Option<(&str, f64)>| Figure {
        name: format!("churn/sqlite/{name}"),
        value,
        unit,
        baseline: baseline.map(|(name, value)| (name.to_owned(), value)),
    };
    let live_data = |value| Some(("live data", value));
    let first = |pick: fn(&Latencies, usize) -> f64| Some(("first tenth", pick(latencies, 0)));
    let last = |pick: fn(&Latencies, usize) -> f64| pick(latencies, load::TENTHS - 1);
    Ok(vec![
        figure("updates", updates as f64 / took.as_secs_f64(), "1/s", None),
        figure("file/largest", seen.largest_file / MIB, "MiB", live_data(live)),
        figure("file-and-log/largest", seen.largest_both / MIB, "MiB", live_data(live)),
        figure("file/at-rest", observe::size(&path) / MIB, "MiB", live_data(live)),
        figure(
            "write/longest",
            latencies.longest_ms(),
            "ms",
            Some(("a plain fsync beside it", slowest_fsync)),
        ),
        figure("write/longest-without-disk", without_disk, "ms", None),
        figure("write/p50/last-tenth", last(Latencies::p50_ms), "ms", first(Latencies::p50_ms)),
        figure("write/p99/last-tenth", last(Latencies::p99_ms), "ms", first(Latencies::p99_ms)),
        figure(
            "memory/last-tenth",
            seen.memory[load::TENTHS - 1] / MIB,
            "MiB",
            Some(("first tenth", seen.memory[0] / MIB)),
        ),
        figure("idle/bytes-written", idle.written, "B", None),
        figure("idle/wake-ups", idle.wake_ups, "", None),
    ])
}

/// The longest wait of a writer in milliseconds where the file lies in memory.
async fn longest_without_disk(updates: u64) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir_in("/dev/shm").context("make a folder in memory")?;
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(folder.path().join("state.db"), SqliteOptions::default())?);
    let work = Arc::new(Work::new(updates));
    load::fill(&store).await?;
    load::run(&store, &work).await?;
    Ok(work.latencies.longest_ms())
}

/// Bytes of the keys and values that exist.
async fn live_bytes(store: &dyn Store) -> anyhow::Result<f64> {
    let all = store.list(ListRequest { prefix: "/".into(), ..ListRequest::default() }).await?;
    Ok(all.items.iter().map(|kv| kv.key.len() + kv.value.len()).sum::<usize>() as f64)
}

/// Rest after the work, so that what it left to do is done.
const REST: Duration = Duration::from_secs(2);
