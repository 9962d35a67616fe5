//! Objects and the rows that they become.

use super::*;
use crate::registry::registry;
use serde_json::json;

fn now() -> Timestamp {
    "2024-01-01T01:00:00Z".parse().unwrap()
}

/// The table as kubectl would lay it out, every column included.
fn print(group: &str, plural: &str, objects: &[Value]) -> String {
    let version = if group == "autoscaling" { "v2" } else { "v1" };
    let resource = registry().find(group, version, plural).unwrap();
    let objects: Vec<&Value> = objects.iter().collect();
    let table = render(resource, &objects, None, IncludeObject::None, now());
    let mut text = String::new();
    let titles = table["columnDefinitions"].as_array().unwrap();
    for row in table["rows"].as_array().unwrap() {
        let cells = row["cells"].as_array().unwrap();
        assert_eq!(cells.len(), titles.len());
        for (title, cell) in titles.iter().zip(cells) {
            let cell = cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
            text.push_str(&format!("{}: {cell}\n", title["name"].as_str().unwrap()));
        }
        text.push_str("---\n");
    }
    text
}

fn pod(name: &str, spec: Value, status: Value) -> Value {
    json!({
        "metadata": {"name": name, "creationTimestamp": "2024-01-01T00:56:40Z"},
        "spec": spec, "status": status
    })
}

/// Name, ready, status and restarts of a pod.
fn pod_line(pod: &Value) -> String {
    let resource = registry().find("", "v1", "pods").unwrap();
    let table = render(resource, &[pod], None, IncludeObject::None, now());
    let cells = table["rows"][0]["cells"].as_array().unwrap().clone();
    cells[1..5].iter().map(|cell| cell.as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" | ")
}

#[test]
fn pod_in_each_state_is_summed_up_as_kubectl_shows_it() {
    let one = json!({"containers": [{"name": "c"}]});
    let running = json!({"phase": "Running", "containerStatuses": [
        {"name": "c", "ready": true, "restartCount": 0, "state": {"running": {}}}]});
    let crashing = json!({"phase": "Running", "containerStatuses": [
        {"name": "c", "ready": false, "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
         "lastState": {"terminated": {"finishedAt": "2024-01-01T00:55:00Z"}}}]});
    let done = json!({"phase": "Succeeded", "containerStatuses": [
        {"name": "c", "ready": false, "restartCount": 0, "state": {"terminated": {"reason": "Completed", "exitCode": 0}}}]});
    let killed = json!({"phase": "Failed", "containerStatuses": [
        {"name": "c", "restartCount": 0, "state": {"terminated": {"signal": 9, "exitCode": 137}}}]});
    let starting = json!({"phase": "Pending", "initContainerStatuses": [
        {"name": "i", "restartCount": 0, "state": {"running": {}}}]});
    let init_failed = json!({"phase": "Pending", "initContainerStatuses": [
        {"name": "i", "restartCount": 1, "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]});
    let with_init = json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]});
    let gated = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]});
    for (spec, status, expected) in [
        (&one, json!({"phase": "Pending"}), "0/1 | Pending | 0 | 3m20s"),
        (&one, running.clone(), "1/1 | Running | 0 | 3m20s"),
        (&one, crashing, "0/1 | CrashLoopBackOff | 2 (5m ago) | 3m20s"),
        (&one, done, "0/1 | Completed | 0 | 3m20s"),
        (&one, killed, "0/1 | Signal:9 | 0 | 3m20s"),
        (&with_init, starting, "0/1 | Init:0/1 | 0 | 3m20s"),
        (&with_init, init_failed, "0/1 | Init:Error | 1 | 3m20s"),
        (&one, gated, "0/1 | SchedulingGated | 0 | 3m20s"),
        (&one, json!({"phase": "Failed", "reason": "Evicted"}), "0/1 | Evicted | 0 | 3m20s"),
    ] {
        assert_eq!(pod_line(&pod("p", spec.clone(), status)), expected);
    }
    let mut leaving = pod("p", one, running);
    leaving["metadata"]["deletionTimestamp"] = "2024-01-01T00:59:00Z".into();
    assert_eq!(pod_line(&leaving), "1/1 | Terminating | 0 | 3m20s");
}

