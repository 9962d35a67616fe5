//! A history against the one order that a watch delivered: every write that was acknowledged is in it once, at its
//! revision and with its precondition met; nothing else is, no revision is left out; and every read found what the order
//! says of its revision.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::clients::{PREFIX, found};
use super::{Action, Found, Operation, Outcome};
use crate::{Event, Expected, Revision, Store, WatchItem};

/// How long a watch may take to get to what was written.
const PATIENCE: Duration = Duration::from_secs(40);

/// A watch that is read while the clients work.
pub(crate) struct Watched {
    after: Revision,
    seen: Arc<Mutex<Vec<Event>>>,
    reached: watch::Receiver<Revision>,
    task: JoinHandle<()>,
}

impl Watched {
    /// Watches the clients' keys from the first change after `after`.
    pub(crate) async fn start(store: &dyn Store, after: Revision) -> Self {
        let mut stream = store.watch(PREFIX, after).await.expect("watch");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (tell, reached) = watch::channel(after);
        let list = seen.clone();
        let task = tokio::spawn(async move {
            while let Some(item) = stream.next().await {
                let upto = match item.expect("the watch goes on") {
                    WatchItem::Progress(revision) => revision,
                    WatchItem::Events(events) => {
                        let last = events.last().map_or(Revision(0), |event| event.revision);
                        list.lock().extend(events);
                        last
                    }
                };
                tell.send_replace(upto);
            }
        });
        Self { after, seen, reached, task }
    }

    /// The revision after which the watch began, and every change that it delivered up to `upto`.
    pub(crate) async fn until(mut self, upto: Revision) -> (Revision, Vec<Event>) {
        let reached = tokio::time::timeout(PATIENCE, self.reached.wait_for(|at| *at >= upto)).await;
        reached.expect("the watch gets there in time").expect("the watch goes on");
        self.task.abort();
        // It is still running when it has just said how far it is, and must not see the store being closed.
        assert!((&mut self.task).await.is_err_and(|ended| ended.is_cancelled()), "the watch goes on");
        (self.after, std::mem::take(&mut *self.seen.lock()))
    }
}

/// Compares. `events` are all changes after `after`, and nobody but the clients wrote anything since.
///
/// # Errors
/// What does not agree.
pub(crate) fn check_watched(
    operations: &[Operation],
    after: Revision,
    events: &[Event],
) -> Result<(), String> {
    let writes: HashMap<u64, &Operation> = operations.iter().map(|one| (one.id, one)).collect();
    let mut now: BTreeMap<&str, Found> = BTreeMap::new();
    let mut reads = Reads::of(operations, after);
    let (mut made, mut at): (BTreeSet<u64>, Revision) = (BTreeSet::new(), after);
    for event in events {
        reads.check(&now, event.revision)?;
        if event.revision.0 != at.0 + 1 {
            return Err(format!("{event:?} follows revision {}", at.0));
        }
        at = event.revision;
        if event.previous.as_ref().map(found) != now.get(event.key.as_str()).copied() {
            return Err(format!("{event:?} has another previous value than {:?}", now.get(&*event.key)));
        }
        let before = now.get(event.key.as_str()).copied();
        let operation = match event.current.as_ref().map(found) {
            Some(is) => {
                now.insert(&event.key, is);
                writes.get(&is.write).copied().filter(|one| {
                    one.action
                        == Action::Put(before.map_or(Expected::Absent, |b| Expected::Revision(b.revision)))
                })
            }
            None => {
                now.remove(event.key.as_str());
                deletion(operations, before, at)
            }
        };
        let fits = |one: &&Operation| {
            let told = one.outcome == Outcome::Done(at) || one.outcome == Outcome::Unknown;
            told && one.key == event.key && made.insert(one.id)
        };
        operation.filter(fits).ok_or_else(|| format!("{event:?} is of no write, or came twice"))?;
    }
    reads.check(&now, Revision(u64::MAX))?;
    let missed =
        operations.iter().find(|one| matches!(one.outcome, Outcome::Done(_)) && !made.contains(&one.id));
    missed.map_or(Ok(()), |one| Err(format!("{one:?} was acknowledged and is not in the watch")))
}

/// The deletion that was told the revision, otherwise one that was told nothing and expected what was there.
fn deletion(operations: &[Operation], before: Option<Found>, at: Revision) -> Option<&Operation> {
    let action = Action::Delete(before?.revision);
    let of = |outcome| operations.iter().find(|one| one.action == action && one.outcome == outcome);
    of(Outcome::Done(at)).or_else(|| of(Outcome::Unknown))
}

/// The reads, by the revision that they were told.
struct Reads<'a>(Vec<(Revision, &'a str, Option<Found>)>);

impl<'a> Reads<'a> {
    fn of(operations: &'a [Operation], after: Revision) -> Self {
        let told = |one: &'a Operation| match one.outcome {
            Outcome::Read { found, at } if at >= after => Some((at, one.key.as_str(), found)),
            _ => None,
        };
        let mut reads: Vec<_> = operations.iter().filter_map(told).collect();
        // The next one is at the end.
        reads.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
        Self(reads)
    }

    /// Holds the reads of before revision `next` against what was there.
    fn check(&mut self, now: &BTreeMap<&str, Found>, next: Revision) -> Result<(), String> {
        while let Some((at, key, told)) = self.0.pop_if(|(at, ..)| *at < next) {
            if now.get(key).copied() != told {
                return Err(format!("a read of {key} at {} found {told:?}, not {:?}", at.0, now.get(key)));
            }
        }
        Ok(())
    }
}
