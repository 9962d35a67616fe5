//! Patches: RFC 6902, RFC 7386 and Kubernetes' strategic merge. Each takes a document and gives the patched one.
//!
//! The caller decodes and validates the result as it would any object. Server-side apply, which owns fields rather than
//! patching them, is in [`crate::apply`].

mod strategic;

use json_patch::PatchOperation;
use serde_json::{Value, json};

use crate::decode::json_type;
use crate::printed::Printed;
use crate::registry::Resource;
use crate::status::Status;

pub use strategic::{Failure, merge as strategic_merge};

/// The most operations that a JSON patch may have.
pub const MAX_OPERATIONS: usize = 10_000;

/// How many bytes the `copy` operations of one patch may add up to.
const MAX_COPIED: usize = 3 << 20;

/// Applies a JSON patch (RFC 6902).
///
/// # Errors
/// 400 when the text is no list, 413 when it has too many operations, 422 when an operation is none or does not apply.
pub fn json_patch(document: &Value, patch: &[u8]) -> Result<Value, Status> {
    json_patch_explained(document, patch).map_err(|fault| match fault {
        Fault::Refused(status) => status,
        Fault::Apply(_) => does_not_apply(),
    })
}

/// Why a JSON patch does not apply.
#[derive(Debug)]
pub enum Fault {
    /// It is none, or has too many operations.
    Refused(Status),
    /// An operation is none, or does not apply, for this reason.
    Apply(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(status) => f.write_str(&status.message),
            Self::Apply(why) => f.write_str(why),
        }
    }
}

/// Applies a JSON patch, and says what is wrong with it to who wrote it.
///
/// # Errors
/// As [`json_patch`], with the reason.
pub fn json_patch_explained(document: &Value, patch: &[u8]) -> Result<Value, Fault> {
    let bad = |why: String| Fault::Refused(Status::bad_request(format!("error decoding patch: {why}")));
    let operations: Value =
        serde_json::from_slice(patch).map_err(|_| bad(crate::decode::json_error(patch)))?;
    let cannot = |what: &Value, into: &str| {
        bad(format!("json: cannot unmarshal {} into Go value of type {into}", json_type(what)))
    };
    let operations = match operations {
        Value::Null => Vec::new(),
        Value::Array(operations) => operations,
        other => return Err(cannot(&other, "[]handlers.jsonPatchOp")),
    };
    if let Some(other) = operations.iter().find(|one| !one.is_object() && !one.is_null()) {
        return Err(cannot(other, "handlers.jsonPatchOp"));
    }
    if operations.len() > MAX_OPERATIONS {
        let found = operations.len();
        let why = format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {found}"
        );
        return Err(Fault::Refused(Status::new(413, "RequestEntityTooLarge", why)));
    }
    let mut document = document.clone();
    let mut copied = 0;
    for operation in operations {
        let operation = operation_of(&document, operation)?;
        if let PatchOperation::Copy(copy) = &operation {
            copied += copy.from.resolve(&document).map_or(0, |value| value.to_string().len());
            if copied > MAX_COPIED {
                return Err(Fault::Apply(format!("copy operations add up to more than {MAX_COPIED} bytes")));
            }
        }
        if !is_met(&document, &operation) {
            json_patch::patch(&mut document, &[operation])
                .map_err(|error| Fault::Apply(error.to_string()))?;
        }
    }
    Ok(document)
}

/// An operation as upstream's library means it: what has no value has null, and a member of an object that is not there
/// is replaced all the same.
fn operation_of(document: &Value, mut operation: Value) -> Result<PatchOperation, Fault> {
    let kind = operation["op"].as_str().unwrap_or_default().to_owned();
    if let Some(members) = operation.as_object_mut()
        && matches!(kind.as_str(), "add" | "replace" | "test")
    {
        members.entry("value").or_insert(Value::Null);
    }
    for member in ["path", "from"] {
        let grows = member == "path" && matches!(kind.as_str(), "add" | "copy" | "move");
        if let Some(Value::String(path)) = operation.get_mut(member) {
            if path.contains('~') {
                *path = escaped(path);
            }
            if path.contains("/-") {
                *path = from_the_front(document, path, grows);
            }
        }
    }
    let operation = serde_json::from_value(operation)
        .map_err(|error| Fault::Apply(format!("{kind:?} operation: {error}")))?;
    Ok(match operation {
        PatchOperation::Replace(replace) if is_new_member(document, &replace.path) => {
            PatchOperation::Add(json_patch::AddOperation { path: replace.path, value: replace.value })
        }
        operation => operation,
    })
}

/// A path in which every tilde begins an escape: upstream's library takes one that does not for itself.
fn escaped(path: &str) -> String {
    let mut parts = path.split('~');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let sign = if part.starts_with(['0', '1']) { "~" } else { "~0" };
        text + sign + part
    })
}

