//! What a schema declares to an expression: types, how many items, members or bytes there are at most, and the fewest bytes
//! that a value takes in a request. From upstream's `SchemaDeclType`.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::kinds::Kind;
use crate::custom::{self, More, Node};

/// The largest request (bytes): what bounds that which nothing else bounds.
pub(crate) const REQUEST: u64 = 3 << 20;
/// A text in quotes.
const EMPTY_TEXT: u64 = 2;

/// A part of a schema as expressions see it.
#[derive(Debug)]
pub(crate) struct Declared {
    /// Of anything but an object, list or map.
    plain: Kind,
    pub(super) fields: Option<BTreeMap<String, Rc<Declared>>>,
    pub(super) key: Option<Rc<Declared>>,
    pub(super) item: Option<Rc<Declared>>,
    /// The most items, members or bytes; 0 of what has no size.
    pub(super) most: u64,
    /// The fewest bytes in JSON.
    least_bytes: u64,
}

impl Declared {
    /// What an expression beside this schema knows as `self`; nothing for what expressions do not see.
    pub(crate) fn of(node: &Node) -> Option<Rc<Self>> {
        if node.int_or_string {
            let most = node.limits.max_length.map_or(REQUEST - 2, |most| most.saturating_mul(4));
            return Some(Self::plain(Kind::Dyn, most, 1));
        }
        match node.kind? {
            custom::Kind::Array => {
                let item = Self::of(node.items.as_deref()?)?;
                let fit = (REQUEST - 2) / (item.least_bytes + 1);
                let most = node.limits.max_items.unwrap_or(fit);
                Some(Self { item: Some(item), ..Self::new(Kind::Dyn, most, 2) }.into())
            }
            custom::Kind::Object => Self::object(node),
            custom::Kind::String => Some(Self::text(node)),
            custom::Kind::Boolean => Some(Self::plain(Kind::Bool, 0, 4)),
            custom::Kind::Number => Some(Self::plain(Kind::Double, 0, 1)),
            custom::Kind::Integer => Some(Self::plain(Kind::Int, 0, 1)),
        }
    }

    /// The variable `device` of selectors (dynamic-resource-allocation's `cel/compile.go`): a driver's name, attributes
    /// and capacities by domain and name.
    pub(crate) fn device() -> Rc<Self> {
        const ENTRIES: u64 = 32;
        let text = |most| Self::plain(Kind::Text, most, EMPTY_TEXT);
        let map = |key: Rc<Self>, item: Rc<Self>| {
            Rc::new(Self { key: Some(key), item: Some(item), ..Self::new(Kind::Dyn, ENTRIES, 2) })
        };
        let by_domain = |item: Rc<Self>| map(text(63), map(text(32), item));
        let fields = [
            ("driver", text(63)),
            ("allowMultipleAllocations", Self::plain(Kind::Bool, 1, 4)),
            ("attributes", by_domain(Self::plain(Kind::Dyn, 64, 1))),
            ("capacity", by_domain(Self::plain(Kind::Other("quantity"), 0, 1))),
        ];
        let fields = fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect();
        Rc::new(Self { fields: Some(fields), ..Self::new(Kind::Dyn, 0, 2) })
    }

    fn new(plain: Kind, most: u64, least_bytes: u64) -> Self {
        Self { plain, fields: None, key: None, item: None, most, least_bytes }
    }

    fn plain(kind: Kind, most: u64, least_bytes: u64) -> Rc<Self> {
        Rc::new(Self::new(kind, most, least_bytes))
    }

    fn object(node: &Node) -> Option<Rc<Self>> {
        if let More::Like(inner) = &node.more {
            let item = Self::of(inner)?;
            // Quotes, a colon, a comma, and a key of two bytes.
            let fit = (REQUEST - 2) / (item.least_bytes + 6);
            let most = node.limits.max_properties.unwrap_or(fit);
            let key = Some(Self::plain(Kind::Text, 0, EMPTY_TEXT));
            return Some(Self { key, item: Some(item), ..Self::new(Kind::Dyn, most, 2) }.into());
        }
        let mut fields = BTreeMap::new();
        let mut least_bytes = 2;
        for (name, inner) in &node.properties {
            let Some(field) = Self::of(inner) else { continue };
            // What has a default need not be in a request.
            if inner.default.is_none() && node.required.contains(name) {
                least_bytes += name.len() as u64 + field.least_bytes + 4;
            }
            fields.insert(name.clone(), field);
        }
        if node.embedded {
            let text = || Self::plain(Kind::Text, REQUEST - 2, EMPTY_TEXT);
            let names = ["name", "generateName"].map(|name| (name.to_owned(), text()));
            let metadata = Self { fields: Some(names.into()), ..Self::new(Kind::Dyn, 0, 2) };
            fields.insert("metadata".into(), metadata.into());
            fields.extend(["apiVersion", "kind"].map(|name| (name.to_owned(), text())));
        }
        Some(Self { fields: Some(fields), ..Self::new(Kind::Dyn, 0, least_bytes) }.into())
    }

    fn text(node: &Node) -> Rc<Self> {
        let limits = &node.limits;
        match limits.format.as_str() {
            "byte" => Self::plain(Kind::Bytes, limits.max_length.unwrap_or(REQUEST - 2), EMPTY_TEXT),
            "duration" => Self::plain(Kind::Duration, 32, 3),
            "date" => Self::plain(Kind::Timestamp, 12, 12),
            "date-time" => Self::plain(Kind::Timestamp, 32, 21),
            _ => {
                let choices = limits.choices.iter().filter_map(|one| one.as_str()).map(str::len).max();
                let most = match (limits.max_length, limits.choices.is_empty()) {
                    // Lengths are in characters, sizes in bytes.
                    (Some(most), _) => most.saturating_mul(4),
                    (None, false) => choices.unwrap_or_default() as u64,
                    (None, true) => REQUEST - 2,
                };
                Self::plain(Kind::Text, most, EMPTY_TEXT)
            }
        }
    }

    pub(super) fn kind(self: &Rc<Self>) -> Kind {
        let inner = |one: &Rc<Self>| Rc::new(one.kind());
        match (&self.fields, &self.key, &self.item) {
            (Some(_), ..) => Kind::Object(self.clone()),
            (_, Some(key), Some(item)) => Kind::Map(inner(key), inner(item)),
            (_, None, Some(item)) => Kind::List(inner(item)),
            _ => self.plain.clone(),
        }
    }

    /// The most values of this schema that fit into a request.
    pub(crate) fn most_values(&self) -> u64 {
        REQUEST / (self.least_bytes + 1)
    }
}
