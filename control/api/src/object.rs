//! Reading the parts that every object has. Absent and null are the same to a reader.

use serde_json::Value;

/// Text at a path of member names, empty when it is not there.
pub fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// A whole number at a path of member names.
pub fn number(value: &Value, path: &[&str]) -> Option<i64> {
    at(value, path)?.as_i64()
}

/// Whether the path of member names leads to `true`.
pub fn flag(value: &Value, path: &[&str]) -> bool {
    at(value, path).and_then(Value::as_bool).unwrap_or_default()
}

/// The items of the list at a path of member names.
pub fn items<'a>(value: &'a Value, path: &[&str]) -> &'a [Value] {
    at(value, path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The members of the object at a path of member names.
pub fn members<'a>(value: &'a Value, path: &[&str]) -> impl Iterator<Item = (&'a String, &'a Value)> {
    at(value, path).and_then(Value::as_object).into_iter().flatten()
}

/// What lies at a path of member names; `None` for null, too.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| value.get(name)).filter(|value| !value.is_null())
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

/// `metadata.namespace`.
pub fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

/// Takes out owners that are there twice, word for word; gives their uids.
pub fn dedup_owners(object: &mut Value) -> Vec<String> {
    let owners = object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut);
    let Some(owners) = owners.filter(|owners| owners.len() > 1) else { return Vec::new() };
    let (mut distinct, mut duplicates) = (Vec::with_capacity(owners.len()), Vec::new());
    for owner in owners.drain(..) {
        match distinct.contains(&owner) {
            true => duplicates.push(text(&owner, &["uid"]).to_owned()),
            false => distinct.push(owner),
        }
    }
    *owners = distinct;
    duplicates
}

/// Sets a member of an object, if the value is an object.
pub(crate) fn set(value: &mut Value, name: &str, new: impl Into<Value>) {
    if let Some(object) = value.as_object_mut() {
        object.insert(name.to_owned(), new.into());
    }
}

/// Takes a member out of an object.
pub(crate) fn remove(value: &mut Value, name: &str) -> Option<Value> {
    value.as_object_mut()?.remove(name)
}

/// Takes those members out of a new version of an object that are as in the old one, apart from `metadata` and what says
/// the kind: what that version went through once can be spared them. [`put_back`] undoes it.
pub fn take_unchanged(new: &mut Value, old: &Value) -> Vec<(String, Value)> {
    let Some(members) = new.as_object_mut() else { return Vec::new() };
    let same = |name: &str, value: &Value| {
        !matches!(name, "apiVersion" | "kind" | "metadata") && old.get(name) == Some(value)
    };
    let names: Vec<String> =
        members.iter().filter(|(name, value)| same(name, value)).map(|(name, _)| name.clone()).collect();
    names.into_iter().filter_map(|name| members.remove_entry(&name)).collect()
}

/// Puts members back into an object, in place of what may have come there meanwhile.
pub fn put_back(object: &mut Value, members: Vec<(String, Value)>) {
    if let Some(object) = object.as_object_mut() {
        object.extend(members);
    }
}

/// Copies a member from `from`, or takes it out when it is not there.
pub(crate) fn carry(to: &mut Value, from: &Value, name: &str) {
    match from.get(name) {
        Some(value) => set(to, name, value.clone()),
        None => drop(remove(to, name)),
    }
}
