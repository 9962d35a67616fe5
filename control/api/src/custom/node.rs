//! A structural schema, read from the JSON of a definition into what the walks need.
//!
//! Reading is lenient: what a schema must not have, [`crate::definition`] refuses before.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use super::number::Number;
use super::pattern;
use super::rules::Rule;
use crate::object::{at, flag, items, members, text};
use crate::schema::ListType;

/// `type` of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Kind {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// What members beyond the named ones are: `additionalProperties`.
#[derive(Clone, Debug, Default)]
pub(crate) enum More {
    /// Not said: they are not known.
    #[default]
    Unknown,
    /// `true`: anything.
    Any,
    /// `false`.
    None,
    /// Each one like this.
    Like(Box<Node>),
}

/// A schema, or a part of one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    pub(crate) kind: Option<Kind>,
    pub(crate) properties: BTreeMap<String, Node>,
    pub(crate) more: More,
    pub(crate) items: Option<Box<Node>>,
    pub(crate) required: Vec<String>,
    pub(crate) nullable: bool,
    pub(crate) preserve_unknown: bool,
    pub(crate) int_or_string: bool,
    pub(crate) embedded: bool,
    pub(crate) default: Option<Value>,
    pub(crate) list_type: Option<ListType>,
    pub(crate) list_keys: Vec<String>,
    pub(crate) atomic_map: bool,
    pub(crate) limits: Limits,
    pub(crate) all_of: Vec<Node>,
    pub(crate) any_of: Vec<Node>,
    pub(crate) one_of: Vec<Node>,
    pub(crate) not: Option<Box<Node>>,
    pub(crate) rules: Vec<Rule>,
}

/// Limits on a single value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) format: String,
    pub(crate) choices: Vec<Value>,
    pub(crate) pattern: Option<Regex>,
    pub(crate) written_pattern: String,
    pub(crate) maximum: Option<Number>,
    pub(crate) above_maximum: bool,
    pub(crate) minimum: Option<Number>,
    pub(crate) below_minimum: bool,
    pub(crate) multiple_of: Option<Number>,
    pub(crate) max_length: Option<u64>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) min_items: Option<u64>,
    pub(crate) unique_items: bool,
    pub(crate) max_properties: Option<u64>,
    pub(crate) min_properties: Option<u64>,
}

impl Node {
    /// Reads the schema of a value, without its rules.
    ///
    /// # Errors
    /// The pattern that is no regular expression, and why.
    pub(crate) fn read(schema: &Value) -> Result<Self, String> {
        Self::part(schema, false)
    }

    /// Reads the schema of an object, with its rules.
    ///
    /// # Errors
    /// As of [`Node::read`]. Rules are kept with what is wrong with them.
    pub(crate) fn of_object(schema: &Value) -> Result<Self, String> {
        let mut node = Self::part(schema, true)?;
        node.embedded = true;
        node.rules = super::rules::read(schema, &node);
        Ok(node)
    }

    fn part(schema: &Value, rules: bool) -> Result<Self, String> {
        let read = |inner: &Value| -> Result<Self, String> {
            let mut node = Self::part(inner, rules)?;
            if rules {
                node.rules = super::rules::read(inner, &node);
            }
            Ok(node)
        };
        let all = |name: &str| items(schema, &[name]).iter().map(Self::read).collect::<Result<Vec<_>, _>>();
        let one = |name: &str| at(schema, &[name]).map(|inner| read(inner).map(Box::new)).transpose();
        let properties = members(schema, &["properties"])
            .map(|(name, inner)| Ok((name.clone(), read(inner)?)))
            .collect::<Result<_, String>>()?;
        let more = match at(schema, &["additionalProperties"]) {
            None => More::Unknown,
            Some(Value::Bool(true)) => More::Any,
            Some(Value::Bool(false)) => More::None,
            Some(inner) => More::Like(Box::new(read(inner)?)),
        };
        Ok(Self {
            kind: Kind::parse(text(schema, &["type"])),
            properties,
            more,
            items: one("items")?,
            required: texts(schema, "required"),
            nullable: flag(schema, &["nullable"]),
            preserve_unknown: flag(schema, &["x-kubernetes-preserve-unknown-fields"]),
            int_or_string: flag(schema, &["x-kubernetes-int-or-string"]),
            embedded: flag(schema, &["x-kubernetes-embedded-resource"]),
            default: at(schema, &["default"]).cloned(),
            list_type: match text(schema, &["x-kubernetes-list-type"]) {
                "set" => Some(ListType::Set),
                "map" => Some(ListType::Map),
                "atomic" => Some(ListType::Atomic),
                _ => None,
            },
            list_keys: texts(schema, "x-kubernetes-list-map-keys"),
            atomic_map: text(schema, &["x-kubernetes-map-type"]) == "atomic",
            limits: Limits::read(schema)?,
            all_of: all("allOf")?,
            any_of: all("anyOf")?,
            one_of: all("oneOf")?,
            not: one("not")?,
            rules: Vec::new(),
        })
    }

    /// The schema of a member, by name or as one of many.
    pub(crate) fn member(&self, name: &str) -> Option<&Node> {
        match (self.properties.get(name), &self.more) {
            (Some(node), _) => Some(node),
            (None, More::Like(node)) => Some(node),
            _ => None,
        }
    }
}

impl Limits {
    fn read(schema: &Value) -> Result<Self, String> {
        let count = |name: &str| at(schema, &[name]).and_then(Value::as_u64);
        let number = |name: &str| at(schema, &[name]).and_then(Number::of);
        let written_pattern = text(schema, &["pattern"]).to_owned();
        let pattern = match written_pattern.as_str() {
            "" => None,
            written => Some(pattern::compile(written)?),
        };
        Ok(Self {
            format: text(schema, &["format"]).to_owned(),
            choices: items(schema, &["enum"]).to_vec(),
            pattern,
            written_pattern,
            maximum: number("maximum"),
            above_maximum: flag(schema, &["exclusiveMaximum"]),
            minimum: number("minimum"),
            below_minimum: flag(schema, &["exclusiveMinimum"]),
            multiple_of: number("multipleOf"),
            max_length: count("maxLength"),
            min_length: count("minLength"),
            max_items: count("maxItems"),
            min_items: count("minItems"),
            unique_items: flag(schema, &["uniqueItems"]),
            max_properties: count("maxProperties"),
            min_properties: count("minProperties"),
        })
    }
}

fn texts(schema: &Value, name: &str) -> Vec<String> {
    items(schema, &[name]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
