//! Attempts to get more than was given. All of them are refused, and change nothing.

use serde_json::{Value, json};
use skep_server::user::UserInfo;

use super::{Ask, RBAC, ask, bind, create, namespace, node, pod};
use crate::harness::{Cluster, cluster};

pub(super) const SHOP: &str = "/api/v1/namespaces/shop";

fn role_ref(name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name})
}

pub(super) fn mallory() -> UserInfo {
    UserInfo::new("mallory", &[])
}

pub(super) fn everything() -> Value {
    json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}])
}

/// A cluster in which mallory administers the namespace shop, and somebody else has secrets elsewhere.
pub(super) async fn populated() -> Cluster {
    let cluster = cluster().await;
    for name in ["shop", "bank"] {
        namespace(&cluster, name).await;
        let secret = json!({"metadata": {"name": "s"}, "stringData": {"a": "b"}});
        create(&cluster, &format!("/api/v1/namespaces/{name}/secrets"), "Secret", secret).await;
    }
    for (namespace, name, on) in [("shop", "web", "n1"), ("bank", "vault", "n2")] {
        let volumes = json!([{"name": "v", "secret": {"secretName": "s"}}]);
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        create(&cluster, &path, "Pod", pod(name, on, json!({"volumes": volumes}))).await;
    }
    for name in ["n1", "n2"] {
        create(&cluster, "/api/v1/nodes", "Node", json!({"metadata": {"name": name}})).await;
    }
    bind(&cluster, "shop", "mallory", "admin").await;
    cluster
}

/// Tries all of it; each attempt must be refused, and the store must be as before.
pub(super) async fn refused(cluster: &Cluster, user: &UserInfo, attempts: Vec<Ask>) {
    for attempt in attempts {
        let before = revision(cluster).await;
        let answer = ask(cluster, user, &attempt).await;
        let text = String::from_utf8_lossy(&answer.bytes).into_owned();
        assert_eq!(answer.code, 403, "{} {} {}: {text}", attempt.method, attempt.path, attempt.body);
        assert_eq!(revision(cluster).await, before, "{} {}", attempt.method, attempt.path);
    }
}

async fn revision(cluster: &Cluster) -> String {
    let list = cluster.get("/api/v1/namespaces").await.expect(200);
    list["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

fn binding(kind: &str, role: &str, subject: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "mine"}, "roleRef": role_ref(role),
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": subject}],
    })
}

fn role(rules: Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "mine"}, "rules": rules})
}

#[tokio::test]
async fn roles_and_bindings_beyond_ones_own_rights() {
    let cluster = populated().await;
    let bindings = format!("{RBAC}/namespaces/shop/rolebindings");
    let roles = format!("{RBAC}/namespaces/shop/roles");
    let nodes = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]}]);
    let mut apply = Ask::new(&format!("PATCH {roles}/fresh?fieldManager=x"), role(everything()));
    apply.kind = "application/apply-patch+yaml";
    apply.body["metadata"]["name"] = json!("fresh");
    let mut update = role(everything());
    update["metadata"]["name"] = json!("fresh");
    refused(
        &cluster,
        &mallory(),
        vec![
            Ask::new(&format!("POST {bindings}"), binding("RoleBinding", "cluster-admin", "mallory")),
            Ask::new(
                &format!("POST {bindings}?dryRun=All"),
                binding("RoleBinding", "cluster-admin", "mallory"),
            ),
            Ask::new(&format!("POST {bindings}"), binding("RoleBinding", "system:node", "mallory")),
            Ask::new(&format!("POST {roles}"), role(everything())),
            Ask::new(&format!("POST {roles}"), role(nodes)),
            // An update of what is not there creates it.
            Ask::new(&format!("PUT {roles}/fresh"), update),
            apply,
            Ask::new(
                &format!("POST {RBAC}/clusterrolebindings"),
                binding("ClusterRoleBinding", "view", "mallory"),
            ),
            Ask::new(
                &format!("POST {RBAC}/namespaces/bank/rolebindings"),
                binding("RoleBinding", "view", "mallory"),
            ),
            Ask::new(&format!("PATCH {RBAC}/clusterroles/admin"), json!({"rules": everything()})),
            Ask::new(&format!("DELETE {RBAC}/clusterrolebindings/cluster-admin"), Value::Null),
        ],
    )
    .await;
    // What is held may be handed out; made larger, it may not.
    let small = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    ask(&cluster, &mallory(), &Ask::new(&format!("POST {roles}"), role(small))).await.expect(201);
    let own = binding("RoleBinding", "edit", "friend");
    ask(&cluster, &mallory(), &Ask::new(&format!("POST {bindings}"), own)).await.expect(201);
    let mut json_patch = Ask::new(
        &format!("PATCH {roles}/mine"),
        json!([{"op": "replace", "path": "/rules", "value": everything()}]),
    );
    json_patch.kind = "application/json-patch+json";
    let mut strategic = Ask::new(&format!("PATCH {roles}/mine"), json!({"rules": everything()}));
    strategic.kind = "application/strategic-merge-patch+json";
    let subjects = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "mallory"}]);
    refused(
        &cluster,
        &mallory(),
        vec![
            Ask::new(&format!("PATCH {roles}/mine"), json!({"rules": everything()})),
            Ask::new(&format!("PUT {roles}/mine"), role(everything())),
            json_patch,
            strategic,
        ],
    )
    .await;
    // A binding does not change its role, whoever asks.
    let other = Ask::new(
        &format!("PATCH {bindings}/mine"),
        json!({"roleRef": {"name": "cluster-admin"}, "subjects": subjects}),
    );
    let answer = ask(&cluster, &mallory(), &other).await;
    assert!(matches!(answer.code, 403 | 422), "{}", answer.code);
}

