//! How many entries of each family the maps of frontends and of source ranges take, and how many they have.
//!
//! Owns the count, so that what does not fit is refused when it is planned: a map that is full in the middle of a difference
//! would make the writing of everybody else's changes fail with it. Ranges are written before others are removed, so that
//! one counts until its removal has been applied.

use std::collections::BTreeSet;

use crate::prefix::Prefix;

/// How many entries there is room for, by family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Frontends.
    pub frontends: PerFamily,
    /// Source ranges.
    pub ranges: PerFamily,
}

impl Room {
    /// No bound.
    pub const ENDLESS: Self = Self { frontends: PerFamily::ENDLESS, ranges: PerFamily::ENDLESS };
}

impl Default for Room {
    fn default() -> Self {
        Self::ENDLESS
    }
}

/// A number for each address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerFamily {
    /// IPv4.
    pub v4: usize,
    /// IPv6.
    pub v6: usize,
}

impl PerFamily {
    const ENDLESS: Self = Self { v4: usize::MAX, v6: usize::MAX };

    /// The number of one family.
    pub fn of(&mut self, v4: bool) -> &mut usize {
        if v4 { &mut self.v4 } else { &mut self.v6 }
    }

    /// How many of `families`, true for IPv4, are of each.
    pub fn count(families: impl Iterator<Item = bool>) -> Self {
        let mut counted = Self::default();
        families.for_each(|v4| *counted.of(v4) += 1);
        counted
    }

    /// Whether `more` entries beside these, `less` of which go, stay within `most`. Where nothing comes, they do.
    pub fn fits(self, more: Self, less: Self, most: Self) -> bool {
        let fits = |has: usize, more: usize, less: usize, most: usize| {
            more == 0 || has.saturating_add(more) <= most.saturating_add(less)
        };
        fits(self.v4, more.v4, less.v4, most.v4) && fits(self.v6, more.v6, less.v6, most.v6)
    }
}

/// The ranges in the kernel's tries, those that are to be written among them, and those whose removal is planned.
#[derive(Debug, Default)]
pub(crate) struct RangeCount {
    pub(crate) there: PerFamily,
    leaving: PerFamily,
}

impl RangeCount {
    pub(crate) fn add(&mut self, range: &Prefix) {
        *self.there.of(range.is_ipv4()) += 1;
    }

    /// One that was to be written and will not be.
    pub(crate) fn take_back(&mut self, range: &Prefix) {
        *self.there.of(range.is_ipv4()) -= 1;
    }

    /// The removal of these is about to be applied.
    pub(crate) fn leave(&mut self, ranges: &BTreeSet<(u32, Prefix)>) {
        for (_, range) in ranges {
            *self.leaving.of(range.is_ipv4()) += 1;
        }
    }

    /// It has been.
    pub(crate) fn left(&mut self) {
        self.there.v4 -= self.leaving.v4;
        self.there.v6 -= self.leaving.v6;
        self.leaving = PerFamily::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_counts_each_family_for_itself_and_lets_shrink_what_is_too_much() {
        let both = |v4, v6| PerFamily { v4, v6 };
        let most = both(10, 5);
        assert!(both(9, 5).fits(both(1, 0), both(0, 0), most));
        assert!(!both(9, 5).fits(both(1, 1), both(0, 0), most));
        assert!(both(9, 5).fits(both(1, 1), both(0, 1), most));
        assert!(both(20, 20).fits(both(0, 0), both(0, 0), most));
        assert!(PerFamily::default().fits(both(usize::MAX, 0), both(0, 0), PerFamily::ENDLESS));
    }
}
