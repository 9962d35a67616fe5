//! Shuffle sharding: each flow has a hand of queues of its own, so that two flows hardly ever share all of them.

/// The largest hand that can be dealt.
pub(super) const LARGEST_HAND: usize = 15;

/// Deals `hand` different numbers below `deck`, which are the same for the same `entropy`.
pub(super) fn deal(deck: usize, hand: usize, mut entropy: u64) -> Vec<usize> {
    let mut cards: Vec<usize> = Vec::with_capacity(hand);
    let mut picks = Vec::with_capacity(hand);
    for dealt in 0..hand.min(deck) {
        let left = (deck - dealt) as u64;
        picks.push((entropy % left) as usize);
        entropy /= left;
    }
    for at in 0..picks.len() {
        // The pick counts only what is left of the deck: earlier picks are stepped over, the latest first.
        let mut card = picks[at];
        for earlier in picks[..at].iter().rev() {
            if card >= *earlier {
                card += 1;
            }
        }
        cards.push(card);
    }
    cards
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn hand_is_different_queues_of_the_deck(deck in 1_usize..200, hand in 1_usize..15, entropy: u64) {
            let hand = hand.min(deck);
            let mut cards = deal(deck, hand, entropy);
            prop_assert_eq!(&cards, &deal(deck, hand, entropy));
            prop_assert!(cards.iter().all(|card| *card < deck));
            cards.sort_unstable();
            cards.dedup();
            prop_assert_eq!(cards.len(), hand);
        }
    }

    #[test]
    fn all_queues_are_used_about_equally() {
        let mut counts = [0; 16];
        for flow in 0..16_000_u64 {
            // Any odd multiplier spreads these over all of the range.
            for card in deal(16, 4, flow.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
                counts[card] += 1;
            }
        }
        assert!(counts.iter().all(|count| (3_000..5_000).contains(count)), "{counts:?}");
    }
}
