//! Whether an object keeps the rules of its kind, in upstream's words.
//!
//! Three layers: what every object has ([`meta`]), what the schema says (required text, choices), what each kind adds
//! (one file per group). Objects are decoded and defaulted before they come here. Status is taken as it comes, for only
//! components write it.

mod apps;
mod batch;
mod core;
mod field;
mod groups;
mod immutable;
mod meta;
pub mod names;
mod narrow;
mod pod;
mod pod_update;
mod probe;
mod schema;
mod selector;
mod service;
mod volume;
pub(crate) mod webhooks;

use serde_json::Value;

use crate::registry::Resource;

pub use field::{FieldError, Rule};
pub use narrow::narrow_update;

/// The rules that a new object breaks.
pub fn create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    let mut errors = meta::create(resource, object);
    if let Some(custom) = &resource.custom {
        errors.extend(custom.check(object, None));
        return errors;
    }
    content(resource, object, &mut errors);
    errors
}

/// The rules that an object breaks as the successor of another.
pub fn update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::update(new, old);
    if let Some(custom) = &resource.custom {
        errors.extend(custom.check(new, Some(old)));
        return errors;
    }
    immutable::check(resource, new, old, &mut errors);
    if resource.group == "apiextensions.k8s.io" {
        crate::definition::check_change(new, old, &mut errors);
    }
    // An object on its way out must be able to lose its finalizers, whatever rules came after it.
    let leaving = old["metadata"].get("deletionTimestamp").is_some_and(|at| !at.is_null());
    if !(leaving && new.get("spec") == old.get("spec")) {
        content(resource, new, &mut errors);
    }
    errors
}

/// The rules that a status update breaks.
pub fn status_update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::update(new, old);
    if let Some(custom) = &resource.custom {
        errors.extend(custom.check(new, Some(old)));
    }
    errors
}

fn content(resource: &Resource, object: &Value, errors: &mut Vec<FieldError>) {
    schema::check(&resource.schema, object, errors);
    match resource.group.as_str() {
        "" => core::check(resource, object, errors),
        "apps" => apps::check(resource, object, errors),
        "batch" => batch::check(resource, object, errors),
        "apiextensions.k8s.io" => crate::definition::check(object, errors),
        _ => groups::check(resource, object, errors),
    }
    // Layers may agree on what is wrong.
    let mut seen: Vec<FieldError> = Vec::with_capacity(errors.len());
    errors.retain(|error| {
        let fresh = !seen.contains(error);
        if fresh {
            seen.push(error.clone());
        }
        fresh
    });
}

#[cfg(test)]
mod tests;
