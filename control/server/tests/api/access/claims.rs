//! Claims of devices: access to what others use, and the status of a claim, which says what it got.

use serde_json::{Value, json};
use skep_server::user::UserInfo;

use super::{Ask, RBAC, ask, bind, create, namespace};
use crate::harness::{Answer, Cluster, cluster};

const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/shop/resourceclaims";
const DRIVER: &str = "gpu.example.com";

fn jane() -> UserInfo {
    UserInfo::new("jane", &[])
}

/// Gives somebody a right, in the namespace or (empty) everywhere.
async fn grant(cluster: &Cluster, user: &str, namespace: &str, verbs: Value, resources: Value, names: Value) {
    let rule = json!({"verbs": verbs, "apiGroups": ["resource.k8s.io"], "resources": resources, "resourceNames": names});
    let taken = cluster.get(&format!("{RBAC}/clusterroles")).await.expect(200);
    let name = format!("role-{}", taken["items"].as_array().unwrap().len());
    let role = json!({"metadata": {"name": name}, "rules": [rule]});
    create(cluster, &format!("{RBAC}/clusterroles"), "ClusterRole", role).await;
    bind(cluster, namespace, user, &name).await;
}

/// A cluster in which jane writes all of claims in the namespace shop, as far as plain rights go.
async fn with_jane() -> Cluster {
    let cluster = cluster().await;
    namespace(&cluster, "shop").await;
    let all = json!(["resourceclaims", "resourceclaims/status", "resourceclaimtemplates"]);
    grant(&cluster, "jane", "shop", json!(["*"]), all, json!([])).await;
    cluster
}

