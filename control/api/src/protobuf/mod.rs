//! Objects in Kubernetes' protobuf encoding, from and into the values of their JSON.
//!
//! Several commands of kubectl write in it, and upstream's components read and write it. The bytes name their kind (`apimachinery/pkg/runtime` type `Unknown`); what a
//! number in them means is in `data/protobuf.json`, read from the struct tags of Kubernetes' API types at 1.36. Values
//! come out as if Go had written them as JSON: without the zeros that it leaves out. Nothing is checked against the schema
//! here. Custom kinds have no such encoding, as with upstream.

mod go_json;
mod special;
mod table;
#[cfg(test)]
mod tests;
mod wire;
mod write;

use serde_json::{Map, Value};

use special::Special;
use table::{Field, Kind, Message, table};
use wire::{Reader, Scalar};

pub(crate) use go_json::shown;
pub(crate) use wire::Writer;
pub use write::{List, has_kind, object, watch_frame};

/// What every such body begins with.
const MAGIC: [u8; 4] = *b"k8s\0";

/// Reads an object; the error is a sentence.
pub(crate) fn read(body: &[u8]) -> Result<Value, String> {
    read_expected(body, "", "")
}

/// The same of an object that is of this version and kind where it does not say so.
pub(crate) fn read_expected(body: &[u8], api_version: &str, kind: &str) -> Result<Value, String> {
    let bytes = body.strip_prefix(&MAGIC).ok_or("provided data does not appear to be a protobuf message")?;
    if bytes.is_empty() {
        return Err("empty body".to_owned());
    }
    let mut envelope = Envelope::read(bytes)?;
    for (said, expected) in [(&mut envelope.api_version, api_version), (&mut envelope.kind, kind)] {
        if said.is_empty() {
            expected.clone_into(said);
        }
    }
    let message = table().of_kind(&envelope.api_version, &envelope.kind).ok_or_else(|| {
        format!("no kind {:?} is registered for version {:?}", envelope.kind, envelope.api_version)
    })?;
    let mut object = Map::new();
    object.insert("apiVersion".into(), envelope.api_version.into());
    object.insert("kind".into(), envelope.kind.into());
    fill(&mut object, message, envelope.raw, 0)?;
    Ok(Value::Object(object))
}

/// Whether bytes begin as such an object does.
pub fn is_protobuf(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Reads an object that upstream's API server has stored, in the form in which it would show it.
///
/// # Errors
/// A sentence, for bytes that are no object of a built-in kind.
pub fn stored(bytes: &[u8]) -> Result<Value, String> {
    let mut object = read(bytes)?;
    let (group, version) = crate::registry::group_version_of(&object);
    let kind = object["kind"].as_str().unwrap_or_default();
    if let Some(resource) = crate::registry::registry().find_kind(group, version, kind) {
        crate::decode::fill_zeros(resource, &mut object);
    }
    Ok(object)
}

/// The message around the object: its type, and its bytes.
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut envelope = Self { api_version: String::new(), kind: String::new(), raw: &[] };
        let mut reader = Reader::new(bytes);
        while let Some((number, scalar)) = reader.next()? {
            match (number, scalar) {
                (1, Scalar::Bytes(types)) => {
                    let mut reader = Reader::new(types);
                    while let Some((number, scalar)) = reader.next()? {
                        match number {
                            1 => envelope.api_version = scalar.text()?,
                            2 => envelope.kind = scalar.text()?,
                            _ => {}
                        }
                    }
                }
                (2, Scalar::Bytes(raw)) => envelope.raw = raw,
                (3, Scalar::Bytes(encoding)) if !encoding.is_empty() => {
                    return Err("compressed protobuf bodies are not read".into());
                }
                _ => {}
            }
        }
        Ok(envelope)
    }
}

/// Reads a message into an object. `depth` messages are around it.
fn fill(
    object: &mut Map<String, Value>,
    message: &Message,
    bytes: &[u8],
    depth: usize,
) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("messages are nested deeper than {DEEPEST} levels"));
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, scalar)) = reader.next()? {
        // A newer client may know more than we do.
        let Some(field) = message.field(number) else { continue };
        let within = |why: String| format!("{}: {why}", field.name);
        put(object, field, &scalar, depth).map_err(within)?;
    }
    Ok(())
}

