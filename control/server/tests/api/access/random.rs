//! Random requests of a plain user never change what the user may not change.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use skep_server::user::UserInfo;

use super::{Ask, RBAC, ask, bind, create, namespace, pod};
use crate::harness::{Cluster, cluster};

/// Group, resource, version and kind.
const KINDS: [(&str, &str, &str, &str); 16] = [
    ("/api/v1", "pods", "v1", "Pod"),
    ("/api/v1", "secrets", "v1", "Secret"),
    ("/api/v1", "configmaps", "v1", "ConfigMap"),
    ("/api/v1", "services", "v1", "Service"),
    ("/api/v1", "serviceaccounts", "v1", "ServiceAccount"),
    ("/api/v1", "nodes", "v1", "Node"),
    ("/api/v1", "namespaces", "v1", "Namespace"),
    ("/api/v1", "bindings", "v1", "Binding"),
    ("/apis/apps/v1", "deployments", "apps/v1", "Deployment"),
    ("/apis/rbac.authorization.k8s.io/v1", "roles", "rbac.authorization.k8s.io/v1", "Role"),
    ("/apis/rbac.authorization.k8s.io/v1", "rolebindings", "rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("/apis/rbac.authorization.k8s.io/v1", "clusterroles", "rbac.authorization.k8s.io/v1", "ClusterRole"),
    (
        "/apis/rbac.authorization.k8s.io/v1",
        "clusterrolebindings",
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
    ),
    ("/apis/coordination.k8s.io/v1", "leases", "coordination.k8s.io/v1", "Lease"),
    (
        "/apis/apiextensions.k8s.io/v1",
        "customresourcedefinitions",
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
    ),
    (
        "/apis/certificates.k8s.io/v1",
        "certificatesigningrequests",
        "certificates.k8s.io/v1",
        "CertificateSigningRequest",
    ),
];
/// So many requests.
const REQUESTS: usize = 2000;

/// Everything outside of the namespace that the user may write to, but for what changes by itself.
async fn others(cluster: &Cluster) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for path in [
        "/api/v1/namespaces",
        "/api/v1/nodes",
        "/api/v1/secrets",
        "/api/v1/configmaps",
        "/api/v1/pods",
        "/api/v1/serviceaccounts",
        "/api/v1/services",
        "/apis/apps/v1/deployments",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        "/apis/rbac.authorization.k8s.io/v1/roles",
        "/apis/rbac.authorization.k8s.io/v1/rolebindings",
        "/apis/coordination.k8s.io/v1/leases",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "/apis/storage.k8s.io/v1/storageclasses",
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
        "/apis/certificates.k8s.io/v1/certificatesigningrequests",
    ] {
        let answer = cluster.get(path).await;
        if answer.code == 404 {
            continue;
        }
        let list = answer.expect(200);
        for item in list["items"].as_array().unwrap() {
            // Of its own namespace, the rights and accounts stay as they are, too.
            let own = item["metadata"]["namespace"] == "shop";
            let writable = own && !path.contains("rbac");
            if !writable {
                all.push((path.to_owned(), item.clone()));
            }
        }
    }
    all
}

struct Chance(StdRng);

