//! PersistentVolumeClaimResize: a claim grows only when it is bound and its storage class says that volumes can.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use skep_api::object::{at, flag, text};
use skep_api::quantity::Quantity;
use skep_api::resources;
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::cache::Cache;
use crate::gate::ObjectReader;

struct ClaimResize {
    cache: Arc<Cache>,
}

pub(super) fn make(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(ClaimResize { cache: from.cache.clone() }))
}

#[async_trait]
impl Plugin for ClaimResize {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.updates() && attributes.is("", "persistentvolumeclaims")
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let (Some(new), Some(old)) = (object, attributes.old) else { return Ok(()) };
        let class = self.cache.get("storage.k8s.io", "storageclasses", "", class(new));
        match refusal(old, new, class.as_deref()) {
            Some(why) => Err(attributes.forbid(why)),
            None => Ok(()),
        }
    }
}

fn size(claim: &Value) -> Quantity {
    let asked = at(claim, &["spec", "resources", "requests", "storage"]).and_then(resources::parse);
    asked.unwrap_or(Quantity::of(0))
}

fn class(claim: &Value) -> &str {
    match text(claim, &["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]) {
        "" => text(claim, &["spec", "storageClassName"]),
        old => old,
    }
}

fn refusal(old: &Value, new: &Value, storage_class: Option<&Value>) -> Option<&'static str> {
    if size(new) <= size(old) {
        return None;
    }
    if text(old, &["status", "phase"]) != "Bound" {
        return Some("Only bound persistent volume claims can be expanded");
    }
    let same = !class(new).is_empty() && class(new) == class(old);
    let grows = storage_class.is_some_and(|class| flag(class, &["allowVolumeExpansion"]));
    (!same || !grows).then_some(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support \
         resize",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claim_grows_when_bound_and_of_a_class_that_can() {
        let claim = |size: &str, class: &str, phase: &str| {
            json!({
                "spec": { "storageClassName": class, "resources": { "requests": { "storage": size } } },
                "status": { "phase": phase },
            })
        };
        let (can, cannot) = (json!({ "allowVolumeExpansion": true }), json!({}));
        let start = |old: &Value, new: &Value, class: Option<&Value>| {
            refusal(old, new, class).map(|why| why.split(' ').next().unwrap_or_default())
        };
        let (small, large) = (claim("1Gi", "a", "Bound"), claim("2Gi", "a", "Bound"));
        assert_eq!(start(&large, &small, None), None);
        assert_eq!(start(&small, &large, Some(&can)), None);
        assert_eq!(start(&small, &large, Some(&cannot)), Some("only"));
        assert_eq!(start(&small, &large, None), Some("only"));
        assert_eq!(start(&small, &claim("2Gi", "b", "Bound"), Some(&can)), Some("only"));
        assert_eq!(start(&claim("1Gi", "a", "Pending"), &large, Some(&can)), Some("Only"));
    }
}
