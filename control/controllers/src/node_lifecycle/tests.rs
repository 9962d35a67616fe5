//! Conditions and taints as tables.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::plan::{Plan, heartbeat, plan};
use super::{GRACE, STARTUP_GRACE};

fn node(conditions: &[(&str, &str)], spec: Value) -> Node {
    let conditions: Vec<Value> =
        conditions.iter().map(|(type_, status)| json!({"type": type_, "status": status})).collect();
    serde_json::from_value(
        json!({"metadata": {"name": "n1"}, "spec": spec, "status": {"conditions": conditions}}),
    )
    .unwrap()
}

fn taints(plan: &Plan) -> Vec<String> {
    plan.taints.iter().flatten().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect()
}

fn run(node: &Node, silence: Duration, any_ready: bool) -> Plan {
    plan(node, silence, any_ready, Timestamp::UNIX_EPOCH)
}

#[test]
fn plan_healthy_node_is_left_alone_until_its_grace_is_over() {
    let planned = run(&node(&[("Ready", "True")], json!({})), Duration::from_secs(10), true);
    assert_eq!(planned, Plan { look_again: Some(GRACE - Duration::from_secs(10)), ..Plan::default() });
}

#[test]
fn plan_silent_node_becomes_unknown_and_unreachable() {
    let planned = run(&node(&[("Ready", "True"), ("DiskPressure", "False")], json!({})), GRACE, true);
    assert!(planned.silent && planned.fell_silent);
    let conditions = planned.conditions.as_ref().unwrap();
    assert_eq!(conditions.len(), 4);
    assert!(conditions.iter().all(|condition| condition.status == "Unknown"));
    assert_eq!(conditions[0].reason.as_deref(), Some("NodeStatusUnknown"));
    assert_eq!(conditions[3].reason.as_deref(), Some("NodeStatusNeverUpdated"));
    let key = "node.kubernetes.io/unreachable";
    assert_eq!(taints(&planned), [format!("{key}:NoSchedule"), format!("{key}:NoExecute")]);
    assert_eq!(planned.look_again, None);
}

#[test]
fn plan_node_that_never_spoke_has_the_longer_grace() {
    let quiet = node(&[], json!({}));
    let early = run(&quiet, GRACE, true);
    assert_eq!((early.conditions, early.look_again), (None, Some(STARTUP_GRACE - GRACE)));
    assert!(run(&quiet, STARTUP_GRACE, true).conditions.is_some());
}

#[test]
fn plan_no_ready_node_at_all_evicts_nothing() {
    let planned = run(&node(&[("Ready", "False")], json!({})), Duration::ZERO, false);
    assert_eq!(taints(&planned), ["node.kubernetes.io/not-ready:NoSchedule"]);
}

#[test]
fn plan_recovered_node_loses_our_taints_and_keeps_those_of_others() {
    let own = json!({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"});
    let other = json!({"key": "example.com/x", "effect": "NoSchedule"});
    let planned = run(&node(&[("Ready", "True")], json!({"taints": [own, other]})), Duration::ZERO, true);
    assert_eq!(taints(&planned), ["example.com/x:NoSchedule"]);
}

#[test]
fn plan_pressure_and_cordon_become_taints_once() {
    let conditions = [("Ready", "True"), ("MemoryPressure", "True")];
    let planned = run(&node(&conditions, json!({"unschedulable": true})), Duration::ZERO, true);
    let expected =
        ["node.kubernetes.io/memory-pressure:NoSchedule", "node.kubernetes.io/unschedulable:NoSchedule"];
    assert_eq!(taints(&planned), expected);
    let spec = json!({"unschedulable": true, "taints": planned.taints.unwrap()});
    assert_eq!(run(&node(&conditions, spec), Duration::ZERO, true).taints, None);
}

#[test]
fn heartbeat_changes_with_the_lease_and_with_the_condition() {
    let node_at = |time: &str| -> Node {
        let ready = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": time});
        serde_json::from_value(json!({"metadata": {"name": "n1"}, "status": {"conditions": [ready]}}))
            .unwrap()
    };
    let lease = |time: &str| {
        serde_json::from_value(json!({"metadata": {"name": "n1"}, "spec": {"renewTime": time}})).unwrap()
    };
    let (first, second) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:10Z");
    let base = heartbeat(&node_at(first), Some(&lease("2026-01-01T00:00:00.000001Z")));
    assert_ne!(base, heartbeat(&node_at(second), Some(&lease("2026-01-01T00:00:00.000001Z"))));
    assert_ne!(base, heartbeat(&node_at(first), Some(&lease("2026-01-01T00:00:00.000002Z"))));
    assert_eq!(base, heartbeat(&node_at(first), Some(&lease("2026-01-01T00:00:00.000001Z"))));
}
