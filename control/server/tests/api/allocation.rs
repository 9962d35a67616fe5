//! Service addresses and node ports.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Cluster, cluster, cluster_with};

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
async fn dns_that_is_not_the_nodes_has_no_service_but_keeps_its_address() {
    let cluster = cluster_with(&|config, _| config.cluster_dns = false).await;
    let services = "/api/v1/namespaces/kube-system/services";
    assert_eq!(cluster.get(&format!("{services}/kube-dns")).await.code, 404);
    let at = json!({ "clusterIP": "10.96.0.10" });
    assert_eq!(cluster.service("other", at.clone()).await.code, 422);
    cluster.post(services, "Service", service("kube-dns", at)).await.expect(201);
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
        (json!({ "clusterIP": "10.97.0.1" }), "the provided network does not match the current range"),
        (
            json!({ "clusterIP": "10.96.0.255" }),
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
            assert!(answer.failure(500, "InternalError").contains("range is full"));
            refused += 1;
        }
    }
    assert_eq!((addresses.len(), refused), (252, 4));
}

const RECORDS: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";

/// Lets the tasks that wait for the clock go on; the clock stands still otherwise.
async fn wait(cluster: &Cluster, seconds: u64) {
    cluster.pass(seconds);
    for _ in 0..3 {
        tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    }
}

#[tokio::test]
async fn address_of_a_service_is_recorded_while_it_has_it() {
    let cluster = cluster().await;
    let both = json!({ "clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77", "fd96::7"], "ipFamilyPolicy": "RequireDualStack" });
    cluster.service("a", both).await.expect(201);
    for (address, family) in [("10.96.0.77", "IPv4"), ("fd96::7", "IPv6")] {
        let record = cluster.get(&format!("{RECORDS}/{address}")).await.expect(200);
        let labels = json!({
            "ipaddress.kubernetes.io/ip-family": family,
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        });
        assert_eq!(record["metadata"]["labels"], labels);
        let parent = json!({ "group": "", "resource": "services", "namespace": "default", "name": "a" });
        for member in ["resource", "namespace", "name"] {
            assert_eq!(record["spec"]["parentRef"][member], parent[member]);
        }
    }
    let external = json!({ "spec": { "type": "ExternalName", "externalName": "example.com", "clusterIP": null,
        "clusterIPs": null, "ipFamilies": null, "ipFamilyPolicy": null } });
    cluster.patch(&format!("{SERVICES}/a"), "merge", external).await.expect(200);
    cluster.get(&format!("{RECORDS}/10.96.0.77")).await.failure(404, "NotFound");
    cluster
        .patch(&format!("{SERVICES}/a"), "merge", json!({ "spec": { "type": "ClusterIP" } }))
        .await
        .expect(200);
    let service = cluster.get(&format!("{SERVICES}/a")).await.expect(200);
    let address = service["spec"]["clusterIP"].as_str().unwrap().to_owned();
    cluster.get(&format!("{RECORDS}/{address}")).await.expect(200);
    cluster.delete(&format!("{SERVICES}/a"), json!(null)).await.expect(200);
    cluster.get(&format!("{RECORDS}/{address}")).await.failure(404, "NotFound");
}

#[tokio::test]
async fn what_the_record_has_is_given_to_nobody_else() {
    let cluster = cluster().await;
    let parent = json!({ "group": "gateway.networking.k8s.io", "resource": "gateways", "name": "g" });
    let record = json!({ "metadata": { "name": "10.96.0.99" }, "spec": { "parentRef": parent } });
    cluster.post(RECORDS, "IPAddress", record).await.expect(201);
    let message = cluster.service("a", json!({ "clusterIP": "10.96.0.99" })).await.failure(422, "Invalid");
    assert!(
        message.contains("failed to allocate IP 10.96.0.99: provided IP is already allocated"),
        "{message}"
    );
}

