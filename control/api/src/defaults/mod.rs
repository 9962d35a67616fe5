//! The values that fields take when nobody sets them, as upstream's `SetDefaults_*` functions have it.
//!
//! Some are facts of the schema; the rest is code, one file per group. Applied after decoding, on every write.

mod apps;
mod batch;
mod core;
mod networking;
mod pod;
mod service;
mod storage;
mod volume;

use serde_json::{Map, Value};

use crate::decode;
use crate::registry::Resource;
use crate::schema::{Shape, Types};

/// Fills in what is missing: what upstream's types have in any case, then defaults.
pub fn apply(resource: &Resource, object: &mut Value) {
    if !object.is_object() {
        return;
    }
    if let Some(custom) = &resource.custom {
        return custom.default(object);
    }
    // Upstream's types have their parts before anything is put into them.
    decode::fill_zeros(resource, object);
    match resource.group.as_str() {
        "" => core::apply(resource, object),
        "apps" => apps::apply(resource, object),
        "batch" => batch::apply(resource, object),
        "storage.k8s.io" => storage::apply(resource, object),
        crate::admissionregistration::GROUP => crate::admissionregistration::default(resource, object),
        crate::aggregation::GROUP => crate::aggregation::default(object),
        "apiextensions.k8s.io" => crate::definition::default(object),
        _ => networking::apply(resource, object),
    }
    from_schema(&resource.schema.types, &Shape::Object(resource.schema.root), object);
}

/// Whether what metadata and status get goes by themselves alone. Some kinds take the labels of their template over, or
/// say of an address what the type of the service makes of it.
pub fn are_of_parts(resource: &Resource) -> bool {
    resource.custom.is_some()
        || !matches!(
            (resource.group.as_str(), resource.plural.as_str()),
            ("", "replicationcontrollers" | "services") | ("apps", "daemonsets") | ("batch", "jobs")
        )
}

/// Defaults that the schema carries.
fn from_schema(types: &Types, shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Object(id), Value::Object(members)) => {
            let of = types.get(*id);
            for (name, value) in members.iter_mut().filter(|(_, value)| value.is_object() || value.is_array())
            {
                if let Some(field) = of.field(name) {
                    from_schema(types, &field.shape, value);
                }
            }
            for (field, default) in of.defaulted() {
                match members.get_mut(&field.name) {
                    // What Go writes in any case is empty when nobody said anything; a pointer to nothing was meant.
                    Some(value)
                        if (field.written.is_some() || field.omits_zero) && value.as_str() == Some("") =>
                    {
                        *value = default.clone();
                    }
                    Some(_) => {}
                    None => drop(members.insert(field.name.clone(), default.clone())),
                }
            }
        }
        (Shape::List(inner), Value::Array(items)) => {
            items.iter_mut().for_each(|item| from_schema(types, inner, item));
        }
        (Shape::Map(inner), Value::Object(members)) => {
            members.values_mut().for_each(|item| from_schema(types, inner, item));
        }
        _ => {}
    }
}

/// Sets a member when it is missing, null or empty text.
fn default(object: &mut Value, name: &str, value: impl Into<Value>) {
    let Some(members) = object.as_object_mut() else { return };
    if members.get(name).is_none_or(|old| old.is_null() || old.as_str() == Some("")) {
        members.insert(name.to_owned(), value.into());
    }
}

/// Sets a member when it is missing or null: of Go's pointers an empty text is something that was said.
fn default_unset(object: &mut Value, name: &str, value: impl Into<Value>) {
    let Some(members) = object.as_object_mut() else { return };
    if members.get(name).is_none_or(Value::is_null) {
        members.insert(name.to_owned(), value.into());
    }
}

/// Sets a number that is missing or zero, where zero is the same as nothing.
fn default_number(object: &mut Value, name: &str, value: i64) {
    let Some(members) = object.as_object_mut() else { return };
    if members.get(name).is_none_or(|old| old.is_null() || *old == 0) {
        members.insert(name.to_owned(), value.into());
    }
}

/// The member of that name, made an object when it is missing.
fn child<'a>(object: &'a mut Value, name: &str) -> &'a mut Value {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let child = &mut object[name];
    if child.is_null() {
        *child = Value::Object(Map::new());
    }
    child
}

/// The items of a list at a member.
fn each<'a>(object: &'a mut Value, name: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten()
}

#[cfg(test)]
mod tests;
