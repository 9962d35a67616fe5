//! ResourceQuota and LimitRanger as clients see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Cluster, cluster};

const BASE: &str = "/api/v1/namespaces/default";

impl Cluster {
    /// A quota of which everything is known, as after the first count of its controller.
    async fn quota(&self, name: &str, spec: Value, used: Value) {
        let hard = spec["hard"].clone();
        let quota = json!({ "metadata": { "name": name }, "spec": spec });
        self.post(&format!("{BASE}/resourcequotas"), "ResourceQuota", quota).await.expect(201);
        let status = json!({ "status": { "hard": hard, "used": used } });
        let path = format!("{BASE}/resourcequotas/{name}/status");
        self.patch(&path, "merge", status).await.expect(200);
    }

    async fn used(&self, name: &str) -> Value {
        self.get(&format!("{BASE}/resourcequotas/{name}")).await.expect(200)["status"]["used"].clone()
    }
}

fn pod(name: &str, resources: Value) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "containers": [{ "name": "c", "image": "echo", "resources": resources }] },
    })
}

#[tokio::test]
async fn quota_is_charged_by_what_is_created_and_refuses_more() {
    let cluster = cluster().await;
    let hard = json!({ "hard": { "pods": "2", "requests.cpu": "500m", "count/configmaps": "1" } });
    let none = json!({ "pods": "0", "requests.cpu": "0", "count/configmaps": "0" });
    cluster.quota("q", hard, none).await;
    let pods = format!("{BASE}/pods");
    let cpu = |amount: &str| json!({ "requests": { "cpu": amount } });
    cluster.post(&pods, "Pod", pod("a", cpu("300m"))).await.expect(201);
    assert_eq!(
        cluster.used("q").await,
        json!({ "pods": "1", "requests.cpu": "300m", "count/configmaps": "0" })
    );
    let refused = cluster.post(&pods, "Pod", pod("b", cpu("300m"))).await.failure(403, "Forbidden");
    assert_eq!(
        refused,
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=300m, used: requests.cpu=300m, \
         limited: requests.cpu=500m"
    );
    let refused = cluster.post(&pods, "Pod", pod("b", json!({}))).await.failure(403, "Forbidden");
    assert_eq!(refused, "pods \"b\" is forbidden: failed quota: q: must specify requests.cpu for: c");
    let dry = format!("{pods}?dryRun=All");
    cluster.post(&dry, "Pod", pod("b", cpu("200m"))).await.expect(201);
    assert_eq!(cluster.used("q").await["pods"], "1", "a dry run is not charged");
    cluster.post(&dry, "Pod", pod("b", cpu("201m"))).await.failure(403, "Forbidden");
    let maps = format!("{BASE}/configmaps");
    let map = |name: &str| json!({ "metadata": { "name": name } });
    cluster.post(&maps, "ConfigMap", map("one")).await.expect(201);
    // Create by apply is a create as well.
    let applied = json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "two" } });
    let path = format!("{maps}/two?fieldManager=t");
    let apply = cluster.call(Method::PATCH, &path, "application/apply-patch+yaml", applied.to_string()).await;
    apply.failure(403, "Forbidden");
    cluster
        .post(
            &format!("{BASE}/events"),
            "Event",
            json!({
                "metadata": { "name": "e" }, "involvedObject": { "namespace": "default" },
            }),
        )
        .await
        .expect(201);
}

#[tokio::test]
async fn claim_is_charged_for_the_devices_that_it_may_get() {
    let cluster = cluster().await;
    let (devices, claims) =
        ("gpu.deviceclass.resource.k8s.io/devices", "count/resourceclaims.resource.k8s.io");
    let hard = json!({ "hard": { devices: "4", claims: "5" } });
    cluster.quota("q", hard, json!({ devices: "0", claims: "0" })).await;
    let path = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    let claim = |name: &str, count: u32| {
        let exactly = json!({ "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": count });
        let requests = json!([{ "name": "r", "exactly": exactly }]);
        json!({ "metadata": { "name": name }, "spec": { "devices": { "requests": requests } } })
    };
    cluster.post(path, "ResourceClaim", claim("a", 3)).await.expect(201);
    assert_eq!(cluster.used("q").await, json!({ devices: "3", claims: "1" }));
    let refused = cluster.post(path, "ResourceClaim", claim("b", 2)).await.failure(403, "Forbidden");
    assert_eq!(
        refused,
        format!(
            "resourceclaims.resource.k8s.io \"b\" is forbidden: exceeded quota: q, requested: {devices}=2, used: \
             {devices}=3, limited: {devices}=4"
        )
    );
    cluster.post(path, "ResourceClaim", claim("b", 1)).await.expect(201);
}

#[tokio::test]
async fn write_that_fails_after_its_charge_gives_it_back() {
    let cluster = cluster().await;
    cluster.quota("q", json!({ "hard": { "configmaps": "2" } }), json!({ "configmaps": "0" })).await;
    let maps = format!("{BASE}/configmaps");
    let map = |name: &str| json!({ "metadata": { "name": name } });
    cluster.post(&maps, "ConfigMap", map("one")).await.expect(201);
    cluster.post(&maps, "ConfigMap", map("one")).await.failure(409, "AlreadyExists");
    assert_eq!(cluster.used("q").await["configmaps"], "2", "charged until the next write is judged");
    cluster.post(&maps, "ConfigMap", map("two")).await.expect(201);
    assert_eq!(cluster.used("q").await["configmaps"], "2");
    cluster.post(&maps, "ConfigMap", map("three")).await.failure(403, "Forbidden");
}

