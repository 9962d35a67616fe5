//! Admission plug-ins that run only when they are asked for, and what they make of objects.

use http::Method;
use serde_json::{Value, json};
use skep_server::AdmissionConfig;
use skep_server::user::UserInfo;

use crate::harness::{Cluster, cluster};

const BASE: &str = "/api/v1/namespaces/default";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn enabling(names: &[&str]) -> Cluster {
    let mut config = AdmissionConfig::default();
    config.enable = names.iter().map(|name| (*name).to_owned()).collect();
    cluster().await.with_admission(config).await.unwrap()
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({
        "metadata": { "name": name }, "spec": { "containers": [{ "name": "c", "image": "echo" }] },
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

fn keys(pod: &Value) -> Vec<&str> {
    let all = pod["spec"]["tolerations"].as_array().unwrap();
    all.iter().map(|one| one["key"].as_str().unwrap_or("*")).collect()
}

#[tokio::test]
async fn namespace_says_what_its_pods_tolerate_and_may() {
    let cluster = enabling(&["PodTolerationRestriction", "ExtendedResourceToleration"]).await;
    let default = r#"[{"key":"mine","operator":"Exists","effect":"NoSchedule"}]"#;
    let allowed = r#"[{"key":"mine","operator":"Exists"},{"key":"example.com/card","operator":"Exists"},
                      {"key":"node.kubernetes.io/not-ready","operator":"Exists"},
                      {"key":"node.kubernetes.io/unreachable","operator":"Exists"},
                      {"key":"node.kubernetes.io/memory-pressure","operator":"Exists"}]"#;
    let annotations = json!({ "metadata": { "annotations": {
        "scheduler.alpha.kubernetes.io/defaultTolerations": default,
        "scheduler.alpha.kubernetes.io/tolerationsWhitelist": allowed,
    } } });
    cluster.patch("/api/v1/namespaces/default", "merge", annotations).await.expect(200);
    let resources = json!({ "limits": { "example.com/card": "1", "cpu": "1" } });
    let greedy = json!({ "containers": [{ "name": "c", "image": "echo", "resources": resources }] });
    let made = cluster.post(&format!("{BASE}/pods"), "Pod", pod("a", greedy)).await.expect(201);
    let found = keys(&made);
    for key in ["mine", "example.com/card", "node.kubernetes.io/memory-pressure"] {
        assert!(found.contains(&key), "{found:?}");
    }
    let stranger = json!({ "tolerations": [{ "key": "other", "operator": "Exists" }] });
    let refused = cluster.post(&format!("{BASE}/pods"), "Pod", pod("b", stranger)).await;
    assert_eq!(
        refused.expect(500)["message"],
        "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist"
    );
}

#[tokio::test]
async fn anti_affinity_that_must_hold_is_between_hosts_only() {
    let cluster = enabling(&["LimitPodHardAntiAffinityTopology"]).await;
    let affinity = |key: &str| {
        let term = json!({ "topologyKey": key, "labelSelector": { "matchLabels": { "a": "b" } } });
        json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } })
    };
    let pods = format!("{BASE}/pods");
    cluster.post(&pods, "Pod", pod("a", affinity("kubernetes.io/hostname"))).await.expect(201);
    let refused = cluster.post(&pods, "Pod", pod("b", affinity("zone"))).await.failure(403, "Forbidden");
    assert_eq!(
        refused,
        "pods \"b\" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey zone but only key \
         kubernetes.io/hostname is allowed"
    );
}

#[tokio::test]
async fn namespace_is_made_for_what_is_created_in_it() {
    let cluster = enabling(&["NamespaceAutoProvision", "NamespaceExists"]).await;
    let maps = "/api/v1/namespaces/fresh/configmaps";
    let object = json!({ "metadata": { "name": "a" } });
    let dry = cluster.post(&format!("{maps}?dryRun=All"), "ConfigMap", object.clone()).await;
    dry.failure(404, "NotFound");
    cluster.get("/api/v1/namespaces/fresh").await.failure(404, "NotFound");
    cluster.post(maps, "ConfigMap", object).await.expect(201);
    cluster.get("/api/v1/namespaces/fresh").await.expect(200);
}

