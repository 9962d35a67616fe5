//! The two kinds that keep a number of pods: ReplicaSet, and ReplicationController, its elder with a plain selector.
//!
//! Owns what differs between them: what is planned is a ReplicaSet, what is read and written is either.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::informers::Informers;
use crate::runtime::informer::Informer;

/// A kind that keeps a number of pods.
pub trait Keeper:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + Sync
    + 'static
{
    /// The name of its controller, which is that of its service account in kube-system.
    const CONTROLLER: &'static str;

    /// The watch of this kind.
    fn informer(informers: &Informers) -> &Informer<Self>;

    /// The object as a ReplicaSet.
    fn as_set(self: &Arc<Self>) -> Arc<ReplicaSet>;

    /// The object with another status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;

    /// Whether both have the same status.
    fn has_status_of(&self, other: &Self) -> bool;
}

impl Keeper for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";

    fn informer(informers: &Informers) -> &Informer<Self> {
        &informers.replica_sets
    }

    fn as_set(self: &Arc<Self>) -> Arc<ReplicaSet> {
        Arc::clone(self)
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self { status: Some(status), ..self.clone() }
    }

    fn has_status_of(&self, other: &Self) -> bool {
        self.status == other.status
    }
}

impl Keeper for ReplicationController {
    const CONTROLLER: &'static str = "replication-controller";

    fn informer(informers: &Informers) -> &Informer<Self> {
        &informers.replication_controllers
    }

    /// The API gives a ReplicationController without selector that of its template, and refuses one without both.
    fn as_set(self: &Arc<Self>) -> Arc<ReplicaSet> {
        let spec = self.spec.clone().map(|spec| ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: spec.replicas,
            selector: LabelSelector { match_labels: spec.selector, match_expressions: None },
            template: spec.template,
        });
        let status = self.status.clone().map(|status| ReplicaSetStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|all| all.into_iter().map(condition_of_set).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
            terminating_replicas: None,
        });
        Arc::new(ReplicaSet { metadata: self.metadata.clone(), spec, status })
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let status = ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        };
        Self { status: Some(status), ..self.clone() }
    }

    fn has_status_of(&self, other: &Self) -> bool {
        self.status == other.status
    }
}

fn condition_of_set(condition: ReplicationControllerCondition) -> ReplicaSetCondition {
    let ReplicationControllerCondition { last_transition_time, message, reason, status, type_ } = condition;
    ReplicaSetCondition { last_transition_time, message, reason, status, type_ }
}

fn condition(condition: ReplicaSetCondition) -> ReplicationControllerCondition {
    let ReplicaSetCondition { last_transition_time, message, reason, status, type_ } = condition;
    ReplicationControllerCondition { last_transition_time, message, reason, status, type_ }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replication_controller_becomes_a_set_and_takes_its_status() {
        let controller: Arc<ReplicationController> = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": 3, "minReadySeconds": 5, "selector": {"app": "web"},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
            "status": {"replicas": 2, "readyReplicas": 1, "observedGeneration": 4,
                "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}]},
        }))
        .map(Arc::new)
        .unwrap();
        let set = controller.as_set();
        let spec = set.spec.as_ref().unwrap();
        assert_eq!((spec.replicas, spec.min_ready_seconds), (Some(3), Some(5)));
        assert_eq!(spec.selector.match_labels.as_ref().unwrap()["app"], "web");
        assert!(spec.template.is_some());
        let status = set.status.clone().unwrap();
        assert!(controller.with_status(status.clone()).has_status_of(&controller));
        // What only a ReplicaSet tells is no change.
        let more = ReplicaSetStatus { terminating_replicas: Some(1), ..status.clone() };
        assert!(controller.with_status(more).has_status_of(&controller));
        let other = ReplicaSetStatus { replicas: 3, ..status };
        assert!(!controller.with_status(other).has_status_of(&controller));
    }
}
