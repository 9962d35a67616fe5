//! The cache of one place in the store: a persistent ordered map of what is there, and a ring of what changed last.
//!
//! Readers take a snapshot, which costs nothing, or read the ring from where they are. Nobody waits for them: a reader
//! that is slower than the ring is long finds its place gone.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use imbl::OrdMap;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::bell::Bell;
use super::object::{EventType, Object};
use super::ring::{Budget, Ring};
use crate::encryption::reason_of;

/// Objects by key.
pub type Objects = OrdMap<Arc<str>, Arc<Object>>;

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
    /// The objects whose keys start with `prefix`, those up to and including `after` left out, that `selects` takes.
    pub(crate) fn each<F>(self, prefix: String, after: Option<String>, selects: F) -> Each<F>
    where
        F: FnMut(&Object) -> bool,
    {
        let (after, ready) = (after.map(Arc::from), Vec::new().into_iter());
        Each { snapshot: self, prefix, after, selects, ready, ended: false }
    }

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

/// So many objects an [`Each`] looks at before it gives any out.
const LOOKED_AT: usize = 128;

/// The objects of a snapshot below a prefix, one after the other: nothing is collected, so that what is made of the first
/// does not wait for the last.
pub(crate) struct Each<F> {
    snapshot: Snapshot,
    prefix: String,
    /// Up to here they were looked at.
    after: Option<Arc<str>>,
    selects: F,
    ready: std::vec::IntoIter<Arc<Object>>,
    ended: bool,
}

impl<F: FnMut(&Object) -> bool> Iterator for Each<F> {
    type Item = Arc<Object>;

    fn next(&mut self) -> Option<Arc<Object>> {
        loop {
            if let Some(object) = self.ready.next() {
                return Some(object);
            }
            if self.ended {
                return None;
            }
            let next = self.snapshot.range(&self.prefix, self.after.as_deref()).take(LOOKED_AT);
            let mut next: Vec<Arc<Object>> = next.cloned().collect();
            self.ended = next.len() < LOOKED_AT;
            self.after = next.last().map(|last| last.key().clone());
            next.retain(|object| (self.selects)(object));
            self.ready = next.into_iter();
        }
    }
}

/// The place from which a reader wants changes is not in the ring any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The oldest revision after which changes are known.
    pub oldest: u64,
}

/// What a collection holds in memory. Parsed forms are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// How many objects there are.
    pub objects: usize,
    /// Bytes of their keys and their JSON.
    pub object_bytes: usize,
    /// How many changes the ring holds.
    pub ring_changes: usize,
    /// Bytes that these may keep in memory.
    pub ring_bytes: usize,
}

struct State {
    objects: Objects,
    /// What is in the store, encrypted, and cannot be opened, and why.
    unreadable: BTreeMap<String, String>,
    object_bytes: usize,
    /// Revision of the newest change.
    last: u64,
    ring: Ring,
}

/// The cache of one place in the store.
pub struct Collection {
    prefix: String,
    state: RwLock<State>,
    generation: AtomicU64,
    signal: watch::Sender<u64>,
    bell: Bell,
    /// Cancelled when watches are to end.
    ending: RwLock<CancellationToken>,
}

