//! How long an API server takes until it can answer, on a store with 100,000 objects: opening the data file, which checks
//! it, and filling the watch cache.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::json;
use skep_api::registry::registry;
use skep_server::cache::Cache;
use skep_store::memory::MemoryStore;
use skep_store::sqlite::{SqliteOptions, SqliteStore};
use skep_store::{Expected, Store};
use tokio_util::sync::CancellationToken;

use crate::{Context, Figure};

const OBJECTS: usize = 100_000;
const WRITERS: usize = 64;
/// Each start is measured so often, and the median told.
const STARTS: usize = 5;

/// Runs the benchmark.
///
/// # Errors
/// The disk or the store fails.
pub fn run(_: &Context) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(cold_start())
}

async fn cold_start() -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir_in("/var/tmp").context("make a folder on a real disk")?;
    let path = folder.path().join("state.db");
    fill(Arc::new(SqliteStore::open(&path, SqliteOptions::default())?)).await?;
    let (mut opened, mut filled) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let begun = Instant::now();
        let store = SqliteStore::open(&path, SqliteOptions::default())?;
        opened.push(begun.elapsed());
        filled.push(start(Arc::new(store)).await?);
    }
    let memory = Arc::new(MemoryStore::new());
    fill(memory.clone()).await?;
    let mut from_memory = Vec::new();
    for _ in 0..STARTS {
        from_memory.push(start(memory.clone()).await?);
    }
    let figure = |name: &str, value, baseline| Figure {
        name: format!("cold-start/100000-objects/{name}"),
        value,
        unit: "ms",
        baseline,
    };
    Ok(vec![
        figure("open-and-check", median_ms(opened), None),
        figure("watch-cache", median_ms(filled), Some(("from memory".to_owned(), median_ms(from_memory)))),
    ])
}

/// A pod as it lies in the store, about 2.5 KiB.
fn pod(number: usize) -> Bytes {
    let environment: Vec<_> = (0..24)
        .map(|n| json!({ "name": format!("VARIABLE_{n}"), "value": format!("a value of some length, {n}") }))
        .collect();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("pod-{number:06}"),
            "namespace": format!("n{}", number % 50),
            "uid": format!("00000000-0000-4000-8000-{number:012}"),
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": { "app": format!("app-{}", number % 500), "pod-template-hash": "5d4f8b7c9" },
        },
        "spec": {
            "nodeName": format!("node-{}", number % 1000),
            "containers": [{ "name": "main", "image": "registry.example/app:1.2.3", "env": environment }],
        },
        "status": { "phase": "Running", "podIP": "10.0.0.1", "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    Bytes::from(pod.to_string())
}

async fn fill(store: Arc<dyn Store>) -> anyhow::Result<()> {
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in (writer..OBJECTS).step_by(WRITERS) {
                let key = format!("/registry/pods/n{}/pod-{number:06}", number % 50);
                store.put(&key, pod(number), Expected::Absent, None).await?;
            }
            anyhow::Ok(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await??;
    }
    Ok(())
}

/// How long the cache takes to fill.
async fn start(store: Arc<dyn Store>) -> anyhow::Result<Duration> {
    let (stop, shared) = (CancellationToken::new(), Arc::strong_count(&store));
    let begun = Instant::now();
    let cache = Cache::start(store.clone(), registry(), stop.clone()).await?;
    let took = begun.elapsed();
    let pods = registry().find("", "v1", "pods").and_then(|pods| cache.collection(pods));
    let count = pods.map(|collection| collection.len());
    anyhow::ensure!(count == Some(OBJECTS), "the cache has {count:?} pods");
    stop.cancel();
    drop(cache);
    // What runs in the background lets go of the store when it is next polled; until then the file is in use.
    while Arc::strong_count(&store) > shared {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(took)
}

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}
