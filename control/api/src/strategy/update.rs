//! What an update may do besides changing an object, kind by kind.

use crate::registry::Resource;

/// Kinds, by group, that an update creates when they are not there. Source: `AllowCreateOnUpdate` of upstream's
/// registries.
const CREATED: [(&str, &[&str]); 5] = [
    ("", &["endpoints", "events", "limitranges", "services"]),
    ("coordination.k8s.io", &["leases"]),
    ("events.k8s.io", &["events"]),
    ("node.k8s.io", &["runtimeclasses"]),
    ("rbac.authorization.k8s.io", &["clusterrolebindings", "clusterroles", "rolebindings", "roles"]),
];

/// Kinds, by group, whose update must name the revision that it was made from. Source: `AllowUnconditionalUpdate` of
/// upstream's registries.
const CONDITIONAL: [(&str, &[&str]); 7] = [
    (
        "admissionregistration.k8s.io",
        &[
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "validatingwebhookconfigurations",
        ],
    ),
    ("apiextensions.k8s.io", &["customresourcedefinitions"]),
    ("apiregistration.k8s.io", &["apiservices"]),
    ("coordination.k8s.io", &["leases"]),
    ("node.k8s.io", &["runtimeclasses"]),
    ("policy", &["poddisruptionbudgets"]),
    ("storage.k8s.io", &["csidrivers", "csinodes", "csistoragecapacities", "volumeattachments"]),
];

/// Whether an object that is created without a name gets one of the server's.
pub fn is_named_by_server(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "limitranges"
}

/// Whether an update of something that is not there creates it.
pub fn is_created_by_update(resource: &Resource) -> bool {
    resource.custom.is_none() && is_in(&CREATED, resource)
}

/// Whether an update may leave open which revision it was made from.
pub fn is_updated_unconditionally(resource: &Resource) -> bool {
    resource.custom.is_none() && !is_in(&CONDITIONAL, resource)
}

fn is_in(table: &[(&str, &[&str])], resource: &Resource) -> bool {
    table
        .iter()
        .any(|(group, plurals)| *group == resource.group && plurals.contains(&resource.plural.as_str()))
}
