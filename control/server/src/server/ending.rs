//! How a server ends: what still goes on, what is sent away, and how watches part.
//!
//! It goes through: serving -> leaving (`/readyz` says no) -> stopping (watches end; new requests are sent away, if that is
//! wished) -> stopped (the cache stands still). Does not own the listener, which closes when this says that it may.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Watches part at least so quickly one after another, as upstream's do.
const APART: Duration = Duration::from_millis(5);

/// How a server ends.
pub(crate) struct Ending {
    /// The end is near.
    leaving: CancellationToken,
    /// No new work is taken on.
    stopping: CancellationToken,
    /// The cache stands still.
    stopped: CancellationToken,
    /// Whether new requests are sent away while the last ones before are handled.
    sends_away: bool,
    /// Requests that are handled and not meant to last.
    requests: TaskTracker,
    farewell: Arc<Farewell>,
}

impl Ending {
    /// That of a server whose watches part within `grace`, all at once if that is zero.
    pub(super) fn new(stopped: CancellationToken, sends_away: bool, grace: Duration) -> Self {
        let stopping = CancellationToken::new();
        let leaving = stopping.child_token();
        let farewell = Farewell {
            stopping: stopping.clone(),
            grace,
            watches: TaskTracker::new(),
            begun: OnceLock::new(),
            parted: AtomicU32::new(0),
        };
        let farewell = Arc::new(farewell);
        Self { leaving, stopping, stopped, sends_away, requests: TaskTracker::new(), farewell }
    }

    pub(super) fn leave(&self) {
        self.leaving.cancel();
    }

    pub(super) fn stop(&self) {
        self.stopping.cancel();
    }

    /// Whether the end is near.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Cancelled when nothing goes on any more.
    pub(super) fn stopped(&self) -> CancellationToken {
        self.stopped.clone()
    }

    /// A request begins that is not meant to last; it is over when what it gets is dropped. Nothing, if new requests have to
    /// go elsewhere.
    pub(crate) fn begin(&self) -> Option<TaskTrackerToken> {
        // Counted before the look: who waits for the last one must not miss this.
        let token = self.requests.token();
        (!self.sends_away()).then_some(token)
    }

    /// Whether new requests have to go elsewhere.
    pub(crate) fn sends_away(&self) -> bool {
        self.sends_away && self.is_stopping()
    }

    /// How watches part.
    pub(crate) fn farewell(&self) -> Arc<Farewell> {
        self.farewell.clone()
    }

    /// Returns when the listener may close: at once, or, where new requests are sent away meanwhile, when the last requests
    /// from before are over and the watches have parted, or have had the time to.
    pub(super) async fn drained(&self, patience: Duration) {
        if !self.sends_away {
            return;
        }
        self.requests.close();
        self.farewell.watches.close();
        let requests = tokio::time::timeout(patience, self.requests.wait());
        let watches = tokio::time::timeout(self.farewell.grace, self.farewell.watches.wait());
        let (requests, _) = tokio::join!(requests, watches);
        if requests.is_err() {
            tracing::warn!("some requests did not end in time");
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.stopped.cancel();
    }
}

/// How watches part: one after another over a time of grace, so that their clients do not all come to another server at the
/// same moment.
pub(crate) struct Farewell {
    stopping: CancellationToken,
    grace: Duration,
    /// Watches that there are.
    watches: TaskTracker,
    /// When the first was asked to part, and how far they are apart.
    begun: OnceLock<(Instant, Duration)>,
    /// So many were given their moment.
    parted: AtomicU32,
}

impl Farewell {
    /// Whether it is too late for a new watch.
    pub(crate) fn is_over(&self) -> bool {
        !self.grace.is_zero() && self.stopping.is_cancelled()
    }

    /// A watch, counted for as long as what it gets lives.
    pub(crate) fn join(&self) -> TaskTrackerToken {
        self.watches.token()
    }

    /// Returns when a watch has to part.
    pub(crate) async fn moment(self: Arc<Self>) {
        self.stopping.cancelled().await;
        if self.grace.is_zero() {
            return;
        }
        let (begun, apart) =
            *self.begun.get_or_init(|| (Instant::now(), apart(self.watches.len(), self.grace)));
        let before = self.parted.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep_until(begun + apart.saturating_mul(before).min(self.grace)).await;
    }
}

/// How far so many watches are apart that have this time.
fn apart(watches: usize, grace: Duration) -> Duration {
    let watches = u32::try_from(watches).unwrap_or(u32::MAX).max(1);
    (grace / watches).min(APART)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(sends_away: bool, grace: Duration) -> Ending {
        Ending::new(CancellationToken::new(), sends_away, grace)
    }

    /// After how many milliseconds each of so many watches parts.
    async fn partings(watches: usize, grace: Duration) -> Vec<u128> {
        let ending = ending(false, grace);
        let tokens: Vec<_> = (0..watches).map(|_| ending.farewell().join()).collect();
        let began = Instant::now();
        let moments = (0..watches).map(|_| {
            let farewell = ending.farewell();
            tokio::spawn(async move {
                farewell.moment().await;
                began.elapsed().as_millis()
            })
        });
        let moments: Vec<_> = moments.collect();
        tokio::task::yield_now().await;
        assert!(moments.iter().all(|one| !one.is_finished()), "nobody asked them yet");
        ending.stop();
        let mut partings = Vec::new();
        for moment in moments {
            partings.push(moment.await.unwrap());
        }
        drop(tokens);
        partings.sort_unstable();
        partings
    }

    #[tokio::test(start_paused = true)]
    async fn watches_part_one_after_another_within_their_grace() {
        assert_eq!(partings(3, Duration::ZERO).await, [0, 0, 0]);
        assert_eq!(partings(3, Duration::from_secs(60)).await, [0, 5, 10]);
        let many = partings(1000, Duration::from_secs(1)).await;
        assert_eq!((many[0], many[500], many[999]), (0, 500, 999));
    }

    #[tokio::test(start_paused = true)]
    async fn listener_stays_open_for_requests_from_before() {
        let patience = Duration::from_secs(60);
        let ending = ending(true, Duration::from_secs(5));
        let (request, watch) = (ending.begin().unwrap(), ending.farewell().join());
        ending.stop();
        assert!(ending.begin().is_none() && ending.farewell().is_over());
        let began = Instant::now();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(watch);
            tokio::time::sleep(Duration::from_secs(4)).await;
            drop(request);
        });
        ending.drained(patience).await;
        assert_eq!(began.elapsed().as_secs(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn listener_waits_for_nobody_for_ever() {
        let ending = ending(true, Duration::from_secs(90));
        let _kept = (ending.begin(), ending.farewell().join());
        ending.stop();
        let began = Instant::now();
        ending.drained(Duration::from_secs(60)).await;
        assert_eq!(began.elapsed().as_secs(), 90);
    }

    #[tokio::test(start_paused = true)]
    async fn listener_closes_at_once_where_nobody_is_sent_away() {
        let ending = ending(false, Duration::from_secs(90));
        let _kept = (ending.begin(), ending.farewell().join());
        ending.stop();
        assert!(ending.begin().is_some(), "who still comes in is served");
        let began = Instant::now();
        ending.drained(Duration::from_secs(60)).await;
        assert!(began.elapsed().is_zero());
    }
}
