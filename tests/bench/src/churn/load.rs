//! The work: 64 writers that update objects, renew Leases and record Events that expire.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use skep_store::{Expected, ListRequest, Revision, Store};

/// The work is looked at in so many parts.
pub(super) const TENTHS: usize = 10;

const WRITERS: u64 = 64;
/// Objects that stay, of 1 KiB,
const OBJECTS: u64 = 9_000;
/// Leases that are renewed, with a time to live that each renewal starts anew,
const LEASES: u64 = 500;
const LEASE_TTL: Duration = Duration::from_secs(60);
/// and Events, of which some hundreds exist at a time.
const EVENT_TTL: Duration = Duration::from_secs(1);
const EVENTS: &str = "/registry/events/";
/// Of a hundred writes so many renew a Lease, and so many record an Event.
const LEASES_OF_100: u64 = 10;
const EVENTS_OF_100: u64 = 5;

/// What is to be done and how far it is.
pub(super) struct Work {
    pub(super) updates: u64,
    begun: AtomicU64,
    pub(super) latencies: Latencies,
}

impl Work {
    pub(super) fn new(updates: u64) -> Self {
        Self { updates, begun: AtomicU64::new(0), latencies: Latencies::new() }
    }

    /// The tenth to which update `number` belongs.
    fn tenth_of(&self, number: u64) -> usize {
        (number * TENTHS as u64 / self.updates) as usize
    }

    /// The tenth that is being done.
    pub(super) fn tenth(&self) -> usize {
        self.tenth_of(self.begun.load(Ordering::Relaxed)).min(TENTHS - 1)
    }

    fn next(&self) -> Option<usize> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        (number < self.updates).then(|| self.tenth_of(number))
    }
}

/// How long writes took, counted in steps of 10 us up to a second.
pub(super) struct Latencies {
    counts: Vec<Vec<AtomicU32>>,
    longest_us: AtomicU64,
}

const STEP_US: u64 = 10;
const STEPS: usize = 100_000;

impl Latencies {
    fn new() -> Self {
        let counts = (0..TENTHS).map(|_| (0..STEPS).map(|_| AtomicU32::new(0)).collect()).collect();
        Self { counts, longest_us: AtomicU64::new(0) }
    }

    fn note(&self, tenth: usize, took: Duration) {
        let us = took.as_micros() as u64;
        self.longest_us.fetch_max(us, Ordering::Relaxed);
        self.counts[tenth][((us / STEP_US) as usize).min(STEPS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn longest_ms(&self) -> f64 {
        self.longest_us.load(Ordering::Relaxed) as f64 / 1e3
    }

    pub(super) fn p50_ms(&self, tenth: usize) -> f64 {
        self.quantile_ms(tenth, 0.5)
    }

    pub(super) fn p99_ms(&self, tenth: usize) -> f64 {
        self.quantile_ms(tenth, 0.99)
    }

    fn quantile_ms(&self, tenth: usize, part: f64) -> f64 {
        let counts = || self.counts[tenth].iter().map(|count| u64::from(count.load(Ordering::Relaxed)));
        let wanted = (counts().sum::<u64>() as f64 * part) as u64;
        let mut below = 0;
        let found = counts().position(|count| {
            below += count;
            below > wanted
        });
        found.unwrap_or(STEPS) as f64 * STEP_US as f64 / 1e3
    }
}

fn object(number: u64) -> String {
    format!("/registry/configmaps/churn/{number:05}")
}

fn lease(number: u64) -> String {
    format!("/registry/masterleases/churn-{number:03}")
}

/// Makes the objects.
pub(super) async fn fill(store: &Arc<dyn Store>) -> anyhow::Result<()> {
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in (writer..OBJECTS).step_by(WRITERS as usize) {
                store.put(&object(number), value(1024), Expected::Absent, None).await?;
            }
            anyhow::Ok(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await??;
    }
    Ok(())
}

fn value(size: usize) -> Bytes {
    Bytes::from(vec![b'x'; size])
}

/// Does the work.
pub(super) async fn run(store: &Arc<dyn Store>, work: &Arc<Work>) -> anyhow::Result<()> {
    let writers = (0..WRITERS).map(|number| {
        let (store, work) = (store.clone(), work.clone());
        tokio::spawn(async move { Writer::new(store, number).await?.run(&work).await })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await??;
    }
    Ok(())
}

/// Updates keys that are its own, so that it always knows their revisions.
struct Writer {
    store: Arc<dyn Store>,
    number: u64,
    objects: Vec<(String, Revision)>,
    leases: Vec<(String, Option<Revision>)>,
    events: u64,
}

impl Writer {
    async fn new(store: Arc<dyn Store>, number: u64) -> anyhow::Result<Self> {
        let mut objects = Vec::new();
        for key in (number..OBJECTS).step_by(WRITERS as usize).map(object) {
            let found = store.get(&key).await?.0;
            objects.push((key, found.map_or(Revision(0), |kv| kv.mod_revision)));
        }
        let leases = (number..LEASES).step_by(WRITERS as usize).map(|number| (lease(number), None)).collect();
        Ok(Self { store, number, objects, leases, events: 0 })
    }

    async fn run(mut self, work: &Work) -> anyhow::Result<()> {
        while let Some(tenth) = work.next() {
            let (kind, choice) = (rand::random_range(0..100), rand::random_range(0..usize::MAX));
            let begun = Instant::now();
            self.write(kind, choice).await?;
            work.latencies.note(tenth, begun.elapsed());
        }
        Ok(())
    }

    async fn write(&mut self, kind: u64, choice: usize) -> anyhow::Result<()> {
        if kind < EVENTS_OF_100 {
            self.events += 1;
            let key = format!("{EVENTS}churn/{:02}-{:08}", self.number, self.events);
            self.store.put(&key, value(700), Expected::Absent, Some(EVENT_TTL)).await?;
        } else if kind < EVENTS_OF_100 + LEASES_OF_100 {
            let at = choice % self.leases.len();
            let (key, known) = &mut self.leases[at];
            let expected = known.map_or(Expected::Absent, Expected::Revision);
            *known = Some(self.store.put(key, value(300), expected, Some(LEASE_TTL)).await?);
        } else {
            let at = choice % self.objects.len();
            let (key, known) = &mut self.objects[at];
            *known = self.store.put(key, value(1024), Expected::Revision(*known), None).await?;
        }
        Ok(())
    }
}

/// Waits until every Event has expired.
pub(super) async fn events_are_gone(store: &Arc<dyn Store>) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let request = ListRequest { prefix: EVENTS.into(), limit: 1, ..ListRequest::default() };
        if store.list(request).await?.items.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(begun.elapsed() < 20 * EVENT_TTL, "Events outlive their time");
        tokio::time::sleep(EVENT_TTL / 10).await;
    }
}
