//! From an event to a backend: what is too large is cut down, and the mode says whether requests wait for it.
//!
//! In batches, events go: buffer (full: lost and counted) -> batch (by number, by time) -> throttle -> backend. When the
//! server stops, what is in the buffer is written before [`Output::close`] returns.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::event::Event;
use super::metrics::AuditMetrics;
use super::policy::Level;

/// Writes events somewhere.
#[async_trait]
pub(crate) trait Backend: Send + Sync + 'static {
    /// The name in metrics.
    fn name(&self) -> &'static str;
    /// Writes events; says whether all of them are written, and counts those that are not.
    async fn write(&self, events: &[Arc<Event>], metrics: &AuditMetrics) -> bool;
}

/// Whether requests wait for their events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No: they are collected, and lost when that is too slow.
    Batch,
    /// Yes, but they go on when an event cannot be written.
    Blocking,
    /// Yes, and they are refused when their first event cannot be written.
    BlockingStrict,
}

/// How events are collected.
#[derive(Clone, Debug)]
pub struct BatchOptions {
    /// So many events may wait.
    pub buffer: usize,
    /// So many are written at once.
    pub max_size: usize,
    /// So long the first of them waits.
    pub max_wait: Duration,
    /// Batches per second, and how many of them at once after a pause.
    pub throttle: Option<(f32, u32)>,
    /// Whether a batch waits for the one before it.
    pub in_parallel: bool,
}

/// What is too large.
#[derive(Clone, Copy, Debug)]
pub struct TruncateOptions {
    /// Bytes of an event: a larger one goes without its objects, or not at all.
    pub max_event: usize,
    /// Bytes of a batch: a larger one is split.
    pub max_batch: usize,
}

/// How a backend is used.
#[derive(Clone, Debug)]
pub struct OutputOptions {
    /// Whether requests wait.
    pub mode: Mode,
    /// How events are collected in [`Mode::Batch`].
    pub batch: BatchOptions,
    /// Limits, if there are any.
    pub truncate: Option<TruncateOptions>,
}

enum Way {
    Waiting {
        backend: Arc<dyn Backend>,
        strict: bool,
    },
    Batches {
        queue: mpsc::Sender<Arc<Event>>,
        stop: CancellationToken,
        task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    },
}

/// A backend with its mode.
pub(crate) struct Output {
    way: Way,
    truncate: Option<TruncateOptions>,
    metrics: AuditMetrics,
}

impl Output {
    pub(crate) fn new(backend: Arc<dyn Backend>, options: OutputOptions, metrics: AuditMetrics) -> Self {
        let OutputOptions { mode, batch, truncate } = options;
        let way = match mode {
            Mode::Batch => {
                let (queue, events) = mpsc::channel(batch.buffer);
                let stop = CancellationToken::new();
                let max_bytes = truncate.map(|limits| limits.max_batch);
                let batches = Batches { events, backend, batch, max_bytes, metrics: metrics.clone() };
                let task = tokio::spawn(batches.run(stop.clone()));
                Way::Batches { queue, stop, task: tokio::sync::Mutex::new(Some(task)) }
            }
            Mode::Blocking | Mode::BlockingStrict => {
                Way::Waiting { backend, strict: mode == Mode::BlockingStrict }
            }
        };
        Self { way, truncate, metrics }
    }

    /// Writes an event, or sees to it that it will be; `false` only where that failed and must not.
    pub(crate) async fn process(&self, event: &Arc<Event>) -> bool {
        let Some(event) = self.truncated(event) else { return true };
        match &self.way {
            Way::Waiting { backend, strict } => {
                backend.write(std::slice::from_ref(&event), &self.metrics).await || !strict
            }
            Way::Batches { queue, .. } => {
                let (event, why) = match queue.try_send(event) {
                    Ok(()) => return true,
                    Err(mpsc::error::TrySendError::Full(event)) => (event, "audit buffer queue blocked"),
                    Err(mpsc::error::TrySendError::Closed(event)) => (event, "audit backend shut down"),
                };
                self.metrics.lost("buffered", why, &[event]);
                true
            }
        }
    }

