//! The judges themselves: histories that are right, and each way to be wrong.

use bytes::Bytes;
use proptest::prelude::*;

use super::watched::check_watched;
use super::{Action, Found, Id, Moment, Operation, Outcome, check};
use crate::{Event, Expected, KeyValue, Revision};

const KEY: &str = "/history/0";
const CREATE: Action = Action::Put(Expected::Absent);

fn update(revision: u64) -> Action {
    Action::Put(Expected::Revision(Revision(revision)))
}

fn delete(revision: u64) -> Action {
    Action::Delete(Revision(revision))
}

fn done(revision: u64) -> Outcome {
    Outcome::Done(Revision(revision))
}

/// Writes and revisions agree in these tests: write n has revision n.
fn found(write: Id) -> Option<Found> {
    (write > 0).then_some(Found { write, revision: Revision(write) })
}

fn read(write: Id, at: u64) -> Outcome {
    Outcome::Read { found: found(write), at: Revision(at) }
}

fn one(id: Id, action: Action, span: (Moment, Moment), outcome: Outcome) -> Operation {
    let ended = (span.1 < Moment::MAX).then_some(span.1);
    Operation { id, key: KEY.to_owned(), action, called: span.0, ended, outcome }
}

const NEVER: Moment = Moment::MAX;

fn right(operations: &[Operation]) {
    assert_eq!(check(operations), Ok(()));
}

fn wrong(operations: &[Operation]) {
    assert!(check(operations).is_err(), "accepted: {operations:#?}");
}

#[test]
fn overlapping_operations_may_be_in_either_order() {
    for seen in [0, 1] {
        right(&[one(1, CREATE, (1, 4), done(1)), one(9, Action::Get, (2, 3), read(seen, seen))]);
    }
    right(&[
        one(1, CREATE, (1, 2), done(1)),
        one(2, update(1), (3, 9), done(2)),
        one(3, update(1), (4, 8), Outcome::Refused(found(2))),
        one(8, Action::Get, (5, 6), read(1, 1)),
        one(9, Action::Get, (7, 10), read(2, 2)),
    ]);
}

#[test]
fn stale_read_is_rejected() {
    let write = [one(1, CREATE, (1, 2), done(1)), one(2, update(1), (3, 4), done(2))];
    for stale in [0, 1] {
        let mut history = write.to_vec();
        history.push(one(9, Action::Get, (5, 6), read(stale, stale)));
        wrong(&history);
    }
    let mut backwards = vec![one(1, CREATE, (1, 2), done(1)), one(2, update(1), (3, 12), done(2))];
    backwards.push(one(8, Action::Get, (4, 5), read(2, 2)));
    right(&backwards);
    backwards.push(one(9, Action::Get, (6, 7), read(1, 1)));
    wrong(&backwards);
}

#[test]
fn lost_update_is_rejected() {
    wrong(&[
        one(1, CREATE, (1, 2), done(1)),
        one(2, update(1), (3, 6), done(2)),
        one(3, update(1), (4, 5), done(3)),
        one(9, Action::Get, (7, 8), read(3, 3)),
    ]);
}

#[test]
fn precondition_that_holds_twice_is_rejected() {
    let twice = |first: Action, second: Action| {
        wrong(&[
            one(1, CREATE, (1, 2), done(1)),
            one(2, first, (3, 6), done(2)),
            one(3, second, (4, 5), done(3)),
        ]);
    };
    twice(update(1), update(1));
    twice(update(1), delete(1));
    twice(delete(1), delete(1));
    wrong(&[one(1, CREATE, (1, 4), done(1)), one(2, CREATE, (2, 3), done(2))]);
}

#[test]
fn refusal_without_a_reason_is_rejected() {
    wrong(&[one(1, CREATE, (1, 2), done(1)), one(2, update(1), (3, 4), Outcome::Refused(found(1)))]);
    wrong(&[one(2, CREATE, (3, 4), Outcome::Refused(None))]);
    right(&[one(1, CREATE, (1, 2), done(1)), one(2, CREATE, (3, 4), Outcome::Refused(found(1)))]);
}

#[test]
fn revision_that_goes_back_or_changes_is_rejected() {
    wrong(&[one(5, CREATE, (1, 2), done(5)), one(6, delete(5), (3, 4), done(4))]);
    let other = Some(Found { write: 1, revision: Revision(2) });
    let read = Outcome::Read { found: other, at: Revision(2) };
    wrong(&[one(1, CREATE, (1, 2), done(1)), one(9, Action::Get, (3, 4), read)]);
    wrong(&[one(4, CREATE, (1, 2), done(4)), one(9, Action::Get, (3, 4), self::read(4, 3))]);
}

#[test]
fn value_that_nobody_wrote_is_rejected() {
    wrong(&[one(9, Action::Get, (1, 2), read(7, 7))]);
}

#[test]
fn write_of_unknown_outcome_happens_once_or_not_at_all_and_at_any_time() {
    let unknown = one(1, CREATE, (1, NEVER), Outcome::Unknown);
    let reads = |seen: &[Id]| {
        let mut history = vec![unknown.clone()];
        history.extend(
            seen.iter()
                .zip(1..)
                .map(|(write, n)| one(100 + n, Action::Get, (10 * n, 10 * n + 1), read(*write, n))),
        );
        history
    };
    right(&reads(&[]));
    right(&reads(&[0, 0]));
    right(&reads(&[1, 1]));
    right(&reads(&[0, 1]));
    wrong(&reads(&[1, 0]));
    wrong(&reads(&[0, 1, 0]));
}

