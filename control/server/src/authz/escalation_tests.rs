//! Handing out rights where authorizers other than roles have a say.

use std::io::Write;
use std::sync::Arc;

use serde_json::{Value, json};
use skep_api::status::Status;

use super::{AuthorizerChain, Authz};
use crate::gate::Authorizer;
use crate::request::RequestInfo;
use crate::testing::Objects;
use crate::user::UserInfo;

const GROUP: &str = "rbac.authorization.k8s.io";

fn rules(resource: &str) -> Value {
    json!([{ "verbs": ["get"], "apiGroups": [""], "resources": [resource] }])
}

/// Roles let somebody get pods, and lines of a file let them do whatever they want with secrets; the file comes first.
fn authz(who: &str) -> Authz {
    let objects = Arc::new(Objects::default());
    objects.put(GROUP, "clusterroles", json!({ "metadata": { "name": "r" }, "rules": rules("pods") }));
    let binding = json!({ "metadata": { "name": "b" }, "roleRef": { "kind": "ClusterRole", "name": "r" },
                          "subjects": [{ "kind": "User", "name": who }] });
    objects.put(GROUP, "clusterrolebindings", binding);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let line = json!({ "apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy",
                       "spec": { "user": who, "apiGroup": "*", "namespace": "*", "resource": "secrets" } });
    writeln!(file, "{line}").unwrap();
    let modes = ["ABAC", "Node", "RBAC"].map(str::to_owned);
    let authz = Authz::new(objects);
    authz.set_chain(AuthorizerChain::of_modes(&modes, None, Some(file.path())).unwrap());
    authz
}

async fn grant(authz: &Authz, user: &UserInfo, resource: &str) -> Result<(), Status> {
    let request = RequestInfo {
        is_resource: true,
        verb: "create".into(),
        group: GROUP.into(),
        version: "v1".into(),
        namespace: "shop".into(),
        resource: "roles".into(),
        ..RequestInfo::default()
    };
    let role = json!({ "metadata": { "name": "x" }, "rules": rules(resource) });
    authz.check_escalation(user, &request, &role, None).await
}

#[tokio::test]
async fn right_by_a_line_of_a_file_is_not_handed_out() {
    let (authz, jane) = (authz("jane"), UserInfo::new("jane", &[]));
    let read = RequestInfo {
        is_resource: true,
        verb: "get".into(),
        version: "v1".into(),
        namespace: "shop".into(),
        resource: "secrets".into(),
        ..RequestInfo::default()
    };
    assert!(authz.authorize(&jane, &read).await.is_allowed());
    let refused = grant(&authz, &jane, "secrets").await.unwrap_err();
    assert_eq!(refused.code, 403);
    assert!(
        refused.message.ends_with("{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"),
        "{refused}"
    );
    grant(&authz, &jane, "pods").await.unwrap();
}

#[tokio::test]
async fn authorizers_that_know_no_rules_are_not_complained_about() {
    let node = "system:node:n1";
    let authz = authz(node);
    let refused = grant(&authz, &UserInfo::new(node, &["system:nodes"]), "secrets").await.unwrap_err();
    assert!(!refused.message.contains("resolution errors"), "{refused}");
}
