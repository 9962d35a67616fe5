//! identity x verb x resource x subresource -> may they.

use serde_json::{Value, json};
use skep_server::user::UserInfo;

use super::{Ask, RBAC, ask, bind, create, namespace, node, pod};
use crate::harness::{Cluster, cluster};

/// A cluster with a team in the namespace shop, and somebody else's namespace beside it.
async fn populated() -> Cluster {
    let cluster = cluster().await;
    for name in ["shop", "other"] {
        namespace(&cluster, name).await;
        let secret = json!({"metadata": {"name": "s"}, "stringData": {"a": "b"}});
        create(&cluster, &format!("/api/v1/namespaces/{name}/secrets"), "Secret", secret).await;
        let map = json!({"metadata": {"name": "m"}, "data": {"a": "b"}});
        create(&cluster, &format!("/api/v1/namespaces/{name}/configmaps"), "ConfigMap", map).await;
    }
    for (namespace, name, on) in [("shop", "web", "n1"), ("other", "db", "n2")] {
        let volumes = json!([{"name": "v", "secret": {"secretName": "s"}}]);
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        create(&cluster, &path, "Pod", pod(name, on, json!({"volumes": volumes}))).await;
    }
    for name in ["n1", "n2"] {
        create(&cluster, "/api/v1/nodes", "Node", json!({"metadata": {"name": name}})).await;
    }
    let deployment = json!({
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "echo"}]}}},
    });
    create(&cluster, "/apis/apps/v1/namespaces/shop/deployments", "Deployment", deployment).await;
    for role in ["view", "edit", "admin"] {
        bind(&cluster, "shop", role, role).await;
    }
    cluster
}

/// What a request is told: `yes` for anything but a refusal of the gate.
async fn answers(cluster: &Cluster, user: &UserInfo, line: &str, body: &Value) -> &'static str {
    match ask(cluster, user, &Ask::new(line, body.clone())).await.code {
        403 => "no",
        401 => "who?",
        _ => "yes",
    }
}

