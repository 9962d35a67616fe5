//! The objects that stand for what this server serves itself: one for each group version, made and kept by the server.

use serde_json::{Value, json};

use super::{is_remote, name_of};
use crate::object::text;
use crate::registry::Registry;

/// Marks objects that the server makes: `onstart` for what is built in, `true` for what comes and goes.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Priorities of groups and versions, as upstream has them.
const PRIORITIES: [(&str, &str, i64, i64); 21] = [
    ("", "v1", 18000, 1),
    ("apps", "v1", 17800, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v1", 17500, 15),
    ("autoscaling", "v2", 17500, 30),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("networking.k8s.io", "v1", 17200, 15),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("node.k8s.io", "v1", 16300, 15),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    ("resource.k8s.io", "v1", 16200, 21),
];

/// The objects for all group versions of a registry. That of `apiregistration.k8s.io` itself has none.
pub fn local(kinds: &Registry) -> Vec<Value> {
    let custom = |group: &str, version: &str| {
        kinds.custom().any(|resource| resource.group == group && resource.version == version)
    };
    let mut objects = Vec::new();
    for group in kinds.groups().filter(|group| group.name != super::GROUP) {
        for version in &group.versions {
            let known = PRIORITIES.iter().find(|(name, one, ..)| *name == group.name && one == version);
            let (minimum, priority) =
                known.map_or((1000, 100), |(_, _, minimum, priority)| (*minimum, *priority));
            let managed = if custom(&group.name, version) { "true" } else { "onstart" };
            objects.push(json!({
                "metadata": { "name": name_of(&group.name, version), "labels": { MANAGED: managed } },
                "spec": {
                    "group": group.name, "version": version,
                    "groupPriorityMinimum": minimum, "versionPriority": priority,
                },
            }));
        }
    }
    objects
}

/// Whether an object was made by the server for something that it does not serve any more.
pub fn is_obsolete(object: &Value, kinds: &Registry) -> bool {
    let (group, version) = super::group_version(object);
    let served = kinds.resources().any(|resource| resource.group == group && resource.version == version);
    !served && !is_remote(object) && text(object, &["metadata", "labels", MANAGED]) == "true"
}
