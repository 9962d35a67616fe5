//! The 409 of an apply that would change what others own, in upstream's words.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::set::FieldSet;
use super::step::path_text;
use crate::status::Status;

/// What one owner would lose.
#[derive(Clone, Debug)]
pub(super) struct Conflict {
    /// Its title.
    pub(super) owner: String,
    pub(super) fields: FieldSet,
}

/// One cause for each field.
pub(super) fn status(conflicts: &[Conflict]) -> Status {
    let mut by_owner: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for conflict in conflicts {
        let paths = by_owner.entry(&conflict.owner).or_default();
        paths.extend(conflict.fields.leaves().iter().map(|path| path_text(path)));
    }
    let causes: Vec<Value> = by_owner
        .iter()
        .flat_map(|(owner, paths)| paths.iter().map(move |path| (owner, path)))
        .map(|(owner, path)| {
            json!({ "reason": "FieldManagerConflict", "message": format!("conflict with {owner}"), "field": path })
        })
        .collect();
    let message = match causes.as_slice() {
        [one] => {
            let (cause, field) = (one["message"].as_str().unwrap_or_default(), one["field"].as_str());
            format!("Apply failed with 1 conflict: {cause}: {}", field.unwrap_or_default())
        }
        many => {
            let lines = by_owner.iter().flat_map(|(owner, paths)| {
                let title = format!("conflicts with {owner}:");
                std::iter::once(title).chain(paths.iter().map(|path| format!("- {path}")))
            });
            let lines: Vec<String> = lines.collect();
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    let mut status = Status::new(409, "Conflict", message);
    status.details = Some(json!({ "causes": causes }));
    status
}
