//! The conditions and taints that a node should have. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{GRACE, STARTUP_GRACE};
use crate::runtime::clock::whole_seconds;

pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Conditions that mean trouble when true, and their taints.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
/// Conditions that become unknown when the node falls silent.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// What to write, and when to look again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// All conditions, when some must change.
    pub conditions: Option<Vec<NodeCondition>>,
    /// All taints, when some must change.
    pub taints: Option<Vec<Taint>>,
    /// The node has fallen silent: its pods are not ready.
    pub silent: bool,
    /// It is news that the node is not ready.
    pub fell_silent: bool,
    /// When the node counts as silent unless it speaks before.
    pub look_again: Option<Duration>,
}

/// The `Ready` condition is true.
pub fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready.status == "True")
}

/// The `Ready` condition is unknown: nothing has been heard of the node.
pub fn is_silent(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready.status == "Unknown")
}

fn conditions(node: &Node) -> &[NodeCondition] {
    node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    conditions(node).iter().find(|condition| condition.type_ == type_)
}

/// What changes with each heartbeat.
pub fn heartbeat(node: &Node, lease: Option<&Lease>) -> (Option<Timestamp>, Option<Timestamp>) {
    let ready = condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time.as_ref());
    let renewed = lease.and_then(|lease| lease.spec.as_ref()).and_then(|spec| spec.renew_time.as_ref());
    (ready.map(|time| time.0), renewed.map(|time| time.0))
}

/// `silence` is how long ago the last heartbeat was seen.
pub fn plan(node: &Node, silence: Duration, any_ready: bool, now: Timestamp) -> Plan {
    let grace = if condition(node, "Ready").is_some() { GRACE } else { STARTUP_GRACE };
    let overdue = silence >= grace;
    let mut plan = Plan { look_again: (!overdue).then(|| grace - silence), ..Plan::default() };
    let mut current = conditions(node).to_vec();
    if overdue {
        plan.silent = true;
        plan.fell_silent = is_ready(node);
        if make_unknown(&mut current, node, now) {
            plan.conditions = Some(current.clone());
        }
    }
    let old = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let cordoned = node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
    let taints = merge(&old, &wanted(&current, cordoned), any_ready, now);
    plan.taints = (taints != old).then_some(taints);
    plan
}

/// Makes the reported conditions unknown; whether that changed any.
fn make_unknown(conditions: &mut Vec<NodeCondition>, node: &Node, now: Timestamp) -> bool {
    let time = Time(whole_seconds(now));
    let mut changed = false;
    for type_ in REPORTED {
        let known = conditions.iter_mut().find(|condition| condition.type_ == type_);
        match known {
            Some(known) if known.status == "Unknown" => continue,
            Some(known) => {
                known.status = "Unknown".to_owned();
                known.reason = Some("NodeStatusUnknown".to_owned());
                known.message = Some("Kubelet stopped posting node status.".to_owned());
                known.last_transition_time = Some(time.clone());
            }
            None => conditions.push(NodeCondition {
                type_: type_.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(time.clone()),
            }),
        }
        changed = true;
    }
    changed
}

/// The taints that the conditions ask for, as key and effect.
fn wanted(conditions: &[NodeCondition], cordoned: bool) -> Vec<(&'static str, &'static str)> {
    let status = |type_: &str| {
        let found = conditions.iter().find(|condition| condition.type_ == type_);
        found.map(|condition| condition.status.as_str())
    };
    let mut taints = Vec::new();
    match status("Ready") {
        Some("True") => {}
        Some("Unknown") => taints.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        Some(_) => taints.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        // It has not spoken yet: nothing is put on it, and there is nothing to evict.
        None => taints.push((NOT_READY, "NoSchedule")),
    }
    for (type_, key) in PRESSURES {
        if status(type_) == Some("True") {
            taints.push((key, "NoSchedule"));
        }
    }
    if cordoned {
        taints.push((UNSCHEDULABLE, "NoSchedule"));
    }
    taints
}

/// Brings our taints in line, keeps everybody else's, and the time at which each was added.
fn merge(old: &[Taint], wanted: &[(&str, &str)], any_ready: bool, now: Timestamp) -> Vec<Taint> {
    let ours = |taint: &Taint| {
        [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
            || PRESSURES.iter().any(|(_, key)| *key == taint.key && taint.effect == "NoSchedule")
    };
    let is = |taint: &Taint, key: &str, effect: &str| taint.key == key && taint.effect == effect;
    let stays = |taint: &&Taint| !ours(taint) || wanted.iter().any(|(key, effect)| is(taint, key, effect));
    let mut taints: Vec<Taint> = old.iter().filter(stays).cloned().collect();
    for (key, effect) in wanted {
        let there = taints.iter().any(|taint| is(taint, key, effect));
        if !there && (any_ready || *effect != "NoExecute") {
            taints.push(Taint {
                key: (*key).to_owned(),
                effect: (*effect).to_owned(),
                time_added: Some(Time(whole_seconds(now))),
                value: None,
            });
        }
    }
    taints
}