#[tokio::test]
async fn somebody_else_by_impersonation() {
    let cluster = populated().await;
    let get = || Ask::new("GET /api/v1/namespaces/bank/secrets/s", Value::Null);
    let bank = "system:serviceaccount:bank:default";
    refused(
        &cluster,
        &mallory(),
        vec![
            get().header("impersonate-user", "root").header("impersonate-group", "system:masters"),
            get().header("impersonate-user", "system:admin"),
            get().header("impersonate-user", "mallory").header("impersonate-group", "system:masters"),
            get().header("impersonate-user", bank),
            get().header("impersonate-user", "system:node:n2").header("impersonate-group", "system:nodes"),
            get().header("impersonate-user", "mallory").header("impersonate-uid", "1"),
            get().header("impersonate-user", "mallory").header("impersonate-extra-a", "b"),
            // The accounts of the own namespace may be assumed, but not with more than they have.
            get().header("impersonate-user", "system:serviceaccount:shop:default"),
            get()
                .header("impersonate-user", "system:serviceaccount:shop:default")
                .header("impersonate-group", "system:masters"),
        ],
    )
    .await;
    let half = ask(&cluster, &mallory(), &get().header("impersonate-group", "system:masters")).await;
    assert_eq!(half.code, 400);
    let own = Ask::new(&format!("GET {SHOP}/secrets/s"), Value::Null)
        .header("impersonate-user", "system:serviceaccount:shop:default");
    assert_eq!(ask(&cluster, &mallory(), &own).await.code, 403, "the account has no rights of its own");
}

