//! Ranges of keys in byte order. Owns the arithmetic of prefixes, reads nothing.

/// The first key after every key that starts with `prefix`; `None` when there is no such key.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=kept].to_vec();
    end[kept] += 1;
    Some(end)
}

/// The first key of a range that has `prefix` and continues after `start_after` (exclusive).
pub(crate) fn range_start(prefix: &str, start_after: Option<&str>) -> String {
    match start_after {
        Some(after) if after >= prefix => format!("{after}\0"),
        _ => prefix.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prefix_end_of_empty_prefix_is_open() {
        assert_eq!(prefix_end(b""), None);
        assert_eq!(prefix_end(&[0xff, 0xff]), None);
        assert_eq!(prefix_end(&[0x61, 0xff]), Some(vec![0x62]));
    }

    proptest! {
        #[test]
        fn range_bounds_hold_exactly_the_keys_of_the_prefix(prefix in "[a-c/\u{7f}é]{0,3}", key in "[a-d/\u{7f}é]{0,5}",
            after in proptest::option::of("[a-d/\u{7f}é]{0,5}")) {
            let start = range_start(&prefix, after.as_deref());
            let inside = key.as_bytes() >= start.as_bytes()
                && prefix_end(prefix.as_bytes()).is_none_or(|end| key.as_bytes() < end.as_slice());
            let wanted = key.starts_with(&prefix) && after.as_ref().is_none_or(|after| key > *after);
            prop_assert_eq!(inside, wanted);
        }
    }
}
