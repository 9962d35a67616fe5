//! Amounts with units (`apimachinery/pkg/api/resource`): reading, comparing, and the canonical way to write them.
//!
//! An amount is kept as a whole number of nano-units, upstream's finest step; what is finer is rounded up.

use std::cmp::Ordering;
use std::fmt;

const NANO: i128 = 1_000_000_000;

/// How an amount is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

/// An amount.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Text that is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It does not look like one.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Form,
    /// It has a unit that there is not.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl Quantity {
    /// Reads an amount.
    ///
    /// # Errors
    /// When the text is no amount.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let split = text
            .char_indices()
            .find(|(at, c)| !(c.is_ascii_digit() || *c == '.' || (*at == 0 && matches!(c, '+' | '-'))))
            .map_or(text.len(), |(at, _)| at);
        let (number, suffix) = text.split_at(split);
        let (negative, digits) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number.strip_prefix('+').unwrap_or(number)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        // No digits at all are a zero, for upstream: a sign or a unit is enough.
        if text.is_empty() || fraction.contains('.') || digits.len() > 60 {
            return Err(QuantityError::Form);
        }
        let (format, binary_shift, exponent) = Self::suffix(suffix)?;
        let mut mantissa: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            mantissa = mantissa.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
        }
        mantissa = mantissa.saturating_mul(1i128 << binary_shift);
        let scale = exponent + 9 - i32::try_from(fraction.len()).map_err(|_| QuantityError::Form)?;
        let mut nano = scale_up(mantissa, scale);
        // Upstream keeps whole units within 63 bits.
        let limit = i128::from(i64::MAX).saturating_mul(NANO);
        nano = nano.min(limit);
        Ok(Self { nano: if negative { -nano } else { nano }, format })
    }

    fn suffix(suffix: &str) -> Result<(Format, u32, i32), QuantityError> {
        if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
            return Ok((Format::Decimal, 0, *exponent));
        }
        if let Some((_, shift)) = BINARY.iter().find(|(name, _)| *name == suffix) {
            return Ok((Format::Binary, *shift, 0));
        }
        let wrong = || {
            let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
            let digits = rest.strip_prefix(['-', '+']).unwrap_or(rest);
            match digits.bytes().all(|byte| byte.is_ascii_digit()) {
                true => QuantityError::Suffix,
                false => QuantityError::Form,
            }
        };
        let exponent = suffix.strip_prefix(['e', 'E']).ok_or_else(wrong)?;
        let exponent: i32 = exponent.parse().map_err(|_| wrong())?;
        Ok((Format::Exponent, 0, exponent.clamp(-100, 100)))
    }

    /// The amount in thousandths of a unit, rounded up.
    pub fn milli(&self) -> i64 {
        clamp(div_up(self.nano, NANO / 1000))
    }

    /// The amount in whole units, rounded up.
    pub fn units(&self) -> i64 {
        clamp(div_up(self.nano, NANO))
    }

    /// Whether the amount is less than nothing.
    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// Whether the amount is nothing.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// The sum, written as this amount is.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { nano: self.nano.saturating_add(other.nano), format: self.format }
    }

    /// Whether it is a whole number of units.
    pub fn is_whole(&self) -> bool {
        self.nano % NANO == 0
    }

    /// The amount in units, if that is a whole number below the largest that an amount may be.
    pub fn integer(&self) -> Option<i64> {
        let whole = self.is_whole().then_some(self.nano / NANO)?;
        i64::try_from(whole).ok().filter(|units| *units < i64::MAX)
    }

    /// The amount in units, as near as a fraction of this kind comes.
    pub fn approximately(&self) -> f64 {
        self.nano as f64 / NANO as f64
    }

    /// A number of units, written the decimal way.
    pub fn of(units: i64) -> Self {
        Self { nano: i128::from(units).saturating_mul(NANO), format: Format::Decimal }
    }

    /// The next whole number of units.
    #[must_use]
    pub fn rounded_up(&self) -> Self {
        Self { nano: div_up(self.nano, NANO).saturating_mul(NANO), format: self.format }
    }

    /// The way in which a sum with `other` is written: nothing takes over the other's.
    fn format_with(&self, other: &Self) -> Format {
        if self.nano == 0 { other.format } else { self.format }
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { nano: self.nano.saturating_add(other.nano), format: self.format_with(&other) }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { nano: self.nano.saturating_sub(other.nano), format: self.format_with(&other) }
    }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

