//! The feed: a bounded ring of the newest events, written once per commit and read by every watch.
//!
//! Owns the order in which changes become visible and the wake-up of watchers. Does not know where older events are
//! kept: a reader that lies before the ring is told [`FeedRead::Behind`].

use std::collections::VecDeque;

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::{Event, Revision, StoreError};

/// How much of the past the ring keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeedBounds {
    /// Most events.
    pub(crate) events: usize,
    /// Most bytes of keys and values.
    pub(crate) bytes: usize,
}

impl Default for FeedBounds {
    fn default() -> Self {
        // Enough for bursts between two looks of who keeps up; who does not reads the backend's history. API servers have
        // rings of their own for their clients, of the same changes.
        Self { events: 16 * 1024, bytes: 8 << 20 }
    }
}

/// What a read of the feed found.
pub(crate) enum FeedRead {
    /// The matching events after the position, complete up to `upto`.
    Events { events: Vec<Event>, upto: Revision },
    /// The position lies before the ring: older events are in the backend's history, if at all.
    Behind,
    /// The store was closed and everything before that was read.
    Closed,
}

/// The ring and its wake-up.
pub(crate) struct Feed {
    ring: RwLock<Ring>,
    signal: watch::Sender<Signal>,
}

/// What watchers wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    /// The newest revision that was published.
    pub(crate) last: Revision,
    /// No further revision will come.
    pub(crate) closed: bool,
}

struct Ring {
    events: VecDeque<Event>,
    /// Every event after this revision, up to `last`, is in `events`.
    floor: Revision,
    last: Revision,
    bytes: usize,
    bounds: FeedBounds,
}

impl Feed {
    /// A feed whose newest revision is `at`.
    pub(crate) fn new(at: Revision, bounds: FeedBounds) -> Self {
        let ring = Ring { events: VecDeque::new(), floor: at, last: at, bytes: 0, bounds };
        Self { ring: RwLock::new(ring), signal: watch::Sender::new(Signal { last: at, closed: false }) }
    }

    /// The newest revision that was published.
    pub(crate) fn last(&self) -> Revision {
        self.signal.borrow().last
    }

    /// Makes events visible. They are later than all before, in order, and hold every change of each of their revisions.
    pub(crate) fn publish(&self, events: Vec<Event>) {
        let Some(last) = events.last().map(|event| event.revision) else { return };
        {
            let mut ring = self.ring.write();
            debug_assert!(events[0].revision > ring.last, "events are published in order");
            for event in events {
                ring.bytes += size(&event);
                ring.events.push_back(event);
            }
            ring.last = last;
            ring.shrink();
        }
        self.signal.send_modify(|signal| signal.last = last);
    }

    /// Notes that everything up to `revision` is published, though it may hold nothing that watchers see.
    pub(crate) fn advance(&self, revision: Revision) {
        {
            let mut ring = self.ring.write();
            if ring.last >= revision {
                return;
            }
            ring.last = revision;
        }
        self.signal.send_modify(|signal| signal.last = revision);
    }

    /// Forgets the ring and continues at `at`: for a backend that lost sight of a part of the history.
    pub(crate) fn reset(&self, at: Revision) {
        {
            let mut ring = self.ring.write();
            ring.events.clear();
            (ring.floor, ring.last, ring.bytes) = (at, at, 0);
        }
        self.signal.send_modify(|signal| signal.last = at);
    }

    /// Forgets events up to and including `revision`.
    pub(crate) fn forget(&self, revision: Revision) {
        let mut ring = self.ring.write();
        let upto = revision.min(ring.last);
        while ring.events.front().is_some_and(|event| event.revision <= upto) {
            ring.drop_oldest();
        }
        ring.floor = ring.floor.max(upto);
    }

    /// Ends every watch once it has read what is there.
    pub(crate) fn close(&self) {
        self.signal.send_modify(|signal| signal.closed = true);
    }

    /// Matching events after `after`: about `limit` of them, never a part of a revision.
    pub(crate) fn read(&self, prefix: &str, after: Revision, limit: usize) -> FeedRead {
        let closed = self.signal.borrow().closed;
        let ring = self.ring.read();
        if after < ring.floor {
            return FeedRead::Behind;
        }
        let first = ring.events.partition_point(|event| event.revision <= after);
        let mut events: Vec<Event> = Vec::new();
        for event in ring.events.range(first..) {
            if events.len() >= limit && events.last().is_some_and(|last| last.revision < event.revision) {
                let upto = events.last().map_or(after, |last| last.revision);
                return FeedRead::Events { events, upto };
            }
            if event.key.starts_with(prefix) {
                events.push(event.clone());
            }
        }
        if closed && events.is_empty() && after >= ring.last {
            return FeedRead::Closed;
        }
        FeedRead::Events { events, upto: ring.last.max(after) }
    }

