//! Upstream's roles and bindings, role by role through the API, and what a restart makes of changes to them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::RBAC;
use crate::harness::cluster;

const POLICY: &str = include_str!("../../../data/bootstrap-objects.json");

/// The permissions of rules, one by one: rules that say the same in another form are the same.
fn permissions(rules: &Value) -> Vec<String> {
    let list = |rule: &Value, field: &str| -> Vec<String> {
        rule[field].as_array().into_iter().flatten().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let mut all = Vec::new();
    for rule in rules.as_array().into_iter().flatten() {
        let names = list(rule, "resourceNames").join("|");
        for verb in list(rule, "verbs") {
            all.extend(list(rule, "nonResourceURLs").iter().map(|path| format!("{verb} {path}")));
            for group in list(rule, "apiGroups") {
                all.extend(
                    list(rule, "resources").iter().map(|one| format!("{verb} {group}/{one} [{names}]")),
                );
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

#[tokio::test]
async fn every_role_and_binding_of_upstream_is_there_and_says_the_same() {
    let cluster = cluster().await;
    let policy: Value = serde_json::from_str(POLICY).unwrap();
    let mut compared = BTreeMap::new();
    for (kind, plural, scoped) in [
        ("ClusterRole", "clusterroles", false),
        ("ClusterRoleBinding", "clusterrolebindings", false),
        ("Role", "roles", true),
        ("RoleBinding", "rolebindings", true),
    ] {
        let there = cluster.get(&format!("{RBAC}/{plural}")).await.expect(200);
        let there = there["items"].as_array().unwrap();
        for expected in policy[kind].as_array().unwrap() {
            let (name, namespace) = (&expected["metadata"]["name"], &expected["metadata"]["namespace"]);
            let path = match scoped {
                true => format!(
                    "{RBAC}/namespaces/{}/{plural}/{}",
                    namespace.as_str().unwrap(),
                    name.as_str().unwrap()
                ),
                false => format!("{RBAC}/{plural}/{}", name.as_str().unwrap()),
            };
            let found = cluster.get(&path).await.expect(200);
            assert_eq!(permissions(&found["rules"]), permissions(&expected["rules"]), "{name}");
            for field in ["roleRef", "subjects", "aggregationRule"] {
                assert_eq!(found[field], expected[field], "{name}: {field}");
            }
            for field in ["labels", "annotations"] {
                assert_eq!(found["metadata"][field], expected["metadata"][field], "{name}: {field}");
            }
            *compared.entry(kind).or_insert(0) += 1;
        }
        let own =
            there.iter().filter(|one| one["metadata"]["name"].as_str().unwrap().starts_with("skep:")).count();
        assert_eq!(there.len() - own, policy[kind].as_array().unwrap().len(), "further {plural}");
    }
    assert_eq!(compared.values().sum::<i32>(), 135, "{compared:?}");
}

#[tokio::test]
async fn restart_adds_what_is_missing_and_keeps_what_was_added() {
    let cluster = cluster().await;
    let scheduler = format!("{RBAC}/clusterroles/system:kube-scheduler");
    let before = cluster.get(&scheduler).await.expect(200);
    let extra = json!({"verbs": ["get"], "apiGroups": ["acme.io"], "resources": ["widgets"]});
    cluster
        .patch(&scheduler, "merge", json!({"rules": [extra], "metadata": {"labels": {"mine": "1"}}}))
        .await
        .expect(200);
    let protected = format!("{RBAC}/clusterroles/system:node-proxier");
    let off = json!({"rules": [], "metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}});
    cluster.patch(&protected, "merge", off).await.expect(200);
    let binding = format!("{RBAC}/clusterrolebindings/system:kube-scheduler");
    let somebody = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "jane"}]);
    cluster.patch(&binding, "merge", json!({"subjects": somebody})).await.expect(200);
    let gone = format!("{RBAC}/clusterroles/system:basic-user");
    cluster.delete(&gone, Value::Null).await.expect(200);
    let another = format!("{RBAC}/clusterrolebindings/system:basic-user");
    cluster.delete(&another, Value::Null).await.expect(200);
    let redirected = json!({"metadata": {"name": "system:basic-user"}, "subjects": somebody,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}});
    cluster.post(&format!("{RBAC}/clusterrolebindings"), "ClusterRoleBinding", redirected).await.expect(201);

    let cluster = cluster.restarted().await;
    let after = cluster.get(&scheduler).await.expect(200);
    let mut expected = permissions(&before["rules"]);
    expected.push("get acme.io/widgets []".into());
    expected.sort();
    assert_eq!(permissions(&after["rules"]), expected);
    assert_eq!(after["metadata"]["labels"]["mine"], "1");
    assert_eq!(cluster.get(&protected).await.expect(200)["rules"], Value::Null);
    let subjects = cluster.get(&binding).await.expect(200)["subjects"].clone();
    let names: Vec<&str> =
        subjects.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["jane", "system:kube-scheduler"]);
    assert!(!permissions(&cluster.get(&gone).await.expect(200)["rules"]).is_empty());
    let restored = cluster.get(&another).await.expect(200);
    assert_eq!(
        (&restored["roleRef"]["name"], &restored["subjects"][0]["name"]),
        (&json!("system:basic-user"), &json!("system:authenticated"))
    );
    // Nothing is left to do: another restart changes none of them.
    let again = cluster.restarted().await;
    for plural in ["clusterroles", "clusterrolebindings", "roles", "rolebindings"] {
        let path = format!("{RBAC}/{plural}");
        assert_eq!(
            again.get(&path).await.expect(200)["items"],
            cluster.get(&path).await.expect(200)["items"]
        );
    }
}