#[test]
fn write_of_a_dead_process_does_not_happen_later() {
    let dead = one(1, CREATE, (1, 5), Outcome::Unknown);
    let absent = |from| one(8, Action::Get, (from, from + 1), read(0, 0));
    let there = |from| one(9, Action::Get, (from, from + 1), read(1, 1));
    right(&[dead.clone(), absent(2), there(10)]);
    right(&[dead.clone(), absent(10)]);
    right(&[dead.clone(), there(10)]);
    wrong(&[dead, absent(10), there(20)]);
}

#[test]
fn keys_are_independent() {
    let mut other = one(2, CREATE, (3, 4), done(2));
    other.key = "/history/1".to_owned();
    right(&[one(1, CREATE, (1, 2), done(1)), other]);
}

fn event(revision: u64, current: Id, previous: Id) -> Event {
    let kv = |write: Id| KeyValue {
        key: KEY.to_owned(),
        value: Bytes::from(write.to_string()),
        create_revision: Revision(1),
        mod_revision: Revision(write),
    };
    let side = |write: Id| (write > 0).then(|| kv(write));
    Event {
        revision: Revision(revision),
        key: KEY.to_owned(),
        current: side(current),
        previous: side(previous),
    }
}

#[test]
fn watch_that_agrees_with_the_history_is_accepted_and_any_other_not() {
    let history = [
        one(1, CREATE, (1, 2), done(1)),
        one(2, update(1), (3, 4), done(2)),
        one(9, Action::Get, (5, 6), read(2, 2)),
        one(3, delete(2), (7, NEVER), Outcome::Unknown),
    ];
    let whole = [event(1, 1, 0), event(2, 2, 1), event(3, 0, 2)];
    let check = |events: &[Event]| check_watched(&history, Revision(0), events);
    assert_eq!(check(&whole), Ok(()));
    assert_eq!(check(&whole[..2]), Ok(()), "the deletion may not have happened");
    let [first, second, third] = whole;
    for (events, why) in [
        (vec![first.clone()], "an acknowledged write is missing"),
        (vec![second.clone(), third.clone()], "the first is missing"),
        (vec![first.clone(), first.clone(), second.clone()], "twice"),
        (vec![second.clone(), first.clone()], "not in order"),
        (vec![first.clone(), event(3, 2, 1)], "a revision is left out"),
        (vec![first.clone(), second.clone(), event(3, 7, 2)], "of no write"),
        (vec![first.clone(), event(2, 2, 0)], "another previous value"),
    ] {
        assert!(check(&events).is_err(), "{why}");
    }
    let stale = [history[0].clone(), one(9, Action::Get, (3, 4), read(0, 1))];
    assert!(check_watched(&stale, Revision(0), &[first]).is_err(), "the read did not find what was there");
}

/// What happens one after the other, at the moments 10, 20, ...: reads, writes that succeed, writes that fail.
fn sequence(choices: &[u8]) -> Vec<Operation> {
    let (mut there, mut revision) = (0, 0);
    let mut operations = Vec::new();
    for (choice, step) in choices.iter().zip(1..) {
        let (action, outcome) = match (choice % 4, there) {
            (0, _) => (Action::Get, read(there, revision)),
            (1, 0) => (CREATE, done(step)),
            (1, _) => (CREATE, Outcome::Refused(found(there))),
            (2, 0) | (3, 0) => (update(step + 1000), Outcome::Refused(None)),
            (2, _) => (update(there), done(step)),
            (_, _) => (delete(there), done(step)),
        };
        if let Outcome::Done(at) = outcome {
            revision = at.0;
            there = if matches!(action, Action::Put(_)) { step } else { 0 };
        }
        operations.push(one(step, action, (step * 10, step * 10 + 1), outcome));
    }
    operations
}

proptest! {
    #[test]
    fn what_happened_in_some_order_is_accepted(
        steps in proptest::collection::vec((any::<u8>(), 0u64..40, 0u64..40, any::<bool>()), 1..60),
    ) {
        let choices: Vec<u8> = steps.iter().map(|(choice, ..)| *choice).collect();
        let mut operations = sequence(&choices);
        // An update names a revision that its client was told: so what nobody was told is not lost, here.
        let told: Vec<bool> = operations.windows(2).map(|pair| pair[1].action == Action::Get).collect();
        for (index, (operation, (_, early, late, lost))) in operations.iter_mut().zip(&steps).enumerate() {
            // Calls at even moments and answers at odd ones, so that no two are the same.
            operation.ended = Some(2 * (operation.called + late) + 1);
            operation.called = 2 * operation.called.saturating_sub(*early);
            let told = told.get(index) == Some(&true);
            if *lost && *late > 20 && operation.action != Action::Get && told {
                (operation.ended, operation.outcome) = (None, Outcome::Unknown);
            }
        }
        operations.sort_by_key(|operation| operation.called);
        prop_assert_eq!(check(&operations), Ok(()));
    }

    #[test]
    fn answer_that_was_changed_is_rejected(choices in proptest::collection::vec(any::<u8>(), 1..60), at: usize) {
        let mut operations = sequence(&choices);
        let at = at % operations.len();
        let changed = &mut operations[at];
        changed.outcome = match changed.outcome {
            Outcome::Read { found: None, at } => Outcome::Read { found: found(5000), at },
            Outcome::Read { found: Some(_), at } => Outcome::Read { found: None, at },
            Outcome::Done(_) => Outcome::Refused(found(5000)),
            Outcome::Refused(_) => Outcome::Done(Revision(changed.id)),
            Outcome::Unknown => Outcome::Unknown,
        };
        prop_assert!(check(&operations).is_err());
    }
}
