//! How questions are divided.

use super::{AT_ONCE, QUESTION, portions};

#[test]
fn portions_are_neither_long_nor_heavy_and_lose_nothing() {
    let sizes =
        |all: &[usize]| portions(all, |weight| *weight).iter().map(|one| one.len()).collect::<Vec<_>>();
    assert_eq!(sizes(&[]), [0; 0]);
    assert_eq!(sizes(&[1, 2, 3]), [3]);
    assert_eq!(sizes(&[QUESTION + 1, 1, QUESTION, 1]), [1, 1, 1, 1]);
    assert_eq!(sizes(&vec![1; AT_ONCE * 2 + 1]), [AT_ONCE, AT_ONCE, 1]);
}
