//! Durations and moments.

use super::{Fault, Outcome, Value};

/// Nanoseconds of Go's form of a duration, such as `1h30m`.
pub(super) fn duration(text: &str) -> Option<i128> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let units: [(&str, f64); 7] =
        [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (_, size) = units.iter().find(|(name, _)| *name == &after[..unit])?;
        total += number * size;
        rest = &after[unit..];
    }
    let total = total as i128;
    Some(if negative { -total } else { total })
}

/// A duration as text.
pub(super) fn duration_text(nanoseconds: i128) -> String {
    let seconds = nanoseconds as f64 / 1e9;
    format!("{seconds}s")
}

/// The parts of a moment and of a duration (`getHours()` and the like); without a zone, a moment is in UTC.
pub(super) fn part<'a>(name: &str, value: &Value<'_>, zone: Option<&str>) -> Outcome<Value<'a>> {
    let nanosecond = 1_000_000_000;
    let number = match value {
        Value::Duration(all) => match name {
            "getHours" => all / nanosecond / 3600,
            "getMinutes" => all / nanosecond / 60,
            "getSeconds" => all / nanosecond,
            "getMilliseconds" => all / 1_000_000 % 1000,
            _ => return Err(unknown(name, value)),
        },
        Value::Time(moment) => {
            let zone = zone.unwrap_or("UTC");
            let time = moment.in_tz(zone).map_err(|_| Fault::error(format!("unknown time zone {zone}")))?;
            i128::from(match name {
                "getFullYear" => i64::from(time.year()),
                "getMonth" => i64::from(time.month()) - 1,
                "getDate" => i64::from(time.day()),
                "getDayOfMonth" => i64::from(time.day()) - 1,
                "getDayOfWeek" => i64::from(time.weekday().to_sunday_zero_offset()),
                "getDayOfYear" => i64::from(time.day_of_year()) - 1,
                "getHours" => i64::from(time.hour()),
                "getMinutes" => i64::from(time.minute()),
                "getSeconds" => i64::from(time.second()),
                "getMilliseconds" => i64::from(time.millisecond()),
                _ => return Err(unknown(name, value)),
            })
        }
        _ => return Err(unknown(name, value)),
    };
    i64::try_from(number).map(Value::Int).map_err(|_| Fault::error("range error"))
}

fn unknown(name: &str, value: &Value<'_>) -> Fault {
    Fault::error(format!("no such overload: {name}({})", value.type_name()))
}
