//! Rules of what components say of objects.

use serde_json::Value;

use super::place::{Errors, Place};
use super::{
    apps, certificates, core, device_status, devices, flow, job_status, limits, networking, small, storage,
};
use crate::registry::Resource;

pub(super) fn check(resource: &Resource, new: &Value, old: &Value, errors: &mut Errors) {
    let status = Place::of(new, "status");
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("apps", _) | ("", "replicationcontrollers") => apps::status(resource, new, old, errors),
        ("batch", "jobs") => job_status::check(new, old, errors),
        ("autoscaling", _) => {
            status.not_negative_at(&["currentReplicas", "desiredReplicas"], errors);
        }
        ("policy", "poddisruptionbudgets") => small::disruption_budget_status(new, errors),
        ("certificates.k8s.io", _) => certificates::status(new, old, false, errors),
        ("flowcontrol.apiserver.k8s.io", _) => flow::status(new, errors),
        ("networking.k8s.io", "ingresses") => networking::status(new, errors),
        ("resource.k8s.io", "resourceclaims") => {
            devices::claim_status(new, old, errors);
            device_status::check(new, errors);
        }
        ("storage.k8s.io", "volumeattachments") => storage::attachment_status(new, errors),
        ("", "namespaces") => core::namespace_status(new, errors),
        ("", "nodes") => {
            core::node_status(new, errors);
            core::node_update(new, old, errors);
        }
        ("", "resourcequotas") => {
            limits::quota_amounts(&status.get("hard"), errors);
            limits::quota_amounts(&status.get("used"), errors);
        }
        _ => {}
    }
}
