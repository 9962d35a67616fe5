//! Plans of ReplicaSets as tables.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::{Value, json};

use crate::pod::Pod;
use crate::runtime::ownership::controller_reference;

use super::plan::{BURST, Change, Observed, change, look_again, new_pod, status};

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn set(replicas: i32, min_ready_seconds: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "r", "generation": 3},
        "spec": {"replicas": replicas, "minReadySeconds": min_ready_seconds,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
    }))
    .unwrap()
}

/// A pod that is running and ready since one o'clock, changed as asked.
fn pod(name: &str, changes: &[(&str, Value)]) -> Arc<Pod> {
    let mut object = json!({
        "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    });
    for (path, value) in changes {
        *object.pointer_mut(path).unwrap_or_else(|| panic!("no {path}")) = value.clone();
    }
    Arc::new(serde_json::from_value(object).unwrap())
}

fn observed<'a>(set: &'a ReplicaSet, pods: &[Arc<Pod>]) -> Observed<'a> {
    Observed::new(set, pods.to_vec(), pods.to_vec())
}

fn deleted(set: &ReplicaSet, pods: &[Arc<Pod>]) -> Vec<String> {
    match change(&observed(set, pods)) {
        Change::Delete(pods) => pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn change_counts_only_active_pods() {
    let (ended, leaving) =
        (json!("Failed"), json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "name": "c"}));
    let pods = [pod("a", &[]), pod("b", &[("/status/phase", ended)]), pod("c", &[("/metadata", leaving)])];
    assert_eq!(change(&observed(&set(3, 0), &pods)), Change::Create(2));
    assert_eq!(change(&observed(&set(1, 0), &pods)), Change::Keep);
    assert_eq!(change(&observed(&set(9999, 0), &[])), Change::Create(BURST));
}

#[test]
fn change_deletes_what_is_least_loss() {
    let check = |changes: &[(&str, Value)]| {
        let pods = [pod("a", &[]), pod("victim", changes), pod("z", &[])];
        assert_eq!(deleted(&set(2, 0), &pods), ["victim"], "{changes:?}");
    };
    check(&[("/spec", json!({"containers": []}))]);
    check(&[("/status/phase", json!("Pending"))]);
    check(&[("/status/conditions/0/status", json!("False"))]);
    check(&[("/status/conditions/0/lastTransitionTime", json!("2026-01-01T00:30:00Z"))]);
    check(&[("/metadata/creationTimestamp", json!("2026-01-01T00:30:00Z"))]);
    let restarted = json!([{"name": "c", "restartCount": 5, "image": "", "imageID": "", "ready": true}]);
    let status = json!({"phase": "Running", "containerStatuses": restarted,
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    check(&[("/status", status)]);
    let cheap = json!({"name": "victim", "uid": "victim", "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1"}});
    check(&[("/metadata", cheap)]);
}

#[test]
fn change_deletes_from_the_crowded_node() {
    let pods = [pod("a", &[("/spec/nodeName", json!("n2"))]), pod("b", &[]), pod("c", &[])];
    assert_eq!(deleted(&set(2, 0), &pods), ["b"]);
}

#[test]
fn new_pod_carries_the_template_and_its_owner() {
    let set = set(1, 0);
    let pod = new_pod(&set, controller_reference(&set));
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("web-"));
    assert_eq!(pod.metadata.labels.unwrap()["app"], "web");
    let owner = &pod.metadata.owner_references.unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.controller, owner.block_owner_deletion),
        ("ReplicaSet", Some(true), Some(true))
    );
}

#[test]
fn status_counts_and_is_written_only_when_it_changes() {
    let mut set = set(2, 0);
    let pods = [pod("a", &[]), pod("b", &[("/status/conditions/0/status", json!("False"))])];
    let first = status(&observed(&set, &pods), None, now()).unwrap();
    let counts =
        (first.replicas, first.ready_replicas, first.available_replicas, first.fully_labeled_replicas);
    assert_eq!(counts, (2, Some(1), Some(1), Some(2)));
    assert_eq!(first.observed_generation, Some(3));
    set.status = Some(first);
    assert_eq!(status(&observed(&set, &pods), None, now()), None);
}

#[test]
fn status_failure_is_shown_and_goes_away() {
    let mut set = set(1, 0);
    let failed = status(&observed(&set, &[]), Some(("FailedCreate", "quota".into())), now()).unwrap();
    let condition = &failed.conditions.as_ref().unwrap()[0];
    assert_eq!((condition.type_.as_str(), condition.message.as_deref()), ("ReplicaFailure", Some("quota")));
    set.status = Some(failed);
    assert_eq!(status(&observed(&set, &[]), None, now()).unwrap().conditions, None);
}

#[test]
fn status_ready_pod_becomes_available_after_its_time() {
    let set = set(1, 60);
    let pods = [pod("a", &[("/status/conditions/0/lastTransitionTime", json!("2026-01-01T00:59:30Z"))])];
    let early = status(&observed(&set, &pods), None, now()).unwrap();
    assert_eq!((early.ready_replicas, early.available_replicas), (Some(1), None));
    assert_eq!(look_again(&observed(&set, &pods), now()), Some(Duration::from_secs(31)));
    let later = now() + jiff::SignedDuration::from_secs(31);
    assert_eq!(status(&observed(&set, &pods), None, later).unwrap().available_replicas, Some(1));
    assert_eq!(look_again(&observed(&set, &pods), later), None);
}
