//! The cache of one place in the store: a persistent ordered map of what is there, and a ring of what changed last.
//!
//! Readers take a snapshot, which costs nothing, or read the ring from where they are. Nobody waits for them: a reader
//! that is slower than the ring is long finds its place gone.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use imbl::OrdMap;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::object::{EventType, Object};

/// Objects by key.
pub type Objects = OrdMap<Arc<str>, Arc<Object>>;

/// The ring keeps at most so many changes,
const RING_CHANGES: usize = 8192;
/// and at most so many bytes of objects, but always
const RING_BYTES: usize = 48 << 20;
/// so many changes.
const RING_LEAST: usize = 256;

/// One change of a collection.
#[derive(Debug)]
pub struct Change {
    /// The revision of the write.
    pub revision: u64,
    /// What happened.
    pub kind: EventType,
    /// The object after the change; after a deletion its last state, at the revision of the deletion.
    pub object: Arc<Object>,
    /// The object before the change.
    pub previous: Option<Arc<Object>>,
    /// The event as watchers without selectors are told.
    pub line: Bytes,
}

/// The collection at a revision.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What was there.
    pub objects: Objects,
    /// All changes up to here are in it, and none after.
    pub revision: u64,
}

impl Snapshot {
    /// The objects whose keys start with `prefix`, those up to and including `after` left out.
    pub fn range<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.objects
            .range::<_, str>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(_, object)| object)
    }
}

/// The place from which a reader wants changes is not in the ring any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The oldest revision after which changes are known.
    pub oldest: u64,
}

#[derive(Default)]
struct State {
    objects: Objects,
    /// Revision of the newest change.
    last: u64,
    ring: VecDeque<Arc<Change>>,
    ring_bytes: usize,
    /// Every change after this revision is in the ring.
    floor: u64,
}

/// The cache of one place in the store.
pub struct Collection {
    prefix: String,
    state: RwLock<State>,
    generation: AtomicU64,
    signal: watch::Sender<u64>,
    /// Cancelled when watches are to end.
    ending: RwLock<CancellationToken>,
}

impl Collection {
    pub(super) fn new(prefix: String) -> Self {
        Self {
            prefix,
            state: RwLock::default(),
            generation: AtomicU64::new(0),
            signal: watch::Sender::new(0),
            ending: RwLock::default(),
        }
    }

    /// The start of the keys of all objects here.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A number that grows with every change.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// One object.
    pub fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.state.read().objects.get(key).cloned()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The collection now. `applied` is a revision up to which the caller knows all changes to be in.
    pub(super) fn snapshot(&self, applied: u64) -> Snapshot {
        let state = self.state.read();
        Snapshot { objects: state.objects.clone(), revision: state.last.max(applied) }
    }

    /// The collection as it was at `revision`, made from the newest by undoing what came after.
    pub fn snapshot_at(&self, revision: u64) -> Result<Snapshot, Gone> {
        let (mut objects, later) = {
            let state = self.state.read();
            if revision < state.floor {
                return Err(Gone { oldest: state.floor });
            }
            let from = state.ring.partition_point(|change| change.revision <= revision);
            (state.objects.clone(), state.ring.range(from..).cloned().collect::<Vec<_>>())
        };
        for change in later.iter().rev() {
            match &change.previous {
                Some(previous) => objects.insert(previous.key().clone(), previous.clone()),
                None => objects.remove(&**change.object.key()),
            };
        }
        Ok(Snapshot { objects, revision })
    }

    /// About `limit` changes after `position`, never a part of a revision.
    pub fn changes_after(&self, position: u64, limit: usize) -> Result<Vec<Arc<Change>>, Gone> {
        let state = self.state.read();
        if position < state.floor {
            return Err(Gone { oldest: state.floor });
        }
        let from = state.ring.partition_point(|change| change.revision <= position);
        let mut to = (from + limit).min(state.ring.len());
        while to > from && to < state.ring.len() && state.ring[to].revision == state.ring[to - 1].revision {
            to += 1;
        }
        Ok(state.ring.range(from..to).cloned().collect())
    }

