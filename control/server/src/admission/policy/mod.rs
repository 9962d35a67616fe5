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

use std::sync::Arc;

use serde_json::Value;

use super::config::strict;
use super::manifests::{self, Family, MUTATING_POLICIES, Manifests, VALIDATING_POLICIES};
use super::{Attributes, ConfigError, Ingredients, Plugin, shown};

pub(crate) use status::TypeChecks;

/// Makes the first of the two plug-ins.
pub(super) fn make_mutating(
    from: &Ingredients,
    configuration: Option<&Value>,
) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(mutating::Mutating::new(from, configured(from, &MUTATING_POLICIES, configuration)?)))
}

/// Makes the second.
pub(super) fn make_validating(
    from: &Ingredients,
    configuration: Option<&Value>,
) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(validating::Validating::new(from, configured(from, &VALIDATING_POLICIES, configuration)?)))
}

/// The policies in files, if the configuration (`ValidatingAdmissionPolicyConfiguration`, or that of the other plug-in) says
/// that there are some.
fn configured(
    from: &Ingredients,
    family: &'static Family,
    configuration: Option<&Value>,
) -> Result<Option<Arc<Manifests>>, ConfigError> {
    let Some(configuration) = configuration else { return Ok(None) };
    let directory = || {
        let text = |field: &str| configuration[field].as_str().unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if version != "apiserver.config.k8s.io/v1" || kind != format!("{}Configuration", family.plugin) {
            return Err(format!("no kind {kind:?} is registered for version {version:?}"));
        }
        strict(configuration, &["apiVersion", "kind", "staticManifestsDir"])?;
        manifests::directory(configuration, from.manifests.enabled)
    };
    let directory = directory().map_err(|reason| ConfigError::Plugin { name: family.plugin, reason })?;
    directory.map(|directory| Manifests::follow(from, family, directory)).transpose()
}

/// Kinds of requests that policies have no say in: those by which the cluster finds out who somebody is and what they may.
fn is_out_of_reach(attributes: &Attributes<'_>) -> bool {
    let resource = attributes.scope.resource;
    let reviews = ["authentication.k8s.io", "authorization.k8s.io"].contains(&resource.group.as_str());
    resource.custom.is_none() && reviews
}

/// Whether only policies out of files have a say in a write.
fn is_exempt(attributes: &Attributes<'_>) -> bool {
    skep_api::admissionregistration::is_exempt(attributes.scope.resource)
}
