//! Whether a history is linearizable: whether some order of its operations explains every answer, and keeps operations
//! that did not overlap in the order of time.
//!
//! The search is that of Wing and Gong with Lowe's memory of what was tried: depth first over "which operations have
//! happened" and "what the key holds now", each pair visited once. Keys are independent, so each is searched alone. A
//! write whose outcome is unknown may be placed anywhere after its call and before its end, or nowhere. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Action, Found, Id, Moment, Operation, Outcome};
use crate::{Expected, Revision};

/// Most pairs that are visited per key before the search gives up.
const MOST: usize = 2_000_000;

/// What is wrong with a history.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// One write was seen with two revisions.
    TwoRevisions { write: Id, revisions: [Revision; 2] },
    /// No order explains the answers. `placed` is the longest that one went, and `stuck` what could not follow it.
    NoOrder { key: String, placed: usize, stuck: Vec<Operation> },
    /// The search was given up.
    Undecided { key: String },
}

/// Looks for an order of `operations`, which are sorted by their call.
///
/// # Errors
/// What is wrong.
pub(crate) fn check(operations: &[Operation]) -> Result<(), Violation> {
    let revisions = revisions(operations)?;
    let mut by_key: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        by_key.entry(&operation.key).or_default().push(operation);
    }
    by_key.into_iter().try_for_each(|(key, operations)| Search::new(operations, &revisions).run(key))
}

/// The revision of each write, from whoever was told of it.
fn revisions(operations: &[Operation]) -> Result<HashMap<Id, Revision>, Violation> {
    let mut revisions = HashMap::new();
    for operation in operations {
        let told = match operation.outcome {
            Outcome::Read { found, .. } | Outcome::Refused(found) => found,
            Outcome::Done(revision) if matches!(operation.action, Action::Put(_)) => {
                Some(Found { write: operation.id, revision })
            }
            Outcome::Done(_) | Outcome::Unknown => None,
        };
        let Some(Found { write, revision }) = told else { continue };
        let before = *revisions.entry(write).or_insert(revision);
        if before != revision {
            return Err(Violation::TwoRevisions { write, revisions: [before, revision] });
        }
    }
    Ok(revisions)
}

/// What a key holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    write: Option<Id>,
    /// No later write has an older revision than this.
    newest: Revision,
}

/// Which operations have happened, or never will: one bit each.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Past(Vec<u64>);

impl Past {
    fn has(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    fn add(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }
}

struct Search<'a> {
    operations: Vec<&'a Operation>,
    revisions: &'a HashMap<Id, Revision>,
    visited: HashSet<(Past, State)>,
}

/// A place in the search, with what is left to try there.
struct Place {
    past: Past,
    state: State,
    untried: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(operations: Vec<&'a Operation>, revisions: &'a HashMap<Id, Revision>) -> Self {
        Self { operations, revisions, visited: HashSet::new() }
    }

    fn run(mut self, key: &str) -> Result<(), Violation> {
        let start = Past(vec![0; self.operations.len().div_ceil(64)]);
        let mut path = vec![self.place(start, State::default())];
        let (mut placed, mut stuck) = (0, path[0].untried.clone());
        while let Some(place) = path.last_mut() {
            let Some(next) = place.untried.pop() else {
                path.pop();
                continue;
            };
            let Some(state) = self.step(next, place.state) else { continue };
            let past = self.after(&place.past, next);
            if self.complete(&past) {
                return Ok(());
            }
            if !self.visited.insert((past.clone(), state)) {
                continue;
            }
            if self.visited.len() > MOST {
                return Err(Violation::Undecided { key: key.to_owned() });
            }
            let place = self.place(past, state);
            if path.len() > placed {
                (placed, stuck) = (path.len(), place.untried.clone());
            }
            path.push(place);
        }
        if self.operations.iter().all(|operation| operation.outcome == Outcome::Unknown) {
            return Ok(());
        }
        let stuck = stuck.into_iter().map(|index| self.operations[index].clone()).collect();
        Err(Violation::NoOrder { key: key.to_owned(), placed, stuck })
    }

    /// Nothing with an answer is left.
    fn complete(&self, past: &Past) -> bool {
        let mut all = self.operations.iter().enumerate();
        all.all(|(index, operation)| operation.outcome == Outcome::Unknown || past.has(index))
    }

    /// What may come next: what was called before anything that is left has been answered.
    fn place(&self, past: Past, state: State) -> Place {
        let left = || self.operations.iter().enumerate().filter(|(index, _)| !past.has(*index));
        let answered = left().filter(|(_, operation)| operation.outcome != Outcome::Unknown);
        let first = answered.filter_map(|(_, operation)| operation.ended).min().unwrap_or(Moment::MAX);
        let mut untried: Vec<usize> =
            left().filter(|(_, operation)| operation.called < first).map(|(index, _)| index).collect();
        // From the end: what was called first is tried first.
        untried.reverse();
        Place { past, state, untried }
    }

    /// `past` with `next`, and without hope for what had ended before `next` was called.
    fn after(&self, past: &Past, next: usize) -> Past {
        let mut past = past.clone();
        past.add(next);
        let called = self.operations[next].called;
        for (index, operation) in self.operations.iter().enumerate() {
            if operation.outcome == Outcome::Unknown && operation.ended.is_some_and(|ended| ended < called) {
                past.add(index);
            }
        }
        past
    }

    /// What the key holds after an operation, if the operation can happen here with the outcome that it had.
    fn step(&self, index: usize, state: State) -> Option<State> {
        let operation = self.operations[index];
        let there = state.write.and_then(|write| self.revisions.get(&write)).copied();
        let expected = match operation.action {
            Action::Get => None,
            Action::Put(expected) => Some(expected),
            Action::Delete(revision) => Some(Expected::Revision(revision)),
        };
        let holds = match expected {
            None => true,
            Some(Expected::Absent) => state.write.is_none(),
            Some(Expected::Revision(revision)) => there == Some(revision),
        };
        let written = matches!(operation.action, Action::Put(_)).then_some(operation.id);
        match operation.outcome {
            Outcome::Read { found, at } => {
                (found.map(|found| found.write) == state.write && at >= state.newest).then_some(state)
            }
            Outcome::Refused(found) => {
                (found.map(|found| found.write) == state.write && !holds).then_some(state)
            }
            Outcome::Done(revision) => {
                (holds && revision > state.newest).then_some(State { write: written, newest: revision })
            }
            Outcome::Unknown => {
                let known = written.and_then(|write| self.revisions.get(&write)).copied();
                let newest = known.unwrap_or(state.newest);
                (holds && newest >= state.newest).then_some(State { write: written, newest })
            }
        }
    }
}