    /// Wakes when something changed.
    pub fn signal(&self) -> watch::Receiver<u64> {
        self.signal.subscribe()
    }

    /// Cancelled when the watches that began before have to end: what they watch is gone, or looks different now.
    pub fn ending(&self) -> CancellationToken {
        self.ending.read().clone()
    }

    /// Ends the watches; later ones are not affected.
    pub(super) fn restart_watches(&self) {
        std::mem::take(&mut *self.ending.write()).cancel();
    }

    /// Ends the watches for good.
    pub(super) fn close(&self) {
        self.ending.read().cancel();
    }

    /// Takes changes in; all those of one revision must come together, and revisions must grow.
    pub(super) fn apply(&self, events: &[skep_store::Event]) {
        let mut last = 0;
        {
            let mut state = self.state.write();
            // What the collection began with may be newer than the feed.
            let fresh = events.partition_point(|event| event.revision.0 <= state.floor);
            for event in &events[fresh..] {
                state.apply(event);
            }
            state.shrink();
            last = last.max(state.last);
        }
        self.announce(last);
    }

    /// Starts anew with what is in the store at `revision`: every reader's place is gone.
    pub(super) fn replace(&self, fresh: Vec<skep_store::KeyValue>, revision: u64) {
        {
            let mut state = self.state.write();
            let objects = fresh.into_iter().filter_map(|kv| {
                let kept =
                    state.objects.get(kv.key.as_str()).filter(|old| old.revision() == kv.mod_revision.0);
                let object = match kept {
                    Some(kept) => kept.clone(),
                    None => Arc::new(read(&kv.key, &kv.value, kv.mod_revision.0)?),
                };
                Some((object.key().clone(), object))
            });
            let objects: Objects = objects.collect();
            *state = State { objects, last: revision, floor: revision, ..State::default() };
        }
        self.announce(revision);
    }

    fn announce(&self, last: u64) {
        self.generation.fetch_add(1, Ordering::Release);
        self.signal.send_replace(last);
    }
}

fn read(key: &str, value: &[u8], revision: u64) -> Option<Object> {
    let object = Object::from_stored(key.into(), value, revision);
    if object.is_none() {
        tracing::error!(key, "left out: what the store holds is not a JSON object with metadata");
    }
    object
}

impl State {
    fn apply(&mut self, event: &skep_store::Event) {
        let revision = event.revision.0;
        self.last = self.last.max(revision);
        let previous = self.objects.get(event.key.as_str()).cloned();
        let change = match (&event.current, previous) {
            (None, None) => return,
            (None, Some(previous)) => {
                self.objects.remove(event.key.as_str());
                let (object, line) = previous.deleted_at(revision);
                Change {
                    revision,
                    kind: EventType::Deleted,
                    object: Arc::new(object),
                    previous: Some(previous),
                    line,
                }
            }
            (Some(current), previous) => {
                let (key, kind) = match &previous {
                    Some(previous) => (previous.key().clone(), EventType::Modified),
                    None => (event.key.as_str().into(), EventType::Added),
                };
                let Some((object, line)) = Object::with_event(key, &current.value, revision, kind) else {
                    tracing::error!(
                        key = event.key,
                        "left out: what was written is not a JSON object with metadata"
                    );
                    return;
                };
                let object = Arc::new(object);
                self.objects.insert(object.key().clone(), object.clone());
                Change { revision, kind, object, previous, line }
            }
        };
        self.ring_bytes += change.line.len();
        self.ring.push_back(Arc::new(change));
    }

    fn shrink(&mut self) {
        while self.ring.len() > RING_LEAST && (self.ring.len() > RING_CHANGES || self.ring_bytes > RING_BYTES)
        {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= oldest.line.len();
            self.floor = oldest.revision;
        }
    }
}

#[cfg(test)]
#[path = "collection_tests.rs"]
mod tests;