fn div_up(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

/// `mantissa * 10^scale`, saturating, rounded up.
fn scale_up(mantissa: i128, scale: i32) -> i128 {
    let power = 10i128.checked_pow(scale.unsigned_abs());
    match (scale >= 0, power) {
        (true, Some(power)) => mantissa.saturating_mul(power),
        (true, None) => {
            if mantissa == 0 {
                0
            } else {
                i128::MAX
            }
        }
        (false, Some(power)) => div_up(mantissa, power),
        (false, None) => i128::from(mantissa != 0),
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest unit that allows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let whole = self.nano % NANO == 0;
        // Upstream writes binary amounts below 1024, or with a fraction, the decimal way.
        if self.format == Format::Binary && whole && (self.nano / NANO).abs() >= 1024 {
            let mut number = self.nano / NANO;
            let mut unit = "";
            for (name, _) in BINARY {
                if number % 1024 != 0 {
                    break;
                }
                number /= 1024;
                unit = name;
            }
            return write!(f, "{number}{unit}");
        }
        let mut number = self.nano;
        let mut exponent = -9;
        while number % 1000 == 0 && exponent < 18 {
            number /= 1000;
            exponent += 3;
        }
        if self.format == Format::Exponent {
            return if exponent == 0 { write!(f, "{number}") } else { write!(f, "{number}e{exponent}") };
        }
        let unit = DECIMAL.iter().find(|(_, one)| *one == exponent).map_or("", |(name, _)| name);
        write!(f, "{number}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantity_is_written_in_canonical_form() {
        let cases = [
            ("0.5", "500m"),
            ("1000m", "1"),
            ("100m", "100m"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("1.5Gi", "1536Mi"),
            ("128Mi", "128Mi"),
            ("1000", "1k"),
            ("1e3", "1e3"),
            ("12e6", "12e6"),
            ("0", "0"),
            ("-1", "-1"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("110", "110"),
            ("100M", "100M"),
            ("1n", "1n"),
            ("+3", "3"),
            (".5", "500m"),
            ("5.", "5"),
        ];
        for (text, canonical) in cases {
            assert_eq!(Quantity::parse(text).unwrap().to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn sums_are_written_like_their_first_part_that_is_something() {
        let of = |text: &str| Quantity::parse(text).unwrap();
        assert_eq!((of("0") + of("1Gi")).to_string(), "1Gi");
        assert_eq!((of("1Gi") + of("1Gi")).to_string(), "2Gi");
        assert_eq!((of("1") - of("250m")).to_string(), "750m");
        assert_eq!((Quantity::of(2) - Quantity::of(3)).to_string(), "-1");
        assert_eq!(of("1500m").rounded_up().to_string(), "2");
    }

    #[test]
    fn quantity_with_bad_text_is_refused() {
        for text in ["", "1x", "1.2.3", "1 Gi", "1Kib", "ä", "0x", "="] {
            assert_eq!(Quantity::parse(text), Err(QuantityError::Form), "{text}");
        }
        for text in ["--1", "1e", "e", "1e+"] {
            assert_eq!(Quantity::parse(text), Err(QuantityError::Suffix), "{text}");
        }
    }

    #[test]
    fn quantity_without_digits_is_nothing() {
        for text in ["-", "+", ".", "-.", "m", "-m", "Ki", "-Ki", "E", "e3", "-e3"] {
            assert_eq!(Quantity::parse(text).map(|found| found.to_string()), Ok("0".to_owned()), "{text}");
        }
    }

    #[test]
    fn quantities_compare_across_units() {
        assert!(Quantity::parse("1Gi").unwrap() > Quantity::parse("1G").unwrap());
        assert_eq!(Quantity::parse("1").unwrap(), Quantity::parse("1000m").unwrap());
        assert_eq!(Quantity::parse("250m").unwrap().milli(), 250);
        assert_eq!(Quantity::parse("1500m").unwrap().units(), 2);
    }

    proptest::proptest! {
        #[test]
        fn quantity_from_any_text_never_panics_and_is_stable(text in "[-+]?[0-9.]{0,40}[a-zA-Z]{0,2}[0-9-]{0,4}") {
            if let Ok(quantity) = Quantity::parse(&text) {
                let again = quantity.to_string();
                proptest::prop_assert_eq!(Quantity::parse(&again).unwrap().to_string(), again);
            }
        }
    }
}
