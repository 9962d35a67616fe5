//! The members of `metadata` that belong to the server.

use serde_json::{Map, Value, json};
use skep_api::status::Status;
use skep_api::strategy;
use skep_api::validation::FieldError;

use super::Scope;
use crate::ids::Ids;

/// What is not kept.
const NOT_STORED: [&str; 1] = ["selfLink"];

/// What an object keeps as long as it is there.
const KEPT: [&str; 4] = ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"];

/// `metadata`, made if it is not there.
pub(crate) fn of(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let object = object.as_object_mut()?;
    let meta = object.entry("metadata").or_insert_with(|| json!({}));
    if !meta.is_object() {
        *meta = json!({});
    }
    meta.as_object_mut()
}

/// A member of the metadata as text, empty when it is not there.
pub(crate) fn text<'a>(object: &'a Value, member: &str) -> &'a str {
    object["metadata"][member].as_str().unwrap_or_default()
}

pub(crate) fn set(object: &mut Value, member: &str, value: impl Into<Value>) {
    if let Some(meta) = of(object) {
        meta.insert(member.to_owned(), value.into());
    }
}

pub(crate) fn remove(object: &mut Value, member: &str) {
    if let Some(meta) = of(object) {
        meta.remove(member);
    }
}

/// Takes a member over from the old object, also that it is not there.
pub(super) fn carry(object: &mut Value, old: &Value, member: &str) {
    match old["metadata"].get(member) {
        Some(value) => set(object, member, value.clone()),
        None => remove(object, member),
    }
}

/// The finalizers.
pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether deletion has been asked for.
pub(crate) fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// `metadata.deletionGracePeriodSeconds`.
pub(crate) fn grace(object: &Value) -> Option<i64> {
    object["metadata"]["deletionGracePeriodSeconds"].as_i64()
}

/// Checks that the object is where the path says, and says so in it.
pub(crate) fn place(scope: &Scope<'_>, name: Option<&str>, object: &mut Value) -> Result<(), Status> {
    if scope.resource.namespaced {
        is_in_namespace(object, scope.namespace)?;
        set(object, "namespace", scope.namespace);
    } else {
        // What is in no namespace does not mind being said to be in one.
        remove(object, "namespace");
    }
    let Some(name) = name else { return Ok(()) };
    is_named(object, name)
}

/// Checks that the object says no other namespace than the path says, if that says one.
pub(crate) fn is_in_namespace(object: &Value, namespace: &str) -> Result<(), Status> {
    match text(object, "namespace") {
        found if namespace.is_empty() || found.is_empty() || found == namespace => Ok(()),
        _ => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
    }
}

/// Checks that the object says the name that the path says.
pub(crate) fn is_named(object: &Value, name: &str) -> Result<(), Status> {
    match text(object, "name") {
        found if found == name => Ok(()),
        "" => Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        ))),
        found => Err(Status::bad_request(format!(
            "the name of the object ({found}) does not match the name on the URL ({name})"
        ))),
    }
}

/// Takes from a new object what it cannot have yet.
pub(super) fn begin(object: &mut Value) {
    remove(object, "resourceVersion");
    wipe(object);
}

/// Takes from an object what only the server says.
pub(crate) fn wipe(object: &mut Value) {
    KEPT.iter().chain(&NOT_STORED).for_each(|member| remove(object, member));
}

/// What a new object gets, once it is known what it will be.
pub(super) fn identify(object: &mut Value, ids: &Ids) {
    set(object, "uid", ids.uid());
    set(object, "creationTimestamp", ids.now_text());
}

/// What admission must not have changed of an object that is there.
pub(super) fn stay(scope: &Scope<'_>, name: &str, object: &mut Value, old: &Value) -> Result<(), Status> {
    let changed =
        ["name", "namespace"].into_iter().filter(|member| text(object, member) != text(old, member));
    let errors: Vec<FieldError> = changed
        .map(|member| {
            FieldError::invalid(format!("metadata.{member}"), text(object, member), "field is immutable")
        })
        .collect();
    if !errors.is_empty() {
        return Err(Status::invalid(scope.resource, name, errors));
    }
    for member in KEPT.iter().chain(&["resourceVersion"]) {
        carry(object, old, member);
    }
    Ok(())
}

/// 409: the object is not the one that was meant. `what`: the member of its metadata, what it was to be, what it is.
pub(crate) fn precondition(scope: &Scope<'_>, name: &str, what: [&str; 3]) -> Status {
    let prefix = scope.resource.store_prefix(Some(scope.namespace));
    let key = prefix.trim_start_matches("/registry");
    let [member, wanted, found] = what;
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}{name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
         failed: {member} in precondition: {wanted}, {member} in object meta: {found}"
    );
    Status::conflict(scope.resource, name, &why)
}

/// What a new version of an object keeps of the old one.
pub(super) fn keep(scope: &Scope<'_>, name: &str, object: &mut Value, old: &Value) -> Result<(), Status> {
    let resource = scope.resource;
    let (uid, old_uid) = (text(object, "uid"), text(old, "uid"));
    // Who sends a whole object means one that it knows; in a patch it is a change like others.
    let is_another = !uid.is_empty() && uid != old_uid;
    if is_another && !scope.is_patch() {
        return Err(precondition(scope, name, ["UID", uid, old_uid]));
    }
    let (sent, found) = (text(object, "resourceVersion"), text(old, "resourceVersion"));
    if matches!(sent, "" | "0") && !strategy::is_updated_unconditionally(resource) {
        let error = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
        return Err(Status::invalid(resource, name, vec![error]));
    }
    if !sent.is_empty() && sent != "0" && sent != found {
        return Err(Status::modified(resource, name));
    }
    let going = text(object, "deletionTimestamp");
    if !going.is_empty() && going != text(old, "deletionTimestamp") {
        let error = FieldError::invalid("metadata.deletionTimestamp", going, "field is immutable");
        return Err(Status::invalid(resource, name, vec![error]));
    }
    if is_another {
        let error = FieldError::invalid("metadata.uid", uid, "field is immutable");
        return Err(Status::invalid(resource, name, vec![error]));
    }
    for member in KEPT {
        carry(object, old, member);
    }
    for member in NOT_STORED {
        remove(object, member);
    }
    set(object, "resourceVersion", found.to_owned());
    Ok(())
}