/// Lets jane do this.
async fn grant(cluster: &Cluster, name: &str, rule: Value) {
    let role = json!({ "metadata": { "name": name }, "rules": [rule] });
    cluster.post(&format!("{RBAC}/clusterroles"), "ClusterRole", role).await.expect(201);
    let binding = json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
        "subjects": [{ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane" }],
    });
    cluster.post(&format!("{RBAC}/clusterrolebindings"), "ClusterRoleBinding", binding).await.expect(201);
}

#[tokio::test]
async fn owner_is_named_by_who_may_delete_and_held_by_who_may_finalize() {
    let cluster = enabling(&["OwnerReferencesPermissionEnforcement"]).await;
    let rule = |verbs: &[&str], resource: &str| json!({ "verbs": verbs, "apiGroups": [""], "resources": [resource] });
    grant(&cluster, "write", rule(&["create", "get", "patch", "update"], "configmaps")).await;
    let owner = cluster.pod("owner").await;
    let reference = |blocks: bool| {
        json!([{
            "apiVersion": "v1", "kind": "Pod", "name": "owner", "uid": owner["metadata"]["uid"],
            "blockOwnerDeletion": blocks,
        }])
    };
    let maps = format!("{BASE}/configmaps");
    let jane = || UserInfo::new("jane", &["system:authenticated"]);
    let create = async |name: &str, blocks: bool| {
        let meta = json!({ "name": name, "ownerReferences": reference(blocks) });
        let object = json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": meta });
        cluster.call_as(jane(), Method::POST, &maps, "application/json", object.to_string()).await
    };
    create("free", false).await.expect(201);
    let refused = create("held", true).await.failure(403, "Forbidden");
    let start = "configmaps \"held\" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource \
                 you can't set finalizers on: ";
    assert!(refused.starts_with(start), "{refused}");
    cluster.config_map("other", json!({})).await;
    let patch = json!({ "metadata": { "ownerReferences": reference(false) } }).to_string();
    let merge = "application/merge-patch+json";
    let own =
        async || cluster.call_as(jane(), Method::PATCH, &format!("{maps}/other"), merge, patch.clone()).await;
    let refused = own().await.failure(403, "Forbidden");
    let start = "configmaps \"other\" is forbidden: cannot set an ownerRef on a resource you can't delete: ";
    assert!(refused.starts_with(start), "{refused}");
    grant(&cluster, "delete", rule(&["delete"], "configmaps")).await;
    grant(&cluster, "finalize", rule(&["update"], "pods/finalizers")).await;
    own().await.expect(200);
    create("held", true).await.expect(201);
}

#[tokio::test]
async fn running_pod_is_not_changed_in_a_way_that_its_node_does_not_know() {
    let cluster = cluster().await;
    let allocatable = json!({ "status": { "allocatable": { "cpu": "8", "memory": "8Gi" } } });
    cluster.post("/api/v1/nodes", "Node", json!({ "metadata": { "name": "n1" } })).await.expect(201);
    cluster.patch("/api/v1/nodes/n1/status", "merge", allocatable).await.expect(200);
    let requests = json!({ "resources": { "requests": { "cpu": "1" } } });
    cluster.post(&format!("{BASE}/pods"), "Pod", pod("p", requests)).await.expect(201);
    cluster.bind("p", "n1").await.expect(201);
    let change = json!({ "spec": { "resources": { "requests": { "cpu": "2" } } } });
    let resize =
        async || cluster.patch(&format!("{BASE}/pods/p/resize"), "strategic-merge", change.clone()).await;
    let refused = resize().await.failure(403, "Forbidden");
    assert_eq!(
        refused,
        "pods \"p\" is forbidden: pod update requires features InPlacePodLevelResourcesVerticalScaling which are not \
         available on node \"n1\""
    );
    let declared = json!({ "status": { "declaredFeatures": ["InPlacePodLevelResourcesVerticalScaling"] } });
    cluster.patch("/api/v1/nodes/n1/status", "merge", declared).await.expect(200);
    resize().await.expect(200);
}
