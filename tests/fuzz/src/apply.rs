//! Server-side apply to a pod, and the owners that it leaves.
//!
//! The bytes are what is applied and, after a NUL, what `managedFields` of the live object are. Applying the same twice is
//! the same as once.

use serde_json::{Value, json};
use skep_api::apply::{self, Conversions, Writer};
use skep_api::decode;
use skep_api::registry::registry;

use crate::objects;

/// Applies.
pub fn run(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (applied, entries) = (parts.next().unwrap_or_default(), parts.next());
    let resource = objects::pods();
    let mut live = objects::pod();
    if let Some(entries) = entries {
        live["metadata"]["managedFields"] = serde_json::from_slice(entries).unwrap_or(Value::Null);
    }
    let Ok(applied) = decode::applied(resource, applied) else { return };
    let conversions = &Conversions::default();
    let (registry, now, subresource) = (registry(), "2030-01-01T00:00:00Z", "");
    let writer = Writer { resource, registry, name: "fuzz", subresource, now, conversions };
    let _ = apply::apply(&writer, &json!({}), &applied.value, false);
    let _ = apply::apply(&writer, &live, &applied.value, false);
    let Ok(once) = apply::apply(&writer, &live, &applied.value, true) else { return };
    let twice =
        apply::apply(&writer, &once, &applied.value, false).expect("who owns a field has no conflict");
    assert_eq!(once["metadata"]["managedFields"], twice["metadata"]["managedFields"]);
    let mut updated = once.clone();
    apply::update(&Writer { name: "other", ..writer }, &live, &mut updated);
    objects::through(resource, once);
}
