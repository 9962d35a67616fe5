//! The object that defines a custom resource (`apiextensions.k8s.io/v1 CustomResourceDefinition`): what it may say, what is
//! filled in, which of the names that it wants it gets, and what its status tells. Pure; the server acts on it.

mod alternatives;
mod change;
mod conversion;
#[cfg(test)]
mod estimated;
mod field_path;
mod merging;
mod names;
mod rules;
mod schema;
mod spec;
mod status;
mod structural;

use serde_json::{Value, json};

use crate::object::{at, flag, items, set, text};
use crate::validation::FieldError;

pub use names::{Accepted, accept};
pub use status::{condition, is_established, status, with_condition};

/// The group of definitions.
pub const GROUP: &str = "apiextensions.k8s.io";
/// The plural name of definitions.
pub const PLURAL: &str = "customresourcedefinitions";
/// Holds a definition until all of its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Fills in what a definition may leave out.
pub(crate) fn default(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    let conversion = &spec["conversion"];
    if !conversion.is_object() {
        set(spec, "conversion", json!({ "strategy": "None" }));
    }
    if let Some(service) = spec["conversion"].pointer_mut("/webhook/clientConfig/service")
        && service["port"].is_null()
    {
        set(service, "port", 443);
    }
    let Some(names) = spec.get_mut("names").filter(|names| names.is_object()) else { return };
    let kind = text(names, &["kind"]).to_owned();
    if kind.is_empty() {
        return;
    }
    if text(names, &["singular"]).is_empty() {
        set(names, "singular", kind.to_lowercase());
    }
    if text(names, &["listKind"]).is_empty() {
        set(names, "listKind", format!("{kind}List"));
    }
}

/// Notes in the status that objects may be stored in the version that is marked so.
pub(crate) fn record_storage_version(object: &mut Value) {
    let versions = items(object, &["spec", "versions"]);
    let Some(storage) = versions.iter().find(|one| flag(one, &["storage"])) else { return };
    let storage = storage["name"].clone();
    if !object["status"].is_object() {
        set(object, "status", json!({}));
    }
    let mut stored = items(object, &["status", "storedVersions"]).to_vec();
    if !stored.contains(&storage) {
        stored.push(storage);
        set(&mut object["status"], "storedVersions", stored);
    }
}

/// The rules that a definition breaks.
pub(crate) fn check(object: &Value, errors: &mut Vec<FieldError>) {
    let spec = &object["spec"];
    let wanted = format!("{}.{}", text(spec, &["names", "plural"]), text(spec, &["group"]));
    let name = crate::object::name(object);
    if name != wanted {
        errors.push(FieldError::invalid("metadata.name", name, "must be spec.names.plural+\".\"+spec.group"));
    }
    approval(object, errors);
    spec::check(spec, errors);
    stored_versions(object, errors);
}

/// Objects may be stored in these versions: they stay, and the one that is stored in now is among them.
fn stored_versions(object: &Value, errors: &mut Vec<FieldError>) {
    let (path, stored) = ("status.storedVersions", items(object, &["status", "storedVersions"]));
    if stored.is_empty() {
        errors.push(FieldError::invalid(path, Value::Null, "must have at least one stored version"));
        return;
    }
    let versions = items(object, &["spec", "versions"]);
    for version in versions.iter().filter(|one| flag(one, &["storage"]) && !stored.contains(&one["name"])) {
        let why = format!("must have the storage version {}", text(version, &["name"]));
        errors.push(FieldError::invalid(path, stored.to_vec(), why));
    }
    for (index, version) in stored.iter().enumerate() {
        if !versions.iter().any(|one| one["name"] == *version) {
            let name = version.as_str().unwrap_or_default();
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {name} and removes {name} from \
                 status.storedVersions"
            );
            errors.push(FieldError::invalid(format!("{path}[{index}]"), name, why));
        }
    }
}

/// What a definition may not change any more.
pub(crate) fn check_change(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    change::check(new, old, errors);
}

/// Where who approved an API in Kubernetes' own groups is noted.
const APPROVAL: &str = "api-approved.kubernetes.io";

/// Whether the group is one of Kubernetes' own, which only approved APIs may be in.
pub(crate) fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

fn approval(object: &Value, errors: &mut Vec<FieldError>) {
    if !is_protected(text(object, &["spec", "group"])) {
        return;
    }
    let path = format!("metadata.annotations[{APPROVAL}]");
    let approval = at(object, &["metadata", "annotations", APPROVAL]).and_then(Value::as_str);
    let url = "see https://github.com/kubernetes/enhancements/pull/1111";
    match approval.unwrap_or_default() {
        "" => errors.push(FieldError::required(
            path,
            format!("protected groups must have approval annotation {APPROVAL:?}, {url}"),
        )),
        given if given.starts_with("unapproved") || given.starts_with("https://") => {}
        given => errors.push(FieldError::invalid(
            path,
            given,
            format!("protected groups must have approval annotation {APPROVAL:?} with either a URL or a reason starting with \"unapproved\", {url}"),
        )),
    }
}
