//! Defaults of a pod's volumes.

use serde_json::{Value, json};

use super::{default, default_unset, each};
use crate::object::text;

/// File modes of volumes made from objects: 0644.
const MODE: i64 = 0o644;

/// One volume.
pub(super) fn apply(volume: &mut Value) {
    let Some(fields) = volume.as_object() else { return };
    let has_source = fields.iter().any(|(name, value)| name != "name" && !value.is_null());
    if !has_source {
        volume["emptyDir"] = json!({});
    }
    for name in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(name).filter(|source| source.is_object()) {
            default(source, "defaultMode", MODE);
        }
    }
    if let Some(source) = volume.get_mut("downwardAPI") {
        each(source, "items").for_each(field_reference);
    }
    if let Some(source) = volume.get_mut("hostPath").filter(|source| source.is_object())
        && source.get("type").is_none()
    {
        source["type"] = "".into();
    }
    if let Some(source) = volume.get_mut("image").filter(|source| source.is_object()) {
        let policy = super::pod::pull_policy(text(source, &["reference"]));
        default(source, "pullPolicy", policy);
    }
    if let Some(source) = volume.get_mut("projected") {
        for part in each(source, "sources") {
            if let Some(token) = part.get_mut("serviceAccountToken").filter(|token| token.is_object()) {
                default(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = part.get_mut("downwardAPI") {
                each(downward, "items").for_each(field_reference);
            }
        }
    }
    if let Some(template) =
        volume.get_mut("ephemeral").and_then(|one| one.get_mut("volumeClaimTemplate")?.get_mut("spec"))
    {
        default_unset(template, "volumeMode", "Filesystem");
    }
    if let Some(source) = volume.get_mut("azureDisk").filter(|source| source.is_object()) {
        default(source, "readOnly", false);
    }
}

fn field_reference(item: &mut Value) {
    if let Some(reference) = item.get_mut("fieldRef") {
        default(reference, "apiVersion", "v1");
    }
    if let Some(reference) = item.get_mut("resourceFieldRef") {
        default(reference, "divisor", "0");
    }
}
