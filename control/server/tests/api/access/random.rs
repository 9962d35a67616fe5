//! Random requests of a plain user never change what the user may not change.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use skep_server::user::UserInfo;

use super::{Ask, RBAC, ask, bind, create, namespace, pod};
use crate::harness::{Cluster, cluster};

/// So many requests.
const REQUESTS: usize = 3000;

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

    fn path(&mut self) -> String {
        let group = self.one(&[
            "/api/v1",
            "/apis/apps/v1",
            "/apis/rbac.authorization.k8s.io/v1",
            "/apis/coordination.k8s.io/v1",
            "/apis/apiextensions.k8s.io/v1",
            "/apis/certificates.k8s.io/v1",
            "/apis/storage.k8s.io/v1",
            "/apis/admissionregistration.k8s.io/v1",
        ]);
        let scope = self.one(&[
            "",
            "/namespaces/shop",
            "/namespaces/bank",
            "/namespaces/kube-system",
            "/namespaces/sho%70",
        ]);
        let resource = self.one(&[
            "pods",
            "secrets",
            "configmaps",
            "serviceaccounts",
            "services",
            "nodes",
            "namespaces",
            "deployments",
            "roles",
            "rolebindings",
            "clusterroles",
            "clusterrolebindings",
            "leases",
            "customresourcedefinitions",
            "certificatesigningrequests",
            "validatingwebhookconfigurations",
            "bindings",
            "events",
        ]);
        let name = self.one(&[
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
        ]);
        let part = self.one(&[
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
            "?dryRun=All",
            "?fieldManager=x&force=true",
            "?fieldSelector=metadata.name%3Ds",
            "?propagationPolicy=Orphan",
            "?gracePeriodSeconds=0",
            "?fieldValidation=Ignore",
        ]);
        format!("{group}{scope}/{resource}{name}{part}{query}")
    }

    fn body(&mut self) -> Value {
        let everything = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
        let me = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "mallory"}]);
        let admin =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
        let name =
            self.one(&["new", "s", "web", "vault", "default", "cluster-admin", "mallory-edit"]).to_owned();
        let kinds = [
            ("v1", "Pod"),
            ("v1", "Secret"),
            ("v1", "ConfigMap"),
            ("v1", "Namespace"),
            ("v1", "Node"),
            ("v1", "Binding"),
            ("rbac.authorization.k8s.io/v1", "Role"),
            ("rbac.authorization.k8s.io/v1", "RoleBinding"),
            ("rbac.authorization.k8s.io/v1", "ClusterRole"),
            ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
            ("apps/v1", "Deployment"),
            ("coordination.k8s.io/v1", "Lease"),
        ];
        let (version, kind) = kinds[self.0.random_range(0..kinds.len())];
        let mut body = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        for (field, value) in [
            ("rules", everything),
            ("subjects", me),
            ("roleRef", admin),
            ("data", json!({"a": "Yg=="})),
            ("spec", json!({"nodeName": "n1", "containers": [{"name": "c", "image": "x"}]})),
            ("status", json!({"phase": "Failed"})),
            ("target", json!({"kind": "Node", "name": "n1"})),
        ] {
            if self.0.random_bool(0.4) {
                body[field] = value;
            }
        }
        if self.0.random_bool(0.3) {
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
        let body = if self.0.random_bool(0.9) { self.body() } else { Value::Null };
        let mut ask = Ask::new(&format!("{method} {}", self.path()), body);
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
    assert!(allowed > 50 && refused > 500, "{allowed} allowed, {refused} refused");
}
