//! Dividing the server's seats among levels that lend and borrow (KEP-1040, "Fair queuing, borrowing"). Pure.
//!
//! Every level gets the same multiple of its target, cut off at its own bounds, such that all seats are given away.

/// Targets are at least so large, so that multiples of them exist.
const LEAST_TARGET: f64 = 0.001;
const EPSILON: f64 = 1e-7;

/// What a level wants, and what it may have. `least <= target`, `least <= most`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Claim {
    pub(super) target: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

/// The seats of each level, and the multiple. `seats` that are fewer than all bounds ask for, or more than they allow,
/// leave everybody at the bound.
pub(super) fn allocate(seats: f64, claims: &[Claim]) -> (Vec<f64>, f64) {
    let given = |multiple: f64| -> Vec<f64> {
        let one =
            |claim: &Claim| (claim.target.max(LEAST_TARGET) * multiple).min(claim.most).max(claim.least);
        claims.iter().map(one).collect()
    };
    // What is given away grows with the multiple, in straight lines between the multiples at which a bound begins or ends.
    let mut bounds: Vec<f64> = claims
        .iter()
        .flat_map(|claim| [claim.least, claim.most].map(|bound| bound / claim.target.max(LEAST_TARGET)))
        .collect();
    bounds.sort_by(f64::total_cmp);
    let mut below = 0.0;
    for bound in bounds {
        let (less, more): (f64, f64) = (given(below).iter().sum(), given(bound).iter().sum());
        if more >= seats - EPSILON {
            let share =
                if more - less > EPSILON { ((seats - less) / (more - less)).clamp(0.0, 1.0) } else { 0.0 };
            let multiple = below + (bound - below) * share;
            return (given(multiple), multiple);
        }
        below = bound;
    }
    (given(below), below)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(target: f64, least: f64, most: f64) -> Claim {
        Claim { target, least, most }
    }

    fn seats(total: f64, claims: &[Claim]) -> Vec<i64> {
        allocate(total, claims).0.iter().map(|seats| seats.round() as i64).collect()
    }

    #[test]
    fn seats_follow_targets_within_bounds() {
        let claims = [claim(10.0, 5.0, 100.0), claim(30.0, 5.0, 100.0)];
        assert_eq!(seats(80.0, &claims), [20, 60], "no bound matters");
        assert_eq!(seats(20.0, &claims), [5, 15]);
        assert_eq!(seats(12.0, &claims), [5, 7], "the first has its least");
        assert_eq!(seats(150.0, &claims), [50, 100], "the second has its most");
        assert_eq!(seats(10.0, &claims), [5, 5]);
        assert_eq!(seats(500.0, &claims), [100, 100]);
    }

    #[test]
    fn idle_level_keeps_its_least_and_lends_the_rest() {
        let claims = [claim(0.0, 10.0, 200.0), claim(90.0, 30.0, 200.0)];
        assert_eq!(seats(100.0, &claims), [10, 90]);
    }

    proptest! {
        #[test]
        fn all_seats_are_given_away_within_bounds(
            parts in proptest::collection::vec((0.0..100.0_f64, 0.0..50.0_f64, 0.0..100.0_f64), 1..8), at in 0.0..1.0_f64
        ) {
            let claims: Vec<_> =
                parts.iter().map(|(more, least, room)| claim(least + more, *least, least + room)).collect();
            let least: f64 = claims.iter().map(|claim| claim.least).sum();
            let most: f64 = claims.iter().map(|claim| claim.most).sum();
            let total = least + (most - least) * at;
            let (given, _) = allocate(total, &claims);
            prop_assert!((given.iter().sum::<f64>() - total).abs() < 1e-3);
            for (given, claim) in given.iter().zip(&claims) {
                prop_assert!(*given >= claim.least - EPSILON && *given <= claim.most + EPSILON);
            }
        }
    }
}
