//! Every resource and subresource x verb x identity, held against what upstream's server of the same version answers.
//!
//! `upstream_table.txt` was written by asking that server: a line is a request and, for each identity of the first line,
//! `y` for any answer but a refusal (403) or `-` for one. Bodies are empty objects: what is asked is whether somebody gets
//! as far as to where they are read.

use serde_json::{Value, json};
use skep_server::user::UserInfo;

use super::{Ask, ask, bind, create, namespace, node, pod};
use crate::harness::{Cluster, cluster};

const TABLE: &str = include_str!("upstream_table.txt");

/// Who a column of the table is.
fn identity(name: &str) -> UserInfo {
    let controller = |name: &str| UserInfo::service_account("kube-system", name);
    match name {
        "node" => node("n1"),
        // Of the name alone nothing follows.
        "half-node" => UserInfo::new("system:node:n1", &[]),
        "account" => UserInfo::service_account("shop", "default"),
        "monitor" => UserInfo::new("monitor", &["system:monitoring"]),
        "scheduler" => UserInfo::new("system:kube-scheduler", &[]),
        "controllers" => UserInfo::new("system:kube-controller-manager", &[]),
        "collector" => controller("generic-garbage-collector"),
        "namespacer" => controller("namespace-controller"),
        "deployer" => controller("deployment-controller"),
        "bootstrapper" => UserInfo::new("system:bootstrap:abcdef", &["system:bootstrappers"]),
        "master" => UserInfo::new("root", &["system:masters"]),
        user => UserInfo::new(user, &[]),
    }
}

/// The namespace shop with a pod on the node n1 that needs a secret, and users bound to upstream's roles.
async fn populated() -> Cluster {
    let cluster = cluster().await;
    namespace(&cluster, "shop").await;
    create(&cluster, "/api/v1/nodes", "Node", json!({"metadata": {"name": "n1"}})).await;
    for role in ["view", "edit", "admin"] {
        bind(&cluster, "shop", role, role).await;
    }
    bind(&cluster, "", "cluster-view", "view").await;
    bind(&cluster, "", "cluster-admin", "cluster-admin").await;
    create(&cluster, "/api/v1/namespaces/shop/secrets", "Secret", json!({"metadata": {"name": "x"}})).await;
    let volumes = json!([{"name": "v", "secret": {"secretName": "x"}}]);
    let spec = json!({"volumes": volumes, "serviceAccountName": "default"});
    create(&cluster, "/api/v1/namespaces/shop/pods", "Pod", pod("x", "n1", spec)).await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_identity_gets_as_far_as_with_upstream() {
    let cluster = populated().await;
    let (head, rows) = TABLE.split_once('\n').unwrap();
    let users: Vec<UserInfo> = head.rsplit_once("| ").unwrap().1.split(' ').map(identity).collect();
    let (mut wrong, mut cells) = (Vec::new(), 0);
    for row in rows.lines() {
        let (line, expected) = row.rsplit_once(" | ").unwrap();
        assert_eq!(expected.len(), users.len(), "{row}");
        let body = if line.starts_with('P') { json!({}) } else { Value::Null };
        let question = Ask::new(line, body);
        let asked = users.iter().map(|user| ask(&cluster, user, &question));
        let codes = futures::future::join_all(asked).await;
        let found: String = codes.iter().map(|answer| if answer.code == 403 { '-' } else { 'y' }).collect();
        cells += found.len();
        if found != expected {
            wrong.push(format!("{line}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{head}\n{}", wrong.join("\n"));
    assert!(cells > 10_000, "{cells} cells are no table of everything");
}
