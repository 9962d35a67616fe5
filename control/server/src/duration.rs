//! Times as upstream's flags, files and queries have them: `30s`, `1m30s`, `500ms`.

use std::time::Duration;

const UNITS: [(&str, f64); 7] =
    [("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];

/// Reads a time.
///
/// # Errors
///
/// What is wrong with it: no number, no unit, or negative.
pub fn parse(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a time such as 30s or 1m30s");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').ok_or_else(bad)?;
        let number: f64 = rest[..end].parse().map_err(|_| bad())?;
        rest = &rest[end..];
        let (unit, seconds) = UNITS.into_iter().find(|(unit, _)| rest.starts_with(unit)).ok_or_else(bad)?;
        rest = &rest[unit.len()..];
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        total = total.checked_add(part).ok_or_else(bad)?;
    }
    if text.is_empty() { Err(bad()) } else { Ok(total) }
}

/// Writes a time as Go does: `1.5ms`, `2s`, `1h0m5s`.
pub(crate) fn text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, digits) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => return format!("{nanos}ns"),
        1_000..1_000_000 => ("µs", 3),
        1_000_000..1_000_000_000 => ("ms", 6),
        _ => ("s", 9),
    };
    let one = 10_u128.pow(digits);
    let (mut whole, part) = (nanos / one, nanos % one);
    let mut before = String::new();
    if unit == "s" && whole >= 60 {
        let minutes = whole / 60;
        before =
            if minutes >= 60 { format!("{}h{}m", minutes / 60, minutes % 60) } else { format!("{minutes}m") };
        whole %= 60;
    }
    let part = format!("{part:0width$}", width = digits as usize);
    match part.trim_end_matches('0') {
        "" => format!("{before}{whole}{unit}"),
        part => format!("{before}{whole}.{part}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_upstream_writes_them() {
        for (nanos, expected) in [
            (0, "0s"),
            (7, "7ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (5_000_000, "5ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (3_600_000_000_000, "1h0m0s"),
            (480_000_000_001, "8m0.000000001s"),
        ] {
            assert_eq!(text(Duration::from_nanos(nanos)), expected);
        }
    }

    #[test]
    fn times_are_read_as_upstream_reads_them() {
        for (text, milliseconds) in
            [("30s", 30_000), ("1m30s", 90_000), ("500ms", 500), ("1.5h", 5_400_000), ("0", 0), ("0s", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "30", "s", "1x", "-1s", "1m30", "1e300s", "9999999999999999999999h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
