//! Rules of schedules: five fields or a name, and a time zone of its own field.

use std::num::IntErrorKind;

use serde_json::Value;

use super::place::{Errors, Place};

/// A field of a schedule: its bounds, and names for numbers.
const FIELDS: [(u32, u32, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (1, 12, &["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

pub(super) fn check(spec: &Place<'_>, old: Option<&Value>, errors: &mut Errors) {
    let (schedule, zone) = (spec.get("schedule"), spec.get("timeZone"));
    if schedule.is_full() {
        if let Err(why) = schedule_of(schedule.text()) {
            schedule.invalid(why, errors);
        }
        let before = old.and_then(|old| old["schedule"].as_str()).is_some_and(|old| old.contains("TZ"));
        match (schedule.text().contains("TZ"), before) {
            (true, true) if zone.is_set() => {
                schedule.invalid("cannot use both timeZone field and TZ or CRON_TZ in schedule", errors);
            }
            (true, false) => {
                schedule.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead", errors);
            }
            _ => {}
        }
    }
    spec.not_negative_at(
        &["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"],
        errors,
    );
    if old.is_none_or(|old| &old["timeZone"] != zone.value) {
        time_zone(&zone, errors);
    }
}

fn time_zone(zone: &Place<'_>, errors: &mut Errors) {
    if !zone.is_set() {
        return;
    }
    let name = zone.text();
    if name.is_empty() {
        return zone.invalid("timeZone must be nil or non-empty string", errors);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    let sound = |part: &str| {
        !part.is_empty()
            && part.len() <= 14
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
            && part.bytes().all(allowed)
    };
    if !name.split('/').all(sound) {
        return zone.invalid(format!("unknown time zone {name}"), errors);
    }
    if name.eq_ignore_ascii_case("local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        zone.invalid(why, errors);
        if name == "Local" {
            return;
        }
    }
    // Go looks for a file of that name, in which letters count.
    let found = jiff::tz::TimeZone::get(name).ok();
    if found.and_then(|found| found.iana_name().map(|known| known == name)) != Some(true) {
        zone.invalid(format!("unknown time zone {name}"), errors);
    }
}

/// Whether the text is a schedule.
fn schedule_of(text: &str) -> Result<(), String> {
    let rest = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        Some(zoned) => zoned.split_once(' ').map_or("", |(_, rest)| rest).trim(),
        None => text,
    };
    if let Some(name) = rest.strip_prefix('@') {
        let known = ["yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"];
        if known.contains(&name) {
            return Ok(());
        }
        return match name.strip_prefix("every ") {
            Some(period) => duration(period).map_err(|why| format!("failed to parse duration {rest}: {why}")),
            None => Err(format!("unrecognized descriptor: {rest}")),
        };
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    for (field, (low, high, names)) in fields.iter().zip(FIELDS) {
        for part in field.split(',').filter(|part| !part.is_empty()) {
            range(part, low, high, names)?;
        }
    }
    Ok(())
}

fn range(part: &str, low: u32, high: u32, names: &[&str]) -> Result<(), String> {
    let number = |text: &str| -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = names.iter().position(|name| !name.is_empty() && *name == lower) {
            return Ok(at as u32);
        }
        let found = text.parse::<i64>().map_err(|why| {
            let is_large = matches!(why.kind(), IntErrorKind::PosOverflow | IntErrorKind::NegOverflow);
            let why = if is_large { "value out of range" } else { "invalid syntax" };
            format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}")
        })?;
        u32::try_from(found).map_err(|_| format!("negative number ({found}) not allowed: {text}"))
    };
    let (span, step) = match part.split_once('/') {
        None => (part, None),
        Some((_, step)) if step.contains('/') => return Err(format!("too many slashes: {part}")),
        Some((span, step)) => (span, Some(number(step)?)),
    };
    if step == Some(0) {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    let (start, end) = match span.split_once('-') {
        _ if matches!(span.split('-').next(), Some("*" | "?")) => (low, high),
        None => {
            let start = number(span)?;
            (start, if step.is_some() { high } else { start })
        }
        Some((_, end)) if end.contains('-') => return Err(format!("too many hyphens: {part}")),
        Some((start, end)) => (number(start)?, number(end)?),
    };
    if start < low {
        return Err(format!("beginning of range ({start}) below minimum ({low}): {part}"));
    }
    if end > high {
        return Err(format!("end of range ({end}) above maximum ({high}): {part}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {part}"));
    }
    Ok(())
}

/// Reads a period such as `1h30m`, with Go's words for what is none.
fn duration(text: &str) -> Result<(), String> {
    let invalid = || Err(format!("time: invalid duration {text:?}"));
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return invalid();
    }
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let digits = rest.find(|c: char| !is_number(c)).unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        if !number.bytes().any(|byte| byte.is_ascii_digit()) || number.matches('.').count() > 1 {
            return invalid();
        }
        let unit = &behind[..behind.find(is_number).unwrap_or(behind.len())];
        match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" | "us" | "\u{b5}s" | "\u{3bc}s" | "ms" | "s" | "m" | "h" => {}
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        }
        rest = &behind[unit.len()..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read_as_upstream_reads_them() {
        for good in
            ["* * * * *", "*/5 0-6 1,15 jan-MAR sun", "@hourly", "@every 1h30m", "0 0 ? * 6", "1/2 * * * *"]
        {
            assert_eq!(schedule_of(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-2 * * * *", "beginning of range (5) beyond end of range (2): 5-2"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("*/2/3 * * * *", "too many slashes: */2/3"),
            ("@often", "unrecognized descriptor: @often"),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
            ("@every 1x", "failed to parse duration @every 1x: time: unknown unit \"x\" in duration \"1x\""),
            ("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax"),
        ] {
            assert_eq!(schedule_of(bad), Err(why.to_owned()), "{bad}");
        }
    }
}