impl Chance {
    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.0.random_range(0..of.len())]
    }

    /// A path, and what kind its objects have.
    fn path(&mut self) -> (String, (&'static str, &'static str)) {
        let (group, resource, version, kind) = KINDS[self.0.random_range(0..KINDS.len())];
        let scope = self.one(&[
            "/namespaces/shop",
            "/namespaces/shop",
            "/namespaces/shop",
            "/namespaces/bank",
            "/namespaces/kube-system",
            "/namespaces/sho%70",
            "",
        ]);
        let name = self.one(&[
            "",
            "",
            "",
            "/s",
            "/web",
            "/vault",
            "/default",
            "/cluster-admin",
            "/admin",
            "/mallory-edit",
            "/new",
            "/bank",
            "/n1",
            "/odd",
        ]);
        let part = self.one(&[
            "",
            "",
            "",
            "",
            "",
            "",
            "/status",
            "/scale",
            "/token",
            "/binding",
            "/eviction",
            "/ephemeralcontainers",
            "/finalize",
            "/approval",
            "/proxy/x",
            "/exec",
        ]);
        let query = self.one(&[
            "",
            "",
            "",
            "?dryRun=All",
            "?fieldManager=x&force=true",
            "?fieldSelector=metadata.name%3Ds",
            "?propagationPolicy=Orphan",
            "?gracePeriodSeconds=0",
            "?fieldValidation=Ignore",
        ]);
        let part = if name.is_empty() { "" } else { part };
        (format!("{group}{scope}/{resource}{name}{part}{query}"), (version, kind))
    }

    fn body(&mut self, (version, kind): (&str, &str), path: &str) -> Value {
        let everything = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
        let me = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "mallory"}]);
        let admin =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
        let named = path.split('?').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let any = self.one(&["new", "s", "web", "vault", "default", "cluster-admin", "mallory-edit"]);
        let name = if self.0.random_bool(0.5) { named } else { any };
        let mut body = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        let containers = json!([{"name": "c", "image": "x"}]);
        match kind {
            "ConfigMap" | "Secret" => body["data"] = json!({"a": "Yg=="}),
            "Pod" => body["spec"] = json!({"nodeName": "n1", "containers": containers}),
            "Deployment" => {
                body["spec"] = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {
                    "metadata": {"labels": {"a": "b"}}, "spec": {"containers": containers}}});
            }
            "Service" => body["spec"] = json!({"ports": [{"port": 80}]}),
            "Role" | "ClusterRole" => body["rules"] = everything,
            "RoleBinding" | "ClusterRoleBinding" => {
                body["subjects"] = me;
                body["roleRef"] = admin;
            }
            _ => {}
        }
        if self.0.random_bool(0.1) {
            let namespace = self.one(&["bank", "shop", "kube-system"]).to_owned();
            body["metadata"]["namespace"] = json!(namespace);
        }
        if self.0.random_bool(0.2) {
            body["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-edit": "true"});
        }
        body
    }

    fn ask(&mut self) -> Ask {
        let method = self.one(&["GET", "POST", "PUT", "PATCH", "PATCH", "DELETE", "DELETE"]);
        let (path, kind) = self.path();
        let other = KINDS[self.0.random_range(0..KINDS.len())];
        let kind = if self.0.random_bool(0.8) { kind } else { (other.2, other.3) };
        let body =
            if self.0.random_bool(0.9) && method != "DELETE" { self.body(kind, &path) } else { Value::Null };
        let mut ask = Ask::new(&format!("{method} {path}"), body);
        if method == "PATCH" {
            ask.kind = self.one(&[
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
                "application/apply-patch+yaml",
                "application/json-patch+json",
            ]);
            if ask.kind == "application/json-patch+json" {
                ask.body = json!([{"op": "add", "path": "/metadata/labels", "value": {"x": "y"}}]);
            }
        }
        if self.0.random_bool(0.1) {
            let who =
                self.one(&["root", "system:node:n1", "system:serviceaccount:bank:default", "system:admin"]);
            ask = ask.header("impersonate-user", who);
            if self.0.random_bool(0.5) {
                let group = self.one(&["system:masters", "system:nodes"]);
                ask = ask.header("impersonate-group", group);
            }
        }
        ask
    }
}

#[tokio::test]
async fn requests_of_a_plain_user_change_only_what_the_user_may_change() {
    let cluster = cluster().await;
    for name in ["shop", "bank"] {
        namespace(&cluster, name).await;
        let secret = json!({"metadata": {"name": "s"}, "stringData": {"a": "b"}});
        create(&cluster, &format!("/api/v1/namespaces/{name}/secrets"), "Secret", secret).await;
    }
    create(&cluster, "/api/v1/nodes", "Node", json!({"metadata": {"name": "n1"}})).await;
    create(&cluster, "/api/v1/namespaces/bank/pods", "Pod", pod("vault", "n1", json!({}))).await;
    create(&cluster, "/api/v1/namespaces/shop/pods", "Pod", pod("web", "n1", json!({}))).await;
    bind(&cluster, "shop", "mallory", "edit").await;
    let custom = json!({"metadata": {"name": "odd"}, "rules": [{"verbs": ["*"], "apiGroups": ["acme.io"], "resources": ["*"]}]});
    create(&cluster, &format!("{RBAC}/clusterroles"), "ClusterRole", custom).await;
    let mallory = UserInfo::new("mallory", &[]);
    let before = others(&cluster).await;
    let mut chance = Chance(StdRng::seed_from_u64(7));
    let (mut allowed, mut refused) = (0, 0);
    for at in 0..REQUESTS {
        let attempt = chance.ask();
        let answer = ask(&cluster, &mallory, &attempt).await;
        assert!(
            answer.code < 500
                || answer.code == 503
                || attempt.path.contains("proxy")
                || attempt.path.contains("exec"),
            "{} {}: {}",
            attempt.method,
            attempt.path,
            answer.code
        );
        match answer.code {
            200..300 => allowed += 1,
            403 => refused += 1,
            _ => {}
        }
        if at % 500 == 499 {
            assert_eq!(others(&cluster).await, before, "after {at} requests");
        }
    }
    assert_eq!(others(&cluster).await, before);
    // The user did get something done: the test is not about a locked door.
    assert!(allowed > 30 && refused > 500, "{allowed} allowed, {refused} refused");
}
