//! Points in time as Go reads them: one layout, element by element, and its words for where a text leaves it.

use crate::schema::Shape;

/// A piece of the layout: digits with a name, or something literal.
enum Piece {
    Digits(&'static str),
    Literal(&'static str),
}

use Piece::{Digits, Literal};

const PIECES: [Piece; 11] = [
    Digits("2006"),
    Literal("-"),
    Digits("01"),
    Literal("-"),
    Digits("02"),
    Literal("T"),
    Digits("15"),
    Literal(":"),
    Digits("04"),
    Literal(":"),
    Digits("05"),
];

/// Reads a text as the time of a field of this shape, and gives it as the API writes it.
///
/// # Errors
/// What Go's `time.Parse` says.
pub(super) fn canonical(shape: &Shape, text: &str) -> Result<String, String> {
    let micro = matches!(shape, Shape::MicroTime);
    let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
    let start = format!("parsing time {text:?}");
    let unfit =
        |rest: &str, piece: &str| format!("{start} as {layout:?}: cannot parse {rest:?} as {piece:?}");
    let mut rest = text;
    for piece in &PIECES {
        rest = match piece {
            Digits(name) => {
                let count = rest.bytes().take(name.len()).filter(u8::is_ascii_digit).count();
                if count < name.len() {
                    Err((rest, *name))
                } else {
                    Ok(rest.get(count..).unwrap_or_default())
                }
            }
            Literal(literal) => rest.strip_prefix(literal).ok_or((rest, *literal)),
        }
        .map_err(|(rest, piece)| unfit(rest, piece))?;
    }
    let fraction = fraction(rest);
    if micro && fraction != 7 {
        return Err(unfit(rest, ".000000"));
    }
    let zone = rest.get(fraction..).unwrap_or_default();
    if !is_zone(zone) {
        return Err(unfit(zone, "Z07:00"));
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| format!("{start}: day out of range"))?;
    let form = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(time.strftime(form).to_string())
}

/// The length of a point and the digits behind it.
fn fraction(rest: &str) -> usize {
    let Some(digits) = rest.strip_prefix('.') else { return 0 };
    match digits.bytes().take_while(u8::is_ascii_digit).count() {
        0 => 0,
        count => count + 1,
    }
}

/// Whether a text is `Z` or an offset such as `+02:00`.
fn is_zone(text: &str) -> bool {
    let bytes = text.as_bytes();
    text == "Z"
        || (bytes.len() == 6
            && matches!(bytes[0], b'+' | b'-')
            && bytes[3] == b':'
            && [1, 2, 4, 5].iter().all(|at| bytes[*at].is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_its_layout_is_written_in_utc() {
        let time = |text| canonical(&Shape::Time, text);
        assert_eq!(time("2020-01-02T03:04:05Z").unwrap(), "2020-01-02T03:04:05Z");
        assert_eq!(time("2020-01-02T03:04:05.75+02:00").unwrap(), "2020-01-02T01:04:05Z");
        let micro = canonical(&Shape::MicroTime, "2020-01-02T03:04:05.000006Z");
        assert_eq!(micro.unwrap(), "2020-01-02T03:04:05.000006Z");
    }

    #[test]
    fn time_that_leaves_its_layout_is_refused_where_it_does() {
        let says = |text| canonical(&Shape::Time, text).unwrap_err();
        let all = "\"2006-01-02T15:04:05Z07:00\"";
        assert_eq!(says("x"), format!("parsing time \"x\" as {all}: cannot parse \"x\" as \"2006\""));
        assert_eq!(
            says("2020-01-02 03:04:05Z"),
            format!("parsing time \"2020-01-02 03:04:05Z\" as {all}: cannot parse \" 03:04:05Z\" as \"T\"")
        );
        assert_eq!(
            says("2020-01-02T03:04:05"),
            format!("parsing time \"2020-01-02T03:04:05\" as {all}: cannot parse \"\" as \"Z07:00\"")
        );
        assert_eq!(says("2020-02-31T03:04:05Z"), "parsing time \"2020-02-31T03:04:05Z\": day out of range");
        // A micro time has six digits behind the point, as upstream wants them.
        let micro = canonical(&Shape::MicroTime, "2020-01-02T03:04:05.5Z").unwrap_err();
        assert!(micro.ends_with("cannot parse \".5Z\" as \".000000\""), "{micro}");
        assert!(canonical(&Shape::MicroTime, "2020-01-02T03:04:05Z").is_err());
    }
}
