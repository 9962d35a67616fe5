//! The graph and the verdicts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::api::PropagationPolicy;
use kube::core::ObjectMeta;

use super::graph::{Graph, group_of};
use super::plan::{Standing, Verdict, drop_finalizer, drop_owners, judge, unblock_owners};
use super::{FOREGROUND, ORPHAN};

fn owner(uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: uid.into(),
        uid: uid.into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn meta(uid: &str, owners: &[&str], finalizers: &[&str]) -> ObjectMeta {
    ObjectMeta {
        name: Some(uid.into()),
        namespace: Some("default".into()),
        uid: Some(uid.into()),
        resource_version: Some("7".into()),
        owner_references: Some(owners.iter().map(|uid| owner(uid)).collect()),
        finalizers: Some(finalizers.iter().map(|name| (*name).to_owned()).collect()),
        ..ObjectMeta::default()
    }
}

fn deleting(mut meta: ObjectMeta) -> ObjectMeta {
    meta.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
    meta
}

fn sorted(mut uids: Vec<String>) -> Vec<String> {
    uids.sort();
    uids.dedup();
    uids
}

#[test]
fn graph_unknown_owner_is_virtual_and_has_to_be_looked_at() {
    let graph = Graph::default();
    assert_eq!(graph.apply("", "Pod", &meta("pod", &["set"], &[])), ["set"]);
    let set = graph.get("set").unwrap();
    assert!(set.is_virtual && set.dependents.contains("pod"));
    assert_eq!((set.identity.group.as_str(), set.identity.namespace.as_str()), ("apps", "default"));
    // Its watch shows it: nothing to do.
    assert_eq!(graph.apply("apps", "ReplicaSet", &meta("set", &[], &[])), Vec::<String>::new());
    let set = graph.get("set").unwrap();
    assert!(!set.is_virtual && set.dependents.contains("pod"));
}

#[test]
fn graph_removed_owner_brings_its_dependents_up() {
    let graph = Graph::default();
    graph.apply("apps", "ReplicaSet", &meta("set", &[], &[]));
    graph.apply("", "Pod", &meta("a", &["set"], &[]));
    graph.apply("", "Pod", &meta("b", &["set"], &[]));
    assert_eq!(sorted(graph.remove("set")), ["a", "b"]);
    assert!(graph.get("set").is_none());
}

#[test]
fn graph_foreground_deletion_brings_up_dependents_and_their_end_the_owner() {
    let graph = Graph::default();
    graph.apply("apps", "ReplicaSet", &meta("set", &[], &[]));
    graph.apply("", "Pod", &meta("a", &["set"], &[]));
    let look = graph.apply("apps", "ReplicaSet", &deleting(meta("set", &[], &[FOREGROUND])));
    assert_eq!(sorted(look), ["a", "set"]);
    assert_eq!(graph.remove("a"), ["set"]);
    assert!(graph.dependents("set").is_empty());
}

#[test]
fn graph_dropped_reference_unlinks_and_leaves_no_virtual_rest() {
    let graph = Graph::default();
    graph.apply("", "Pod", &meta("a", &["set"], &[]));
    graph.apply("", "Pod", &meta("a", &[], &[]));
    assert!(graph.get("set").is_none());
    assert_eq!(graph.remove("a"), Vec::<String>::new());
    assert!(graph.get("a").is_none());
}

#[test]
fn judge_object_goes_only_when_no_owner_is_left() {
    let check = |standings: &[Standing], dependents: bool, finalizers: &[&str], expected: Verdict| {
        let names: Vec<String> = (0..standings.len()).map(|index| format!("o{index}")).collect();
        let owners: Vec<_> = names.iter().map(|uid| owner(uid)).zip(standings.iter().copied()).collect();
        assert_eq!(judge(&meta("x", &[], finalizers), &owners, dependents), expected, "{standings:?}");
    };
    use Standing::{Absent, Solid, Unknown, Waiting};
    check(&[], false, &[], Verdict::Keep);
    check(&[Solid], false, &[], Verdict::Keep);
    check(&[Unknown], false, &[], Verdict::Keep);
    check(&[Solid, Absent, Waiting], false, &[], Verdict::Drop(vec!["o1".into(), "o2".into()]));
    check(&[Unknown, Absent], false, &[], Verdict::Drop(vec!["o1".into()]));
    check(&[Absent, Absent], false, &[], Verdict::Delete(PropagationPolicy::Background));
    check(&[Absent], false, &[ORPHAN], Verdict::Delete(PropagationPolicy::Orphan));
    check(&[Absent], false, &[FOREGROUND], Verdict::Delete(PropagationPolicy::Foreground));
    check(&[Waiting], true, &[], Verdict::Delete(PropagationPolicy::Foreground));
    check(&[Waiting], false, &[], Verdict::Delete(PropagationPolicy::Background));
}

#[test]
fn patches_are_guarded_by_the_version_they_were_planned_from() {
    let meta = meta("x", &["a", "b"], &[FOREGROUND]);
    let one = drop_owners(&meta, &["a".to_owned()]);
    assert_eq!(one["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
    assert_eq!((&one["metadata"]["resourceVersion"], &one["metadata"]["uid"]), (&"7".into(), &"x".into()));
    assert!(drop_owners(&meta, &["a".to_owned(), "b".to_owned()])["metadata"]["ownerReferences"].is_null());
    assert!(drop_finalizer(&meta, FOREGROUND)["metadata"]["finalizers"].is_null());
    assert_eq!(unblock_owners(&meta)["metadata"]["ownerReferences"][1]["blockOwnerDeletion"], false);
}

#[test]
fn group_of_reads_both_forms() {
    assert_eq!((group_of("v1"), group_of("apps/v1")), ("", "apps"));
}
