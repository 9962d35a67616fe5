//! DaemonSets: the generation of the template, which a version that is gone had as a field and the present one shows as an
//! annotation.

use serde_json::{Value, json};

use crate::object::{set, text};

/// The annotation.
pub(crate) const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(super) fn create(object: &mut Value) {
    record(object, 1);
}

pub(super) fn update(new: &mut Value, old: &Value) {
    let before: i64 = text(old, &["metadata", "annotations", TEMPLATE_GENERATION]).parse().unwrap_or(0);
    let changed = new["spec"]["template"] != old["spec"]["template"];
    record(new, before.saturating_add(i64::from(changed)));
}

fn record(object: &mut Value, generation: i64) {
    let metadata = &mut object["metadata"];
    if !metadata["annotations"].is_object() {
        set(metadata, "annotations", json!({}));
    }
    set(&mut metadata["annotations"], TEMPLATE_GENERATION, generation.to_string());
}
