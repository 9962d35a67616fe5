//! Telling the watchers of a collection that something changed.
//!
//! Waking a watcher, and one write to its socket, cost the same whether it is told of one change or of twenty. So many
//! watchers are not told more often than telling all of them takes: what changes meanwhile they hear of together. The
//! first change after a while is told at once, and few watchers always are.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// About what telling one watcher takes.
const TELLING: Duration = Duration::from_micros(20);
/// Nobody waits longer,
const LONGEST: Duration = Duration::from_millis(10);
/// and shorter waiting is not worth a timer.
const SHORTEST: Duration = Duration::from_millis(1);

/// Rung for every change, heard at least once after each.
#[derive(Debug, Default)]
pub(super) struct Bell(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    heard: watch::Sender<()>,
    state: Mutex<State>,
}

/// At rest -> heard, and quiet for a pause -> rung meanwhile, heard at its end.
#[derive(Debug, Default)]
struct State {
    /// Until when it is quiet.
    until: Option<Instant>,
    /// Whether somebody waits for the end of that to let it be heard.
    waits: bool,
}

impl Bell {
    /// Hears it.
    pub(super) fn listen(&self) -> watch::Receiver<()> {
        self.0.heard.subscribe()
    }

    /// Rings it.
    pub(super) fn ring(&self) {
        let pause = pause(self.0.heard.receiver_count());
        let mut state = self.0.state.lock();
        if state.waits {
            return;
        }
        if pause.is_zero() {
            drop(state);
            self.0.heard.send_replace(());
            return;
        }
        let now = Instant::now();
        match state.until.filter(|until| *until > now) {
            Some(until) => {
                state.waits = true;
                tokio::spawn(self.0.clone().later(until, pause));
            }
            None => {
                state.until = Some(now + pause);
                drop(state);
                self.0.heard.send_replace(());
            }
        }
    }
}

impl Inner {
    async fn later(self: Arc<Self>, at: Instant, pause: Duration) {
        tokio::time::sleep_until(at).await;
        *self.state.lock() = State { until: Some(Instant::now() + pause), waits: false };
        self.heard.send_replace(());
    }
}

/// How long it is quiet after so many have heard it.
fn pause(listeners: usize) -> Duration {
    let telling = TELLING * u32::try_from(listeners).unwrap_or(u32::MAX).min(100_000);
    if telling < SHORTEST { Duration::ZERO } else { telling.min(LONGEST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bell, and all who listen to it.
    fn bell(listeners: usize) -> (Bell, Vec<watch::Receiver<()>>) {
        let bell = Bell::default();
        let listeners = (0..listeners).map(|_| bell.listen()).collect();
        (bell, listeners)
    }

    /// Whether it was heard since the last look.
    fn heard(listeners: &mut [watch::Receiver<()>]) -> bool {
        let heard = listeners[0].has_changed().unwrap();
        listeners[0].mark_unchanged();
        heard
    }

    #[tokio::test(start_paused = true)]
    async fn few_listeners_hear_every_ring_at_once() {
        let (bell, mut listeners) = bell(49);
        for _ in 0..3 {
            bell.ring();
            assert!(heard(&mut listeners));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_listeners_hear_together_what_is_rung_in_a_pause() {
        let (bell, mut listeners) = bell(250);
        bell.ring();
        assert!(heard(&mut listeners), "the first one is heard at once");
        for _ in 0..10 {
            bell.ring();
        }
        assert!(!heard(&mut listeners));
        tokio::time::sleep(Duration::from_millis(4)).await;
        assert!(!heard(&mut listeners), "all of them take 5 ms");
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(heard(&mut listeners));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!heard(&mut listeners), "once is enough");
        bell.ring();
        assert!(heard(&mut listeners), "at rest again");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_the_longest() {
        let (bell, mut listeners) = bell(20_000);
        bell.ring();
        bell.ring();
        assert!(heard(&mut listeners));
        tokio::time::sleep(LONGEST + Duration::from_millis(1)).await;
        assert!(heard(&mut listeners));
    }

    #[test]
    fn pauses_grow_with_the_listeners() {
        let millis = |listeners| pause(listeners).as_millis();
        assert_eq!([0, 49, 50, 250, 500, usize::MAX].map(millis), [0, 0, 1, 5, 10, 10]);
    }
}