#[tokio::test]
async fn two_servers_on_one_store_give_nothing_twice() {
    let one = cluster().await;
    let two = one.restarted().await;
    let (one, two) = (Arc::new(one), Arc::new(two));
    let tasks: Vec<_> = (0..120)
        .map(|n| {
            let cluster = if n % 2 == 0 { one.clone() } else { two.clone() };
            tokio::spawn(
                async move { cluster.service(&format!("s{n}"), json!({ "type": "NodePort" })).await },
            )
        })
        .collect();
    let (mut addresses, mut ports) = (HashSet::new(), HashSet::new());
    for task in tasks {
        let made = task.await.unwrap().expect(201);
        assert!(addresses.insert(made["spec"]["clusterIP"].to_string()));
        assert!(ports.insert(made["spec"]["ports"][0]["nodePort"].to_string()));
    }
    let fixed =
        json!({ "clusterIP": "10.96.0.5", "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30005 }] });
    one.service("fixed", fixed.clone()).await.expect(201);
    two.service("other", fixed.clone()).await.failure(422, "Invalid");
    one.delete(&format!("{SERVICES}/fixed"), json!(null)).await.expect(200);
    two.service("other", fixed).await.expect(201);
}

#[tokio::test]
async fn addresses_come_from_every_network_that_is_ready() {
    let cluster = cluster().await;
    let own = cluster.get(&format!("{CIDRS}/kubernetes")).await.expect(200);
    assert_eq!(own["spec"]["cidrs"], json!(["10.96.0.0/24", "fd96::/120"]));
    assert_eq!(own["status"]["conditions"][0]["status"], "True");
    let more = json!({ "metadata": { "name": "more" }, "spec": { "cidrs": ["203.0.113.0/24"] } });
    cluster.post(CIDRS, "ServiceCIDR", more).await.expect(201);
    let wanted = json!({ "clusterIP": "203.0.113.10" });
    cluster.service("a", wanted.clone()).await.failure(422, "Invalid");
    let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True", "reason": "",
        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }] } });
    cluster.patch(&format!("{CIDRS}/more/status"), "merge", ready).await.expect(200);
    cluster.service("a", wanted).await.expect(201);
    let wider = json!({ "spec": { "cidrs": ["203.0.112.0/23"] } });
    let message = cluster.patch(&format!("{CIDRS}/more"), "merge", wider).await.failure(422, "Invalid");
    assert!(
        message.contains("spec.cidrs[0]: Invalid value: \"203.0.112.0/23\": field is immutable"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn records_that_leaked_or_are_missing_are_repaired() {
    let cluster = cluster().await;
    let service = cluster.service("a", json!({ "clusterIP": "10.96.0.77" })).await.expect(201);
    cluster.delete(&format!("{RECORDS}/10.96.0.77"), json!(null)).await.expect(200);
    let parent = json!({ "resource": "services", "namespace": "default", "name": "gone" });
    let labels = json!({ "ipaddress.kubernetes.io/ip-family": "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io" });
    let leaked =
        json!({ "metadata": { "name": "10.96.0.88", "labels": labels }, "spec": { "parentRef": parent } });
    cluster.post(RECORDS, "IPAddress", leaked).await.expect(201);
    wait(&cluster, 90).await;
    let record = cluster.get(&format!("{RECORDS}/10.96.0.77")).await.expect(200);
    assert_eq!(record["spec"]["parentRef"]["name"], service["metadata"]["name"]);
    cluster.get(&format!("{RECORDS}/10.96.0.88")).await.failure(404, "NotFound");
    let events = cluster.get("/apis/events.k8s.io/v1/namespaces/default/events").await.expect(200);
    let mut reasons: Vec<_> =
        events["items"].as_array().unwrap().iter().map(|event| event["reason"].as_str().unwrap()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["ClusterIPNotAllocated", "IPAddressNotAllocated"]);
}

#[tokio::test]
async fn store_without_records_is_repaired_when_a_server_starts() {
    let cluster = cluster().await;
    let wanted = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 31999 }] });
    cluster.service("a", wanted.clone()).await.expect(201);
    let key = "/registry/ranges/servicenodeports";
    let (found, _) = skep_store::Store::get(&*cluster.store, key).await.unwrap();
    let found = found.expect("node ports are recorded where upstream has them");
    skep_store::Store::delete(&*cluster.store, key, found.mod_revision).await.unwrap();
    let cluster = cluster.restarted().await;
    cluster.service("b", wanted).await.failure(422, "Invalid");
    let (again, _) = skep_store::Store::get(&*cluster.store, key).await.unwrap();
    assert_eq!(again.expect("the record is made anew").value, found.value);
}
