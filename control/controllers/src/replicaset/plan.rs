//! How many pods to create, or which to delete, and what the status says. Pure.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod as ApiPod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::core::ObjectMeta;

use crate::pod::{DELETION_COST, Pod};
use crate::pod_state;
use crate::runtime::clock::whole_seconds;

/// The most pods that one look creates or deletes.
pub const BURST: usize = 500;
const FAILURE: &str = "ReplicaFailure";

/// One ReplicaSet and its pods.
pub struct Observed<'a> {
    pub(super) set: &'a ReplicaSet,
    /// Its active pods.
    pub(super) pods: Vec<Arc<Pod>>,
    /// How many of its pods are on their way out.
    terminating: i32,
    /// Active pods of the same owner's ReplicaSets.
    related: Vec<Arc<Pod>>,
}

impl<'a> Observed<'a> {
    /// `pods` are all that the set controls, `related` the active ones of the same owner's sets.
    pub fn new(set: &'a ReplicaSet, pods: Vec<Arc<Pod>>, related: Vec<Arc<Pod>>) -> Self {
        let leaving = |pod: &&Arc<Pod>| pod_state::is_terminating(pod) && !pod_state::is_terminal(pod);
        let terminating = i32::try_from(pods.iter().filter(leaving).count()).unwrap_or(i32::MAX);
        let pods = pods.into_iter().filter(|pod| pod_state::is_active(pod)).collect();
        Self { set, pods, terminating, related }
    }

    fn desired(&self) -> usize {
        let replicas = self.set.spec.as_ref().map_or(0, |spec| spec.replicas.unwrap_or(1));
        usize::try_from(replicas).unwrap_or(0)
    }

    fn min_ready(&self) -> i32 {
        self.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }
}

/// What to do to the number of pods.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is right, or may not be touched now.
    Keep,
    /// Create this many.
    Create(usize),
    /// Delete these.
    Delete(Vec<Arc<Pod>>),
}

impl Change {
    /// The reason of the condition when carrying it out fails.
    pub fn failure_reason(&self) -> &'static str {
        if matches!(self, Change::Delete(_)) { "FailedDelete" } else { "FailedCreate" }
    }
}

/// Compares what is with what should be.
pub fn change(observed: &Observed<'_>) -> Change {
    let (have, want) = (observed.pods.len(), observed.desired());
    if have < want {
        return Change::Create((want - have).min(BURST));
    }
    let surplus = (have - want).min(BURST);
    if surplus == 0 {
        return Change::Keep;
    }
    let mut per_node: HashMap<&str, usize> = HashMap::new();
    for pod in &observed.related {
        *per_node.entry(pod_state::node_name(pod).unwrap_or_default()).or_default() += 1;
    }
    let mut pods = observed.pods.clone();
    pods.sort_by_cached_key(|pod| {
        let crowd = pod_state::node_name(pod).and_then(|node| per_node.get(node)).copied().unwrap_or(0);
        rank(pod, crowd)
    });
    pods.truncate(surplus);
    Change::Delete(pods)
}

/// Orders pods by how little is lost with them, least first: not assigned before assigned, pending before
/// running, not ready before ready, low deletion cost, on a crowded node, ready for a short time, restarted
/// often, young.
fn rank(pod: &Pod, crowd: usize) -> impl Ord + use<> {
    let phase = match pod_state::phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    };
    let cost = pod.metadata.annotations.as_ref().and_then(|all| all.get(DELETION_COST));
    let cost: i32 = cost.and_then(|cost| cost.parse().ok()).unwrap_or(0);
    (
        pod_state::node_name(pod).is_some(),
        phase,
        pod_state::is_ready(pod),
        cost,
        Reverse(crowd),
        Reverse(pod_state::ready_since(pod)),
        Reverse(pod_state::restarts(pod)),
        Reverse(pod.metadata.creation_timestamp.as_ref().map(|time| time.0)),
        pod.metadata.name.clone(),
    )
}

/// The pod that the set's template describes; the API gives it its name.
pub fn new_pod(set: &ReplicaSet, owner: OwnerReference) -> ApiPod {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    ApiPod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.metadata.name.as_deref().unwrap_or_default())),
            namespace: set.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// The status, when it differs from the one recorded. `failure` is why pods could not be created or deleted.
pub fn status(
    observed: &Observed<'_>,
    failure: Option<(&str, String)>,
    now: Timestamp,
) -> Option<ReplicaSetStatus> {
    let set = observed.set;
    let count = |test: &dyn Fn(&Pod) -> bool| {
        i32::try_from(observed.pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
    };
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    let wanted =
        template.and_then(|template| template.metadata.as_ref()).and_then(|meta| meta.labels.clone());
    let labelled = |pod: &Pod| {
        let has = |name: &String, value: &String| {
            pod.metadata.labels.as_ref().and_then(|labels| labels.get(name)) == Some(value)
        };
        wanted.iter().flatten().all(|(name, value)| has(name, value))
    };
    let old = normal(set.status.clone().unwrap_or_default());
    let status = normal(ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: Some(count(&labelled)),
        ready_replicas: Some(count(&pod_state::is_ready)),
        available_replicas: Some(count(&|pod| pod_state::is_available(pod, observed.min_ready(), now))),
        terminating_replicas: Some(observed.terminating),
        observed_generation: set.metadata.generation,
        conditions: with_failure(old.conditions.clone(), failure, now),
    });
    (status != old).then_some(status)
}

fn with_failure(
    conditions: Option<Vec<ReplicaSetCondition>>,
    failure: Option<(&str, String)>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = conditions.unwrap_or_default();
    let known = conditions.iter().find(|condition| condition.type_ == FAILURE);
    match failure {
        None => conditions.retain(|condition| condition.type_ != FAILURE),
        Some((reason, _)) if known.is_some_and(|known| known.reason.as_deref() == Some(reason)) => {}
        Some((reason, message)) => {
            conditions.retain(|condition| condition.type_ != FAILURE);
            conditions.push(ReplicaSetCondition {
                type_: FAILURE.to_owned(),
                status: "True".to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_transition_time: Some(Time(whole_seconds(now))),
            });
        }
    }
    (!conditions.is_empty()).then_some(conditions)
}

/// When to look again because a ready pod becomes available then.
pub fn look_again(observed: &Observed<'_>, now: Timestamp) -> Option<Duration> {
    super::next_available(&observed.pods, observed.min_ready(), now)
}

/// Zero and absent are the same in the API.
fn normal(mut status: ReplicaSetStatus) -> ReplicaSetStatus {
    let numbers =
        [&mut status.fully_labeled_replicas, &mut status.ready_replicas, &mut status.available_replicas];
    for number in numbers {
        *number = number.filter(|number| *number != 0);
    }
    status.conditions = status.conditions.filter(|conditions| !conditions.is_empty());
    status
}
