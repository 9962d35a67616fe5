//! What clients may ask, as data: drawn at random, and shrunk when a sequence fails.

use proptest::prelude::*;

/// Few names, values and labels, so that requests meet.
const NAMES: u8 = 5;
const VALUES: u8 = 3;
const LABELS: u8 = 2;

/// Which revision of an object a request names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Revision {
    Current,
    Stale,
    Absent,
}

/// What must hold for a deletion.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
    None,
    Held,
    OtherUid,
    OtherRevision,
}

/// One request. Numbers stand for names, values, labels and managers.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Create {
        name: u8,
        value: u8,
        label: u8,
        held: bool,
        dry: bool,
    },
    Generate {
        value: u8,
    },
    Replace {
        name: u8,
        value: u8,
        label: u8,
        held: bool,
        revision: Revision,
        dry: bool,
    },
    Merge {
        name: u8,
        value: u8,
        release: bool,
        revision: Revision,
        dry: bool,
    },
    Test {
        name: u8,
        expected: u8,
        value: u8,
        dry: bool,
    },
    Apply {
        name: u8,
        value: u8,
        manager: u8,
        force: bool,
        dry: bool,
    },
    Delete {
        name: u8,
        condition: Condition,
        dry: bool,
    },
    DeleteLabelled {
        label: u8,
        dry: bool,
    },
    Get {
        name: u8,
    },
    Select {
        label: u8,
    },
    /// A list at the revision that was current so many operations ago.
    Past {
        back: usize,
    },
    /// The first page now, the others when all is over.
    Pages {
        limit: usize,
    },
    /// A watch from the revision of so many operations ago, of one label or of everything.
    Watch {
        back: usize,
        label: Option<u8>,
    },
    /// A request that is wrong in itself.
    Malformed {
        which: usize,
        name: u8,
    },
}

/// A sequence of requests.
pub(super) fn sequence() -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec(operation(), 1..60)
}

fn revision() -> impl Strategy<Value = Revision> {
    prop_oneof![4 => Just(Revision::Current), 1 => Just(Revision::Stale), 2 => Just(Revision::Absent)]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        4 => Just(Condition::None),
        2 => Just(Condition::Held),
        1 => Just(Condition::OtherUid),
        1 => Just(Condition::OtherRevision),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let dry = || prop::bool::weighted(0.15);
    let held = || prop::bool::weighted(0.3);
    prop_oneof![
        6 => (0..NAMES, 0..VALUES, 0..LABELS, held(), dry())
            .prop_map(|(name, value, label, held, dry)| Operation::Create { name, value, label, held, dry }),
        1 => (0..VALUES).prop_map(|value| Operation::Generate { value }),
        6 => (0..NAMES, 0..VALUES, 0..LABELS, held(), revision(), dry()).prop_map(
            |(name, value, label, held, revision, dry)| Operation::Replace { name, value, label, held, revision, dry }
        ),
        4 => (0..NAMES, 0..VALUES, held(), revision(), dry())
            .prop_map(|(name, value, release, revision, dry)| Operation::Merge { name, value, release, revision, dry }),
        3 => (0..NAMES, 0..VALUES, 0..VALUES, dry())
            .prop_map(|(name, expected, value, dry)| Operation::Test { name, expected, value, dry }),
        6 => (0..NAMES, 0..VALUES, 0..2_u8, prop::bool::weighted(0.3), dry())
            .prop_map(|(name, value, manager, force, dry)| Operation::Apply { name, value, manager, force, dry }),
        5 => (0..NAMES, condition(), dry())
            .prop_map(|(name, condition, dry)| Operation::Delete { name, condition, dry }),
        1 => (0..LABELS, dry()).prop_map(|(label, dry)| Operation::DeleteLabelled { label, dry }),
        1 => (0..NAMES).prop_map(|name| Operation::Get { name }),
        1 => (0..LABELS).prop_map(|label| Operation::Select { label }),
        2 => (0..20_usize).prop_map(|back| Operation::Past { back }),
        1 => (1..4_usize).prop_map(|limit| Operation::Pages { limit }),
        2 => (0..20_usize, prop::option::of(0..LABELS)).prop_map(|(back, label)| Operation::Watch { back, label }),
        3 => (0..64_usize, 0..NAMES).prop_map(|(which, name)| Operation::Malformed { which, name }),
    ]
}
