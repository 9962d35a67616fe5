//! Two objects, member by member.

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// The members of two objects by their names, in order.
pub(super) fn side_by_side<'a>(
    before: &'a Map<String, Value>,
    after: &'a Map<String, Value>,
) -> impl Iterator<Item = (&'a str, Option<&'a Value>, Option<&'a Value>)> {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (before.peek(), after.peek()) {
            (Some((old, _)), Some((new, _))) => old.cmp(new),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let old = if order.is_le() { before.next() } else { None };
        let new = if order.is_ge() { after.next() } else { None };
        let name = old.or(new)?.0;
        Some((name.as_str(), old.map(|(_, value)| value), new.map(|(_, value)| value)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object() -> impl Strategy<Value = Map<String, Value>> {
        proptest::collection::btree_map("[a-d]", any::<bool>(), 0..4)
            .prop_map(|members| members.into_iter().map(|(name, value)| (name, json!(value))).collect())
    }

    proptest! {
        #[test]
        fn every_member_comes_once_with_both_its_values(before in object(), after in object()) {
            let mut names: Vec<&str> = before.keys().chain(after.keys()).map(String::as_str).collect();
            names.sort_unstable();
            names.dedup();
            let expected: Vec<_> =
                names.into_iter().map(|name| (name, before.get(name), after.get(name))).collect();
            prop_assert_eq!(side_by_side(&before, &after).collect::<Vec<_>>(), expected);
        }
    }
}
