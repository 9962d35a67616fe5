//! Types whose JSON is not an object of their fields: times, amounts, numbers or words, and JSON itself.

use jiff::Timestamp;
use serde_json::Value;

use super::wire::{Reader, Writer};

/// Such a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    /// A time to the second.
    Time,
    /// A time to the microsecond.
    MicroTime,
    /// A number or a word.
    IntOrString,
    /// An amount.
    Quantity,
    /// JSON in bytes.
    Raw,
}

impl Special {
    /// The value of such a message; nothing is null.
    pub(super) fn value(self, bytes: &[u8]) -> Result<Value, String> {
        match self {
            Self::Time | Self::MicroTime => self.time(bytes),
            Self::IntOrString => int_or_string(bytes),
            Self::Quantity => Ok(first(bytes)?.map_or_else(|| Ok("0".into()), text)?.into()),
            Self::Raw => match first(bytes)? {
                None | Some([]) => Ok(Value::Null),
                Some(json) => serde_json::from_slice(json).map_err(|why| format!("holds no JSON: {why}")),
            },
        }
    }

    /// The message of such a value.
    pub(super) fn write(self, value: &Value, out: &mut Writer) -> Result<(), String> {
        match self {
            Self::Time | Self::MicroTime => {
                let text = value.as_str().ok_or("is no time")?;
                let at: Timestamp = text.parse().map_err(|why| format!("is no time: {why}"))?;
                // Both parts have the same sign in what jiff gives; the message wants nanoseconds that count forward.
                let nanoseconds = at.as_nanosecond();
                out.number(1, nanoseconds.div_euclid(1_000_000_000) as u64);
                let rest = if self == Self::Time { 0 } else { nanoseconds.rem_euclid(1_000_000_000) };
                out.number(2, rest as u64);
            }
            Self::IntOrString => match value {
                Value::String(word) => {
                    out.number(1, 1);
                    out.number(2, 0);
                    out.bytes(3, word.as_bytes());
                }
                number => {
                    out.number(1, 0);
                    out.number(2, number.as_i64().ok_or("is neither a number nor a word")?.cast_unsigned());
                    out.bytes(3, b"");
                }
            },
            Self::Quantity => match value {
                Value::String(text) => out.bytes(1, text.as_bytes()),
                Value::Number(number) => out.bytes(1, number.to_string().as_bytes()),
                _ => return Err("is no amount".into()),
            },
            Self::Raw => out.bytes(1, value.to_string().as_bytes()),
        }
        Ok(())
    }

    fn time(self, bytes: &[u8]) -> Result<Value, String> {
        let (mut seconds, mut nanoseconds) = (0, 0);
        let mut reader = Reader::new(bytes);
        while let Some((number, scalar)) = reader.next()? {
            match number {
                1 => seconds = scalar.number()?,
                2 => nanoseconds = scalar.number()?,
                _ => {}
            }
        }
        // Go's zero time, or what stands for it.
        if bytes.is_empty() || (seconds == -62_135_596_800 && nanoseconds == 0) {
            return Ok(Value::Null);
        }
        let wrong = || "is not a time of this calendar".to_owned();
        let nanoseconds = i32::try_from(nanoseconds).map_err(|_| wrong())?;
        let at = Timestamp::new(seconds, nanoseconds).map_err(|_| wrong())?;
        let format = if self == Self::Time { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S.%6fZ" };
        Ok(at.strftime(format).to_string().into())
    }
}

fn int_or_string(bytes: &[u8]) -> Result<Value, String> {
    let (mut is_text, mut number, mut word) = (false, 0, String::new());
    let mut reader = Reader::new(bytes);
    while let Some((field, scalar)) = reader.next()? {
        match field {
            1 => is_text = scalar.number()? == 1,
            2 => number = scalar.number()?,
            3 => word = scalar.text()?,
            _ => {}
        }
    }
    Ok(if is_text { word.into() } else { number.into() })
}

/// The bytes of the first field.
fn first(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    let mut reader = Reader::new(bytes);
    let mut found = None;
    while let Some((number, scalar)) = reader.next()? {
        if number == 1 {
            found = Some(scalar.bytes()?);
        }
    }
    Ok(found)
}

fn text(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "proto: a string is not UTF-8".into())
}
