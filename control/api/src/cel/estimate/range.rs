//! How large or how costly something is at least and at most. Counts end at the largest number; they never wrap.

/// Numbers from one bound to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) least: u64,
    pub(super) most: u64,
}

impl Range {
    /// Nothing is known.
    pub(super) const ANY: Self = Self { least: 0, most: u64::MAX };
    /// What any range widens to that range.
    pub(super) const NONE: Self = Self { least: u64::MAX, most: 0 };

    pub(super) const fn fixed(number: u64) -> Self {
        Self { least: number, most: number }
    }

    pub(super) const fn to(most: u64) -> Self {
        Self { least: 0, most }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { least: self.least.saturating_add(other.least), most: self.most.saturating_add(other.most) }
    }

    pub(super) fn times(self, other: Self) -> Self {
        Self { least: self.least.saturating_mul(other.least), most: self.most.saturating_mul(other.most) }
    }

    /// Each bound by a factor, rounded up.
    pub(super) fn by(self, factor: f64) -> Self {
        Self { least: scaled(self.least, factor), most: scaled(self.most, factor) }
    }

    /// The smallest range that both are in.
    pub(super) fn or(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }
}

/// A float of 2^64 and more becomes the largest number: the cast saturates.
fn scaled(number: u64, factor: f64) -> u64 {
    (number as f64 * factor).ceil() as u64
}
