//! The order of versions in discovery (Kubernetes' `version.CompareKubeAwareVersionStrings`): stable before beta before
//! alpha, higher before lower, and names of another form last, by the alphabet.

use std::cmp::{Ordering, Reverse};

/// Which of two versions of a group comes first: the one that clients should prefer.
pub(crate) fn versions(a: &str, b: &str) -> Ordering {
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Stability, then the major version, then the number behind `beta` or `alpha`.
fn rank(version: &str) -> Option<(u8, Reverse<u64>, Reverse<u64>)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let major = number(&rest[..digits])?;
    let (stability, minor) = match &rest[digits..] {
        "" => (0, 0),
        rest => match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
            (Some(minor), _) => (1, number(minor)?),
            (_, Some(minor)) => (2, number(minor)?),
            _ => return None,
        },
    };
    Some((stability, Reverse(major), Reverse(minor)))
}

fn number(digits: &str) -> Option<u64> {
    (digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0')).then_some(())?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_stability_and_number() {
        let ordered =
            ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"];
        let mut sorted = ordered;
        sorted.reverse();
        sorted.sort_by(|a, b| versions(a, b));
        assert_eq!(sorted, ordered);
    }
}
