//! Recorded histories: what concurrent clients asked of a store and were told, checked against what a store may say.
//!
//! Clients (`clients`) write down each call before it is made and each answer after it came (`record`). Two judges look
//! at the record, neither of which knows how a store works: `check` searches for an order of the operations on each key
//! that explains every answer and keeps to the order of time; `watched` holds the answers against the one order that a
//! watch delivered. Owns no store and no faults: those are with the back-ends' tests.

mod check;
mod check_tests;
mod clients;
pub(crate) mod record;
mod watched;

use std::sync::Arc;

use crate::{Expected, Revision, Store};

pub(crate) use self::check::check;
pub(crate) use self::clients::{Load, run};
pub(crate) use self::record::{Recorder, operations, parse};
pub(crate) use self::watched::{Watched, check_watched};

/// The number of an operation. A write stores its own number, so that a value names the write that it is from.
pub(crate) type Id = u64;

/// Moments count the lines of the record: a clock that never stands still and is the same for all.
pub(crate) type Moment = u64;

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Get,
    Put(Expected),
    Delete(Revision),
}

/// The write that was found at a key, and its revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) write: Id,
    pub(crate) revision: Revision,
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What a read found, and the revision as of which it read.
    Read { found: Option<Found>, at: Revision },
    /// The write happened.
    Done(Revision),
    /// The precondition did not hold; what was there instead.
    Refused(Option<Found>),
    /// The write may have happened, may happen yet, or never will.
    Unknown,
}

/// One operation from call to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) id: Id,
    pub(crate) key: String,
    pub(crate) action: Action,
    pub(crate) called: Moment,
    /// From here on it has no further effect: the answer, or the end of the process that was asked.
    pub(crate) ended: Option<Moment>,
    pub(crate) outcome: Outcome,
}

/// Lets clients work on a store that nobody else writes to, and judges what they were told and what a watch that was read
/// meanwhile, and one that was read afterwards, delivered.
pub(crate) async fn run_and_check(store: Arc<dyn Store>, load: Load) {
    let recorder = Arc::new(Recorder::kept());
    let before = store.current_revision().await.expect("revision");
    let live = Watched::start(&*store, before).await;
    run(store.clone(), recorder.clone(), load).await;
    judge(&*store, &operations(&recorder.lines()), live, before).await;
}

/// Judges a history that is over, all of it after revision `before`.
pub(crate) async fn judge(store: &dyn Store, operations: &[Operation], live: Watched, before: Revision) {
    assert_eq!(check(operations), Ok(()));
    let newest = store.current_revision().await.expect("revision");
    let (after, seen) = live.until(newest).await;
    assert_eq!(check_watched(operations, after, &seen), Ok(()));
    let late = Watched::start(store, before).await.until(newest).await;
    assert!(late == (after, seen), "a watch that begins later is told the same");
    let count = |wanted: fn(&Outcome) -> bool| operations.iter().filter(|one| wanted(&one.outcome)).count();
    let done = count(|outcome| matches!(outcome, Outcome::Done(_)));
    let refused = count(|outcome| matches!(outcome, Outcome::Refused(_)));
    let unknown = count(|outcome| matches!(outcome, Outcome::Unknown));
    println!(
        "{} operations: {done} writes, {refused} refused, {unknown} of unknown outcome",
        operations.len()
    );
    assert!(done * 10 > operations.len() && refused > 0, "the clients contended for the keys");
}
