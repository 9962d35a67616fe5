//! Defaults of the apps group.

use serde_json::{Value, json};

use super::core::template;
use super::{child, default, default_unset, each};
use crate::object::text;
use crate::registry::Resource;
use crate::strategy::TEMPLATE_GENERATION;

pub(super) fn apply(resource: &Resource, object: &mut Value) {
    match resource.plural.as_str() {
        "deployments" => deployment(child(object, "spec")),
        "replicasets" => replica_set(object),
        "daemonsets" => {
            daemon_set(child(object, "spec"));
            // Counted by the strategy; whoever writes without it says zero.
            default(child(child(object, "metadata"), "annotations"), TEMPLATE_GENERATION, "0");
        }
        "statefulsets" => stateful_set(child(object, "spec")),
        _ => {}
    }
}

fn deployment(spec: &mut Value) {
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    let strategy = child(spec, "strategy");
    default(strategy, "type", "RollingUpdate");
    if text(strategy, &["type"]) == "RollingUpdate" {
        let rolling = child(strategy, "rollingUpdate");
        default_unset(rolling, "maxUnavailable", "25%");
        default_unset(rolling, "maxSurge", "25%");
    }
    template(spec);
}

fn replica_set(object: &mut Value) {
    let spec = child(object, "spec");
    default(spec, "replicas", 1);
    template(spec);
}

fn daemon_set(spec: &mut Value) {
    default(spec, "revisionHistoryLimit", 10);
    let strategy = child(spec, "updateStrategy");
    default(strategy, "type", "RollingUpdate");
    if text(strategy, &["type"]) == "RollingUpdate" {
        let rolling = child(strategy, "rollingUpdate");
        default_unset(rolling, "maxUnavailable", 1);
        default_unset(rolling, "maxSurge", 0);
    }
    template(spec);
}

fn stateful_set(spec: &mut Value) {
    default(spec, "podManagementPolicy", "OrderedReady");
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    let strategy = child(spec, "updateStrategy");
    default(strategy, "type", "RollingUpdate");
    if text(strategy, &["type"]) == "RollingUpdate" {
        default(child(strategy, "rollingUpdate"), "partition", 0);
    }
    let retention = child(spec, "persistentVolumeClaimRetentionPolicy");
    default(retention, "whenDeleted", "Retain");
    default(retention, "whenScaled", "Retain");
    for claim in each(spec, "volumeClaimTemplates") {
        default(claim, "apiVersion", "v1");
        default(claim, "kind", "PersistentVolumeClaim");
        default(claim, "status", json!({ "phase": "Pending" }));
        default_unset(child(claim, "spec"), "volumeMode", "Filesystem");
    }
    template(spec);
}
