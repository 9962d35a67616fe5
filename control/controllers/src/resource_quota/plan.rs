//! Whether the status of a quota says what it should: pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Map, Value};
use skep_api::resources::{self, Amounts};

/// What a status should say.
#[derive(Debug, PartialEq)]
pub(super) struct Status {
    pub(super) hard: Amounts,
    pub(super) used: Amounts,
}

impl Status {
    /// Whether a status says anything else.
    pub(super) fn differs(&self, old: &Value) -> bool {
        resources::read(&old["hard"]) != self.hard || resources::read(&old["used"]) != self.used
    }

    /// Whether less is used than a status says.
    pub(super) fn is_less(&self, old: &Value) -> bool {
        let old = resources::read(&old["used"]);
        self.used.iter().any(|(name, amount)| old.get(name).is_some_and(|old| amount < old))
    }
}

/// A merge patch that puts these amounts in the place of the old ones.
pub(super) fn replacing(old: Option<&BTreeMap<String, Quantity>>, new: &Amounts) -> Value {
    let mut patch = Map::new();
    for name in old.into_iter().flat_map(|old| old.keys()) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, amount) in new {
        patch.insert(name.clone(), amount.to_string().into());
    }
    Value::Object(patch)
}