    fn truncated(&self, event: &Arc<Event>) -> Option<Arc<Event>> {
        let Some(TruncateOptions { max_event, .. }) = self.truncate else { return Some(event.clone()) };
        if event.json_line().len() <= max_event {
            return Some(event.clone());
        }
        let mut smaller = Event::clone(event);
        if event.level >= Level::Request {
            smaller.request_object = None;
            smaller.response_object = None;
            smaller.annotations.insert("audit.k8s.io/truncated".into(), "true".into());
        }
        let smaller = Arc::new(smaller);
        if smaller.json_line().len() <= max_event {
            return Some(smaller);
        }
        self.metrics.lost("truncate", "event is too large even after truncating", &[smaller]);
        None
    }

    /// Takes no more events, and writes those that wait.
    pub(crate) async fn close(&self) {
        if let Way::Batches { stop, task, .. } = &self.way {
            stop.cancel();
            if let Some(task) = task.lock().await.take()
                && let Err(error) = task.await
            {
                tracing::error!(%error, "audit events were not all written");
            }
        }
    }
}

struct Batches {
    events: mpsc::Receiver<Arc<Event>>,
    backend: Arc<dyn Backend>,
    batch: BatchOptions,
    max_bytes: Option<usize>,
    metrics: AuditMetrics,
}

impl Batches {
    async fn run(mut self, stop: CancellationToken) {
        let mut throttle = self.batch.throttle.map(|(rate, burst)| Throttle::new(rate, burst));
        let mut running = JoinSet::new();
        loop {
            let batch = self.collect(&stop).await;
            if batch.is_empty() {
                break;
            }
            for part in split(batch, self.max_bytes) {
                if let Some(throttle) = &mut throttle {
                    throttle.pass().await;
                }
                let (backend, metrics) = (self.backend.clone(), self.metrics.clone());
                let write = async move {
                    backend.write(&part, &metrics).await;
                };
                match self.batch.in_parallel {
                    true => drop(running.spawn(write)),
                    false => write.await,
                }
                while running.try_join_next().is_some() {}
            }
        }
        running.join_all().await;
    }

    /// The next events; none when there will be no more.
    async fn collect(&mut self, stop: &CancellationToken) -> Vec<Arc<Event>> {
        let mut batch = Vec::new();
        let first = tokio::select! {
            biased;
            event = self.events.recv() => event,
            () = stop.cancelled() => {
                self.events.close();
                self.events.recv().await
            }
        };
        batch.extend(first);
        if batch.is_empty() {
            return batch;
        }
        let deadline = Instant::now() + self.batch.max_wait;
        while batch.len() < self.batch.max_size {
            let next = tokio::select! {
                biased;
                event = self.events.recv() => event,
                () = stop.cancelled() => None,
                () = tokio::time::sleep_until(deadline) => None,
            };
            match next {
                Some(event) => batch.push(event),
                None => break,
            }
        }
        batch
    }
}

fn split(batch: Vec<Arc<Event>>, max_bytes: Option<usize>) -> Vec<Vec<Arc<Event>>> {
    let Some(max_bytes) = max_bytes else { return vec![batch] };
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for event in batch {
        let size = event.json_line().len();
        if bytes + size > max_bytes && bytes > 0 {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        parts.last_mut().expect("there is at least one part").push(event);
    }
    parts
}

/// So many per second, and some at once after a pause.
struct Throttle {
    each: Duration,
    burst: u32,
    /// When the bucket will be full.
    full_at: Instant,
}

impl Throttle {
    fn new(rate: f32, burst: u32) -> Self {
        let each = Duration::try_from_secs_f32(1.0 / rate).unwrap_or(Duration::ZERO);
        Self { each, burst: burst.max(1), full_at: Instant::now() }
    }

    async fn pass(&mut self) {
        let now = Instant::now();
        self.full_at = self.full_at.max(now) + self.each;
        let allowed_at = self.full_at.checked_sub(self.each * self.burst).unwrap_or(now);
        tokio::time::sleep_until(allowed_at).await;
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
