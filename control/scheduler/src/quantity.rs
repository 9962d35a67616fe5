//! Amounts of resources as the API writes them: `100m`, `1.5`, `2Gi`, `1e3` (resource.Quantity).

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const NANO: i128 = 1_000_000_000;

/// In thousandths, rounded up: what processor time is counted in. `None` when it is not a quantity.
pub fn milli(quantity: &Quantity) -> Option<i64> {
    Some(clamp(ceil(nano(&quantity.0)?, NANO / 1000)))
}

/// In whole units, rounded up: bytes, pods, devices. `None` when it is not a quantity.
pub fn units(quantity: &Quantity) -> Option<i64> {
    Some(clamp(ceil(nano(&quantity.0)?, NANO)))
}

fn ceil(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// In billionths, rounded up; saturates far beyond what an `i64` of units holds.
fn nano(text: &str) -> Option<i128> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let (multiplier, divisor) = scale(suffix)?;
    let mut value: i128 = 0;
    let mut places: i128 = 1;
    for (index, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
        if index >= whole.len() {
            // Billionths are the smallest that count.
            if places >= NANO {
                break;
            }
            places *= 10;
        }
        value = value.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
    }
    let scaled = ceil(value.saturating_mul(multiplier).saturating_mul(NANO), divisor.saturating_mul(places));
    Some(if negative { -scaled } else { scaled })
}

/// The suffix as a multiplier and a divisor.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, NANO),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (NANO, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => return exponent(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

fn exponent(power: i32) -> Option<(i128, i128)> {
    let ten = 10_i128.checked_pow(power.unsigned_abs().min(30))?;
    Some(if power >= 0 { (ten, 1) } else { (1, ten) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantity_every_form_is_read() {
        let check = |text: &str, in_milli: i64, in_units: i64| {
            let quantity = Quantity(text.into());
            assert_eq!((milli(&quantity), units(&quantity)), (Some(in_milli), Some(in_units)), "{text}");
        };
        check("100m", 100, 1);
        check("1.5", 1500, 2);
        check("2Gi", 2_147_483_648_000, 2_147_483_648);
        check("1e3", 1_000_000, 1000);
        check("12E2", 1_200_000, 1200);
        check("5M", 5_000_000_000, 5_000_000);
        check("1n", 1, 1);
        check("0", 0, 0);
        check(".5", 500, 1);
        check("-1", -1000, -1);
        check("8Ei", i64::MAX, i64::MAX);
        check("99999999999999999999999999", i64::MAX, i64::MAX);
    }

    #[test]
    fn quantity_nonsense_is_refused() {
        for text in ["", "x", "1x", "1.2.3", "m", "1e", "--1", "."] {
            assert_eq!(units(&Quantity(text.into())), None, "{text}");
        }
    }
}
