//! From client-side apply to server-side apply: what `kubectl apply` wrote into its annotation belongs to kubectl, so that
//! its first server-side apply finds no conflict with itself; and the annotation goes on to hold what was applied last,
//! so that client-side apply can be taken up again.

use serde_json::{Value, json};

use super::conflict::Conflict;
use super::set::FieldSet;
use super::spot::Spot;
use super::{Writer, compare, extract};
use crate::object::{at, remove, set as put};
use crate::schema::Shape;

/// Where client-side apply keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The field manager of `kubectl apply --server-side`.
const KUBECTL: &str = "kubectl";
/// Longer annotations are not valid (bytes).
const LONGEST: usize = 256 * 1024;

/// Whether conflicts are only with what the annotation says, unchanged since.
///
/// # Errors
/// The conflicts that are left.
pub(super) fn allow(
    writer: &Writer<'_>,
    live: &Value,
    conflicts: Vec<Conflict>,
) -> Result<(), Vec<Conflict>> {
    if writer.name != KUBECTL {
        return Err(conflicts);
    }
    let allowed = unchanged(writer, live).unwrap_or_default();
    let left: Vec<Conflict> = conflicts
        .into_iter()
        .map(|conflict| Conflict { fields: conflict.fields.difference(&allowed), ..conflict })
        .filter(|conflict| !conflict.fields.is_empty())
        .collect();
    if left.is_empty() { Ok(()) } else { Err(left) }
}

/// The fields of the annotation whose values are still those of the live object.
fn unchanged(writer: &Writer<'_>, live: &Value) -> Option<FieldSet> {
    let text = at(live, &["metadata", "annotations", LAST_APPLIED])?.as_str()?;
    let last: Value = serde_json::from_str(text).ok()?;
    if last["apiVersion"] != live["apiVersion"] || last["kind"] != live["kind"] {
        return None;
    }
    let schema = &writer.resource.schema;
    let shape = Shape::Object(schema.root);
    let spot = Spot::root(schema, &shape);
    let changes = compare::compare(&spot, &last, live).ok()?;
    let fields = extract::fields(&spot, &last).ok()?;
    Some(fields.difference(&changes.modified).difference(&changes.removed))
}

/// Brings the annotation up to date, when the object has one and kubectl applies.
pub(super) fn annotate(writer: &Writer<'_>, applied: &Value, object: &mut Value) {
    let there = at(object, &["metadata", "annotations", LAST_APPLIED]).is_some();
    if writer.name != KUBECTL || !writer.subresource.is_empty() || !there {
        return;
    }
    let mut last = applied.clone();
    if let Some(metadata) = last.get_mut("metadata") {
        if !metadata["annotations"].is_object() {
            put(metadata, "annotations", json!({}));
        }
        remove(&mut metadata["annotations"], LAST_APPLIED);
    }
    let text = format!("{last}\n");
    let annotations = &mut object["metadata"]["annotations"];
    if text.len() <= LONGEST {
        put(annotations, LAST_APPLIED, text);
    } else {
        remove(annotations, LAST_APPLIED);
    }
}
