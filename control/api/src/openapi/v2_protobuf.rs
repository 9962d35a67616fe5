//! OpenAPI v2 in protobuf: the form that kubectl up to 1.26 reads its schemas in, and `explain` of later ones when asked
//! for v2.
//!
//! Owns the numbers of the fields (`openapiv2/OpenAPIv2.proto` of google/gnostic-models). Writes what [`super::v2()`] makes;
//! words of OpenAPI that it does not use are not here.

use serde_json::{Map, Value};

use crate::protobuf::Writer;

type Object = Map<String, Value>;
/// Where a field of the document goes in the message.
type Fields = &'static [(&'static str, u64, Form)];

/// How a field is written.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Texts,
    Flag,
    Integer,
    Double,
    /// Any value, as YAML: JSON is YAML.
    Any,
    Anys,
    /// A message that a function writes.
    Message(fn(&mut Writer, &Value)),
    /// One such message for each item.
    Each(fn(&mut Writer, &Value)),
    /// A message with one entry for each member, under this number: the name, and the message of its value.
    Map(u64, fn(&mut Writer, &Value)),
}

const DOCUMENT: Fields = &[
    ("swagger", 1, Form::Text),
    ("info", 2, Form::Message(info)),
    ("paths", 8, Form::Map(2, path)),
    ("definitions", 9, Form::Map(1, schema)),
    ("security", 12, Form::Each(requirement)),
    ("securityDefinitions", 13, Form::Map(1, security)),
];

const SCHEMA: Fields = &[
    ("$ref", 1, Form::Text),
    ("format", 2, Form::Text),
    ("title", 3, Form::Text),
    ("description", 4, Form::Text),
    ("default", 5, Form::Any),
    ("multipleOf", 6, Form::Double),
    ("maximum", 7, Form::Double),
    ("exclusiveMaximum", 8, Form::Flag),
    ("minimum", 9, Form::Double),
    ("exclusiveMinimum", 10, Form::Flag),
    ("maxLength", 11, Form::Integer),
    ("minLength", 12, Form::Integer),
    ("pattern", 13, Form::Text),
    ("maxItems", 14, Form::Integer),
    ("minItems", 15, Form::Integer),
    ("uniqueItems", 16, Form::Flag),
    ("maxProperties", 17, Form::Integer),
    ("minProperties", 18, Form::Integer),
    ("required", 19, Form::Texts),
    ("enum", 20, Form::Anys),
    ("additionalProperties", 21, Form::Message(schema_or_flag)),
    ("type", 22, Form::Message(types)),
    ("items", 23, Form::Message(one_schema)),
    ("allOf", 24, Form::Each(schema)),
    ("properties", 25, Form::Map(1, schema)),
    ("example", 30, Form::Any),
];

const PATH: Fields = &[
    ("get", 2, Form::Message(operation)),
    ("put", 3, Form::Message(operation)),
    ("post", 4, Form::Message(operation)),
    ("delete", 5, Form::Message(operation)),
    ("options", 6, Form::Message(operation)),
    ("head", 7, Form::Message(operation)),
    ("patch", 8, Form::Message(operation)),
    ("parameters", 9, Form::Each(parameter)),
];

const OPERATION: Fields = &[
    ("tags", 1, Form::Texts),
    ("description", 3, Form::Text),
    ("operationId", 5, Form::Text),
    ("produces", 6, Form::Texts),
    ("consumes", 7, Form::Texts),
    ("parameters", 8, Form::Each(parameter)),
    ("responses", 9, Form::Map(1, response)),
];

const BODY_PARAMETER: Fields = &[
    ("description", 1, Form::Text),
    ("name", 2, Form::Text),
    ("in", 3, Form::Text),
    ("required", 4, Form::Flag),
    ("schema", 5, Form::Message(schema)),
];

const HEADER_OR_PATH_PARAMETER: Fields = &[
    ("required", 1, Form::Flag),
    ("in", 2, Form::Text),
    ("description", 3, Form::Text),
    ("name", 4, Form::Text),
    ("type", 5, Form::Text),
    ("format", 6, Form::Text),
    ("uniqueItems", 19, Form::Flag),
];

const QUERY_PARAMETER: Fields = &[
    ("required", 1, Form::Flag),
    ("in", 2, Form::Text),
    ("description", 3, Form::Text),
    ("name", 4, Form::Text),
    ("type", 6, Form::Text),
    ("format", 7, Form::Text),
    ("uniqueItems", 20, Form::Flag),
];

/// The whole document.
pub fn v2_protobuf(document: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    write(&mut out, DOCUMENT, 16, document);
    out.finish()
}

/// The fields that the object has, and its members that start with `x-` under the number of extensions.
fn write(out: &mut Writer, fields: Fields, extensions: u64, value: &Value) {
    let Some(object) = value.as_object() else { return };
    for (name, number, form) in fields {
        if let Some(value) = object.get(*name) {
            field(out, *number, *form, value);
        }
    }
    for (name, value) in object.iter().filter(|(name, _)| name.starts_with("x-")) {
        message(out, extensions, |out| {
            out.bytes(1, name.as_bytes());
            any(out, 2, value);
        });
    }
}

