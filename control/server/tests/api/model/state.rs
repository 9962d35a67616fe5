//! What the server should hold after a request, said as simply as it can be.

use std::collections::{BTreeMap, BTreeSet};

use super::operation::{Condition, Operation, Revision};

/// Whose requests are not applied.
const UPDATER: &str = "u";

/// Objects of the two roads: built in, and defined by a user.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    ConfigMap,
    Widget,
}

/// What is known of an object. `revision` and `uid` are the server's to choose, and learnt from it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    pub(super) value: u8,
    pub(super) label: Option<u8>,
    pub(super) held: bool,
    pub(super) deleting: bool,
    pub(super) generation: i64,
    /// Who owns the value.
    owners: BTreeSet<String>,
    pub(super) revision: u64,
    pub(super) uid: String,
}

/// What a request changed: an object before and after.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) name: String,
    pub(super) before: Option<Object>,
    pub(super) after: Option<Object>,
}

/// What a request should be answered, and what it should change.
pub(super) struct Outcome {
    pub(super) code: u16,
    pub(super) changes: Vec<Change>,
}

pub(super) type Objects = BTreeMap<String, Object>;

pub(super) fn name(number: u8) -> String {
    format!("n{number}")
}

/// What `operation` should do to `objects`.
pub(super) fn outcome(kind: Kind, objects: &Objects, operation: &Operation) -> Outcome {
    let (code, dry, changes) = match *operation {
        Operation::Create { name: number, value, label, held, dry } => {
            let name = name(number);
            if objects.contains_key(&name) {
                (409, dry, vec![])
            } else {
                (201, dry, vec![created(name, value, Some(label), held, UPDATER)])
            }
        }
        Operation::Replace { name: number, value, label, held, revision, dry } => {
            let (code, changes) = update(objects, number, |object| {
                match (revision, kind) {
                    (Revision::Stale, _) => return Err(409),
                    (Revision::Absent, Kind::Widget) => return Err(422),
                    _ => {}
                }
                object.label = Some(label);
                object.held = held;
                if object.deleting && held && !objects[&name(number)].held {
                    return Err(422);
                }
                set(object, value);
                Ok(())
            });
            (code, dry, changes)
        }
        Operation::Merge { name: number, value, release, revision, dry } => {
            let (code, changes) = update(objects, number, |object| {
                if revision == Revision::Stale {
                    return Err(409);
                }
                object.held &= !release;
                set(object, value);
                Ok(())
            });
            (code, dry, changes)
        }
        Operation::Test { name: number, expected, value, dry } => {
            let (code, changes) = update(objects, number, |object| {
                if object.value != expected {
                    return Err(422);
                }
                set(object, value);
                Ok(())
            });
            (code, dry, changes)
        }
        Operation::Apply { name: number, value, manager, force, dry } => {
            let (code, changes) = applied(objects, number, value, &format!("a{manager}"), force);
            (code, dry, changes)
        }
        Operation::Delete { name: number, condition, dry } => {
            let name = name(number);
            match (objects.get(&name), condition) {
                (None, _) => (404, dry, vec![]),
                (Some(_), Condition::OtherUid | Condition::OtherRevision) => (409, dry, vec![]),
                (Some(object), _) => (200, dry, deleted(&name, object)),
            }
        }
        Operation::DeleteLabelled { label, dry } => {
            let chosen = objects.iter().filter(|(_, object)| object.label == Some(label));
            (200, dry, chosen.flat_map(|(name, object)| deleted(name, object)).collect())
        }
        // Its name is learnt from the answer.
        Operation::Generate { .. } => (201, false, vec![]),
        Operation::Get { name: number } => {
            (if objects.contains_key(&name(number)) { 200 } else { 404 }, false, vec![])
        }
        Operation::Select { .. } | Operation::Past { .. } => (200, false, vec![]),
        Operation::Pages { .. } | Operation::Watch { .. } => (200, false, vec![]),
        Operation::Malformed { .. } => (400, false, vec![]),
    };
    Outcome { code, changes: if dry { vec![] } else { changes } }
}

/// An object that comes into being through `manager`.
pub(super) fn created(name: String, value: u8, label: Option<u8>, held: bool, manager: &str) -> Change {
    let owners = BTreeSet::from([manager.to_owned()]);
    let after = Object {
        value,
        label,
        held,
        deleting: false,
        generation: 1,
        owners,
        revision: 0,
        uid: String::new(),
    };
    Change { name, before: None, after: Some(after) }
}

/// What every update has in common: nothing to update, nothing changed, the last finalizer gone.
fn update(
    objects: &Objects,
    number: u8,
    change: impl FnOnce(&mut Object) -> Result<(), u16>,
) -> (u16, Vec<Change>) {
    let name = name(number);
    let Some(before) = objects.get(&name) else { return (404, vec![]) };
    let mut after = before.clone();
    if let Err(code) = change(&mut after) {
        return (code, vec![]);
    }
    let gone = after.deleting && !after.held;
    if !gone && after == *before {
        return (200, vec![]);
    }
    let after = (!gone).then_some(after);
    (200, vec![Change { name, before: Some(before.clone()), after }])
}

/// Sets the value by an update: whoever owned another one loses it.
fn set(object: &mut Object, value: u8) {
    if object.value != value {
        object.value = value;
        object.generation += 1;
        object.owners = BTreeSet::from([UPDATER.to_owned()]);
    }
}

fn applied(objects: &Objects, number: u8, value: u8, manager: &str, force: bool) -> (u16, Vec<Change>) {
    let name = name(number);
    if !objects.contains_key(&name) {
        return (201, vec![created(name, value, None, false, manager)]);
    }
    update(objects, number, |object| {
        if object.value == value {
            object.owners.insert(manager.to_owned());
            return Ok(());
        }
        if !force && object.owners.iter().any(|owner| owner != manager) {
            return Err(409);
        }
        object.value = value;
        object.generation += 1;
        object.owners = BTreeSet::from([manager.to_owned()]);
        Ok(())
    })
}

/// An object that is held is marked, once; another goes.
fn deleted(name: &str, object: &Object) -> Vec<Change> {
    if object.deleting {
        return vec![];
    }
    let after = object.held.then(|| {
        let generation = object.generation + 1;
        Object { deleting: true, generation, ..object.clone() }
    });
    vec![Change { name: name.to_owned(), before: Some(object.clone()), after }]
}

/// What a watch of `label` is told of `change`.
pub(super) fn event(change: &Change, label: Option<u8>) -> Option<&'static str> {
    let seen = |object: &Option<Object>| {
        object.as_ref().is_some_and(|object| label.is_none() || object.label == label)
    };
    match (seen(&change.before), seen(&change.after)) {
        (false, true) => Some("ADDED"),
        (true, true) => Some("MODIFIED"),
        (true, false) => Some("DELETED"),
        (false, false) => None,
    }
}
