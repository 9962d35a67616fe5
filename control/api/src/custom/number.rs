//! Numbers of a schema and of objects, compared exactly where both are whole.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

/// A number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    /// A whole one.
    Whole(i128),
    /// Any other.
    Fraction(f64),
}

impl Number {
    /// The number that a value is.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let number = value.as_number()?;
        if let Some(whole) = number.as_i128() {
            return Some(Self::Whole(whole));
        }
        let fraction = number.as_f64()?;
        // 1.0 is as whole as 1.
        let whole = fraction.fract() == 0.0 && fraction.abs() < 1e18;
        Some(if whole { Self::Whole(fraction as i128) } else { Self::Fraction(fraction) })
    }

    fn float(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Fraction(fraction) => fraction,
        }
    }

    /// Which is larger.
    pub(crate) fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(&b),
            (a, b) => a.float().total_cmp(&b.float()),
        }
    }

    /// Whether it is a multiple of another.
    pub(crate) fn is_multiple_of(self, other: Self) -> bool {
        match (self, other) {
            (_, Self::Whole(0)) => true,
            (Self::Whole(a), Self::Whole(b)) => a % b == 0,
            (a, b) => (a.float() / b.float()).fract() == 0.0,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => write!(f, "{whole}"),
            Self::Fraction(fraction) => write!(f, "{fraction}"),
        }
    }
}
