//! A node's row.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{NONE, age, or_none};
use crate::object::{flag, items, members, name, text};

pub(super) fn cells(node: &Value, now: Timestamp) -> Vec<Value> {
    let info = &node["status"]["nodeInfo"];
    let known = |field: &str| match text(info, &[field]) {
        "" => Value::from("<unknown>"),
        text => text.into(),
    };
    vec![
        name(node).into(),
        status(node).into(),
        roles(node),
        age(node, now),
        text(info, &["kubeletVersion"]).into(),
        address(node, "InternalIP"),
        address(node, "ExternalIP"),
        known("osImage"),
        known("kernelVersion"),
        known("containerRuntimeVersion"),
    ]
}

fn status(node: &Value) -> String {
    let ready = items(node, &["status", "conditions"]).iter().find(|one| text(one, &["type"]) == "Ready");
    let mut status = match ready.map(|one| text(one, &["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if flag(node, &["spec", "unschedulable"]) {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(node: &Value) -> Value {
    let mut roles: Vec<&str> = members(node, &["metadata", "labels"])
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    or_none(&roles.join(","))
}

fn address(node: &Value, kind: &str) -> Value {
    let found = items(node, &["status", "addresses"]).iter().find(|one| text(one, &["type"]) == kind);
    found.map_or_else(|| NONE.into(), |one| text(one, &["address"]).into())
}
