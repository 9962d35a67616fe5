//! Further ways to more than was given: roles that gather others, what is behind a node, parts of pods.

use serde_json::{Value, json};
use skep_server::user::UserInfo;

use super::climbing::{SHOP, everything, mallory, populated, refused};
use super::{Ask, RBAC, ask, bind, create, node, pod};
use crate::harness::Cluster;

const VERSION: &str = "rbac.authorization.k8s.io/v1";

async fn role(cluster: &Cluster, name: &str, rules: Value) {
    let role = json!({"metadata": {"name": name}, "rules": rules});
    create(cluster, &format!("{RBAC}/clusterroles"), "ClusterRole", role).await;
}

#[tokio::test]
async fn roles_that_gather_the_rules_of_others() {
    let cluster = populated().await;
    // Somebody who may write all roles, and has not much else to give.
    let verbs = ["create", "update", "patch", "get"];
    let rules =
        json!([{"verbs": verbs, "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"]}]);
    role(&cluster, "author", rules).await;
    bind(&cluster, "", "author", "author").await;
    let author = UserInfo::new("author", &[]);
    let path = format!("{RBAC}/clusterroles");
    let gathering = |labels: Value| {
        json!({"apiVersion": VERSION, "kind": "ClusterRole", "metadata": {"name": "all"}, "rules": [],
               "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": labels}]}})
    };
    let labelled = |into: &str, rules: Value| {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{into}");
        json!({"apiVersion": VERSION, "kind": "ClusterRole",
               "metadata": {"name": "more", "labels": {label: "true"}}, "rules": rules})
    };
    let secrets = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]);
    let bootstrap = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    let mut applied = Ask::new(&format!("PATCH {path}/all?fieldManager=x"), gathering(bootstrap.clone()));
    applied.kind = "application/apply-patch+yaml";
    let attempts = vec![
        Ask::new(&format!("POST {path}"), gathering(bootstrap.clone())),
        Ask::new(&format!("POST {path}"), gathering(json!({"nothing": "yet"}))),
        applied,
        Ask::new(
            &format!("PATCH {path}/author"),
            json!({"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": bootstrap}]}}),
        ),
        // A label carries rules to whoever has the role that gathers them.
        Ask::new(&format!("POST {path}"), labelled("view", secrets)),
        Ask::new(&format!("POST {path}"), labelled("admin", everything())),
        // What is there already is carried along, too.
        Ask::new(
            &format!("PATCH {path}/system:node"),
            json!({"metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}}),
        ),
        Ask::new(
            &format!("PATCH {path}/cluster-admin"),
            json!({"metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}}}),
        ),
        Ask::new(&format!("PATCH {path}/view"), json!({"aggregationRule": null, "rules": everything()})),
    ];
    refused(&cluster, &author, attempts).await;
    let held = json!([{"verbs": ["get"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"]}]);
    let attempt = Ask::new(&format!("POST {path}"), labelled("view", held));
    ask(&cluster, &author, &attempt).await.expect(201);
}

#[tokio::test]
async fn node_agents_and_what_else_is_on_their_machines() {
    let cluster = populated().await;
    bind(&cluster, "", "viewer", "view").await;
    let paths = ["/", "/pods", "/run/shop/web/c?cmd=id", "/exec/shop/web/c?command=id", "/metrics"];
    for user in [mallory(), UserInfo::new("viewer", &[]), UserInfo::anonymous(), node("n2")] {
        let mut attempts = Vec::new();
        for name in ["n1", "http:n1:10250", "https:n1:22", "n1:8080"] {
            for rest in paths {
                attempts.push(Ask::new(&format!("GET /api/v1/nodes/{name}/proxy{rest}"), Value::Null));
            }
            for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
                attempts.push(Ask::new(&format!("{method} /api/v1/nodes/{name}/proxy/run"), Value::Null));
            }
        }
        refused(&cluster, &user, attempts).await;
    }
    // Who may proxy to nodes does not get to what a node's status makes up.
    let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["nodes/proxy"]}]);
    role(&cluster, "prober", rules).await;
    bind(&cluster, "", "prober", "prober").await;
    let prober = UserInfo::new("prober", &[]);
    let post = Ask::new("POST /api/v1/nodes/n1/proxy/run", Value::Null);
    refused(&cluster, &prober, vec![post]).await;
    for address in ["127.0.0.1", "169.254.169.254", "::1", "localhost"] {
        let kind = if address == "localhost" { "Hostname" } else { "InternalIP" };
        let status = json!({"status": {"addresses": [{"type": kind, "address": address}]}});
        ask(&cluster, &node("n1"), &Ask::new("PATCH /api/v1/nodes/n1/status", status)).await.expect(200);
        for name in ["n1", "http:n1:80", "https:n1:6443"] {
            let get = Ask::new(&format!("GET /api/v1/nodes/{name}/proxy/x"), Value::Null);
            let message = ask(&cluster, &prober, &get).await.failure(400, "BadRequest");
            assert_eq!(message, "address not allowed", "{address} {name}");
        }
    }
}

#[tokio::test]
async fn parts_of_pods_bring_in_what_pod_security_forbids() {
    let cluster = populated().await;
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    cluster.patch("/api/v1/namespaces/shop", "merge", label).await.expect(200);
    let rules = json!([{"verbs": ["*"], "apiGroups": [""],
                        "resources": ["pods", "pods/ephemeralcontainers", "pods/resize", "pods/status"]}]);
    role(&cluster, "pods", rules).await;
    bind(&cluster, "shop", "mallory", "pods").await;
    let path = format!("{SHOP}/pods/web");
    let debugger = |security: Value| json!({"name": "d", "image": "x", "securityContext": security});
    let privileged = debugger(json!({"privileged": true}));
    let add = |one: &Value| json!({"spec": {"ephemeralContainers": [one]}});
    let mut whole = cluster.get(&path).await.expect(200);
    whole["spec"]["ephemeralContainers"] = json!([privileged]);
    let mut strategic = Ask::new(&format!("PATCH {path}/ephemeralcontainers"), add(&privileged));
    strategic.kind = "application/strategic-merge-patch+json";
    let list = json!([{"op": "add", "path": "/spec/ephemeralContainers", "value": [privileged]}]);
    let mut operations = Ask::new(&format!("PATCH {path}/ephemeralcontainers"), list);
    operations.kind = "application/json-patch+json";
    let capable = debugger(json!({"capabilities": {"add": ["SYS_ADMIN"]}}));
    let attempts = vec![
        Ask::new(&format!("PATCH {path}/ephemeralcontainers"), add(&privileged)),
        Ask::new(&format!("PATCH {path}/ephemeralcontainers?dryRun=All"), add(&privileged)),
        Ask::new(&format!("PUT {path}/ephemeralcontainers"), whole),
        strategic,
        operations,
        Ask::new(&format!("PATCH {path}/ephemeralcontainers"), add(&capable)),
    ];
    refused(&cluster, &mallory(), attempts).await;
    // Sizes are all that a resize brings, and a status brings nothing that runs.
    let before = cluster.get(&path).await.expect(200)["spec"].clone();
    let mut container = before["containers"][0].clone();
    container["securityContext"] = json!({"privileged": true});
    for part in ["resize", "status"] {
        for change in [
            json!({"containers": [container]}),
            json!({"hostNetwork": true, "hostPID": true}),
            add(&privileged)["spec"].clone(),
        ] {
            let attempt = Ask::new(&format!("PATCH {path}/{part}"), json!({"spec": change}));
            let answer = ask(&cluster, &mallory(), &attempt).await;
            assert!(matches!(answer.code, 200 | 403 | 422), "{part}: {}", answer.code);
            assert_eq!(cluster.get(&path).await.expect(200)["spec"], before, "{part} {change}");
        }
    }
    let privileged = json!({"name": "c", "image": "x", "securityContext": {"privileged": true}});
    let mut fresh = pod("fresh", "", json!({"containers": [privileged]}));
    (fresh["apiVersion"], fresh["kind"]) = (json!("v1"), json!("Pod"));
    let mut applied = Ask::new(&format!("PATCH {SHOP}/pods/fresh?fieldManager=x"), fresh.clone());
    applied.kind = "application/apply-patch+yaml";
    refused(&cluster, &mallory(), vec![Ask::new(&format!("POST {SHOP}/pods"), fresh), applied]).await;
    ask(
        &cluster,
        &mallory(),
        &Ask::new(&format!("PATCH {path}/ephemeralcontainers"), add(&debugger(json!({})))),
    )
    .await
    .expect(200);
}
