//! MutatingAdmissionPolicy and ValidatingAdmissionPolicy: rules that this server evaluates itself.
//!
//! A policy does nothing by itself: each of its bindings says where it applies and with which parameters. What a policy
//! means is in `skep_api::policy`; here is which of them a write is for ([`bound`]), with which parameters ([`params`]),
//! and what becomes of what they say.

mod bound;
mod mutating;
mod params;
mod status;
mod validating;

use serde_json::Value;

use super::{Attributes, ConfigError, Ingredients, Plugin, shown};

pub(crate) use status::TypeChecks;

/// Makes the first of the two plug-ins.
pub(super) fn make_mutating(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(mutating::Mutating::new(from)))
}

/// Makes the second.
pub(super) fn make_validating(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(validating::Validating::new(from)))
}

/// Kinds of requests that policies have no say in: those by which the cluster finds out who somebody is and what they may.
fn is_out_of_reach(attributes: &Attributes<'_>) -> bool {
    let resource = attributes.scope.resource;
    let reviews = ["authentication.k8s.io", "authorization.k8s.io"].contains(&resource.group.as_str());
    skep_api::admissionregistration::is_exempt(resource) || (resource.custom.is_none() && reviews)
}