fn field(out: &mut Writer, number: u64, form: Form, value: &Value) {
    let items = || value.as_array().map(Vec::as_slice).unwrap_or_default();
    match form {
        Form::Text => text(out, number, value),
        Form::Texts => items().iter().for_each(|item| text(out, number, item)),
        Form::Flag => out.number(number, value.as_bool().unwrap_or_default().into()),
        Form::Integer => out.number(number, value.as_i64().unwrap_or_default().cast_unsigned()),
        Form::Double => out.double(number, value.as_f64().unwrap_or_default()),
        Form::Any => any(out, number, value),
        Form::Anys => items().iter().for_each(|item| any(out, number, item)),
        Form::Message(of) => message(out, number, |out| of(out, value)),
        Form::Each(of) => items().iter().for_each(|item| message(out, number, |out| of(out, item))),
        Form::Map(entry, of) => {
            let empty = Object::new();
            message(out, number, |out| {
                for (name, value) in value.as_object().unwrap_or(&empty).iter() {
                    message(out, entry, |out| {
                        out.bytes(1, name.as_bytes());
                        message(out, 2, |out| of(out, value));
                    });
                }
            });
        }
    }
}

fn message(out: &mut Writer, number: u64, of: impl FnOnce(&mut Writer)) {
    let mut inner = Writer::default();
    of(&mut inner);
    out.bytes(number, &inner.finish());
}

fn text(out: &mut Writer, number: u64, value: &Value) {
    out.bytes(number, value.as_str().unwrap_or_default().as_bytes());
}

fn any(out: &mut Writer, number: u64, value: &Value) {
    message(out, number, |out| out.bytes(2, value.to_string().as_bytes()));
}

fn info(out: &mut Writer, value: &Value) {
    write(out, &[("title", 1, Form::Text), ("version", 2, Form::Text)], 7, value);
}

fn schema(out: &mut Writer, value: &Value) {
    write(out, SCHEMA, 31, value);
}

fn one_schema(out: &mut Writer, value: &Value) {
    message(out, 1, |out| schema(out, value));
}

fn schema_or_flag(out: &mut Writer, value: &Value) {
    match value.as_bool() {
        Some(flag) => out.number(2, flag.into()),
        None => one_schema(out, value),
    }
}

fn types(out: &mut Writer, value: &Value) {
    match value {
        Value::Array(all) => all.iter().for_each(|one| text(out, 1, one)),
        one => text(out, 1, one),
    }
}

fn path(out: &mut Writer, value: &Value) {
    write(out, PATH, 10, value);
}

fn operation(out: &mut Writer, value: &Value) {
    write(out, OPERATION, 13, value);
}

/// A parameter has another message for every place it may be in.
fn parameter(out: &mut Writer, value: &Value) {
    if value.get("$ref").is_some() {
        return message(out, 2, |out| text(out, 1, &value["$ref"]));
    }
    message(out, 1, |out| match value["in"].as_str() {
        Some("body") => message(out, 1, |out| write(out, BODY_PARAMETER, 6, value)),
        place => message(out, 2, |out| match place {
            Some("query") => message(out, 3, |out| write(out, QUERY_PARAMETER, 23, value)),
            Some("path") => message(out, 4, |out| write(out, HEADER_OR_PATH_PARAMETER, 22, value)),
            _ => message(out, 1, |out| write(out, HEADER_OR_PATH_PARAMETER, 22, value)),
        }),
    });
}

fn response(out: &mut Writer, value: &Value) {
    let fields: Fields = &[("description", 1, Form::Text), ("schema", 2, Form::Message(one_schema))];
    message(out, 1, |out| write(out, fields, 5, value));
}

fn requirement(out: &mut Writer, value: &Value) {
    for (name, scopes) in value.as_object().into_iter().flatten() {
        message(out, 1, |out| {
            out.bytes(1, name.as_bytes());
            message(out, 2, |out| field(out, 1, Form::Texts, scopes));
        });
    }
}

fn security(out: &mut Writer, value: &Value) {
    let key: Fields = &[
        ("type", 1, Form::Text),
        ("name", 2, Form::Text),
        ("in", 3, Form::Text),
        ("description", 4, Form::Text),
    ];
    message(out, 2, |out| write(out, key, 5, value));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn document_bytes_are_those_of_the_messages() {
        let document = json!({ "swagger": "2.0", "definitions": { "a": {
            "type": "array", "items": { "$ref": "b" }, "x-y": 1 } } });
        let items = [0xba, 0x01, 5, 0x0a, 3, 0x0a, 1, b'b'];
        let types = [0xb2, 0x01, 7, 0x0a, 5, b'a', b'r', b'r', b'a', b'y'];
        let extension = [0xfa, 0x01, 10, 0x0a, 3, b'x', b'-', b'y', 0x12, 3, 0x12, 1, b'1'];
        let schema = [&types[..], &items[..], &extension[..]].concat();
        let mut entry = vec![0x0a, 1, b'a', 0x12, schema.len() as u8];
        entry.extend(&schema);
        let mut expected =
            vec![0x0a, 3, b'2', b'.', b'0', 0x4a, entry.len() as u8 + 2, 0x0a, entry.len() as u8];
        expected.extend(&entry);
        assert_eq!(v2_protobuf(&document), expected);
    }

    #[test]
    fn parameter_goes_where_its_place_says() {
        let check = |place: &str, prefix: &[u8]| {
            let mut out = Writer::default();
            parameter(&mut out, &json!({ "in": place, "name": "n" }));
            let bytes = out.finish();
            let tags: Vec<u8> = bytes.iter().copied().step_by(2).take(prefix.len()).collect();
            assert_eq!(tags, prefix, "{place}");
        };
        check("body", &[0x0a, 0x0a]);
        check("query", &[0x0a, 0x12, 0x1a]);
        check("path", &[0x0a, 0x12, 0x22]);
        check("header", &[0x0a, 0x12, 0x0a]);
    }
}