fn put(
    object: &mut Map<String, Value>,
    field: &Field,
    scalar: &Scalar<'_>,
    depth: usize,
) -> Result<(), String> {
    match &field.kind {
        Kind::Inline(name) => {
            let message = table().message(name);
            fill(object, message, scalar.bytes()?, depth + 1)?;
        }
        Kind::One(element) => {
            let value = element_value(element, scalar, depth)?;
            if field.leaves_out(&value) {
                object.remove(&field.name);
            } else {
                object.insert(field.name.clone(), value);
            }
        }
        Kind::Many(element) => {
            let list = object.entry(field.name.clone()).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = list else { return Err("is a list and something else".into()) };
            match (element, scalar) {
                // Numbers may come packed into one field.
                (Element::Integer, Scalar::Bytes(packed)) => {
                    let mut reader = Reader::new(packed);
                    while let Some(number) = reader.packed()? {
                        list.push(number.into());
                    }
                }
                _ => list.push(element_value(element, scalar, depth)?),
            }
        }
        Kind::Map(element) => {
            let (key, value) = entry(element, scalar.bytes()?, depth)?;
            let map = object.entry(field.name.clone()).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(map) = map else { return Err("is a map and something else".into()) };
            map.insert(key, value);
        }
    }
    Ok(())
}

fn entry(element: &Element, bytes: &[u8], depth: usize) -> Result<(String, Value), String> {
    let (mut key, mut value) = (String::new(), None);
    let mut reader = Reader::new(bytes);
    while let Some((number, scalar)) = reader.next()? {
        match number {
            1 => key = scalar.text()?,
            2 => value = Some(element_value(element, &scalar, depth)?),
            _ => {}
        }
    }
    // A part that is not there has its zero.
    let value = value.map_or_else(|| element_value(element, &element.zero(), depth), Ok)?;
    Ok((key, value))
}

/// What one value of a field is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Element {
    Text,
    Bool,
    Integer,
    Double,
    Bytes,
    /// A list of strings, which is a message of its own in maps.
    Texts,
    Special(Special),
    Message(String),
    /// A schema of a custom resource, or what may stand in its place.
    SchemaOr(Other),
}

/// What may stand where a schema is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    /// Whether anything is allowed.
    Bool,
    /// One schema for each item.
    Schemas,
    /// Names of fields.
    Names,
}

/// The schema of a custom resource, the one message that holds itself.
const SCHEMA: &str = "apiextensions/v1.JSONSchemaProps";
/// Messages lie within each other at most so deep.
const DEEPEST: usize = 100;

impl Element {
    fn zero(&self) -> Scalar<'static> {
        match self {
            Self::Bool | Self::Integer => Scalar::Number(0),
            Self::Double => Scalar::Fixed64(0),
            _ => Scalar::Bytes(&[]),
        }
    }
}

fn element_value(element: &Element, scalar: &Scalar<'_>, depth: usize) -> Result<Value, String> {
    use base64::Engine as _;
    Ok(match element {
        Element::Text => scalar.text()?.into(),
        Element::Bool => (scalar.number()? != 0).into(),
        Element::Integer => scalar.number()?.into(),
        Element::Double => scalar.double()?.into(),
        Element::Bytes => base64::engine::general_purpose::STANDARD.encode(scalar.bytes()?).into(),
        Element::Texts => {
            let mut list = Vec::new();
            let mut reader = Reader::new(scalar.bytes()?);
            while let Some((number, scalar)) = reader.next()? {
                if number == 1 {
                    list.push(scalar.text()?.into());
                }
            }
            Value::Array(list)
        }
        Element::Special(special) => special.value(scalar.bytes()?)?,
        Element::Message(name) => {
            let mut object = Map::new();
            fill(&mut object, table().message(name), scalar.bytes()?, depth + 1)?;
            Value::Object(object)
        }
        Element::SchemaOr(other) => schema_or(*other, scalar.bytes()?, depth)?,
    })
}

/// `JSONSchemaPropsOrBool` and its like: in JSON one or the other, in a message both.
fn schema_or(other: Other, bytes: &[u8], depth: usize) -> Result<Value, String> {
    let schema = |scalar: &Scalar<'_>| element_value(&Element::Message(SCHEMA.to_owned()), scalar, depth);
    let (mut found, mut allows, mut list) = (None, false, Vec::new());
    let mut reader = Reader::new(bytes);
    while let Some((number, scalar)) = reader.next()? {
        match (other, number) {
            (Other::Bool, 1) => allows = scalar.number()? != 0,
            (Other::Bool, 2) | (Other::Schemas | Other::Names, 1) => found = Some(schema(&scalar)?),
            (Other::Schemas, 2) => list.push(schema(&scalar)?),
            (Other::Names, 2) => list.push(scalar.text()?.into()),
            _ => {}
        }
    }
    Ok(found.unwrap_or(if other == Other::Bool { allows.into() } else { list.into() }))
}