fn spec(admin: bool) -> Value {
    let mut exactly = json!({"deviceClassName": "gpu"});
    if admin {
        exactly["adminAccess"] = json!(true);
    }
    json!({"devices": {"requests": [{"name": "first", "exactly": {"deviceClassName": "gpu"}},
                                    {"name": "r", "exactly": exactly}]}})
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "resource.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// An allocation of one device on a node.
fn allocation(driver: &str, node: &str) -> Value {
    let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    json!({"devices": {"results": [{"request": "r", "driver": driver, "pool": "p", "device": "d"}]},
           "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [field]}]}})
}

fn device(driver: &str, data: &str) -> Value {
    json!({"driver": driver, "pool": "p", "device": "d", "data": {"told": data}})
}

async fn patch_as(cluster: &Cluster, user: &UserInfo, name: &str, status: Value) -> Answer {
    ask(cluster, user, &Ask::new(&format!("PATCH {CLAIMS}/{name}/status"), json!({"status": status}))).await
}

/// The only cause of a refusal by that field.
#[track_caller]
fn refused(answer: &Answer, field: &str) -> String {
    let status = answer.expect(422);
    let causes = status["details"]["causes"].as_array().unwrap();
    assert_eq!(causes.len(), 1, "{status}");
    assert_eq!((&causes[0]["reason"], &causes[0]["field"]), (&json!("FieldValueForbidden"), &json!(field)));
    causes[0]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn administrative_access_is_for_namespaces_that_carry_the_label() {
    let cluster = with_jane().await;
    let templates = CLAIMS.replace("claims", "claimtemplates");
    let attempts = [
        Ask::new(&format!("POST {CLAIMS}"), object("ResourceClaim", "c", spec(true))),
        Ask::new(
            &format!("POST {templates}"),
            object("ResourceClaimTemplate", "t", json!({"spec": spec(true)})),
        ),
    ];
    for attempt in &attempts {
        let message = refused(&ask(&cluster, &jane(), attempt).await, "spec.devices.requests[1].adminAccess");
        assert!(message.contains("`resource.kubernetes.io/admin-access: true` label"), "{message}");
    }
    let plain = Ask::new(&format!("POST {CLAIMS}"), object("ResourceClaim", "plain", spec(false)));
    ask(&cluster, &jane(), &plain).await.expect(201);
    // By the status of a claim that did not ask for it, neither.
    grant(&cluster, "jane", "", json!(["patch"]), json!(["resourceclaims/binding"]), json!([])).await;
    let mut given = allocation(DRIVER, "n1");
    given["devices"]["results"][0]["adminAccess"] = json!(true);
    let answer = patch_as(&cluster, &jane(), "plain", json!({"allocation": given})).await;
    refused(&answer, "status.allocation.devices.results[0].adminAccess");
    let label = |value: &str| json!({"metadata": {"labels": {"resource.kubernetes.io/admin-access": value}}});
    cluster.patch("/api/v1/namespaces/shop", "merge", label("yes")).await.expect(200);
    assert_eq!(ask(&cluster, &jane(), &attempts[0]).await.code, 422);
    cluster.patch("/api/v1/namespaces/shop", "merge", label("true")).await.expect(200);
    for attempt in &attempts {
        ask(&cluster, &jane(), attempt).await.expect(201);
    }
    patch_as(&cluster, &jane(), "plain", json!({"allocation": given})).await.expect(200);
}

#[tokio::test]
async fn binding_a_claim_takes_the_right_to_it_everywhere() {
    let cluster = with_jane().await;
    create(&cluster, CLAIMS, "ResourceClaim", object("ResourceClaim", "c", spec(false))).await;
    let allocated = json!({"allocation": allocation(DRIVER, "n1")});
    let why = "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"patch\"";
    let message = refused(&patch_as(&cluster, &jane(), "c", allocated.clone()).await, "status.allocation");
    assert!(message.contains(why) && message.contains("at the cluster scope"), "{message}");
    let mut whole = cluster.get(&format!("{CLAIMS}/c")).await.expect(200);
    whole["status"] = allocated.clone();
    let put = Ask::new(&format!("PUT {CLAIMS}/c/status"), whole);
    // In its own namespace it is not enough, nor for another verb.
    grant(&cluster, "jane", "shop", json!(["*"]), json!(["resourceclaims/binding"]), json!([])).await;
    refused(&patch_as(&cluster, &jane(), "c", allocated.clone()).await, "status.allocation");
    grant(&cluster, "jane", "", json!(["patch"]), json!(["resourceclaims/binding"]), json!([])).await;
    assert!(refused(&ask(&cluster, &jane(), &put).await, "status.allocation").contains("verb=\"update\""));
    patch_as(&cluster, &jane(), "c", allocated).await.expect(200);
    let reserved = json!({"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]});
    let other = UserInfo::new("other", &[]);
    grant(&cluster, "other", "shop", json!(["*"]), json!(["resourceclaims/status"]), json!([])).await;
    refused(&patch_as(&cluster, &other, "c", reserved.clone()).await, "status.allocation");
    patch_as(&cluster, &jane(), "c", reserved).await.expect(200);
    // Nothing of it changes: nothing is needed.
    patch_as(&cluster, &other, "c", json!({})).await.expect(200);
}

#[tokio::test]
async fn driver_speaks_for_its_own_devices_on_its_own_node() {
    let cluster = with_jane().await;
    for (name, driver, node) in
        [("c", DRIVER, "n1"), ("far", DRIVER, "n2"), ("else", "net.example.com", "n1")]
    {
        create(&cluster, CLAIMS, "ResourceClaim", object("ResourceClaim", name, spec(false))).await;
        let allocated = json!({"status": {"allocation": allocation(driver, node)}});
        cluster.patch(&format!("{CLAIMS}/{name}/status"), "merge", allocated).await.expect(200);
    }
    let told = |driver: &str| json!({"devices": [device(driver, "x")]});
    let message = refused(&patch_as(&cluster, &jane(), "c", told(DRIVER)).await, "status.devices");
    assert!(
        message.contains("resource=\"resourceclaims/driver\", verb=\"[arbitrary-node:patch]\""),
        "{message}"
    );
    let driver = json!(["resourceclaims/driver"]);
    grant(&cluster, "jane", "shop", json!(["arbitrary-node:patch"]), driver.clone(), json!([DRIVER])).await;
    for name in ["c", "far"] {
        patch_as(&cluster, &jane(), name, told(DRIVER)).await.expect(200);
    }
    refused(&patch_as(&cluster, &jane(), "else", told("net.example.com")).await, "status.devices");

    let mut agent = UserInfo::service_account("shop", "agent");
    agent.extra.insert("authentication.kubernetes.io/node-name".into(), vec!["n1".into()]);
    let name = agent.name.clone();
    grant(&cluster, &name, "shop", json!(["patch"]), json!(["resourceclaims/status"]), json!([])).await;
    grant(&cluster, &name, "shop", json!(["associated-node:patch"]), driver, json!([DRIVER])).await;
    let again = json!({"devices": [device(DRIVER, "y")]});
    patch_as(&cluster, &agent, "c", again.clone()).await.expect(200);
    refused(&patch_as(&cluster, &agent, "far", again).await, "status.devices");
    refused(&patch_as(&cluster, &agent, "far", json!({"devices": null})).await, "status.devices");
    // Who takes the devices back need not be heard about them.
    grant(
        &cluster,
        "binder",
        "",
        json!(["patch"]),
        json!(["resourceclaims/binding", "resourceclaims/status"]),
        json!([]),
    )
    .await;
    let binder = UserInfo::new("binder", &[]);
    let freed = patch_as(&cluster, &binder, "c", json!({"allocation": null})).await.expect(200);
    assert_eq!(freed["status"]["devices"], Value::Null);
}
