//! The embedded store: durable writes of many callers against one fsync per write, and a large range read.
//!
//! Works on a real disk (`/var/tmp`), since an fsync on a memory file system costs nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use skep_store::memory::MemoryStore;
use skep_store::sqlite::{SqliteOptions, SqliteStore};
use skep_store::{Expected, ListRequest, Store};
use tempfile::TempDir;

use crate::{Context, Figure};

const WRITERS: usize = 64;
const VALUE: usize = 1024;
/// How long each way of writing is measured, after a quarter of that to warm up.
const MEASURE: Duration = Duration::from_secs(3);
const RANGE: usize = 10_000;
const RANGE_READS: usize = 20;

/// Runs the benchmarks of the store.
///
/// # Errors
/// The disk or the store fails.
pub fn run(_: &Context) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (shared, single) = runtime.block_on(async {
        let shared = measure_writes(SqliteOptions::default()).await?;
        let single = measure_writes(SqliteOptions { batch: 1, ..SqliteOptions::default() }).await?;
        anyhow::Ok((shared, single))
    })?;
    let against = |name: &str, unit, pick: fn(&Writes) -> f64| Figure {
        name: format!("store/sqlite/writes-1KiB-64-writers/{name}"),
        value: pick(&shared),
        unit,
        baseline: Some(("one fsync per write".into(), pick(&single))),
    };
    let range = runtime.block_on(measure_range())?;
    Ok(vec![
        against("rate", "1/s", |writes| writes.rate),
        against("p99", "ms", |writes| writes.p99_ms),
        against("processor-per-write", "us", |writes| writes.processor_us),
        range,
    ])
}

struct Writes {
    rate: f64,
    p99_ms: f64,
    processor_us: f64,
}

fn folder() -> anyhow::Result<TempDir> {
    tempfile::tempdir_in("/var/tmp").context("make a folder on a real disk")
}

fn key(number: usize) -> String {
    format!("/registry/configmaps/bench/{number:06}")
}

async fn measure_writes(options: SqliteOptions) -> anyhow::Result<Writes> {
    let folder = folder()?;
    let store = Arc::new(SqliteStore::open(folder.path().join("state.db"), options)?);
    let start = Instant::now() + MEASURE / 4;
    let end = start + MEASURE;
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(store.clone(), writer, start, end))).collect();
    tokio::time::sleep_until(start.into()).await;
    let before = processor_time()?;
    tokio::time::sleep_until(end.into()).await;
    let processor = processor_time()?.saturating_sub(before);
    let mut latencies = Vec::new();
    for writer in writers {
        latencies.extend(writer.await??);
    }
    latencies.sort_unstable();
    let p99 = *latencies.get(latencies.len() * 99 / 100).context("nothing was written")?;
    Ok(Writes {
        rate: latencies.len() as f64 / MEASURE.as_secs_f64(),
        p99_ms: p99.as_secs_f64() * 1e3,
        processor_us: processor.as_secs_f64() * 1e6 / latencies.len() as f64,
    })
}

/// Updates one key over and over; the latencies of the writes that ended between `start` and `end`.
async fn write(
    store: Arc<SqliteStore>,
    writer: usize,
    start: Instant,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let (key, value) = (key(writer), Bytes::from(vec![b'x'; VALUE]));
    let mut expected = Expected::Absent;
    let mut latencies = Vec::new();
    loop {
        let begun = Instant::now();
        expected = Expected::Revision(store.put(&key, value.clone(), expected, None).await?);
        let done = Instant::now();
        if done >= end {
            return Ok(latencies);
        }
        if done >= start {
            latencies.push(done - begun);
        }
    }
}

/// Processor time of this process so far, in steps of a clock tick (10 ms).
fn processor_time() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // Fields after the name, which is in brackets: utime and stime are the 14th and 15th of all.
    let fields: Vec<&str> =
        stat.rsplit_once(')').context("format of /proc/self/stat")?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    let total = ticks(11).zip(ticks(12)).context("format of /proc/self/stat")?;
    Ok(Duration::from_millis((total.0 + total.1) * 10))
}

async fn measure_range() -> anyhow::Result<Figure> {
    let folder = folder()?;
    let sqlite = Arc::new(SqliteStore::open(folder.path().join("state.db"), SqliteOptions::default())?);
    let memory = Arc::new(MemoryStore::new());
    fill(sqlite.clone()).await?;
    fill(memory.clone()).await?;
    Ok(Figure {
        name: "store/sqlite/range-of-10000".into(),
        value: range(&*sqlite).await?,
        unit: "ms",
        baseline: Some(("the same in memory".into(), range(&*memory).await?)),
    })
}

async fn fill(store: Arc<dyn Store>) -> anyhow::Result<()> {
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in (writer..RANGE).step_by(WRITERS) {
                    let value = Bytes::from(vec![b'x'; VALUE]);
                    store.put(&key(number), value, Expected::Absent, None).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for writer in writers {
        writer.await??;
    }
    Ok(())
}

/// Milliseconds of one read of the whole range: the median.
async fn range(store: &dyn Store) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for _ in 0..RANGE_READS {
        let request = ListRequest { prefix: "/registry/configmaps/".into(), ..ListRequest::default() };
        let begun = Instant::now();
        let listing = store.list(request).await?;
        times.push(begun.elapsed());
        anyhow::ensure!(listing.items.len() == RANGE, "the range has {} items", listing.items.len());
    }
    times.sort_unstable();
    Ok(times[RANGE_READS / 2].as_secs_f64() * 1e3)
}
