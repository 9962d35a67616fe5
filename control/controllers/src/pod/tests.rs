//! What is kept of a pod is what the API's own type says, and enough for quotas.

use k8s_openapi::api::core::v1::Pod as ApiPod;
use serde_json::{Value, json};
use skep_api::quota::{Evaluator, Selector};

use super::Pod;

/// A pod with everything that somebody reads, and much that nobody does.
fn full() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-1", "namespace": "default", "uid": "u1", "resourceVersion": "7",
            "labels": { "app": "web" },
            "annotations": { "controller.kubernetes.io/pod-deletion-cost": "5", "note": "long" },
            "managedFields": [{ "manager": "m", "operation": "Update" }],
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r", "controller": true }],
            "deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30,
        },
        "spec": {
            "nodeName": "n1", "hostname": "h", "subdomain": "s", "serviceAccountName": "default",
            "activeDeadlineSeconds": 100, "priorityClassName": "high",
            "overhead": { "cpu": "10m" },
            "tolerations": [{ "key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }],
            "affinity": {
                "nodeAffinity": {},
                "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [
                    { "topologyKey": "zone", "namespaces": ["other"] },
                ] },
            },
            "containers": [{
                "name": "main", "image": "i", "env": [{ "name": "A", "value": "b" }],
                "ports": [{ "name": "http", "containerPort": 8080, "protocol": "TCP" }],
                "resources": { "requests": { "cpu": "100m", "memory": "1Gi", "example.com/gpu": 2 }, "limits": { "memory": "2Gi" } },
                "readinessProbe": { "httpGet": { "path": "/", "port": 8080 } },
            }],
            "initContainers": [{
                "name": "beside", "restartPolicy": "Always", "resources": { "requests": { "cpu": "50m" } },
            }],
            "volumes": [
                { "name": "config", "configMap": { "name": "c" } },
                { "name": "data", "persistentVolumeClaim": { "claimName": "d" } },
                { "name": "scratch", "ephemeral": { "volumeClaimTemplate": { "spec": {} } } },
            ],
        },
        "status": {
            "phase": "Running", "qosClass": "Burstable", "podIP": "10.0.0.1",
            "podIPs": [{ "ip": "10.0.0.1" }, { "ip": "fd00::1" }],
            "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "r" }],
            "containerStatuses": [{ "name": "main", "image": "i", "imageID": "x", "ready": true, "restartCount": 3 }],
        },
    })
}

#[test]
fn pod_keeps_what_the_apis_own_type_says() {
    let kept: Pod = serde_json::from_value(full()).unwrap();
    let whole: ApiPod = serde_json::from_value(full()).unwrap();
    let mut meta = whole.metadata.clone();
    meta.managed_fields = None;
    meta.annotations.as_mut().unwrap().remove("note");
    assert_eq!(kept.metadata, meta);
    let (spec, other) = (kept.spec.unwrap(), whole.spec.unwrap());
    assert_eq!((&spec.node_name, &spec.hostname), (&other.node_name, &other.hostname));
    assert_eq!((&spec.subdomain, &spec.tolerations), (&other.subdomain, &other.tolerations));
    assert_eq!(spec.containers[0].ports, other.containers[0].ports);
    assert_eq!(spec.init_containers.unwrap()[0].restart_policy.as_deref(), Some("Always"));
    let volumes: Vec<&str> = spec.volumes.iter().map(|volume| volume.name.as_str()).collect();
    assert_eq!(volumes, ["data", "scratch"], "only those with a claim");
    assert_eq!(spec.volumes[0].persistent_volume_claim.as_ref().unwrap().claim_name, "d");
    let (status, other) = (kept.status.unwrap(), whole.status.unwrap());
    assert_eq!(
        (&status.phase, &status.pod_ip, &status.pod_ips),
        (&other.phase, &other.pod_ip, &other.pod_ips)
    );
    let (ready, condition) = (&status.conditions.unwrap()[0], &other.conditions.unwrap()[0]);
    assert_eq!((&ready.type_, &ready.status), (&condition.type_, &condition.status));
    assert_eq!(ready.last_transition_time, condition.last_transition_time);
    assert_eq!(status.container_statuses.unwrap()[0].restart_count, 3);
}

#[test]
fn pod_counts_for_quotas_as_the_whole_one_does() {
    let now = "2026-01-01T00:00:10Z";
    let pods = Evaluator::of("", "pods");
    let scope = |scope: &str| Selector { scope: scope.into(), operator: "Exists".into(), values: Vec::new() };
    let mut cases = vec![full()];
    for (path, value) in [
        ("/status/phase", json!("Succeeded")),
        ("/spec/activeDeadlineSeconds", Value::Null),
        ("/spec/priorityClassName", Value::Null),
        ("/spec/affinity", Value::Null),
        ("/spec/containers/0/resources", json!({})),
        ("/spec/overhead", Value::Null),
        ("/status", Value::Null),
        ("/metadata/deletionTimestamp", json!("2025-01-01T00:00:00Z")),
    ] {
        let mut pod = full();
        *pod.pointer_mut(path).unwrap() = value;
        cases.push(pod);
    }
    let mut own = full();
    own["spec"]["resources"] = json!({ "requests": { "cpu": "3" } });
    cases.push(own);
    for whole in cases {
        let kept = serde_json::from_value::<Pod>(whole.clone()).unwrap().counted();
        assert_eq!(pods.usage(&kept, now), pods.usage(&whole, now), "{whole}");
        for name in [
            "Terminating",
            "NotTerminating",
            "BestEffort",
            "NotBestEffort",
            "PriorityClass",
            "CrossNamespacePodAffinity",
        ] {
            let scope = scope(name);
            assert_eq!(pods.in_scope(&scope, &kept), pods.in_scope(&scope, &whole), "{name} {whole}");
        }
    }
}

#[test]
fn pod_with_nulls_and_nothing_else_is_one() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "p" },
        "spec": { "containers": null, "volumes": null, "affinity": null, "initContainers": null },
        "status": { "conditions": null },
    }))
    .unwrap();
    assert_eq!(pod.spec, Some(super::PodSpec::default()));
    assert!(serde_json::from_value::<Pod>(json!({})).is_ok());
}