impl Collection {
    /// An empty collection, whose ring takes its memory from `budget`.
    pub(super) fn new(prefix: String, budget: Arc<Budget>) -> Self {
        let ring = Ring::new(budget, 0);
        let (objects, unreadable) = (Objects::new(), BTreeMap::new());
        let state = State { objects, unreadable, object_bytes: 0, last: 0, ring };
        Self {
            prefix,
            state: RwLock::new(state),
            generation: AtomicU64::new(0),
            signal: watch::Sender::new(0),
            bell: Bell::default(),
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

    /// The first key with this prefix whose value is encrypted and cannot be opened, and why.
    pub(crate) fn unreadable_below(&self, prefix: &str) -> Option<(String, String)> {
        let state = self.state.read();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let (key, why) = state.unreadable.range::<str, _>(from).next()?;
        key.starts_with(prefix).then(|| (key.clone(), why.clone()))
    }

    /// Why the value of this key cannot be opened, if it is encrypted and cannot be.
    pub(crate) fn unreadable(&self, key: &str) -> Option<String> {
        self.state.read().unreadable.get(key).cloned()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it holds in memory.
    pub fn usage(&self) -> Usage {
        let state = self.state.read();
        let (ring_changes, ring_bytes) = state.ring.held();
        Usage { objects: state.objects.len(), object_bytes: state.object_bytes, ring_changes, ring_bytes }
    }

    /// The revision of the oldest change that the ring may give up.
    pub(super) fn oldest_to_spare(&self) -> Option<u64> {
        self.state.read().ring.oldest_to_spare()
    }

    /// Gives up to `most` of the ring's oldest changes up.
    pub(super) fn give_up(&self, most: usize) {
        self.state.write().ring.give_up(most);
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
            (state.objects.clone(), state.ring.all_after(revision)?)
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
        self.state.read().ring.some_after(position, limit)
    }

    /// Wakes those who are many when something changed.
    pub(super) fn bell(&self) -> &Bell {
        &self.bell
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
            let fresh = events.partition_point(|event| event.revision.0 <= state.ring.floor());
            for event in &events[fresh..] {
                state.apply(event);
            }
            state.ring.shrink();
            last = last.max(state.last);
        }
        self.announce(last);
    }

    /// Starts anew with what is in the store at `revision`: every reader's place is gone.
    pub(super) fn replace(&self, fresh: Vec<skep_store::KeyValue>, revision: u64) {
        {
            let mut state = self.state.write();
            let mut unreadable = BTreeMap::new();
            let objects = fresh.into_iter().filter_map(|kv| {
                let kept =
                    state.objects.get(kv.key.as_str()).filter(|old| old.revision() == kv.mod_revision.0);
                let object = match kept {
                    Some(kept) => kept.clone(),
                    None => match Object::from_stored(kv.key.as_str().into(), &kv.value, kv.mod_revision.0) {
                        Some(object) => Arc::new(object),
                        None => {
                            unreadable.extend(left_out(&kv.key, &kv.value));
                            return None;
                        }
                    },
                };
                Some((object.key().clone(), object))
            });
            let objects: Objects = objects.collect();
            state.object_bytes = objects.values().map(|object| object_size(object)).sum();
            state.objects = objects;
            state.unreadable = unreadable;
            state.last = revision;
            state.ring.restart(revision);
        }
        self.announce(revision);
    }

    fn announce(&self, last: u64) {
        self.generation.fetch_add(1, Ordering::Release);
        self.signal.send_replace(last);
        self.bell.ring();
    }
}

fn object_size(object: &Object) -> usize {
    object.key().len() + object.json().len()
}

/// Says that a value is not shown. If it could not be opened, readers are to be told: the key, and why.
fn left_out(key: &str, value: &[u8]) -> Option<(String, String)> {
    let closed = reason_of(value);
    let why = closed.unwrap_or("what the store holds is not a JSON object with metadata");
    tracing::error!(key, why, "left out");
    closed.map(|why| (key.to_owned(), why.to_owned()))
}

impl State {
    fn apply(&mut self, event: &skep_store::Event) {
        let revision = event.revision.0;
        self.last = self.last.max(revision);
        self.unreadable.remove(&event.key);
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
                    self.unreadable.extend(left_out(&event.key, &current.value));
                    return;
                };
                let object = Arc::new(object);
                self.objects.insert(object.key().clone(), object.clone());
                Change { revision, kind, object, previous, line }
            }
        };
        self.object_bytes -= change.previous.as_deref().map_or(0, object_size);
        if change.kind != EventType::Deleted {
            self.object_bytes += object_size(&change.object);
        }
        self.ring.push(change);
    }
}

#[cfg(test)]
#[path = "collection_tests.rs"]
mod tests;
