//! Kubernetes quantities (`100m`, `64Mi`, `1e3`) as integers. Owns parsing and rounding only.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Value times 1000, rounded up (`100m` of CPU is 100). `None` for text that is no quantity.
pub fn milli(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1000)
}

/// Value in whole units, rounded up (`64Mi` of memory is 67108864). `None` for text that is no quantity.
pub fn units(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1)
}

fn scaled(text: &str, scale: i128) -> Option<i64> {
    let end = text
        .char_indices()
        .find(|(index, c)| !(c.is_ascii_digit() || *c == '.' || (*index == 0 && matches!(c, '+' | '-'))))
        .map_or(text.len(), |(index, _)| index);
    let (number, suffix) = text.split_at(end);
    let (numerator, denominator) = suffix_factor(suffix)?;
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let decimals = u32::try_from(fraction.len()).ok().filter(|count| *count <= 18)?;
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let above = mantissa.checked_mul(numerator)?.checked_mul(scale)?;
    let below = denominator.checked_mul(10_i128.checked_pow(decimals)?)?;
    let rounded_up = above / below + i128::from(above % below != 0);
    i64::try_from(if negative { -(above / below) } else { rounded_up }).ok()
}

fn suffix_factor(suffix: &str) -> Option<(i128, i128)> {
    let power = |exponent: u32| 10_i128.pow(exponent);
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, power(9)),
        "u" => (1, power(6)),
        "m" => (1, power(3)),
        "k" => (power(3), 1),
        "M" => (power(6), 1),
        "G" => (power(9), 1),
        "T" => (power(12), 1),
        "P" => (power(15), 1),
        "E" => (power(18), 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            let exponent: i32 = digits.parse().ok().filter(|value: &i32| value.abs() <= 18)?;
            if exponent >= 0 {
                (power(exponent.unsigned_abs()), 1)
            } else {
                (1, power(exponent.unsigned_abs()))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, in_milli: Option<i64>, in_units: Option<i64>) {
        let quantity = Quantity(text.into());
        assert_eq!((milli(&quantity), units(&quantity)), (in_milli, in_units), "{text}");
    }

    #[test]
    fn quantity_in_every_notation_is_read() {
        check("0", Some(0), Some(0));
        check("100m", Some(100), Some(1));
        check("1.5", Some(1500), Some(2));
        check(".5", Some(500), Some(1));
        check("64Mi", Some(67_108_864_000), Some(67_108_864));
        check("1k", Some(1_000_000), Some(1000));
        check("1e3", Some(1_000_000), Some(1000));
        check("12E", None, None);
        check("1E", None, Some(1_000_000_000_000_000_000));
        check("1n", Some(1), Some(1));
        check("-5", Some(-5000), Some(-5));
    }

    #[test]
    fn text_that_is_no_quantity_is_refused() {
        for text in ["", "m", "1.2.3", "1 Mi", "Mi", "1mi", "e3", "999999999999999999999"] {
            check(text, None, None);
        }
    }
}
