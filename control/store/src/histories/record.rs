//! The record: lines in the order in which things happened, kept in memory or printed by a process that will be killed.
//!
//! A call is written before it is made and an answer after it came, so an operation took effect between its two lines,
//! if at all, whichever process reads them later.

use std::collections::BTreeMap;
use std::io::Write;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{Action, Found, Id, Moment, Operation, Outcome};
use crate::{Expected, Revision};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Call {
        id: Id,
        key: String,
        action: Action,
    },
    Answer {
        id: Id,
        outcome: Outcome,
    },
    /// The process that had been asked is dead: what it has not done it never will.
    Dead,
}

/// Marks printed lines among whatever else a test prints, also on the same line.
const MARK: &str = "@history ";

/// Writes the lines down.
pub(crate) struct Recorder {
    next: AtomicU64,
    /// `None`: printed.
    kept: Option<Mutex<Vec<Line>>>,
}

impl Recorder {
    /// A record in memory.
    pub(crate) fn kept() -> Self {
        Self { next: AtomicU64::new(1), kept: Some(Mutex::default()) }
    }

    /// A record on standard output; `first` is the first number that is free.
    pub(crate) fn printed(first: Id) -> Self {
        Self { next: AtomicU64::new(first), kept: None }
    }

    /// The number of an operation that is about to be called.
    pub(super) fn call(&self, key: &str, action: Action) -> Id {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.write(Line::Call { id, key: key.to_owned(), action });
        id
    }

    pub(super) fn answer(&self, id: Id, outcome: Outcome) {
        self.write(Line::Answer { id, outcome });
    }

    fn write(&self, line: Line) {
        match &self.kept {
            Some(kept) => kept.lock().push(line),
            // In one call, so that lines of several threads stay whole.
            None => std::io::stdout().write_all(print(&line).as_bytes()).expect("print the record"),
        }
    }

    /// What was written so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.kept.as_ref().map(|kept| kept.lock().clone()).unwrap_or_default()
    }
}

/// The operations of a record. Reads without an answer tell nothing and are left out.
pub(crate) fn operations(lines: &[Line]) -> Vec<Operation> {
    let mut open: BTreeMap<Id, Operation> = BTreeMap::new();
    let mut done = Vec::new();
    for (line, moment) in lines.iter().zip(1 as Moment..) {
        match line {
            Line::Call { id, key, action } => {
                let outcome = Outcome::Unknown;
                let (key, action) = (key.clone(), *action);
                open.insert(*id, Operation { id: *id, key, action, called: moment, ended: None, outcome });
            }
            Line::Answer { id, outcome: Outcome::Unknown } => assert!(open.contains_key(id)),
            Line::Answer { id, outcome } => {
                let called = open.remove(id).expect("an answer follows its call");
                done.push(Operation { ended: Some(moment), outcome: *outcome, ..called });
            }
            Line::Dead => {
                let dead = std::mem::take(&mut open).into_values();
                done.extend(dead.map(|operation| Operation { ended: Some(moment), ..operation }));
            }
        }
    }
    done.extend(open.into_values());
    done.retain(|operation| operation.action != Action::Get || operation.outcome != Outcome::Unknown);
    done.sort_by_key(|operation| operation.called);
    done
}

fn print(line: &Line) -> String {
    let found = |found: &Option<Found>| match found {
        Some(found) => format!("{} {}", found.write, found.revision.0),
        None => "0 0".to_owned(),
    };
    let text = match line {
        Line::Call { id, key, action } => {
            let action = match action {
                Action::Get => "get 0".to_owned(),
                Action::Put(Expected::Absent) => "create 0".to_owned(),
                Action::Put(Expected::Revision(revision)) => format!("update {}", revision.0),
                Action::Delete(revision) => format!("delete {}", revision.0),
            };
            format!("call {id} {key} {action}")
        }
        Line::Answer { id, outcome } => match outcome {
            Outcome::Read { found: what, at } => format!("read {id} {} {}", at.0, found(what)),
            Outcome::Done(revision) => format!("done {id} {}", revision.0),
            Outcome::Refused(what) => format!("refused {id} {}", found(what)),
            Outcome::Unknown => format!("unknown {id}"),
        },
        Line::Dead => "dead".to_owned(),
    };
    format!("{MARK}{text}\n")
}

/// A line that was printed; `None` for other text, and for a line that the end of its process has cut off.
pub(crate) fn parse(text: &str) -> Option<Line> {
    let words: Vec<&str> = text.split_once(MARK)?.1.split(' ').collect();
    let number = |at: usize| words.get(at).and_then(|word| u64::from_str(word).ok());
    let found = |at: usize| {
        let (write, revision) = (number(at)?, Revision(number(at + 1)?));
        Some((write > 0).then_some(Found { write, revision }))
    };
    let answer = |outcome| Some(Line::Answer { id: number(1)?, outcome });
    match *words.first()? {
        "call" => {
            let revision = Revision(number(4)?);
            let action = match words[3] {
                "get" => Action::Get,
                "create" => Action::Put(Expected::Absent),
                "update" => Action::Put(Expected::Revision(revision)),
                "delete" => Action::Delete(revision),
                _ => return None,
            };
            Some(Line::Call { id: number(1)?, key: words[2].to_owned(), action })
        }
        "read" => answer(Outcome::Read { at: Revision(number(2)?), found: found(3)? }),
        "done" => answer(Outcome::Done(Revision(number(2)?))),
        "refused" => answer(Outcome::Refused(found(2)?)),
        "unknown" => answer(Outcome::Unknown),
        "dead" => Some(Line::Dead),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_lines_are_read_as_they_were() {
        let found = Some(Found { write: 7, revision: Revision(9) });
        let call = |action| Line::Call { id: 3, key: "/h/a".into(), action };
        let answer = |outcome| Line::Answer { id: 3, outcome };
        for line in [
            call(Action::Get),
            call(Action::Put(Expected::Absent)),
            call(Action::Put(Expected::Revision(Revision(5)))),
            call(Action::Delete(Revision(5))),
            answer(Outcome::Read { found, at: Revision(11) }),
            answer(Outcome::Read { found: None, at: Revision(11) }),
            answer(Outcome::Done(Revision(12))),
            answer(Outcome::Refused(found)),
            answer(Outcome::Refused(None)),
            answer(Outcome::Unknown),
            Line::Dead,
        ] {
            let text = print(&line);
            assert_eq!(parse(&format!("test history ... {}", text.trim_end())), Some(line));
        }
        for other in ["", "test history ... ok", "@history ", "@history call 3 /h/a", "@history done 3"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn operation_of_a_dead_process_ends_with_it_and_another_never() {
        let call = |id| Line::Call { id, key: "/h/a".into(), action: Action::Put(Expected::Absent) };
        let unknown = |id| Line::Answer { id, outcome: Outcome::Unknown };
        let ended = |lines: &[Line]| operations(lines).iter().map(|one| one.ended).collect::<Vec<_>>();
        assert_eq!(ended(&[call(1), call(2), Line::Dead, call(3)]), [Some(3), Some(3), None]);
        assert_eq!(ended(&[call(1), unknown(1), call(2)]), [None, None]);
    }
}
