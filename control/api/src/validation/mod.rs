//! Whether an object keeps the rules of its kind, in upstream's words.
//!
//! Three layers: what every object has ([`meta`]), what the schema says (required text, choices), what each kind adds
//! (a file or more for each group, written in the vocabulary of [`place`]). Objects are decoded and defaulted before
//! they come here.

mod address;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod claim;
mod container;
mod core;
mod cron;
mod device_capacity;
mod device_slice;
mod device_status;
mod devices;
mod endpoints;
mod environment;
mod event;
mod field;
mod flow;
mod immutable;
mod job_status;
mod limits;
mod meta;
pub mod names;
mod narrow;
mod networking;
mod node_selector;
mod path;
mod persistent_volume;
mod place;
mod pod;
mod pod_annotations;
mod pod_scheduling;
mod pod_security;
mod pod_update;
mod probe;
mod rbac;
mod resize;
mod resources;
mod schema;
pub(crate) mod selector;
mod service;
mod small;
mod status;
mod storage;
mod url;
mod volume;
mod volume_source;
mod warnings;
pub(crate) mod webhooks;

use serde_json::Value;

use crate::registry::Resource;

pub use field::{FieldError, Rule};
pub use narrow::narrow_update;
pub use service::service_addresses;
pub use warnings::{deprecation, warnings};

/// The rules that a new object breaks.
pub fn create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    if let Some(custom) = &resource.custom {
        let mut errors = meta::create(resource, object);
        errors.extend(custom.check(object, None));
        return errors;
    }
    path::twice(|| {
        let mut errors = meta::create(resource, object);
        content(resource, object, None, &mut errors);
        errors
    })
}

/// The rules that an object breaks as the successor of another.
pub fn update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    if let Some(custom) = &resource.custom {
        let mut errors = meta::update(resource, new, old);
        errors.extend(custom.check(new, Some(old)));
        return errors;
    }
    path::twice(|| built_in_update(resource, new, old))
}

fn built_in_update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::update(resource, new, old);
    immutable::check(resource, new, old, &mut errors);
    if resource.group == "apiextensions.k8s.io" {
        crate::definition::check_change(new, old, &mut errors);
    }
    // An object on its way out must be able to lose its finalizers, whatever rules came after it.
    let leaving = old["metadata"].get("deletionTimestamp").is_some_and(|at| !at.is_null());
    if !(leaving && new.get("spec") == old.get("spec")) {
        content(resource, new, Some(old), &mut errors);
    }
    errors
}

/// The rules that a status update breaks.
pub fn status_update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    if let Some(custom) = &resource.custom {
        let mut errors = meta::update(resource, new, old);
        errors.extend(custom.check(new, Some(old)));
        return errors;
    }
    path::twice(|| {
        let mut errors = meta::update(resource, new, old);
        status::check(resource, new, old, &mut errors);
        errors
    })
}

/// The rules that the finalizers of a namespace break, as they are written on their own.
pub fn finalize_update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::update(resource, new, old);
    core::finalize(new, &mut errors);
    errors
}

fn content(resource: &Resource, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let (mut of_schema, mut own) = (Vec::new(), Vec::new());
    schema::check(&resource.schema, object, &mut of_schema);
    of_kind(resource, object, old, &mut own);
    // Layers may agree on what is wrong: each thing is said once, and the schema has nothing to say of a field of which the
    // rules of its kind speak.
    let is_flow = resource.group == "flowcontrol.apiserver.k8s.io";
    of_schema.retain(|error| !(is_flow && error.field.contains(".subjects[")));
    of_schema.retain(|error| !own.iter().any(|other| other.field == error.field));
    for error in of_schema.into_iter().chain(own) {
        if !errors.contains(&error) {
            errors.push(error);
        }
    }
}

fn of_kind(resource: &Resource, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let creating = old.is_none();
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", _) => core::check(resource, object, creating, errors),
        ("apps", _) => apps::check(resource, object, creating, errors),
        ("batch", _) => batch::check(resource, object, old, errors),
        ("apiextensions.k8s.io", _) => crate::definition::check(object, errors),
        (crate::aggregation::GROUP, _) => crate::aggregation::check(object, errors),
        (crate::admissionregistration::GROUP, _) => {
            crate::admissionregistration::check(resource, object, old, errors);
        }
        ("autoscaling", _) => autoscaling::check(object, old, errors),
        ("certificates.k8s.io", _) => certificates::check(object, errors),
        ("coordination.k8s.io", "leases") => small::lease(object, errors),
        ("discovery.k8s.io", "endpointslices") => service::slice(object, old, errors),
        ("events.k8s.io", _) => event::new_form(object, creating, errors),
        ("flowcontrol.apiserver.k8s.io", _) => flow::check(resource, object, errors),
        ("networking.k8s.io", _) => networking::check(resource, object, creating, errors),
        ("node.k8s.io", _) => small::runtime_class(object, errors),
        ("policy", "poddisruptionbudgets") => small::disruption_budget(object, errors),
        ("rbac.authorization.k8s.io", _) => rbac::check(resource, object, errors),
        ("resource.k8s.io", _) => devices::check(resource, object, errors),
        ("scheduling.k8s.io", "priorityclasses") => small::priority_class(object, errors),
        ("storage.k8s.io", _) => storage::check(resource, object, errors),
        _ => {}
    }
}

#[cfg(test)]
mod cases;
#[cfg(test)]
mod tests;
