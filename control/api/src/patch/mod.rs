//! Patches: RFC 6902, RFC 7386 and Kubernetes' strategic merge. Each takes a document and gives the patched one.
//!
//! The caller decodes and validates the result as it would any object. Server-side apply, which owns fields rather than
//! patching them, is in [`crate::apply`].

mod strategic;

use json_patch::PatchOperation;
use serde_json::{Value, json};

use crate::registry::Resource;
use crate::status::Status;

pub use strategic::merge as strategic_merge;

/// The most operations that a JSON patch may have.
pub const MAX_OPERATIONS: usize = 10_000;

/// How many bytes the `copy` operations of one patch may add up to.
const MAX_COPIED: usize = 3 << 20;

/// Applies a JSON patch (RFC 6902).
///
/// # Errors
/// 400 when the text is no patch, 413 when it has too many operations, 422 when an operation does not apply.
pub fn json_patch(document: &Value, patch: &[u8]) -> Result<Value, Status> {
    let operations: Vec<PatchOperation> = serde_json::from_slice(patch)
        .map_err(|why| Status::bad_request(format!("error decoding patch: {why}")))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(Status::new(
            413,
            "RequestEntityTooLarge",
            format!(
                "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                operations.len()
            ),
        ));
    }
    let mut document = document.clone();
    let mut copied = 0;
    for operation in &operations {
        if let PatchOperation::Copy(copy) = operation {
            copied += copy.from.resolve(&document).map_or(0, |value| value.to_string().len());
            if copied > MAX_COPIED {
                return Err(does_not_apply());
            }
        }
        json_patch::patch(&mut document, std::slice::from_ref(operation)).map_err(|_| does_not_apply())?;
    }
    Ok(document)
}

/// 422, without what is wrong: upstream keeps that to itself.
fn does_not_apply() -> Status {
    let message = "the server rejected our request due to an error in our request";
    Status { details: Some(json!({})), ..Status::new(422, "Invalid", message) }
}

/// Applies a merge patch (RFC 7386).
///
/// # Errors
/// 400 when the text is not a JSON object.
pub fn merge_patch(document: &Value, patch: &[u8]) -> Result<Value, Status> {
    let patch = object(patch)?;
    let mut document = document.clone();
    json_patch::merge(&mut document, &patch);
    Ok(document)
}

/// Applies a strategic merge patch, by the merge keys of the resource's schema.
///
/// # Errors
/// 400 when the text is not a JSON object or its directives make no sense.
pub fn strategic_merge_patch(resource: &Resource, document: &Value, patch: &[u8]) -> Result<Value, Status> {
    let patch = object(patch)?;
    strategic::merge(&resource.schema, document, &patch).map_err(Status::bad_request)
}

fn object(patch: &[u8]) -> Result<Value, Status> {
    let value = crate::decode::parse(patch, crate::decode::Encoding::Json)
        .map_err(|why| Status::bad_request(format!("error decoding patch: {why}")))?
        .value;
    match value {
        Value::Object(_) => Ok(value),
        other => Err(Status::bad_request(format!(
            "error decoding patch: a JSON object is expected, not {other:.40}"
        ))),
    }
}

#[cfg(test)]
mod tests;