#[tokio::test]
async fn service_that_wants_more_by_an_update_is_charged_for_it() {
    let cluster = cluster().await;
    let (hard, used) = (
        json!({ "hard": { "services": "3", "services.nodeports": "1" } }),
        json!({ "services": "1", "services.nodeports": "0" }),
    );
    cluster.quota("q", hard, used).await;
    let services = format!("{BASE}/services");
    for name in ["a", "b"] {
        let service = json!({ "metadata": { "name": name }, "spec": { "ports": [{ "port": 80 }] } });
        cluster.post(&services, "Service", service).await.expect(201);
    }
    let node_port = json!({ "spec": { "type": "NodePort" } });
    cluster.patch(&format!("{services}/a"), "merge", node_port.clone()).await.expect(200);
    assert_eq!(cluster.used("q").await, json!({ "services": "3", "services.nodeports": "1" }));
    let refused = cluster.patch(&format!("{services}/b"), "merge", node_port).await;
    let message = refused.failure(403, "Forbidden");
    assert!(message.contains("exceeded quota: q, requested: services.nodeports=1"), "{message}");
}

/// Counts like a controller that saw the namespace a moment ago, and says so with all its right to write the status.
async fn careless_controller(cluster: &Cluster, stop: &AtomicBool) {
    let maps = format!("{BASE}/configmaps");
    while !stop.load(Ordering::SeqCst) {
        let quota = cluster.get(&format!("{BASE}/resourcequotas/q")).await.expect(200);
        let listed = cluster.get(&maps).await.expect(200)["items"].as_array().map_or(0, Vec::len);
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        let status = json!({
            "metadata": { "resourceVersion": quota["metadata"]["resourceVersion"] },
            "status": { "used": { "configmaps": listed.to_string() } },
        });
        cluster.patch(&format!("{BASE}/resourcequotas/q/status"), "merge", status).await;
    }
}

/// Creates and deletes in turn; refused for want of room, tries again.
async fn hammer(cluster: &Cluster, client: usize, refused: &AtomicUsize) {
    let maps = format!("{BASE}/configmaps");
    for turn in 0..TURNS {
        let name = format!("c{client}-{turn}");
        let mut tries = 0;
        loop {
            let map = json!({ "metadata": { "name": name } });
            let answer = cluster.post(&maps, "ConfigMap", map).await;
            if answer.code == 201 {
                break;
            }
            refused.fetch_add(1, Ordering::SeqCst);
            let why = answer.failure(403, "Forbidden");
            assert!(why.contains("exceeded quota: q, requested: configmaps=1"), "{why}");
            tries += 1;
            assert!(tries < 5_000, "never any room");
            tokio::task::yield_now().await;
        }
        // Nothing above has to wait for anybody: the others are let in here.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        cluster.delete(&format!("{maps}/{name}"), Value::Null).await.expect(200);
    }
}

const TURNS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quota_under_64_clients_is_never_exceeded() {
    const LIMIT: usize = 10;
    let cluster = Arc::new(cluster().await);
    let hard = json!({ "hard": { "configmaps": LIMIT.to_string() } });
    cluster.quota("q", hard, json!({ "configmaps": "0" })).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (refused, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..64)
        .map(|client| {
            let (cluster, refused) = (cluster.clone(), refused.clone());
            tokio::spawn(async move { hammer(&cluster, client, &refused).await })
        })
        .collect();
    let (of, until) = (cluster.clone(), stop.clone());
    let controller = tokio::spawn(async move { careless_controller(&of, &until).await });
    let (of, until, seen) = (cluster.clone(), stop.clone(), most.clone());
    let observer = tokio::spawn(async move {
        while !until.load(Ordering::SeqCst) {
            let list = of.get(&format!("{BASE}/configmaps")).await.expect(200);
            seen.fetch_max(list["items"].as_array().map_or(0, Vec::len), Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    });
    let outcomes = join_all(clients).await;
    stop.store(true, Ordering::SeqCst);
    controller.await.unwrap();
    observer.await.unwrap();
    outcomes.into_iter().for_each(|outcome| outcome.unwrap());
    let most = most.load(Ordering::SeqCst);
    assert!((2..=LIMIT).contains(&most), "{most} objects where {LIMIT} are allowed");
    assert!(refused.load(Ordering::SeqCst) > 0, "nobody was refused");
}

#[tokio::test]
async fn limit_range_fills_in_and_refuses() {
    let cluster = cluster().await;
    let range = json!({ "metadata": { "name": "l" }, "spec": { "limits": [{
        "type": "Container", "default": { "cpu": "500m" }, "defaultRequest": { "cpu": "100m" },
        "max": { "cpu": "1" },
    }] } });
    cluster.post(&format!("{BASE}/limitranges"), "LimitRange", range).await.expect(201);
    let pods = format!("{BASE}/pods");
    let made = cluster.post(&pods, "Pod", pod("a", json!({}))).await.expect(201);
    let resources = json!({ "requests": { "cpu": "100m" }, "limits": { "cpu": "500m" } });
    assert_eq!(made["spec"]["containers"][0]["resources"], resources);
    assert_eq!(made["status"]["qosClass"], "Burstable");
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let large = pod("b", json!({ "limits": { "cpu": "2" }, "requests": { "cpu": "1" } }));
    assert_eq!(
        cluster.post(&pods, "Pod", large).await.failure(403, "Forbidden"),
        "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
}
