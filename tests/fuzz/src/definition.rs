//! Definitions of custom resources, and an object of what they define.
//!
//! The bytes are the `spec` of a definition and, after a NUL, the object, both in JSON.

use serde_json::{Value, json};
use skep_api::decode::{self, Encoding, FieldValidation};
use skep_api::registry::registry;
use skep_api::{custom, openapi};

use crate::objects;

/// Defines.
pub fn run(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (spec, object) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Ok(spec) = decode::parse(spec, Encoding::Json) else { return };
    let mut definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "as.b.c" },
    });
    definition["spec"] = spec.value;
    let definitions = registry().find("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let definitions = definitions.expect("definitions are built in");
    objects::through(definitions, definition.clone());
    if decode::check(definitions, &mut definition, FieldValidation::Ignore).is_err() {
        return;
    }
    skep_api::defaults::apply(definitions, &mut definition);
    if !skep_api::validation::create(definitions, &definition).is_empty() {
        return;
    }
    let kinds = registry().with_custom(custom::resources(&definition));
    let _: Value = openapi::v2(&kinds);
    for resource in custom::resources(&definition) {
        let _ = openapi::v3(&kinds, &format!("apis/{}", resource.group_version()));
        if let Ok((object, _)) = decode::object(&resource, object, Encoding::Json, FieldValidation::Warn) {
            objects::through(&resource, object);
        }
    }
}