#[test]
fn core_objects_fill_all_columns() {
    let meta = json!({"name": "a", "namespace": "n", "creationTimestamp": "2023-12-30T01:00:00Z"});
    let node = json!({
        "metadata": {"name": "n1", "creationTimestamp": "2023-12-30T01:00:00Z",
            "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/edge": ""}},
        "spec": {"unschedulable": true},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "172.30.0.11"}],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian", "kernelVersion": "6.18", "containerRuntimeVersion": "containerd://1.6"}
        }
    });
    let service = json!({"metadata": meta, "spec": {"type": "NodePort", "clusterIP": "10.96.0.5", "selector": {"app": "a"},
        "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}});
    let balanced =
        json!({"metadata": meta, "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.6", "ports": []}});
    let endpoints = json!({"metadata": meta, "subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}],
        "ports": [{"port": 80}, {"port": 81}]}]});
    let event = json!({"metadata": meta, "type": "Normal", "reason": "Started", "message": "Started it\n", "count": 3,
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"},
        "source": {"component": "kubelet", "host": "n1"},
        "firstTimestamp": "2024-01-01T00:50:00Z", "lastTimestamp": "2024-01-01T00:59:30Z"});
    let claim = json!({"metadata": meta, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast"},
        "status": {"phase": "Pending"}});
    let text = [
        print("", "nodes", &[node]),
        print("", "services", &[service, balanced]),
        print("", "endpoints", &[endpoints]),
        print("", "events", &[event]),
        print("", "persistentvolumeclaims", &[claim]),
        print("", "namespaces", &[json!({"metadata": meta, "status": {"phase": "Active"}})]),
        print(
            "",
            "configmaps",
            &[json!({"metadata": meta, "data": {"a": "b"}, "binaryData": {"c": "ZA=="}})],
        ),
        print("", "secrets", &[json!({"metadata": meta, "type": "Opaque", "data": {"a": "ZA=="}})]),
    ]
    .join("\n");
    insta::assert_snapshot!(text);
}

#[test]
fn objects_of_other_groups_fill_all_columns() {
    let meta = json!({"name": "a", "namespace": "n", "creationTimestamp": "2024-01-01T00:00:00Z"});
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [
        {"name": "c", "image": "i:1"}, {"name": "d", "image": "j:2"}]}});
    let workload = json!({"metadata": meta, "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "a"}}, "template": template},
        "status": {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2}});
    let job = json!({"metadata": meta, "spec": {"completions": 2, "template": template},
        "status": {"succeeded": 1, "startTime": "2024-01-01T00:00:00Z"}});
    let slice = json!({"metadata": meta, "addressType": "IPv4", "ports": [{"port": 80}],
        "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.3"]}, {"addresses": ["10.0.0.4"]}]});
    let binding = json!({"metadata": meta, "roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": [
        {"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]});
    let autoscaler = json!({"metadata": meta, "spec": {"minReplicas": 1, "maxReplicas": 4,
        "scaleTargetRef": {"kind": "Deployment", "name": "d"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}]}});
    let class = json!({"metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "x", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"});
    let text = [
        print("apps", "deployments", std::slice::from_ref(&workload)),
        print("apps", "replicasets", &[workload]),
        print("batch", "jobs", &[job]),
        print("discovery.k8s.io", "endpointslices", &[slice]),
        print("rbac.authorization.k8s.io", "clusterrolebindings", &[binding]),
        print("autoscaling", "horizontalpodautoscalers", &[autoscaler]),
        print("storage.k8s.io", "storageclasses", &[class]),
        print(
            "coordination.k8s.io",
            "leases",
            &[json!({"metadata": meta, "spec": {"holderIdentity": "n1"}})],
        ),
    ]
    .join("\n");
    insta::assert_snapshot!(text);
}

#[test]
fn rows_carry_what_was_asked_for_and_lists_their_metadata() {
    let pods = registry().find("", "v1", "pods").unwrap();
    let object = pod("p", json!({}), json!({}));
    let list = json!({"resourceVersion": "7", "continue": "x"});
    let table = render(pods, &[&object], Some(&list), IncludeObject::Metadata, now());
    assert_eq!(table["metadata"], list);
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["rows"][0]["object"]["metadata"], object["metadata"]);
    let table = render(pods, &[&object], None, IncludeObject::Object, now());
    assert_eq!(table["rows"][0]["object"], object);
    let table = render(pods, &[&object], None, IncludeObject::None, now());
    assert!(table["rows"][0].get("object").is_none());
}

proptest::proptest! {
    #[test]
    fn any_object_of_any_kind_has_a_row_of_the_right_width(object in crate::arbitrary::object()) {
        for resource in registry().resources() {
            let table = render(resource, &[&object], None, IncludeObject::None, now());
            let width = table["columnDefinitions"].as_array().unwrap().len();
            proptest::prop_assert_eq!(table["rows"][0]["cells"].as_array().unwrap().len(), width);
        }
    }
}