    /// The same, if the ring reaches back so far and there is something to tell; and up to where it is complete.
    pub(crate) fn at_hand(
        &self,
        prefix: &str,
        after: Revision,
        limit: usize,
    ) -> Option<(Vec<Event>, Revision)> {
        match self.read(prefix, after, limit) {
            FeedRead::Events { events, upto } => (upto > after).then_some((events, upto)),
            FeedRead::Behind | FeedRead::Closed => None,
        }
    }

    /// Wakes on every publication.
    pub(crate) fn signals(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    /// Waits until `revision` is published.
    pub(crate) async fn reached(&self, revision: Revision) -> Result<(), StoreError> {
        if self.last() >= revision {
            return Ok(());
        }
        let mut signals = self.signals();
        let signal = signals.wait_for(|signal| signal.last >= revision || signal.closed).await;
        match signal {
            Ok(signal) if signal.last >= revision => Ok(()),
            _ => Err(StoreError::Closed),
        }
    }
}

impl Ring {
    fn shrink(&mut self) {
        while self.events.len() > self.bounds.events || self.bytes > self.bounds.bytes {
            let Some(revision) = self.drop_oldest() else { break };
            self.floor = revision;
            while self.events.front().is_some_and(|event| event.revision == revision) {
                self.drop_oldest();
            }
        }
    }

    fn drop_oldest(&mut self) -> Option<Revision> {
        let event = self.events.pop_front()?;
        self.bytes -= size(&event);
        Some(event.revision)
    }
}

fn size(event: &Event) -> usize {
    let value = |side: &Option<crate::KeyValue>| side.as_ref().map_or(0, |kv| kv.value.len());
    size_of::<Event>() + 3 * event.key.len() + value(&event.current) + value(&event.previous)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: u64, key: &str) -> Event {
        Event { revision: Revision(revision), key: key.to_owned(), current: None, previous: None }
    }

    fn revisions(read: FeedRead) -> (Vec<u64>, u64) {
        match read {
            FeedRead::Events { events, upto } => {
                (events.iter().map(|event| event.revision.0).collect(), upto.0)
            }
            FeedRead::Behind => panic!("behind"),
            FeedRead::Closed => panic!("closed"),
        }
    }

    fn small() -> Feed {
        Feed::new(Revision(10), FeedBounds { events: 3, bytes: 1 << 20 })
    }

    #[test]
    fn read_before_the_ring_is_behind() {
        let feed = small();
        feed.publish((11..=14).map(|revision| event(revision, "/a")).collect());
        assert!(matches!(feed.read("/", Revision(10), 9), FeedRead::Behind));
        assert_eq!(revisions(feed.read("/", Revision(11), 9)), (vec![12, 13, 14], 14));
    }

    #[test]
    fn read_never_splits_a_revision() {
        let feed = small();
        feed.publish(vec![event(11, "/a"), event(11, "/b"), event(12, "/c")]);
        assert_eq!(revisions(feed.read("/", Revision(10), 1)), (vec![11, 11], 11));
    }

    #[test]
    fn ring_over_its_bounds_drops_whole_revisions() {
        let feed = small();
        feed.publish(vec![event(11, "/a"), event(11, "/b"), event(12, "/c"), event(13, "/d")]);
        assert!(matches!(feed.read("/", Revision(10), 9), FeedRead::Behind));
        assert_eq!(revisions(feed.read("/", Revision(11), 9)), (vec![12, 13], 13));
    }

    #[test]
    fn read_of_another_prefix_reports_how_far_it_looked() {
        let feed = small();
        feed.publish(vec![event(11, "/a"), event(12, "/b")]);
        assert_eq!(revisions(feed.read("/c", Revision(10), 9)), (vec![], 12));
    }

    #[test]
    fn what_is_at_hand_is_complete_or_nothing() {
        let feed = small();
        assert!(feed.at_hand("/", Revision(10), 9).is_none(), "there is nothing to tell");
        feed.publish(vec![event(11, "/a"), event(12, "/b"), event(12, "/c")]);
        let (events, upto) = feed.at_hand("/", Revision(11), 1).unwrap();
        assert_eq!((events.len(), upto), (2, Revision(12)));
        assert!(feed.at_hand("/", Revision(12), 9).is_none() && feed.at_hand("/", Revision(9), 9).is_none());
    }

    #[test]
    fn closed_feed_is_read_to_its_end_first() {
        let feed = small();
        feed.publish(vec![event(11, "/a")]);
        feed.close();
        assert_eq!(revisions(feed.read("/", Revision(10), 9)), (vec![11], 11));
        assert!(matches!(feed.read("/", Revision(11), 9), FeedRead::Closed));
    }
}
