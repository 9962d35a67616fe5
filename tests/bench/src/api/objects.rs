//! The objects that are written: the sizes that the figures name.

use serde_json::{Value, json};

/// A ConfigMap with 1 KiB of data.
pub(super) fn config_map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "content": "x".repeat(1024) } })
}

/// A pod of some 2 KiB, as a Deployment would make it. No scheduler looks at it.
pub(super) fn pod(name: &str) -> Value {
    pod_with(name, 12)
}

/// A pod that takes about 5 KiB in a list.
pub(super) fn large_pod(name: &str) -> Value {
    pod_with(name, 24)
}

fn pod_with(name: &str, variables: usize) -> Value {
    let environment: Vec<_> = (0..variables)
        .map(|n| json!({ "name": format!("VARIABLE_{n}"), "value": format!("a value of some usual length, {n}") }))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": "bench", "pod-template-hash": "5d4f8b7c9" } },
        "spec": {
            "schedulerName": "nobody",
            "containers": [{
                "name": "main",
                "image": "registry.example/app:1.2.3",
                "env": environment,
                "ports": [{ "name": "http", "containerPort": 8080 }],
                "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
                "readinessProbe": { "httpGet": { "path": "/ready", "port": "http" }, "periodSeconds": 5 },
            }],
        },
    })
}

/// What a node agent reports: the body of a merge patch of a pod's status.
pub(super) fn pod_status(round: usize) -> Value {
    json!({ "status": {
        "phase": "Running",
        "podIP": format!("10.0.{}.{}", round / 250 % 250, round % 250 + 1),
        "conditions": [
            { "type": "Initialized", "status": "True" },
            { "type": "Ready", "status": if round.is_multiple_of(2) { "True" } else { "False" } },
            { "type": "ContainersReady", "status": if round.is_multiple_of(2) { "True" } else { "False" } },
            { "type": "PodScheduled", "status": "True" },
        ],
    } })
}

/// What a controller applies: a Deployment with one field that changes.
pub(super) fn applied(name: &str, round: usize) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "annotations": { "round": round.to_string() } },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "main", "image": format!("registry.example/app:{round}"),
                    "env": (0..12).map(|n| json!({ "name": format!("V{n}"), "value": "some value" })).collect::<Vec<_>>() }] },
            },
        },
    })
}

/// A node as an agent registers it.
pub(super) fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name, "bench": "true" } },
        "spec": { "unschedulable": true },
        "status": { "capacity": { "cpu": "8", "memory": "32Gi", "pods": "110" } },
    })
}
