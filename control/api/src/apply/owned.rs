//! What one owner owns. Most writes touch the fields of few owners; those of the others stay as they are written in the
//! object, unread.

use serde_json::{Map, Value};

use super::set::FieldSet;
use super::step::Step;

/// The fields of an owner.
#[derive(Clone, Debug)]
pub(super) enum Owned {
    /// In the `FieldsV1` form, every step as [`Step::into_text`] writes it.
    Written(Map<String, Value>),
    Read(FieldSet),
}

impl Owned {
    /// Takes over the `FieldsV1` form; `None` if it is not in it.
    pub(super) fn of(fields: Value) -> Option<Self> {
        match fields {
            Value::Null => Some(Self::default()),
            Value::Object(members) if !members.contains_key(".") && members.iter().all(is_canonical) => {
                Some(Self::Written(members))
            }
            other => FieldSet::from_value(&other).map(Self::Read),
        }
    }

    /// The fields as a set.
    pub(super) fn set(&mut self) -> &mut FieldSet {
        if let Self::Written(members) = self {
            *self = Self::Read(read(members));
        }
        match self {
            Self::Read(set) => set,
            Self::Written(_) => unreachable!("it was read above"),
        }
    }

    /// The fields as a set that is the caller's.
    pub(super) fn to_set(&self) -> FieldSet {
        match self {
            Self::Written(members) => read(members),
            Self::Read(set) => set.clone(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Written(members) => members.is_empty(),
            Self::Read(set) => set.is_empty(),
        }
    }

    /// Takes out what was removed or changed by others, and gives what of it is lost to others.
    pub(super) fn lose(&mut self, changed: &FieldSet, removed: &FieldSet) -> FieldSet {
        let lost = if self.meets(changed) { self.set().intersection(changed) } else { FieldSet::default() };
        self.subtract(&lost);
        self.subtract(removed);
        lost
    }

    /// Takes everything out that is in the set.
    pub(super) fn subtract(&mut self, set: &FieldSet) {
        if self.meets(set) {
            self.set().subtract(set);
        }
    }

    /// Puts everything in that is in the set.
    pub(super) fn absorb(&mut self, set: FieldSet) {
        if !self.covers(&set) {
            self.set().absorb(set);
        }
    }

    /// Whether some path is in both.
    fn meets(&self, set: &FieldSet) -> bool {
        match self {
            Self::Written(members) => set.meets_written(members),
            // Asking would cost as much as doing.
            Self::Read(own) => !own.is_empty() && !set.is_empty(),
        }
    }

    fn covers(&self, set: &FieldSet) -> bool {
        match self {
            Self::Written(members) => set.is_written_in(members),
            Self::Read(own) => own.covers(set),
        }
    }

    /// Whether all of them are in the set.
    pub(super) fn is_within(&self, set: &FieldSet) -> bool {
        set.covers(&self.to_set())
    }

    /// The `FieldsV1` form.
    pub(super) fn into_value(self) -> Value {
        match self {
            Self::Written(members) => Value::Object(members),
            Self::Read(set) => set.into_value(),
        }
    }
}

impl Default for Owned {
    fn default() -> Self {
        Self::Read(FieldSet::default())
    }
}

impl From<Map<String, Value>> for Owned {
    /// Of a form as this server writes it.
    fn from(written: Map<String, Value>) -> Self {
        Self::Written(written)
    }
}

impl From<FieldSet> for Owned {
    fn from(set: FieldSet) -> Self {
        Self::Read(set)
    }
}

impl PartialEq for Owned {
    fn eq(&self, other: &Self) -> bool {
        self.to_set() == other.to_set()
    }
}

fn read(members: &Map<String, Value>) -> FieldSet {
    FieldSet::from_members(members).expect("the form was looked at before it was taken")
}

/// Whether a member and all within it are in the form that this server writes.
fn is_canonical((text, inner): (&String, &Value)) -> bool {
    let Value::Object(members) = inner else { return false };
    (text == "." || Step::is_text(text)) && members.iter().all(is_canonical)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::set::tests::field_set;
    use super::*;

    fn written(set: &FieldSet) -> Owned {
        let owned = Owned::of(set.clone().into_value()).unwrap();
        assert!(matches!(owned, Owned::Written(_)));
        owned
    }

    proptest! {
        #[test]
        fn unread_fields_behave_as_their_set(a in field_set(), b in field_set(), c in field_set()) {
            let (mut unread, mut read) = (written(&a), Owned::from(a.clone()));
            prop_assert_eq!(unread.is_empty(), read.is_empty());
            prop_assert_eq!(unread.covers(&b), a.covers(&b));
            prop_assert_eq!(unread.is_within(&b), b.covers(&a));
            prop_assert_eq!(unread.meets(&b), !a.intersection(&b).is_empty());
            prop_assert_eq!(unread.lose(&b, &c), read.lose(&b, &c));
            prop_assert_eq!(&unread, &read);
            let (mut unread, mut read) = (written(&a), Owned::from(a.clone()));
            unread.subtract(&c);
            read.subtract(&c);
            prop_assert_eq!(&unread, &read);
            unread.absorb(b.clone());
            read.absorb(b);
            prop_assert_eq!(unread.into_value(), read.into_value());
        }
    }

    #[test]
    fn fields_in_another_form_are_read_at_once() {
        let keys = json!({ "k:{\"b\": 1, \"a\":2}": {} });
        let owned = Owned::of(keys).unwrap();
        assert!(matches!(owned, Owned::Read(_)));
        assert_eq!(owned.into_value(), json!({ "k:{\"a\":2,\"b\":1}": {} }));
        for wrong in [json!([]), json!({ "spec": {} }), json!({ "f:a": 1 }), json!({ "k:x": {} })] {
            assert!(Owned::of(wrong.clone()).is_none(), "{wrong}");
        }
    }
}
