//! Amounts of resources by name, as text: a list of two or three takes a tenth of what a map would.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Amounts by name, as the API has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Amounts(Box<[(Box<str>, Box<str>)]>);

/// What is asked for, and what is allowed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct ResourceLists {
    requests: Option<Amounts>,
    limits: Option<Amounts>,
}

impl Amounts {
    pub(super) fn to_value(&self) -> Value {
        let members = self.0.iter().map(|(name, amount)| (name.to_string(), Value::from(&**amount)));
        Value::Object(members.collect::<Map<_, _>>())
    }
}

impl ResourceLists {
    pub(super) fn to_value(&self) -> Value {
        let lists = [("requests", &self.requests), ("limits", &self.limits)];
        let members = lists
            .into_iter()
            .filter_map(|(name, list)| list.as_ref().map(|amounts| (name.to_owned(), amounts.to_value())));
        Value::Object(members.collect::<Map<_, _>>())
    }
}

impl<'de> Deserialize<'de> for Amounts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Amounts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("amounts by name of resource")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Amounts, A::Error> {
        let mut amounts = Vec::new();
        while let Some((name, amount)) = map.next_entry::<Box<str>, Value>()? {
            // The API takes numbers for amounts, too.
            let text = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
            amounts.push((name, text.into_boxed_str()));
        }
        Ok(Amounts(amounts.into()))
    }
}
