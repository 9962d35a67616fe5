//! Whether the status of a quota says what it should: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceQuotaStatus;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;
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

    /// The status as quotas carry it.
    pub(super) fn to_object(&self) -> ResourceQuotaStatus {
        let list = |amounts: &Amounts| -> BTreeMap<String, Quantity> {
            amounts.iter().map(|(name, amount)| (name.clone(), Quantity(amount.to_string()))).collect()
        };
        ResourceQuotaStatus { hard: Some(list(&self.hard)), used: Some(list(&self.used)) }
    }

    /// Whether a status lacks any of the amounts: nothing was charged against them so far.
    pub(super) fn is_first(&self, old: &Value) -> bool {
        let old = resources::read(&old["used"]);
        self.used.keys().any(|name| !old.contains_key(name))
    }

    /// Whether less is used than a status says.
    pub(super) fn is_less(&self, old: &Value) -> bool {
        let old = resources::read(&old["used"]);
        self.used.iter().any(|(name, amount)| old.get(name).is_some_and(|old| amount < old))
    }
}