#[tokio::test]
async fn table_of_identities_and_requests() {
    let cluster = populated().await;
    let users: Vec<UserInfo> = ["view", "edit", "admin", "nobody"]
        .iter()
        .map(|name| UserInfo::new(*name, &[]))
        .chain([
            node("n1"),
            UserInfo::service_account("kube-system", "deployment-controller"),
            UserInfo::new("system:kube-scheduler", &[]),
            UserInfo::new("root", &["system:masters"]),
        ])
        .collect();
    let shop = "/api/v1/namespaces/shop";
    let other = "/api/v1/namespaces/other";
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": []});
    let empty = json!({});
    let none = Value::Null;
    // view, edit, admin, nobody, node n1, deployment controller, scheduler, masters
    let table: Vec<(String, &Value, &str)> = vec![
        (format!("GET {shop}/pods"), &none, "yes yes yes no no yes yes yes"),
        (format!("GET {shop}/pods?watch=1&timeoutSeconds=1"), &none, "yes yes yes no no yes yes yes"),
        (format!("GET {shop}/pods/web"), &none, "yes yes yes no yes yes yes yes"),
        (format!("GET {other}/pods/db"), &none, "no no no no no yes yes yes"),
        ("GET /api/v1/pods".into(), &none, "no no no no no yes yes yes"),
        ("GET /api/v1/pods?fieldSelector=spec.nodeName%3Dn1".into(), &none, "no no no no yes yes yes yes"),
        ("GET /api/v1/pods?fieldSelector=spec.nodeName%3Dn2".into(), &none, "no no no no no yes yes yes"),
        (format!("PATCH {shop}/pods/web"), &empty, "no yes yes no no no no yes"),
        (format!("PATCH {shop}/pods/web/status"), &empty, "no no no no yes no yes yes"),
        (format!("PATCH {other}/pods/db/status"), &empty, "no no no no no no yes yes"),
        (format!("POST {shop}/pods/web/binding?dryRun=All"), &empty, "no no no no no no yes yes"),
        (format!("POST {shop}/pods/web/eviction?dryRun=All"), &empty, "no yes yes no yes no no yes"),
        (format!("GET {shop}/pods/web/log"), &none, "yes yes yes no no no no yes"),
        (format!("POST {shop}/pods/web/exec?command=x"), &none, "no yes yes no no no no yes"),
        (format!("GET {shop}/pods/web/exec?command=x"), &none, "no yes yes no no no no yes"),
        (format!("GET {shop}/pods/web/proxy/x"), &none, "no yes yes no no no no yes"),
        (format!("DELETE {shop}/pods/web?dryRun=All"), &none, "no yes yes no yes no yes yes"),
        (format!("DELETE {shop}/pods?dryRun=All"), &none, "no yes yes no no no no yes"),
        (format!("GET {shop}/secrets/s"), &none, "no yes yes no yes no no yes"),
        (format!("GET {shop}/secrets"), &none, "no yes yes no no no no yes"),
        (format!("GET {shop}/secrets?watch=1&timeoutSeconds=1"), &none, "no yes yes no no no no yes"),
        (format!("GET {other}/secrets/s"), &none, "no no no no no no no yes"),
        (format!("GET {shop}/configmaps/m"), &none, "yes yes yes no no no no yes"),
        (format!("POST {shop}/configmaps?dryRun=All"), &map, "no yes yes no no no no yes"),
        (format!("POST {other}/configmaps?dryRun=All"), &map, "no no no no no no no yes"),
        ("GET /apis/apps/v1/namespaces/shop/deployments/d".into(), &none, "yes yes yes no no yes no yes"),
        (
            "PATCH /apis/apps/v1/namespaces/shop/deployments/d/scale".into(),
            &empty,
            "no yes yes no no no no yes",
        ),
        (
            "PATCH /apis/apps/v1/namespaces/shop/deployments/d/status".into(),
            &empty,
            "no no no no no no no yes",
        ),
        (
            "GET /apis/apps/v1/namespaces/shop/deployments/d/status".into(),
            &none,
            "yes yes yes no no no no yes",
        ),
        (format!("POST {RBAC}/namespaces/shop/roles?dryRun=All"), &role, "no no yes no no no no yes"),
        (format!("GET {RBAC}/namespaces/shop/rolebindings"), &none, "no no yes no no no no yes"),
        (format!("GET {RBAC}/clusterroles"), &none, "no no no no no no no yes"),
        ("GET /api/v1/nodes".into(), &none, "no no no no yes no yes yes"),
        ("PATCH /api/v1/nodes/n1/status".into(), &empty, "no no no no yes no no yes"),
        ("PATCH /api/v1/nodes/n2/status".into(), &empty, "no no no no no no no yes"),
        ("DELETE /api/v1/nodes/n1?dryRun=All".into(), &none, "no no no no no no no yes"),
        ("GET /api/v1/namespaces/shop".into(), &none, "yes yes yes no no no yes yes"),
        ("GET /api/v1/namespaces".into(), &none, "no no no no no no yes yes"),
        ("DELETE /api/v1/namespaces/shop?dryRun=All".into(), &none, "no no no no no no no yes"),
        (format!("POST {shop}/serviceaccounts/default/token"), &empty, "no yes yes no no no no yes"),
        ("GET /version".into(), &none, "yes yes yes yes yes yes yes yes"),
        ("GET /apis".into(), &none, "yes yes yes yes yes yes yes yes"),
        ("GET /metrics".into(), &none, "no no no no no no no yes"),
        ("GET /openid/v1/jwks".into(), &none, "no no no no no yes no yes"),
    ];
    let mut wrong = Vec::new();
    for (line, body, expected) in &table {
        let mut found = Vec::new();
        for user in &users {
            found.push(answers(&cluster, user, line, body).await);
        }
        if found.join(" ") != **expected {
            wrong.push(format!("{line}\n  expected {expected}\n  found    {}", found.join(" ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn refusal_says_who_may_not_do_what_where() {
    let cluster = populated().await;
    let nobody = UserInfo::new("nobody", &[]);
    for (line, expected) in [
        (
            "GET /api/v1/namespaces/shop/pods/web/log",
            "pods \"web\" is forbidden: User \"nobody\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"shop\"",
        ),
        (
            "GET /apis/apps/v1/deployments",
            "deployments.apps is forbidden: User \"nobody\" cannot list resource \"deployments\" in API group \"apps\" at the \
             cluster scope",
        ),
        ("GET /metrics", "forbidden: User \"nobody\" cannot get path \"/metrics\""),
        (
            "DELETE /api/v1/namespaces/shop/pods",
            "pods is forbidden: User \"nobody\" cannot deletecollection resource \"pods\" in API group \"\" in the namespace \"shop\"",
        ),
    ] {
        let answer = ask(&cluster, &nobody, &Ask::new(line, Value::Null)).await;
        assert_eq!(answer.failure(403, "Forbidden"), expected);
    }
    let refused =
        ask(&cluster, &node("n1"), &Ask::new("GET /api/v1/namespaces/other/secrets/s", Value::Null)).await;
    assert_eq!(
        refused.failure(403, "Forbidden"),
        "secrets \"s\" is forbidden: User \"system:node:n1\" cannot get resource \"secrets\" in API group \"\" in the \
         namespace \"other\": no relationship found between node 'n1' and this object"
    );
}

#[tokio::test]
async fn request_without_credentials_sees_health_and_nothing_else() {
    let cluster = cluster().await;
    for (path, code) in [
        ("/livez", 200),
        // Single checks are for who watches the server: the role `system:monitoring`.
        ("/readyz/ping", 403),
        ("/healthz", 200),
        ("/version", 200),
        ("/livezx", 401),
        ("/metrics", 401),
        ("/api", 401),
        ("/api/v1/pods", 401),
        ("/openid/v1/jwks", 401),
        ("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 401),
    ] {
        let answer = super::ask_from_outside(&cluster, &Ask::new(&format!("GET {path}"), Value::Null)).await;
        assert_eq!(answer.code, code, "{path}");
        if code == 401 {
            assert_eq!(answer.failure(401, "Unauthorized"), "Unauthorized");
        }
    }
}
