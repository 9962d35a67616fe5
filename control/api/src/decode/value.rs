//! Text into values: one visitor for JSON and YAML that keeps the last of duplicate members and notes each of them.

use std::cell::RefCell;
use std::fmt::Write as _;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{Encoding, Parsed};

/// How deep values may nest.
const DEPTH: usize = 100;

/// How a text begins that tells of several problems of YAML, one a line.
pub(super) const YAML_ERRORS: &str = "yaml: unmarshal errors:\n  ";

/// Reads an object that is of this version and kind where it does not say so; the error is a sentence.
pub(super) fn read_expected(
    body: &[u8],
    encoding: Encoding,
    api_version: &str,
    kind: &str,
) -> Result<Parsed, String> {
    match encoding {
        Encoding::Protobuf => {
            let value = crate::protobuf::read_expected(body, api_version, kind)?;
            Ok(Parsed { value, duplicates: Vec::new() })
        }
        // The text is judged by its members.
        Encoding::Json | Encoding::Yaml => read(body, encoding),
    }
}

/// Reads a value; the error is a sentence.
pub(super) fn read(body: &[u8], encoding: Encoding) -> Result<Parsed, String> {
    let notes = RefCell::new(Vec::new());
    let seed = Seed { notes: &notes, path: None, depth: 0, encoding };
    let value = match encoding {
        Encoding::Json => match read_json(body, seed) {
            Ok(value) => value,
            Err(why) => {
                let why = match super::syntax::error(body) {
                    Some(why) => Err(why),
                    // What Go takes may have characters that are none, which it replaces.
                    None => super::syntax::mended(body).ok_or(why),
                };
                let fail = |why: String| format!("couldn't get version/kind; json parse error: {why}");
                let mended = why.map_err(fail)?;
                notes.borrow_mut().clear();
                read_json(&mended, seed).map_err(fail)?
            }
        },
        Encoding::Yaml => read_yaml(body, seed)?,
        Encoding::Protobuf => crate::protobuf::read(body)?,
    };
    let mut duplicates = notes.into_inner();
    if encoding == Encoding::Yaml && !duplicates.is_empty() {
        duplicates = vec![format!("{YAML_ERRORS}{}", duplicates.join("\n  "))];
    }
    Ok(Parsed { value, duplicates })
}

fn read_json(body: &[u8], seed: Seed<'_>) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|why| why.to_string())
}

fn read_yaml(body: &[u8], seed: Seed<'_>) -> Result<Value, String> {
    let text = std::str::from_utf8(body).map_err(|_| "yaml: invalid UTF-8".to_owned())?;
    // A tab is no indentation (YAML 1.2, 6.1), also where nothing is before it.
    if let Some(at) = text.lines().position(|line| !line.trim_matches(' ').is_empty())
        && text.lines().nth(at).is_some_and(|line| line.trim_start_matches(' ').starts_with('\t'))
    {
        let why = "found character that cannot start any token";
        return Err(format!("error converting YAML to JSON: yaml: line {}: {why}", at + 1));
    }
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| seed.deserialize(reader))
        .map_err(|why| format!("error converting YAML to JSON: yaml: {why}"))
}

/// Where in the value the visitor is, as a chain of frames.
#[derive(Clone, Copy)]
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

impl Path<'_> {
    fn write(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(out);
        }
        match self.step {
            Step::Name(name) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(name);
            }
            Step::Index(index) => {
                let _ = write!(out, "[{index}]");
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    notes: &'a RefCell<Vec<String>>,
    path: Option<&'a Path<'a>>,
    depth: usize,
    encoding: Encoding,
}

impl Seed<'_> {
    /// Notes a member that was there before; the line is that of its name, 0 where that is not known.
    fn duplicate(&self, key: &str, line: u64) {
        let mut notes = self.notes.borrow_mut();
        // A hostile body could hold a million of them.
        if notes.len() >= 64 {
            return;
        }
        let note = match self.encoding {
            Encoding::Yaml if line > 0 => format!("line {line}: key {key:?} already set in map"),
            Encoding::Yaml => format!("key {key:?} already set in map"),
            Encoding::Json | Encoding::Protobuf => {
                let mut text = String::new();
                Path { parent: self.path, step: Step::Name(key) }.write(&mut text);
                format!("duplicate field {text:?}")
            }
        };
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
}

impl Seed<'_> {
    /// The next name in a map, and its line where the text has lines that count.
    fn next_key<'de, A: MapAccess<'de>>(&self, access: &mut A) -> Result<Option<(String, u64)>, A::Error> {
        if self.encoding != Encoding::Yaml {
            return Ok(access.next_key::<String>()?.map(|key| (key, 0)));
        }
        let key = access.next_key::<serde_saphyr::Spanned<String>>()?;
        Ok(key.map(|key| (key.value, key.referenced.line())))
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth > DEPTH {
            return Err(D::Error::custom(format!("exceeded max depth of {DEPTH}")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("json: unsupported value: not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = Path { parent: self.path, step: Step::Index(items.len()) };
            let seed = Seed { path: Some(&path), depth: self.depth + 1, ..self };
            match access.next_element_seed(seed)? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((key, line)) = self.next_key(&mut access)? {
            let path = Path { parent: self.path, step: Step::Name(&key) };
            let seed = Seed { path: Some(&path), depth: self.depth + 1, ..self };
            let value = access.next_value_seed(seed)?;
            if members.contains_key(&key) {
                self.duplicate(&key, line);
            }
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}
