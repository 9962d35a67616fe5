//! Service addresses and node ports.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Cluster, cluster};

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, extra: Value) -> Value {
    let mut service = json!({ "metadata": { "name": name }, "spec": { "ports": [{ "port": 80 }], "selector": { "a": "b" } } });
    for (key, value) in extra.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    service
}

impl Cluster {
    async fn service(&self, name: &str, extra: Value) -> crate::harness::Answer {
        self.post(SERVICES, "Service", service(name, extra)).await
    }
}

#[tokio::test]
async fn the_clusters_own_services_have_their_addresses() {
    let cluster = cluster().await;
    let own = cluster.get(&format!("{SERVICES}/kubernetes")).await.expect(200);
    assert_eq!(own["spec"]["clusterIP"], "10.96.0.1");
    let dns = cluster.get("/api/v1/namespaces/kube-system/services/kube-dns").await.expect(200);
    assert_eq!(dns["spec"]["clusterIP"], "10.96.0.10");
    let endpoints = cluster.get("/api/v1/namespaces/default/endpoints/kubernetes").await.expect(200);
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "172.30.0.1");
    let slice = cluster
        .get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")
        .await
        .expect(200);
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["172.30.0.1"]));
}

#[tokio::test]
async fn service_gets_what_its_type_needs() {
    let cluster = cluster().await;
    let plain = cluster.service("a", json!({})).await.expect(201);
    let spec = &plain["spec"];
    assert!(spec["clusterIP"].as_str().unwrap().starts_with("10.96.0."));
    assert_eq!(spec["clusterIPs"], json!([spec["clusterIP"]]));
    assert_eq!((&spec["ipFamilies"], &spec["ipFamilyPolicy"]), (&json!(["IPv4"]), &json!("SingleStack")));
    assert!(spec["ports"][0]["nodePort"].is_null());
    let headless = cluster.service("h", json!({ "clusterIP": "None" })).await.expect(201);
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let external = json!({ "type": "ExternalName", "externalName": "example.com" });
    assert!(cluster.service("e", external).await.expect(201)["spec"]["clusterIP"].is_null());
    let both = cluster.service("d", json!({ "ipFamilyPolicy": "PreferDualStack" })).await.expect(201);
    assert_eq!(both["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert!(both["spec"]["clusterIPs"][1].as_str().unwrap().starts_with("fd96::"));
    let port = cluster.service("n", json!({ "type": "NodePort" })).await.expect(201);
    let number = port["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..=32767).contains(&number));
    let certain = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 31999 }] });
    let certain = cluster.service("c", certain).await.expect(201);
    assert_eq!(certain["spec"]["ports"][0]["nodePort"], 31999);
}

#[tokio::test]
async fn service_that_asks_for_what_is_not_to_be_had_is_refused() {
    let cluster = cluster().await;
    cluster.service("a", json!({ "clusterIP": "10.96.0.77" })).await.expect(201);
    let taken_port = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 31999 }] });
    cluster.service("p", taken_port.clone()).await.expect(201);
    let cases = [
        (json!({ "clusterIP": "10.96.0.77" }), "provided IP is already allocated"),
        (json!({ "clusterIP": "10.96.0.10" }), "provided IP is already allocated"),
        (
            json!({ "clusterIP": "10.97.0.1" }),
            "is not in the valid range. The range of valid IPs is 10.96.0.0/24",
        ),
        (taken_port, "provided port is already allocated"),
        (
            json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 80 }] }),
            "provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
    ];
    for (extra, expected) in cases {
        let message = cluster.service("x", extra.clone()).await.failure(422, "Invalid");
        assert!(message.contains(expected), "{extra}: {message}");
    }
    cluster.get(&format!("{SERVICES}/x")).await.failure(404, "NotFound");
}

#[tokio::test]
async fn addresses_return_with_their_service_and_outlive_a_restart() {
    let cluster = cluster().await;
    let fixed = json!({ "clusterIP": "10.96.0.77" });
    cluster.service("a", fixed.clone()).await.expect(201);
    let cluster = cluster.restarted().await;
    cluster.service("b", fixed.clone()).await.failure(422, "Invalid");
    cluster.delete(&format!("{SERVICES}/a"), json!(null)).await.expect(200);
    cluster.service("b", fixed.clone()).await.expect(201);
    // A dry run and a refused write hold nothing.
    let other = json!({ "clusterIP": "10.96.0.78" });
    cluster.post(&format!("{SERVICES}?dryRun=All"), "Service", service("c", other.clone())).await.expect(201);
    cluster.service("b", other.clone()).await.failure(409, "AlreadyExists");
    cluster.service("c", other).await.expect(201);
}

#[tokio::test]
async fn type_that_changes_takes_and_gives_back() {
    let cluster = cluster().await;
    let path = format!("{SERVICES}/a");
    let made = cluster.service("a", json!({})).await.expect(201);
    let open = cluster.patch(&path, "merge", json!({ "spec": { "type": "NodePort" } })).await.expect(200);
    assert_eq!(open["spec"]["clusterIP"], made["spec"]["clusterIP"]);
    let port = open["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    let labelled = json!({ "metadata": { "labels": { "x": "y" } } });
    let same = cluster.patch(&path, "merge", labelled).await.expect(200);
    assert_eq!(same["spec"], open["spec"]);
    let closed =
        cluster.patch(&path, "strategic-merge", json!({ "spec": { "type": "ClusterIP" } })).await.expect(200);
    assert!(closed["spec"]["ports"][0]["nodePort"].is_null(), "{closed}");
    let other = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": port }] });
    cluster.service("b", other).await.expect(201);
}

#[tokio::test]
async fn services_made_at_once_share_no_address_until_the_range_is_full() {
    let cluster = Arc::new(cluster().await);
    // 254 addresses, two of which have owners.
    let tasks: Vec<_> = (0..256)
        .map(|n| {
            let cluster = cluster.clone();
            tokio::spawn(
                async move { cluster.service(&format!("s{n}"), json!({ "type": "NodePort" })).await },
            )
        })
        .collect();
    let (mut addresses, mut ports, mut refused) = (HashSet::new(), HashSet::new(), 0);
    for task in tasks {
        let answer = task.await.unwrap();
        if answer.code == 201 {
            let made = answer.json();
            assert!(addresses.insert(made["spec"]["clusterIP"].to_string()));
            assert!(ports.insert(made["spec"]["ports"][0]["nodePort"].to_string()));
        } else {
            assert!(answer.failure(422, "Invalid").contains("range is full"));
            refused += 1;
        }
    }
    assert_eq!((addresses.len(), refused), (252, 4));
}