#[tokio::test]
async fn node_beyond_itself() {
    let cluster = populated().await;
    let csr = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "vault"},
                     "target": {"kind": "Node", "name": "n1"}});
    let mut mirror = pod("spy", "n1", json!({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}));
    mirror["apiVersion"] = json!("v1");
    mirror["kind"] = json!("Pod");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    let mut plain = pod("plain", "n1", json!({}));
    plain["apiVersion"] = json!("v1");
    plain["kind"] = json!("Pod");
    let node_of = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n2"}});
    refused(
        &cluster,
        &node("n1"),
        vec![
            Ask::new("GET /api/v1/namespaces/bank/secrets/s", Value::Null),
            Ask::new(
                "GET /api/v1/namespaces/bank/secrets?watch=1&fieldSelector=metadata.name%3Ds",
                Value::Null,
            ),
            Ask::new("GET /api/v1/watch/namespaces/bank/secrets/s", Value::Null),
            Ask::new("GET /api/v1/secrets", Value::Null),
            Ask::new(&format!("GET {SHOP}/secrets"), Value::Null),
            Ask::new(&format!("PATCH {SHOP}/secrets/s"), json!({"data": {}})),
            Ask::new("POST /api/v1/namespaces/bank/serviceaccounts/default/token", json!({})),
            // Its own pod's account, but for no pod.
            Ask::new(&format!("POST {SHOP}/serviceaccounts/default/token"), json!({})),
            Ask::new("POST /api/v1/namespaces/bank/pods/vault/binding", csr),
            Ask::new(&format!("POST {SHOP}/pods"), mirror),
            Ask::new(&format!("POST {SHOP}/pods"), plain),
            Ask::new(
                "PATCH /api/v1/namespaces/bank/pods/vault/status",
                json!({"status": {"phase": "Failed"}}),
            ),
            Ask::new("DELETE /api/v1/namespaces/bank/pods/vault", Value::Null),
            Ask::new(
                "POST /api/v1/namespaces/bank/pods/vault/eviction",
                json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "vault"}}),
            ),
            Ask::new("DELETE /api/v1/namespaces/bank/pods", Value::Null),
            Ask::new("POST /api/v1/namespaces/bank/pods/vault/exec?command=sh", Value::Null),
            Ask::new("GET /api/v1/nodes/n2/proxy/", Value::Null),
            Ask::new("POST /api/v1/nodes", node_of("n3")),
            Ask::new("PATCH /api/v1/nodes/n2", json!({"metadata": {"labels": {"a": "b"}}})),
            Ask::new(
                "PATCH /api/v1/nodes/n1",
                json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}),
            ),
            Ask::new(
                "PATCH /api/v1/nodes/n1",
                json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
            ),
            Ask::new("DELETE /api/v1/nodes/n2", Value::Null),
            Ask::new("POST /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", lease),
            Ask::new(
                &format!("POST {RBAC}/clusterrolebindings"),
                binding("ClusterRoleBinding", "cluster-admin", "system:node:n1"),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn ways_around_by_path_and_verb() {
    let cluster = populated().await;
    bind(&cluster, "shop", "reader", "view").await;
    let reader = UserInfo::new("reader", &[]);
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                        "spec": {"user": "root", "nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let token =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "x"}});
    refused(
        &cluster,
        &reader,
        vec![
            // A list, a watch, a name in a selector and the old form of a watch are all reads.
            Ask::new(&format!("GET {SHOP}/secrets?watch=true"), Value::Null),
            Ask::new("GET /api/v1/watch/namespaces/shop/secrets", Value::Null),
            Ask::new(&format!("GET {SHOP}/secrets?fieldSelector=metadata.name%3Ds"), Value::Null),
            Ask::new(&format!("HEAD {SHOP}/secrets/s"), Value::Null),
            Ask::new("GET /api/v1/namespaces/sho%70/secrets/s", Value::Null),
            Ask::new("GET /api/v1/pods?labelSelector=a", Value::Null),
            // Parts of what may be read are not to be written.
            Ask::new(&format!("PATCH {SHOP}/pods/web/ephemeralcontainers"), json!({})),
            Ask::new(&format!("PUT {SHOP}/pods/web/status"), json!({})),
            Ask::new(&format!("GET {SHOP}/pods/web/exec?command=sh"), Value::Null),
            Ask::new(&format!("GET {SHOP}/pods/web/portforward"), Value::Null),
            Ask::new(&format!("GET {SHOP}/pods/web/proxy/"), Value::Null),
            Ask::new(&format!("GET {SHOP}/services/a/proxy/"), Value::Null),
            Ask::new(&format!("POST {SHOP}/serviceaccounts/default/token"), json!({})),
            Ask::new("PUT /api/v1/namespaces/shop/finalize", json!({})),
            Ask::new("PATCH /api/v1/namespaces/shop", json!({"metadata": {"labels": {"a": "b"}}})),
            // A dry run needs the same rights.
            Ask::new(&format!("DELETE {SHOP}/pods/web?dryRun=All"), Value::Null),
            Ask::new(&format!("DELETE {SHOP}/pods?dryRun=All"), Value::Null),
            Ask::new("POST /apis/authorization.k8s.io/v1/subjectaccessreviews", review),
            Ask::new("POST /apis/authentication.k8s.io/v1/tokenreviews", token),
        ],
    )
    .await;
}

#[tokio::test]
async fn update_of_what_is_not_there_needs_the_right_to_create() {
    let cluster = populated().await;
    let rules = json!([{"verbs": ["update", "patch"], "apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}]);
    let role = json!({"metadata": {"name": "renewer"}, "rules": rules});
    create(&cluster, &format!("{RBAC}/clusterroles"), "ClusterRole", role).await;
    bind(&cluster, "shop", "renewer", "renewer").await;
    let renewer = UserInfo::new("renewer", &[]);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/shop/leases";
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}});
    let mut apply = Ask::new(&format!("PATCH {leases}/l?fieldManager=x"), lease.clone());
    apply.kind = "application/apply-patch+yaml";
    refused(&cluster, &renewer, vec![Ask::new(&format!("PUT {leases}/l"), lease.clone()), apply]).await;
    create(&cluster, leases, "Lease", lease).await;
    let lease = cluster.get(&format!("{leases}/l")).await.expect(200);
    ask(&cluster, &renewer, &Ask::new(&format!("PUT {leases}/l"), lease)).await.expect(200);
}
