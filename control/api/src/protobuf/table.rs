//! What the numbers mean: per message and number a name and a kind.
//!
//! A line of the data is `"apps/v1.DeploymentSpec": [[1, "replicas", "int", "po"], ...]`: number, name in JSON, type, and
//! letters: `p` for a pointer (its zero is said), `o` for a zero that is left out, `i` for fields that belong to the
//! message around it.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::Value;

use super::special::Special;
use super::{Element, Other};

/// All messages.
pub(super) struct Table(HashMap<String, Message>);

/// The fields of a message, in order of their numbers.
#[derive(Default)]
pub(super) struct Message(Vec<(u64, Field)>);

/// One field.
pub(super) struct Field {
    /// As in JSON; empty for one that is inlined.
    pub(super) name: String,
    pub(super) kind: Kind,
    pointer: bool,
    omits_zero: bool,
}

/// How often a value occurs, and what it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    One(Element),
    Many(Element),
    Map(Element),
    /// A message whose fields are those of the one around it.
    Inline(String),
}

/// The table of the built-in kinds.
pub(super) fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let data: HashMap<String, Vec<(u64, String, String, String)>> =
            serde_json::from_str(include_str!("../../data/protobuf.json")).expect("the data is of this form");
        let message = |fields: Vec<(u64, String, String, String)>| {
            let read = |(number, name, kind, letters): (u64, String, String, String)| {
                (number, field(name, &kind, &letters))
            };
            let mut fields: Vec<_> = fields.into_iter().map(read).collect();
            fields.sort_by_key(|(number, _)| *number);
            Message(fields)
        };
        Table(data.into_iter().map(|(name, fields)| (name, message(fields))).collect())
    })
}

fn field(name: String, kind: &str, letters: &str) -> Field {
    let kind = match kind.split_once(' ') {
        _ if letters.contains('i') => Kind::Inline(kind.to_owned()),
        Some(("repeated", of)) => Kind::Many(element(of)),
        Some(("map", of)) => Kind::Map(element(of)),
        _ => Kind::One(element(kind)),
    };
    Field { name, kind, pointer: letters.contains('p'), omits_zero: letters.contains('o') }
}

fn element(name: &str) -> Element {
    match name {
        "string" => Element::Text,
        "bool" => Element::Bool,
        "int" => Element::Integer,
        "double" => Element::Double,
        "bytes" => Element::Bytes,
        "list" => Element::Texts,
        "time" => Element::Special(Special::Time),
        "micro" => Element::Special(Special::MicroTime),
        "intstr" => Element::Special(Special::IntOrString),
        "quantity" => Element::Special(Special::Quantity),
        "raw" => Element::Special(Special::Raw),
        "schema-or-bool" => Element::SchemaOr(Other::Bool),
        "schema-or-list" => Element::SchemaOr(Other::Schemas),
        "schema-or-names" => Element::SchemaOr(Other::Names),
        message => Element::Message(message.to_owned()),
    }
}

impl Table {
    /// A message that another one names.
    pub(super) fn message(&self, name: &str) -> &Message {
        self.0.get(name).expect("the data holds every message that it names")
    }

    /// The message of a kind. Options are in every group.
    pub(super) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Message> {
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        let package = group.split('.').next().unwrap_or_default();
        let found = self.0.get(&format!("{package}/{version}.{kind}"));
        found.or_else(|| match kind {
            "DeleteOptions" => Some(self.message("meta/v1.DeleteOptions")),
            "Status" => Some(self.message("meta/v1.Status")),
            // Discovery is of no group, and the oldest form of it of no version.
            "APIVersions" | "APIGroupList" | "APIGroup" | "APIResourceList" if package == "core" => {
                self.0.get(&format!("meta/v1.{kind}"))
            }
            _ => None,
        })
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = (&String, &Message)> {
        self.0.iter()
    }
}

impl Message {
    pub(super) fn field(&self, number: u64) -> Option<&Field> {
        let at = self.0.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(&self.0[at].1)
    }

    /// All fields with their numbers.
    pub(super) fn fields(&self) -> impl Iterator<Item = (u64, &Field)> {
        self.0.iter().map(|(number, field)| (*number, field))
    }
}

impl Field {
    /// Whether it is a pointer in Go, whose zero is said.
    pub(super) fn is_pointer(&self) -> bool {
        self.pointer
    }

    /// Whether Go would not write this value.
    pub(super) fn leaves_out(&self, value: &Value) -> bool {
        let zero = match value {
            Value::Null => return true,
            Value::Bool(value) => !value,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(_) => false,
        };
        zero && self.omits_zero && !self.pointer
    }
}
