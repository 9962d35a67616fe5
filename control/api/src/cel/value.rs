//! Values of expressions. Objects and lists of JSON are looked at where they are.

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use super::authz::{Asked, Ruling};
use super::{Outcome, time};
use crate::custom::{Kind, Node};
use crate::quantity::Quantity;

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Cow<'a, str>),
    Bytes(Rc<[u8]>),
    List(Rc<Vec<Value<'a>>>),
    Map(Rc<Vec<(Value<'a>, Value<'a>)>>),
    /// A list or object, and its schema.
    Json(&'a Json, Option<&'a Node>),
    /// Nanoseconds.
    Duration(i128),
    Time(jiff::Timestamp),
    /// The name of a type.
    Type(&'static str),
    Optional(Option<Rc<Value<'a>>>),
    Address(IpAddr),
    Network(IpAddr, u8),
    Quantity(Rc<Quantity>),
    Url(Rc<str>),
    Version(Rc<semver::Version>),
    /// The name of a format.
    Format(&'static str),
    /// The fields of what is written as a message.
    Message(Rc<Vec<(&'a str, Value<'a>)>>),
    /// Named values, some of which could not be had.
    Variables(Rc<Vec<(&'a str, Outcome<Value<'a>>)>>),
    Asked(Asked<'a>),
    Ruling(Rc<Ruling>),
}

impl<'a> Value<'a> {
    /// A JSON value with the type that its schema gives it.
    pub(crate) fn of(value: &'a Json, node: Option<&'a Node>) -> Self {
        match value {
            Json::Null => Self::Null,
            Json::Bool(one) => Self::Bool(*one),
            Json::String(text) => Self::of_text(text, node),
            Json::Number(number) => {
                let double = node.is_some_and(|node| node.kind == Some(Kind::Number));
                match (number.as_i64().filter(|_| !double), number.as_f64()) {
                    (Some(whole), _) => Self::Int(whole),
                    (None, Some(fraction)) if is_integer(node) && fraction.fract() == 0.0 => {
                        Self::Int(fraction as i64)
                    }
                    (None, fraction) => Self::Double(fraction.unwrap_or(f64::NAN)),
                }
            }
            Json::Array(_) | Json::Object(_) => Self::Json(value, node),
        }
    }

    fn of_text(text: &'a str, node: Option<&'a Node>) -> Self {
        let plain = Self::Text(Cow::Borrowed(text));
        let Some(node) = node.filter(|node| node.kind == Some(Kind::String)) else { return plain };
        match node.limits.format.as_str() {
            "date-time" => text.parse().map_or(plain, Self::Time),
            "duration" => time::duration(text).map_or(plain, Self::Duration),
            "byte" => STANDARD.decode(text).map_or(plain, |bytes| Self::Bytes(bytes.into())),
            _ => plain,
        }
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into()))
    }

    pub(super) fn list(items: Vec<Value<'a>>) -> Self {
        Self::List(Rc::new(items))
    }

    /// As JSON, what has a form there: bytes, times and the like have none.
    pub(crate) fn to_json(&self) -> Option<Json> {
        match self {
            Self::Null => Some(Json::Null),
            Self::Bool(one) => Some(Json::Bool(*one)),
            Self::Int(number) => Some(Json::from(*number)),
            Self::Uint(number) => Some(Json::from(*number)),
            Self::Double(number) => serde_json::Number::from_f64(*number).map(Json::Number),
            Self::Text(text) => Some(Json::String(text.clone().into_owned())),
            Self::List(items) => items.iter().map(Self::to_json).collect::<Option<_>>().map(Json::Array),
            Self::Map(entries) => {
                let member = |(key, value): &(Self, Self)| match key {
                    Self::Text(name) => Some((name.clone().into_owned(), value.to_json()?)),
                    _ => None,
                };
                entries.iter().map(member).collect::<Option<_>>().map(Json::Object)
            }
            Self::Json(value, _) => Some((*value).clone()),
            Self::Optional(inner) => inner.as_ref().map_or(Some(Json::Null), |inner| inner.to_json()),
            _ => None,
        }
    }

    /// What messages call its type.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) | Self::Json(Json::Array(_), _) => "list",
            Self::Map(_) | Self::Json(..) => "map",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Time(_) => "google.protobuf.Timestamp",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Address(_) => "net.IP",
            Self::Network(..) => "net.CIDR",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Version(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Message(_) => "Object",
            Self::Variables(_) => "variables",
            Self::Asked(asked) => asked.type_name(),
            Self::Ruling(_) => "kubernetes.authorization.Decision",
        }
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Option<Cow<'_, [Value<'a>]>> {
        match self {
            Self::List(items) => Some(Cow::Borrowed(items)),
            Self::Json(Json::Array(items), node) => {
                let inner = node.and_then(|node| node.items.as_deref());
                Some(Cow::Owned(items.iter().map(|item| Value::of(item, inner)).collect()))
            }
            _ => None,
        }
    }

    /// The entries of a map.
    pub(super) fn entries(&self) -> Option<Cow<'_, [(Value<'a>, Value<'a>)]>> {
        match self {
            Self::Map(entries) => Some(Cow::Borrowed(entries)),
            Self::Json(Json::Object(members), node) => {
                let entry = |(name, value): (&'a String, &'a Json)| {
                    let inner = node.and_then(|node| node.member(name));
                    (Self::Text(Cow::Borrowed(name)), Value::of(value, inner))
                };
                Some(Cow::Owned(members.iter().map(entry).collect()))
            }
            _ => None,
        }
    }

    /// How many items or entries there are, without looking at them.
    pub(super) fn count(&self) -> Option<usize> {
        match self {
            Self::List(items) => Some(items.len()),
            Self::Map(entries) => Some(entries.len()),
            Self::Json(Json::Array(items), _) => Some(items.len()),
            Self::Json(Json::Object(members), _) => Some(members.len()),
            _ => None,
        }
    }

    /// Whether there are members.
    pub(super) fn is_map(&self) -> bool {
        matches!(self, Self::Map(_) | Self::Json(Json::Object(_), _) | Self::Message(_) | Self::Asked(_))
    }

    /// One item of a list.
    pub(super) fn item(&self, at: usize) -> Option<Value<'a>> {
        match self {
            Self::List(items) => items.get(at).cloned(),
            Self::Json(Json::Array(items), node) => {
                Some(Value::of(items.get(at)?, node.and_then(|node| node.items.as_deref())))
            }
            _ => None,
        }
    }

    /// Indices and items of a list, keys and values of a map.
    pub(super) fn pairs(&self) -> Option<Vec<(Value<'a>, Value<'a>)>> {
        if let Some(items) = self.items() {
            let items = items.iter().cloned().enumerate();
            return Some(items.map(|(at, item)| (Self::Int(at as i64), item)).collect());
        }
        self.entries().map(Cow::into_owned)
    }

    /// A member of a map by name. In a schema's fields, names that are no CEL names are escaped.
    pub(super) fn member(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Self::Json(json @ Json::Object(_), node) => {
                let find =
                    |name: &str| Some(Value::of(json.get(name)?, node.and_then(|node| node.member(name))));
                find(name).or_else(|| find(&unescape(name).filter(|other| other != name)?))
            }
            Self::Message(fields) => {
                fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.clone())
            }
            Self::Asked(asked) => asked.member(name),
            Self::Map(entries) => {
                let found = entries.iter().find(|(key, _)| matches!(key, Self::Text(text) if text == name));
                found.map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }

    /// How much there is of it, for the budget.
    pub(super) fn weight(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64 / 12 + 1,
            Self::Bytes(bytes) => bytes.len() as u64 / 12 + 1,
            Self::List(items) => items.len() as u64 + 1,
            Self::Map(entries) => entries.len() as u64 + 1,
            Self::Json(Json::Array(items), _) => items.len() as u64 + 1,
            Self::Json(Json::Object(members), _) => members.len() as u64 + 1,
            _ => 1,
        }
    }
}

fn is_integer(node: Option<&Node>) -> bool {
    node.is_some_and(|node| node.kind == Some(Kind::Integer) || node.int_or_string)
}

/// Words that cannot be names in CEL.
pub(crate) const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The name of a field behind its CEL name: `a__dot__b` is `a.b`, `__in__` is `in`.
pub(super) fn unescape(name: &str) -> Option<String> {
    if !name.contains("__") {
        return None;
    }
    if let Some(inner) = name.strip_prefix("__").and_then(|name| name.strip_suffix("__"))
        && (RESERVED.contains(&inner) || inner == "self")
    {
        return Some(inner.to_owned());
    }
    let name = name.replace("__underscores__", "\u{0}");
    let name = name.replace("__dot__", ".").replace("__dash__", "-").replace("__slash__", "/");
    Some(name.replace('\u{0}', "__"))
}
