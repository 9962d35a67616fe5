//! Objects, lists and watch events as Kubernetes' protobuf.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::table::{Field, Kind, Message, table};
use super::wire::Writer;
use super::{Element, MAGIC, Other, SCHEMA};

/// Group and version of the objects that carry metadata alone.
const META: (&str, &str) = ("meta.k8s.io/v1", "PartialObjectMetadata");

/// Whether objects of this kind have such an encoding.
pub fn has_kind(api_version: &str, kind: &str) -> bool {
    (api_version, kind) == META || table().of_kind(api_version, kind).is_some()
}

/// An object, whose `apiVersion` and `kind` say what it is.
///
/// # Errors
/// A sentence, when there is no such kind or a value is not of the type of its field.
pub fn object(value: &Value) -> Result<Vec<u8>, String> {
    let (api_version, kind) = (word(value, "apiVersion"), word(value, "kind"));
    let raw = content(api_version, kind, value)?;
    let [before, after] = envelope(api_version, kind, raw.len());
    Ok([before, raw, after].concat())
}

/// A list of objects of a kind, written object by object.
pub struct List {
    out: Writer,
    api_version: String,
    kind: String,
}

impl List {
    /// A list without objects so far.
    ///
    /// # Errors
    /// As of [`object`].
    pub fn new(api_version: &str, kind: &str, meta: &Value) -> Result<Self, String> {
        let mut out = Writer::default();
        out.message(1, |out| fields(out, table().message("meta/v1.ListMeta"), object_of(meta)?))?;
        Ok(Self { out, api_version: api_version.to_owned(), kind: kind.to_owned() })
    }

    /// A list of `PartialObjectMetadata`, of objects that may be more than that.
    ///
    /// # Errors
    /// As of [`object`].
    pub fn of_metadata(meta: &Value) -> Result<Self, String> {
        Self::new(META.0, META.1, meta)
    }

    /// Adds an object.
    ///
    /// # Errors
    /// As of [`object`].
    pub fn push(&mut self, item: &Value) -> Result<(), String> {
        self.out.bytes(2, &content(&self.api_version, &self.kind, item)?);
        Ok(())
    }

    /// The list with all that was added, which is long, between what stands before and after it.
    pub fn finish(self) -> [Vec<u8>; 3] {
        let raw = self.out.finish();
        let [before, after] = envelope(&self.api_version, &format!("{}List", self.kind), raw.len());
        [before, raw, after]
    }
}

/// An event of a watch: its length in four bytes, then the event with the object in it.
pub fn watch_frame(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.bytes(1, kind.as_bytes());
    let mut raw = Writer::default();
    raw.bytes(1, object);
    out.bytes(2, &raw.finish());
    let event = out.finish();
    let mut frame = u32::try_from(event.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    frame.extend_from_slice(&event);
    frame
}

fn word<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

/// What stands before and after an object of so many bytes.
fn envelope(api_version: &str, kind: &str, length: usize) -> [Vec<u8>; 2] {
    let mut types = Writer::default();
    types.bytes(1, api_version.as_bytes());
    types.bytes(2, kind.as_bytes());
    let mut out = Writer::default();
    out.bytes(1, &types.finish());
    out.begin_bytes(2, length);
    let mut end = Writer::default();
    end.bytes(3, b"");
    end.bytes(4, b"");
    [[&MAGIC[..], &out.finish()].concat(), end.finish()]
}

fn content(api_version: &str, kind: &str, value: &Value) -> Result<Vec<u8>, String> {
    let mut out = Writer::default();
    if (api_version, kind) == META {
        let meta = value.get("metadata").unwrap_or(&Value::Null);
        out.message(1, |out| fields(out, table().message("meta/v1.ObjectMeta"), object_of(meta)?))?;
    } else {
        let message = table()
            .of_kind(api_version, kind)
            .ok_or_else(|| format!("{kind} of {api_version} has no protobuf encoding"))?;
        fields(&mut out, message, object_of(value)?)?;
    }
    Ok(out.finish())
}

fn object_of(value: &Value) -> Result<&Map<String, Value>, String> {
    value.as_object().ok_or_else(|| "is no object".to_owned())
}

/// The fields of a message that an object has. What is null or not there has its zero.
fn fields(out: &mut Writer, message: &Message, object: &Map<String, Value>) -> Result<(), String> {
    for (number, field) in message.fields() {
        if let Kind::Inline(name) = &field.kind {
            out.message(number, |out| fields(out, table().message(name), object))?;
            continue;
        }
        let Some(value) = object.get(&field.name).filter(|value| !value.is_null()) else { continue };
        one_field(out, number, field, value).map_err(|why| format!("{}: {why}", field.name))?;
    }
    Ok(())
}

fn one_field(out: &mut Writer, number: u64, field: &Field, value: &Value) -> Result<(), String> {
    match &field.kind {
        Kind::Inline(_) => Ok(()),
        Kind::One(of) => element(out, number, of, value),
        Kind::Many(of) => {
            let list = value.as_array().ok_or("is no list")?;
            list.iter().try_for_each(|value| element(out, number, of, value))
        }
        Kind::Map(of) => {
            let map = value.as_object().ok_or("is no map")?;
            map.iter().try_for_each(|(key, value)| {
                out.message(number, |out| {
                    out.bytes(1, key.as_bytes());
                    element(out, 2, of, value)
                })
            })
        }
    }
}

fn element(out: &mut Writer, number: u64, of: &Element, value: &Value) -> Result<(), String> {
    let wrong = |what: &str| format!("is not {what}");
    match of {
        Element::Text => out.bytes(number, value.as_str().ok_or_else(|| wrong("a string"))?.as_bytes()),
        Element::Bool => out.number(number, value.as_bool().ok_or_else(|| wrong("a boolean"))?.into()),
        Element::Integer => {
            out.number(number, value.as_i64().ok_or_else(|| wrong("an integer"))?.cast_unsigned());
        }
        Element::Double => out.double(number, value.as_f64().ok_or_else(|| wrong("a number"))?),
        Element::Bytes => {
            let text = value.as_str().ok_or_else(|| wrong("base64"))?;
            let bytes =
                base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| wrong("base64"))?;
            out.bytes(number, &bytes);
        }
        Element::Texts => out.message(number, |out| {
            let list = value.as_array().ok_or_else(|| wrong("a list"))?;
            list.iter().try_for_each(|value| element(out, 1, &Element::Text, value))
        })?,
        Element::Special(special) => out.message(number, |out| special.write(value, out))?,
        Element::Message(name) => {
            out.message(number, |out| fields(out, table().message(name), object_of(value)?))?;
        }
        Element::SchemaOr(other) => out.message(number, |out| schema_or(out, *other, value))?,
    }
    Ok(())
}

/// A schema, or what stands in its place.
fn schema_or(out: &mut Writer, other: Other, value: &Value) -> Result<(), String> {
    let schema = Element::Message(SCHEMA.to_owned());
    match (other, value) {
        (Other::Bool, Value::Bool(allows)) => out.number(1, (*allows).into()),
        (Other::Bool, _) => {
            out.number(1, 1);
            element(out, 2, &schema, value)?;
        }
        (Other::Schemas, Value::Array(list)) => {
            list.iter().try_for_each(|value| element(out, 2, &schema, value))?;
        }
        (Other::Names, Value::Array(list)) => {
            list.iter().try_for_each(|value| element(out, 2, &Element::Text, value))?;
        }
        (Other::Schemas | Other::Names, _) => element(out, 1, &schema, value)?,
    }
    Ok(())
}
