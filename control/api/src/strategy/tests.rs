//! Objects before and after their strategy.

use super::*;
use crate::object::remove;
use crate::registry::registry;

fn find(group: &str, plural: &str) -> &'static Resource {
    registry().find(group, "v1", plural).unwrap()
}

#[test]
fn deployment_on_create_loses_its_status_and_starts_at_one() {
    let mut object =
        json!({"metadata": {"generation": 7, "deletionTimestamp": "x"}, "status": {"replicas": 3}});
    prepare_create(find("apps", "deployments"), &mut object);
    assert_eq!(object["metadata"], json!({"generation": 1}));
    assert_eq!(object["status"], json!({}));
}

#[test]
fn update_with_changed_spec_counts_the_generation_and_keeps_status() {
    let old = json!({
        "metadata": {"name": "a", "uid": "u", "generation": 3, "creationTimestamp": "t"},
        "spec": {"replicas": 1}, "status": {"replicas": 1}
    });
    let mut new =
        json!({"metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"replicas": 1}, "status": {}});
    prepare_update(find("apps", "deployments"), &mut new, &old);
    assert_eq!(new["metadata"]["generation"], 3);
    assert_eq!((&new["status"], &new["metadata"]["uid"]), (&old["status"], &json!("u")));
    new["spec"]["replicas"] = 2.into();
    prepare_update(find("apps", "deployments"), &mut new, &old);
    assert_eq!(new["metadata"]["generation"], 4);
}

#[test]
fn status_update_changes_only_the_status() {
    let old =
        json!({"metadata": {"name": "a", "generation": 3, "labels": {"a": "b"}}, "spec": {"replicas": 1}});
    let mut new =
        json!({"metadata": {"name": "a", "labels": {}}, "spec": {"replicas": 9}, "status": {"replicas": 1}});
    prepare_status(find("apps", "deployments"), &mut new, &old, "now");
    assert_eq!(new["spec"]["replicas"], old["spec"]["replicas"]);
    assert_eq!(new["metadata"], old["metadata"]);
    assert_eq!(new["status"], json!({"replicas": 1}));
}

#[test]
fn pod_has_the_grace_that_its_state_allows() {
    let pods = find("", "pods");
    let pod = |node: &str, phase: &str| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": 20}, "status": {"phase": phase}});
    for (pod, requested, expected) in [
        (pod("", "Pending"), None, 0),
        (pod("n", "Running"), None, 20),
        (pod("n", "Running"), Some(5), 5),
        (pod("n", "Running"), Some(0), 0),
        (pod("n", "Running"), Some(-1), 1),
        (pod("n", "Succeeded"), None, 0),
    ] {
        assert_eq!(deletion_grace(pods, &pod, requested), expected);
    }
    assert_eq!(deletion_grace(find("apps", "deployments"), &json!({}), Some(9)), 0);
}

#[test]
fn pod_resources_decide_its_class() {
    let class = |resources: Value| qos_class(&json!({"spec": {"containers": [{"resources": resources}]}}));
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
    let partly = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}});
    assert_eq!(class(partly), "Burstable");
}

#[test]
fn service_update_keeps_what_was_allocated() {
    let old = json!({"metadata": {"name": "a"}, "spec": {
        "type": "NodePort", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"], "ipFamilies": ["IPv4"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]
    }});
    let mut new = json!({"metadata": {"name": "a"}, "spec": {
        "type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP"}]
    }});
    prepare_update(find("", "services"), &mut new, &old);
    assert_eq!(new["spec"]["clusterIP"], "10.96.0.5");
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30001);
    assert!(new["spec"]["ports"][1].get("nodePort").is_none());
    let mut plain = old.clone();
    plain["spec"]["type"] = "ClusterIP".into();
    prepare_update(find("", "services"), &mut plain, &old);
    assert!(plain["spec"]["ports"][0].get("nodePort").is_none());
}

#[test]
fn service_that_changes_loses_what_it_no_longer_needs_unless_that_changed_too() {
    let balancer = |policy: &str| {
        json!({ "metadata": { "name": "a" }, "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"],
            "externalTrafficPolicy": policy, "healthCheckNodePort": 30100, "loadBalancerClass": "x.y/z",
            "allocateLoadBalancerNodePorts": true, "ports": [{ "port": 80, "protocol": "TCP", "nodePort": 30001 }],
        } })
    };
    let old = balancer("Local");
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        change(&mut new["spec"]);
        prepare_update(find("", "services"), &mut new, &old);
        new["spec"].take()
    };
    let everywhere = changed(&|spec| spec["externalTrafficPolicy"] = "Cluster".into());
    assert!(everywhere.get("healthCheckNodePort").is_none(), "{everywhere}");
    assert_eq!(everywhere["loadBalancerClass"], "x.y/z");
    let node_port = changed(&|spec| spec["type"] = "NodePort".into());
    for gone in ["healthCheckNodePort", "loadBalancerClass", "allocateLoadBalancerNodePorts"] {
        assert!(node_port.get(gone).is_none(), "{node_port}");
    }
    assert_eq!(node_port["externalTrafficPolicy"], "Local");
    let inside = changed(&|spec| spec["type"] = "ClusterIP".into());
    assert_eq!(inside["ports"], json!([{ "port": 80, "protocol": "TCP" }]));
    assert!(inside.get("externalTrafficPolicy").is_none() && inside.get("healthCheckNodePort").is_none());
    let both = changed(&|spec| {
        spec["externalTrafficPolicy"] = "Cluster".into();
        spec["healthCheckNodePort"] = 30200.into();
    });
    assert_eq!(both["healthCheckNodePort"], 30200, "what is asked for is refused, not dropped");
    let kept = changed(&|spec| {
        remove(spec, "healthCheckNodePort");
    });
    assert_eq!(kept["healthCheckNodePort"], 30100);
}

#[test]
fn job_gets_selector_and_labels_from_its_uid() {
    let mut job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": {}}}});
    prepare_create(find("batch", "jobs"), &mut job);
    assert_eq!(job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], "u");
    assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
}

#[test]
fn namespace_finalizers_change_only_through_finalize() {
    let namespaces = find("", "namespaces");
    let mut old = json!({"metadata": {"name": "a"}});
    prepare_create(namespaces, &mut old);
    let mut new = json!({"metadata": {"name": "a"}, "spec": {"finalizers": []}});
    prepare_update(namespaces, &mut new, &old);
    assert_eq!(new["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(new["status"]["phase"], "Active");
}