/// A path whose indexes are all counted from the front: upstream's library counts negative ones from the end of a list,
/// which is one longer where something is added (`grows`).
fn from_the_front(document: &Value, path: &str, grows: bool) -> String {
    let mut at = Some(document);
    let mut tokens = path.split('/').peekable();
    let mut counted: Vec<String> = tokens.next().into_iter().map(str::to_owned).collect();
    while let Some(token) = tokens.next() {
        let list = at.and_then(Value::as_array);
        let length = list.map(|list| list.len() + usize::from(grows && tokens.peek().is_none()));
        let back = token.strip_prefix('-').and_then(|digits| digits.parse::<usize>().ok());
        let token = match (length, back) {
            (Some(length), Some(back)) if back <= length && back > 0 => (length - back).to_string(),
            _ => token.to_owned(),
        };
        at = match at {
            Some(Value::Array(list)) => token.parse::<usize>().ok().and_then(|index| list.get(index)),
            Some(Value::Object(members)) => members.get(&token.replace("~1", "/").replace("~0", "~")),
            _ => None,
        };
        counted.push(token);
    }
    counted.join("/")
}

fn is_new_member(document: &Value, path: &json_patch::jsonptr::Pointer) -> bool {
    let parent = path.parent().and_then(|parent| parent.resolve(document).ok());
    parent.is_some_and(Value::is_object) && path.resolve(document).is_err()
}

/// Whether it is a test for a member that is not there: that is as good as null.
fn is_met(document: &Value, operation: &PatchOperation) -> bool {
    match operation {
        PatchOperation::Test(test) => test.value.is_null() && is_new_member(document, &test.path),
        _ => false,
    }
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
    let patch = object(patch).map_err(|why| Status::bad_request(format!("error decoding patch: {why}")))?;
    if patch.is_null() {
        return Err(Status::bad_request("Invalid JSON Patch"));
    }
    let mut document = document.clone();
    json_patch::merge(&mut document, &patch);
    Ok(document)
}

/// Applies a strategic merge patch, by the merge keys of the resource's schema.
///
/// # Errors
/// 400 when the text is not a JSON object, a directive has no form, or its items or its order do not suit a list.
pub fn strategic_merge_patch(resource: &Resource, document: &Value, patch: &[u8]) -> Result<Value, Status> {
    let patch = match object(patch).map_err(Status::bad_request)? {
        Value::Null => json!({}),
        patch => patch,
    };
    strategic::merge(&resource.schema, document, &patch).map_err(|failure| match failure {
        Failure::Form("lists of lists are not supported") => does_not_apply(),
        Failure::Form(why) => Status::bad_request(why),
        // Upstream answers these with 500, as if it were its own fault.
        Failure::Misfit(why) => Status::bad_request(why),
    })
}

/// What is odd about the text of a merge patch, strategic or not: members that it has twice.
pub fn problems(patch: &[u8]) -> Vec<String> {
    crate::decode::parse(patch, crate::decode::Encoding::Json).map(|one| one.duplicates).unwrap_or_default()
}

/// The same of a JSON patch, with members that no operation has.
pub fn json_patch_problems(patch: &[u8]) -> Vec<String> {
    let Ok(parsed) = crate::decode::parse(patch, crate::decode::Encoding::Json) else { return Vec::new() };
    let mut problems = Vec::new();
    for (at, operation) in parsed.value.as_array().into_iter().flatten().enumerate().take(MAX_OPERATIONS) {
        let names = operation.as_object().into_iter().flatten().map(|(name, _)| name);
        let unknown = names.filter(|name| !matches!(name.as_str(), "op" | "path" | "from" | "value"));
        problems.extend(unknown.map(|name| format!("json patch unknown field \"[{at}].{name}\"")));
    }
    problems.extend(parsed.duplicates.into_iter().map(|one| format!("json patch {one}")));
    problems
}

/// A strategic merge patch as upstream's messages quote it: without the directives that are done.
pub fn quoted(patch: &[u8]) -> String {
    match object(patch) {
        Ok(mut patch) => {
            strategic::take_directives(&mut patch);
            Printed(&patch).to_string()
        }
        Err(_) => String::from_utf8_lossy(patch).into_owned(),
    }
}

/// An object, or null.
fn object(patch: &[u8]) -> Result<Value, String> {
    let parsed = crate::decode::parse(patch, crate::decode::Encoding::Json).map_err(|status| {
        let why = status.message.rsplit("json parse error: ").next().unwrap_or_default();
        why.to_owned()
    })?;
    match parsed.value {
        Value::Object(_) | Value::Null => Ok(parsed.value),
        other => {
            let other = json_type(&other);
            Err(format!("json: cannot unmarshal {other} into Go value of type map[string]interface {{}}"))
        }
    }
}

#[cfg(test)]
mod strategic_tests;
#[cfg(test)]
mod tests;
