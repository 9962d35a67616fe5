//! Where in a typed object a value stands, and what that means for ownership: a value is owned as a whole, by its
//! members, or by its items (`x-kubernetes-list-type`, `x-kubernetes-map-type`).

use serde_json::{Map, Value};

use super::step::Step;
use crate::printed::{Printed, type_name};
use crate::schema::{Field, ListType, Schema, Shape, Type, Types, Zero};

/// A place in a type.
#[derive(Clone, Copy)]
pub(super) struct Spot<'a> {
    types: &'a Types,
    shape: &'a Shape,
    /// The field that says how it merges, where it is that of a field.
    field: Option<&'a Field>,
    /// A value without a type whose objects are owned by their members all the same.
    free: bool,
}

/// How a value is owned.
pub(super) enum Kind<'a> {
    /// As a whole.
    Whole,
    /// By its members.
    Members,
    /// By its items.
    Items(Items<'a>),
}

/// How the items of a list are told apart.
pub(super) enum Items<'a> {
    /// By their values.
    Values,
    /// By these members.
    Keys(&'a [String]),
}

impl<'a> Spot<'a> {
    /// The root of an object; its shape outlives the spot because the caller holds it.
    pub(super) fn root(schema: &'a Schema, shape: &'a Shape) -> Self {
        Self { types: &schema.types, shape, field: None, free: false }
    }

    fn of_type(&self) -> Option<&'a Type> {
        match self.shape {
            Shape::Object(id) => Some(self.types.get(*id)),
            _ => None,
        }
    }

    /// How this value is owned.
    pub(super) fn kind(&self, value: &Value) -> Kind<'a> {
        let map_type = self.field.and_then(|field| field.map_type.as_deref());
        match (self.shape, value) {
            (Shape::Object(id), Value::Object(_))
                if map_type == Some("granular")
                    || !self.types.get(*id).atomic && map_type != Some("atomic") =>
            {
                Kind::Members
            }
            (Shape::Map(_), Value::Object(_)) if map_type != Some("atomic") => Kind::Members,
            (Shape::Any, Value::Object(_)) if self.free || map_type == Some("granular") => Kind::Members,
            (Shape::List(_), Value::Array(_)) => match self.field {
                Some(Field { list_type: ListType::Set, .. }) => Kind::Items(Items::Values),
                Some(Field { list_type: ListType::Map, list_keys, .. }) => {
                    Kind::Items(Items::Keys(list_keys))
                }
                _ => Kind::Whole,
            },
            _ => Kind::Whole,
        }
    }

    /// What a value should be that is something else, and what it is, as upstream prints both.
    pub(super) fn mismatch(&self, value: &Value) -> Option<(&'static str, String)> {
        let whole = |wanted| Some((wanted, format!("&{{{}}}", Printed(value))));
        let quoted = |wanted| {
            let value = if value.is_string() { value.to_string() } else { Printed(value).to_string() };
            Some((wanted, format!("&value.valueUnstructured{{Value:{value}}}")))
        };
        match (self.shape, value) {
            (_, Value::Null) => None,
            (Shape::Object(_) | Shape::Map(_), value) if !value.is_object() => whole("map"),
            (Shape::List(_), value) if !value.is_array() => whole("list"),
            (Shape::String | Shape::Bytes | Shape::Time | Shape::MicroTime, value) if !value.is_string() => {
                quoted("string")
            }
            (Shape::Boolean, value) if !value.is_boolean() => quoted("boolean"),
            (Shape::Int32 | Shape::Int64 | Shape::Number, value) if !value.is_number() => {
                Some(("numeric (int or float)", type_name(value).to_owned()))
            }
            _ => None,
        }
    }

    /// Whether there can be a member of this name.
    pub(super) fn has_member(&self, name: &str) -> bool {
        self.of_type().is_none_or(|of| of.field(name).is_some())
    }

    /// The place of a member, and whether it is a field of a type rather than a key of a map.
    pub(super) fn member(&self, name: &str) -> (Self, bool) {
        match self.shape {
            Shape::Object(id) => match self.types.get(*id).field(name) {
                Some(field) => (Self { shape: &field.shape, field: Some(field), free: false, ..*self }, true),
                None => (Self { shape: &Shape::Any, field: None, free: false, ..*self }, false),
            },
            Shape::Map(inner) => (Self { shape: inner, field: None, free: false, ..*self }, false),
            _ => (Self { shape: &Shape::Any, field: None, free: true, ..*self }, false),
        }
    }

    /// The place of an item.
    pub(super) fn item(&self) -> Self {
        match self.shape {
            Shape::List(inner) => Self { shape: inner, field: None, free: false, ..*self },
            _ => Self { shape: &Shape::Any, field: None, free: true, ..*self },
        }
    }

    /// The step to an item.
    ///
    /// # Errors
    /// When the item has none of the keys.
    pub(super) fn step(&self, by: &Items<'_>, item: &Value) -> Result<Step, String> {
        let keys = match by {
            Items::Values => return Ok(Step::value(item)),
            Items::Keys(keys) => keys,
        };
        let of_type = self.item().of_type();
        let mut found = Map::new();
        for key in *keys {
            let default = || of_type.and_then(|of| of.field(key)).and_then(|field| field.default.as_ref());
            if let Some(value) = item.get(key).filter(|value| !value.is_null()).or_else(default) {
                found.insert(key.clone(), value.clone());
            } else if let Some(zero) = of_type.and_then(|of| of.field(key)).and_then(zero) {
                found.insert(key.clone(), zero);
            }
        }
        if found.is_empty() {
            return Err(format!(
                "associative list with keys has an element that omits all key fields {keys:?}"
            ));
        }
        Ok(Step::key(found))
    }

    /// Whether a path from here ends in a field of a type.
    pub(super) fn is_named(&self, path: &[Step]) -> bool {
        let mut at = *self;
        let mut named = false;
        for step in path {
            (at, named) = match step {
                Step::Field(name) => at.member(name),
                _ => (at.item(), false),
            };
        }
        named
    }
}

/// The steps to the items of a list, in order.
///
/// # Errors
/// When an item has no key.
pub(super) fn steps(spot: &Spot<'_>, by: &Items<'_>, items: &[Value]) -> Result<Vec<Step>, String> {
    items.iter().map(|item| spot.step(by, item)).collect()
}

/// What stands for a key that is written in any case, as upstream's schemas say: its zero.
fn zero(field: &Field) -> Option<Value> {
    match (field.written, &field.shape) {
        (Some(Zero::Plain), Shape::String) => Some("".into()),
        (Some(Zero::Plain), Shape::Int32 | Shape::Int64) => Some(0.into()),
        _ => None,
    }
}
