//! Which field of a type has a name: asked for every member of every object on its way in, several times.
//!
//! A table with open addressing that is at most half full. The names of a type are few and known, so a hash of their
//! lengths and a few of their bytes tells nearly all apart; the name itself decides.

use super::Field;

/// What is in a slot without a field.
const NONE: u16 = u16::MAX;

/// Where in a list of fields each name is.
#[derive(Clone, Debug, Default)]
pub(super) struct ByName {
    /// As many as a power of two, or none where there are no fields.
    slots: Box<[u16]>,
}

impl ByName {
    /// The table of these fields; of two with one name it knows the first.
    pub(super) fn of(fields: &[Field]) -> Self {
        assert!(fields.len() < usize::from(NONE), "types have fewer fields than {NONE}");
        if fields.is_empty() {
            return Self::default();
        }
        let mut slots = vec![NONE; (fields.len() * 2).next_power_of_two()].into_boxed_slice();
        for (at, field) in (0..NONE).zip(fields) {
            let mut slot = hash(&field.name) & (slots.len() - 1);
            while slots[slot] != NONE {
                slot = (slot + 1) & (slots.len() - 1);
            }
            slots[slot] = at;
        }
        Self { slots }
    }

    /// The field of that name among those that the table is of.
    pub(super) fn find<'a>(&self, fields: &'a [Field], name: &str) -> Option<&'a Field> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut slot = hash(name) & mask;
        loop {
            let field = fields.get(usize::from(self.slots[slot]))?;
            if field.name == name {
                return Some(field);
            }
            slot = (slot + 1) & mask;
        }
    }
}

fn hash(name: &str) -> usize {
    let bytes = name.as_bytes();
    let byte = |at: usize| bytes.get(at).map_or(0, |byte| usize::from(*byte));
    let last = bytes.len().wrapping_sub(1);
    let mixed = bytes.len() ^ byte(0) << 5 ^ byte(bytes.len() / 2) << 10 ^ byte(last) << 15;
    (mixed.wrapping_mul(0x9E37_79B9) >> 12) & 0xFFFF
}

#[cfg(test)]
mod tests {
    use super::super::Types;

    #[test]
    fn every_field_is_found_by_its_name_and_no_other() {
        let types = Types::builtin();
        for of in &types.0 {
            for field in &of.fields {
                let found = of.field(&field.name).expect("it is there");
                assert!(std::ptr::eq(found, field), "{}.{}", of.name, field.name);
            }
            for other in ["", "x", "metadata ", "Metadata", "specs", "κ"] {
                let known = of.fields.iter().any(|field| field.name == other);
                assert_eq!(of.field(other).is_some(), known, "{}.{other}", of.name);
            }
        }
    }

    #[test]
    fn names_that_collide_are_rare() {
        let types = Types::builtin();
        let (mut all, mut apart) = (0, 0);
        for of in &types.0 {
            let mask = (of.fields.len().max(1) * 2).next_power_of_two() - 1;
            let slots: std::collections::BTreeSet<_> =
                of.fields.iter().map(|field| super::hash(&field.name) & mask).collect();
            all += of.fields.len();
            apart += slots.len();
        }
        assert!(apart * 10 > all * 7, "{apart} of {all}");
    }
}
