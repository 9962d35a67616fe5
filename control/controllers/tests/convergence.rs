//! All controllers together against an API in memory, on paused time: what people ask for is what comes about.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod fake_api;

use std::time::Duration;

use fake_api::{FakeApi, Objects};
use serde_json::{Value, json};
use skep_controllers::ControllersConfig;
use skep_controllers::runtime::clock::{Clock, plus_seconds};
use tokio_util::sync::CancellationToken;

/// Stops controllers and node agent at the end of a test.
struct Running(CancellationToken);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn start(api: &FakeApi) -> Running {
    start_with(api, Clock::system())
}

/// A wall clock that goes with the paused time of the test.
fn paused_clock() -> Clock {
    let (begun, at) = (tokio::time::Instant::now(), jiff::Timestamp::now());
    Clock::from_fn(move || plus_seconds(at, i64::try_from(begun.elapsed().as_secs()).unwrap()))
}

fn start_with(api: &FakeApi, clock: Clock) -> Running {
    let stop = CancellationToken::new();
    let mut config = ControllersConfig::new("PEM", vec!["10.244.0.0/16".to_owned()]);
    config.clock = clock;
    let (of, token) = (api.clone(), stop.clone());
    tokio::spawn(async move { skep_controllers::run(config, |_| of.client(), token).await.unwrap() });
    let (of, token) = (api.clone(), stop.clone());
    tokio::spawn(async move { token.run_until_cancelled(run_pods(&of)).await });
    Running(stop)
}

/// Stands for scheduler and node agent: gives pods a node and an address, and makes them ready.
async fn run_pods(api: &FakeApi) {
    let mut next = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        for pod in api.list("pods") {
            let (meta, bad) = (&pod["metadata"], pod["spec"]["containers"][0]["image"] == "bad");
            if !pod["status"]["phase"].is_null() || bad {
                continue;
            }
            next += 1;
            let (ip, now) = (format!("10.244.0.{next}"), jiff::Timestamp::now().to_string());
            let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": now});
            let (namespace, name) = (meta["namespace"].as_str().unwrap(), meta["name"].as_str().unwrap());
            api.with(|objects| {
                objects.bind(namespace, name, &json!("n1")).unwrap();
                let status =
                    json!({"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]});
                let patch = json!({"status": status});
                objects.patch("pods", (namespace, name), &patch, false, Some("status")).unwrap();
            });
        }
    }
}

fn add_node(api: &FakeApi) {
    let ready = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"});
    api.create("nodes", json!({"metadata": {"name": "n1"}, "status": {"conditions": [ready]}}));
}

fn deployment(replicas: i32, image: &str) -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": template(image),
        },
    })
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image,
        "ports": [{"name": "http", "containerPort": 8080}]}]}})
}

/// What `kubectl rollout status` waits for.
fn is_rolled_out(api: &FakeApi, replicas: i64) -> bool {
    let Some(deployment) = api.get("deployments", "web") else { return false };
    let status = &deployment["status"];
    let progressing =
        status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == "Progressing");
    status["observedGeneration"] == deployment["metadata"]["generation"]
        && ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|n| status[n] == json!(replicas))
        && progressing.is_some_and(|c| c["reason"] == "NewReplicaSetAvailable")
}

fn revision_of(api: &FakeApi, image: &str) -> Value {
    let sets = api.list("replicasets");
    let set =
        sets.iter().find(|set| set["spec"]["template"]["spec"]["containers"][0]["image"] == image).unwrap();
    set["metadata"]["annotations"]["deployment.kubernetes.io/revision"].clone()
}

#[tokio::test(start_paused = true)]
async fn replication_controller_makes_replaces_and_scales_its_pods() {
    let api = FakeApi::default();
    add_node(&api);
    let _running = start(&api);
    let spec = json!({"replicas": 2, "selector": {"app": "web"}, "template": template("v1")});
    let controller = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec});
    api.create("replicationcontrollers", controller);
    let ready = |api: &FakeApi, count: i64| {
        let found = api.get("replicationcontrollers", "web");
        found.is_some_and(|found| {
            ["replicas", "readyReplicas"].iter().all(|n| found["status"][n] == json!(count))
        })
    };
    api.until("two ready pods", |api| ready(api, 2)).await;
    assert_eq!(api.with(|objects| objects.created("pods")), 2);
    let owner = &api.list("pods")[0]["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["apiVersion"]), (&json!("ReplicationController"), &json!("v1")));
    api.edit("replicationcontrollers", "web", |controller| controller["spec"]["replicas"] = json!(1));
    api.until("one pod left", |api| ready(api, 1)).await;
}

#[tokio::test(start_paused = true)]
async fn deployment_created_makes_exactly_its_pods_and_completes() {
    let api = FakeApi::default();
    add_node(&api);
    let _running = start(&api);
    api.create("deployments", deployment(5, "v1"));
    api.until("rolled out", |api| is_rolled_out(api, 5)).await;
    assert_eq!(api.with(|objects| objects.created("pods")), 5, "stale caches must not make more pods");
    assert_eq!(api.with(|objects| objects.created("replicasets")), 1);
    assert_eq!(revision_of(&api, "v1"), "1");
    let pod = &api.list("pods")[0];
    assert!(pod["metadata"]["labels"]["pod-template-hash"].is_string());
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "ReplicaSet");
    api.until("events", |api| api.list("events").iter().any(|e| e["reason"] == "ScalingReplicaSet")).await;
}

#[tokio::test(start_paused = true)]
async fn replicaset_with_a_cache_that_lags_makes_no_pod_too_many() {
    let api = FakeApi::default();
    add_node(&api);
    api.lag("pods", Duration::from_secs(3));
    let _running = start(&api);
    api.create("deployments", deployment(5, "v1"));
    // Every change of the set makes its controller look while it cannot see the pods.
    for round in 0..20 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let sets = api.list("replicasets");
        if let Some(name) = sets.first().and_then(|set| set["metadata"]["name"].as_str()) {
            api.edit("replicasets", name, |set| {
                set["metadata"]["annotations"]["round"] = json!(round.to_string())
            });
        }
    }
    api.until("rolled out", |api| is_rolled_out(api, 5)).await;
    assert_eq!(api.with(|objects| objects.created("pods")), 5);
    api.edit("deployments", "web", |d| d["spec"]["replicas"] = json!(2));
    api.until("scaled down", |api| is_rolled_out(api, 2)).await;
    assert_eq!((api.list("pods").len(), api.with(|objects| objects.created("pods"))), (2, 5));
}

#[tokio::test(start_paused = true)]
async fn service_with_a_cache_that_lags_makes_no_slice_too_many() {
    let api = FakeApi::default();
    add_node(&api);
    api.lag("endpointslices", Duration::from_secs(3));
    let _running = start(&api);
    let spec = json!({"selector": {"app": "web"}, "ipFamilies": ["IPv4"], "ports": [{"port": 80, "targetPort": "http"}]});
    api.create("services", json!({"metadata": {"name": "web", "namespace": "default"}, "spec": spec}));
    api.create("deployments", deployment(5, "v1"));
    api.until("five endpoints", |api| {
        let slices = api.list("endpointslices");
        slices.first().is_some_and(|slice| slice["endpoints"].as_array().is_some_and(|list| list.len() == 5))
    })
    .await;
    assert_eq!(api.with(|objects| objects.created("endpointslices")), 1);
}

#[tokio::test(start_paused = true)]
async fn controllers_stop_soon_after_they_are_told_to() {
    let (api, stop) = (FakeApi::default(), CancellationToken::new());
    let config = ControllersConfig::new("PEM", Vec::new());
    let (of, token) = (api.clone(), stop.clone());
    let running = tokio::spawn(async move { skep_controllers::run(config, |_| of.client(), token).await });
    api.create("deployments", deployment(1, "v1"));
    api.until("working", |api| !api.list("pods").is_empty()).await;
    stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(1), running).await;
    ended.expect("it stops at once").unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn deployment_new_template_rolls_within_its_bounds_and_back() {
    let api = FakeApi::default();
    add_node(&api);
    let _running = start(&api);
    api.create("deployments", deployment(4, "v1"));
    api.until("first rollout", |api| is_rolled_out(api, 4)).await;
    api.edit("deployments", "web", |d| d["spec"]["template"] = template("v2"));
    api.until("second rollout", |api| {
        let pods = api.list("pods");
        let ready = pods.iter().filter(|pod| pod["status"]["phase"] == "Running").count();
        assert!(pods.len() <= 5 && ready >= 3, "{} pods, {ready} ready: 4 +1 -1 is allowed", pods.len());
        is_rolled_out(api, 4) && pods.iter().all(|pod| pod["spec"]["containers"][0]["image"] == "v2")
    })
    .await;
    assert_eq!(revision_of(&api, "v2"), "2");
    // Undo, as kubectl does it: the old template comes back under a new revision.
    api.edit("deployments", "web", |d| d["spec"]["template"] = template("v1"));
    api.until("undone", |api| {
        is_rolled_out(api, 4) && api.list("pods").iter().all(|p| p["spec"]["containers"][0]["image"] == "v1")
    })
    .await;
    assert_eq!(api.list("replicasets").len(), 2);
    assert_eq!(revision_of(&api, "v1"), "3");
    let deployment = api.get("deployments", "web").unwrap();
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
}

#[tokio::test(start_paused = true)]
async fn deployment_that_makes_no_progress_says_so_after_its_deadline() {
    let api = FakeApi::default();
    add_node(&api);
    // Progress is measured by the wall clock, so the deadline has passed when the condition is written.
    let mut stuck = deployment(1, "bad");
    stuck["spec"]["progressDeadlineSeconds"] = json!(0);
    let _running = start(&api);
    api.create("deployments", stuck);
    api.until("timed out", |api| {
        let deployment = api.get("deployments", "web").unwrap();
        let conditions = deployment["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["reason"] == "ProgressDeadlineExceeded" && c["status"] == "False")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn deployment_recreate_never_mixes_templates() {
    let api = FakeApi::default();
    add_node(&api);
    api.with(|objects| objects.graceful = true);
    let _running = start(&api);
    let mut first = deployment(2, "v1");
    first["spec"]["strategy"] = json!({"type": "Recreate"});
    api.create("deployments", first);
    api.until("first rollout", |api| is_rolled_out(api, 2)).await;
    api.edit("deployments", "web", |d| d["spec"]["template"] = template("v2"));
    api.until("old pods terminate", |api| {
        api.list("pods").iter().all(|pod| !pod["metadata"]["deletionTimestamp"].is_null())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(api.list("pods").len(), 2, "nothing new while an old pod may run");
    api.with(|objects| {
        for pod in objects.list("pods", None) {
            let name = pod["metadata"]["name"].as_str().unwrap();
            objects.delete("pods", "default", name, &json!({"gracePeriodSeconds": 0})).unwrap();
        }
    });
    api.until("second rollout", |api| {
        is_rolled_out(api, 2) && api.list("pods").iter().all(|p| p["spec"]["containers"][0]["image"] == "v2")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn deployment_scaled_follows_and_pods_are_replaced() {
    let api = FakeApi::default();
    add_node(&api);
    let _running = start(&api);
    api.create("deployments", deployment(3, "v1"));
    api.until("rolled out", |api| is_rolled_out(api, 3)).await;
    api.edit("deployments", "web", |d| d["spec"]["replicas"] = json!(1));
    api.until("scaled down", |api| is_rolled_out(api, 1) && api.list("pods").len() == 1).await;
    let name = api.list("pods")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    api.with(|objects| objects.delete("pods", "default", &name, &Value::Null).unwrap());
    api.until("replaced", |api| {
        api.list("pods").len() == 1
            && api.list("pods")[0]["metadata"]["name"] != name.as_str()
            && is_rolled_out(api, 1)
    })
    .await;
    let revision = api.with(|objects| objects.revision);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(api.with(|objects| objects.revision), revision, "a settled cluster is not written to");
}

#[tokio::test(start_paused = true)]
async fn replicaset_adopts_matching_pods_and_releases_relabelled_ones() {
    let api = FakeApi::default();
    add_node(&api);
    let mut set = deployment(2, "v1");
    set["spec"]
        .as_object_mut()
        .unwrap()
        .retain(|field, _| ["replicas", "selector", "template"].contains(&field.as_str()));
    let bare = json!({"metadata": {"name": "bare", "namespace": "default", "labels": {"app": "web"}},
        "spec": template("v1")["spec"]});
    api.create("pods", bare);
    let _running = start(&api);
    api.create("replicasets", set);
    let owned = |pod: &Value| !pod["metadata"]["ownerReferences"].is_null();
    api.until("adopted", |api| api.list("pods").len() == 2 && api.list("pods").iter().all(owned)).await;
    assert!(api.get("pods", "bare").is_some());
    api.edit("pods", "bare", |pod| pod["metadata"]["labels"] = json!({"app": "debug"}));
    api.until("released", |api| api.list("pods").len() == 3 && !owned(&api.get("pods", "bare").unwrap()))
        .await;
}

#[tokio::test(start_paused = true)]
async fn service_has_the_ready_pods_in_slices_and_endpoints() {
    let api = FakeApi::default();
    add_node(&api);
    let _running = start(&api);
    let service = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": {"app": "web"},
        "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"], "ports": [{"port": 80, "targetPort": "http"}]}});
    api.create("services", service);
    api.until("an empty slice", |api| api.list("endpointslices").len() == 1).await;
    api.create("deployments", deployment(3, "v1"));
    let ready = |api: &FakeApi| {
        let slices = api.list("endpointslices");
        let endpoints =
            slices.iter().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true).count()
    };
    let addresses = |api: &FakeApi| {
        let endpoints = api.get("endpoints", "web").unwrap_or_default();
        endpoints["subsets"][0]["addresses"].as_array().map_or(0, Vec::len)
    };
    api.until("three endpoints", |api| ready(api) == 3 && addresses(api) == 3).await;
    let slices = api.list("endpointslices");
    assert_eq!(slices.len(), 1);
    assert_eq!(slices[0]["ports"][0]["port"], 8080);
    assert_eq!(slices[0]["endpoints"][0]["nodeName"], "n1");
    api.with(|objects| objects.delete("services", "default", "web", &Value::Null).unwrap());
    api.until("all gone", |api| api.list("endpointslices").is_empty() && api.list("endpoints").is_empty())
        .await;
}

#[tokio::test(start_paused = true)]
async fn deleted_deployment_takes_its_pods_along_in_background_and_foreground() {
    for policy in ["Background", "Foreground"] {
        let api = FakeApi::default();
        add_node(&api);
        let _running = start(&api);
        api.create("deployments", deployment(3, "v1"));
        api.until("rolled out", |api| is_rolled_out(api, 3)).await;
        let options = json!({"propagationPolicy": policy});
        api.with(|objects| objects.delete("deployments", "default", "web", &options).unwrap());
        assert_eq!(api.get("deployments", "web").is_some(), policy == "Foreground");
        api.until("all gone", |api| {
            let left = ["deployments", "replicasets", "pods"].map(|kind| api.list(kind).len());
            assert!(
                policy != "Foreground" || left[0] == 1 || left == [0, 0, 0],
                "the owner goes last: {left:?}"
            );
            left == [0, 0, 0]
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn deleted_deployment_with_orphan_policy_leaves_its_pods() {
    let api = FakeApi::default();
    add_node(&api);
    let _running = start(&api);
    api.create("deployments", deployment(2, "v1"));
    api.until("rolled out", |api| is_rolled_out(api, 2)).await;
    let options = json!({"propagationPolicy": "Orphan"});
    api.with(|objects| objects.delete("deployments", "default", "web", &options).unwrap());
    api.until("deployment gone", |api| api.list("deployments").is_empty()).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!((api.list("replicasets").len(), api.list("pods").len()), (1, 2));
    assert!(api.list("replicasets")[0]["metadata"]["ownerReferences"].is_null());
}

#[tokio::test(start_paused = true)]
async fn namespace_gets_its_account_and_certificate_and_is_emptied_on_deletion() {
    let api = FakeApi::default();
    add_node(&api);
    let _running = start(&api);
    api.create("namespaces", json!({"metadata": {"name": "team"}, "spec": {"finalizers": ["kubernetes"]}}));
    api.until("account and certificate", |api| {
        api.get("serviceaccounts", "default").is_some()
            && api.get("configmaps", "kube-root-ca.crt").is_some_and(|map| map["data"]["ca.crt"] == "PEM")
    })
    .await;
    let mut held =
        json!({"metadata": {"name": "held", "namespace": "team", "finalizers": ["example.com/x"]}});
    held["data"] = json!({});
    api.create("configmaps", held);
    api.with(|objects| objects.delete("namespaces", "", "team", &Value::Null).unwrap());
    api.until("says what remains", |api| {
        let namespace = api.get("namespaces", "team").unwrap();
        let conditions = namespace["status"]["conditions"].as_array().cloned().unwrap_or_default();
        namespace["status"]["phase"] == "Terminating"
            && conditions.iter().any(|c| c["type"] == "NamespaceFinalizersRemaining" && c["status"] == "True")
    })
    .await;
    api.edit("configmaps", "held", |map| map["metadata"]["finalizers"] = json!([]));
    api.until("gone", |api| api.get("namespaces", "team").is_none()).await;
    assert!(api.list("configmaps").is_empty() && api.list("serviceaccounts").is_empty());
}

#[tokio::test(start_paused = true)]
async fn silent_node_is_tainted_and_its_pods_are_evicted_and_replaced() {
    let api = FakeApi::default();
    add_node(&api);
    let other = json!({"type": "Ready", "status": "True"});
    api.create("nodes", json!({"metadata": {"name": "n2"}, "status": {"conditions": [other]}}));
    let _running = start(&api);
    api.create("deployments", deployment(1, "v1"));
    api.until("ranges", |api| api.list("nodes").iter().all(|node| node["spec"]["podCIDR"].is_string())).await;
    api.until("rolled out", |api| is_rolled_out(api, 1)).await;
    // The other node keeps speaking.
    let speaking = api.clone();
    let voice = tokio::spawn(async move {
        for beat in 0.. {
            let time = format!("2026-01-01T{:02}:{:02}:00Z", beat / 60 % 24, beat % 60);
            let patch = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": time}]}});
            speaking
                .with(|objects| objects.patch("nodes", ("", "n2"), &patch, true, Some("status")).unwrap());
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    });
    let taints = |api: &FakeApi, node: &str| api.get("nodes", node).unwrap()["spec"]["taints"].to_string();
    let first = api.list("pods")[0]["metadata"]["name"].clone();
    api.until("unreachable", |api| taints(api, "n1").contains("NoExecute")).await;
    assert!(taints(&api, "n1").contains("node.kubernetes.io/unreachable"));
    api.until("evicted and replaced", |api| {
        api.list("pods").iter().all(|pod| pod["metadata"]["name"] != first) && !api.list("pods").is_empty()
    })
    .await;
    assert_eq!(taints(&api, "n2"), "null");
    voice.abort();
}

#[tokio::test(start_paused = true)]
async fn pod_on_a_node_that_is_gone_is_removed() {
    let api = FakeApi::default();
    add_node(&api);
    api.with(|objects| objects.graceful = true);
    let _running = start(&api);
    api.create(
        "pods",
        json!({"metadata": {"name": "p", "namespace": "default"}, "spec": template("v1")["spec"]}),
    );
    api.until("running", |api| api.get("pods", "p").is_some_and(|pod| pod["status"]["phase"] == "Running"))
        .await;
    api.with(|objects| objects.delete("nodes", "", "n1", &Value::Null).unwrap());
    api.until("removed", |api| api.get("pods", "p").is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn quota_counts_what_is_there_and_what_goes() {
    let api = FakeApi::default();
    api.create("namespaces", json!({"metadata": {"name": "default"}, "status": {"phase": "Active"}}));
    let pod = |name: &str| {
        json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}}}]},
            "status": {"phase": "Running"},
        })
    };
    for name in ["a", "b"] {
        api.create("pods", pod(name));
    }
    api.create("deployments", deployment(0, "good"));
    let hard = json!({"pods": "5", "requests.cpu": "1", "count/deployments.apps": "3", "count/none.example.com": "1", "resourcequotas": "1"});
    let quota = json!({"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": hard}});
    api.create("resourcequotas", quota);
    let _running = start(&api);
    let used = |api: &FakeApi| api.get("resourcequotas", "q").map(|quota| quota["status"]["used"].clone());
    let both =
        json!({"pods": "2", "requests.cpu": "200m", "count/deployments.apps": "1", "resourcequotas": "1"});
    api.until("the quota counts what is there", |api| used(api).as_ref() == Some(&both)).await;
    assert_eq!(api.get("resourcequotas", "q").unwrap()["status"]["hard"], hard);
    // A pod that has ended takes nothing any more.
    let ended = json!({"status": {"phase": "Succeeded"}});
    let end = |objects: &mut Objects| objects.patch("pods", ("default", "a"), &ended, false, Some("status"));
    api.with(end).unwrap();
    api.until("a pod that has ended is free", |api| used(api).is_some_and(|used| used["pods"] == "1")).await;
    api.with(|objects| objects.delete("deployments", "default", "web", &json!({}))).unwrap();
    let none = |api: &FakeApi| used(api).is_some_and(|used| used["count/deployments.apps"] == "0");
    api.until("what was deleted is free", none).await;
    api.edit("resourcequotas", "q", |quota| quota["spec"]["hard"] = json!({"pods": "7"}));
    let only = json!({"hard": {"pods": "7"}, "used": {"pods": "1"}});
    let changed = |api: &FakeApi| api.get("resourcequotas", "q").unwrap()["status"] == only;
    api.until("a new limit is taken over", changed).await;
}

#[tokio::test(start_paused = true)]
async fn claim_stays_while_a_pod_uses_it() {
    let api = FakeApi::default();
    api.create("namespaces", json!({"metadata": {"name": "default"}, "status": {"phase": "Active"}}));
    api.create(
        "persistentvolumeclaims",
        json!({"metadata": {"name": "c", "namespace": "default"}, "spec": {}}),
    );
    api.create("persistentvolumes", json!({"metadata": {"name": "v"}, "status": {"phase": "Bound"}}));
    let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
    let pod = json!({
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"nodeName": "n1", "containers": [], "volumes": volumes},
        "status": {"phase": "Running"},
    });
    api.create("nodes", json!({"metadata": {"name": "n1"}}));
    api.create("pods", pod);
    let _running = start(&api);
    let finalizers = |api: &FakeApi, plural: &str, name: &str| {
        api.get(plural, name).map(|object| object["metadata"]["finalizers"].clone())
    };
    let both = |api: &FakeApi| {
        finalizers(api, "persistentvolumeclaims", "c") == Some(json!(["kubernetes.io/pvc-protection"]))
            && finalizers(api, "persistentvolumes", "v") == Some(json!(["kubernetes.io/pv-protection"]))
    };
    api.until("claim and volume are protected", both).await;
    api.with(|objects| objects.delete("persistentvolumeclaims", "default", "c", &json!({}))).unwrap();
    api.with(|objects| objects.delete("persistentvolumes", "", "v", &json!({}))).unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(api.get("persistentvolumeclaims", "c").is_some() && api.get("persistentvolumes", "v").is_some());
    api.with(|objects| objects.delete("pods", "default", "p", &json!({"gracePeriodSeconds": 0}))).unwrap();
    api.until("the claim goes with its pod", |api| api.get("persistentvolumeclaims", "c").is_none()).await;
    let released = json!({"status": {"phase": "Released"}});
    let release = |objects: &mut Objects| {
        objects.patch("persistentvolumes", ("", "v"), &released, false, Some("status"))
    };
    api.with(release).unwrap();
    api.until("a volume goes that nobody has", |api| api.get("persistentvolumes", "v").is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn service_network_stays_while_a_service_has_an_address_of_it() {
    let api = FakeApi::default();
    let _running = start_with(&api, paused_clock());
    api.create("servicecidrs", json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.1.0.0/24"]}}));
    let labels = json!({"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    let service = json!({"resource": "services", "namespace": "default", "name": "s"});
    api.create(
        "ipaddresses",
        json!({"metadata": {"name": "10.1.0.7", "labels": labels}, "spec": {"parentRef": service}}),
    );
    let state = |api: &FakeApi| {
        let network = api.get("servicecidrs", "more")?;
        let ready = network["status"]["conditions"].as_array()?.iter().find(|one| one["type"] == "Ready")?;
        let finalizers = network["metadata"]["finalizers"].clone();
        Some((finalizers, ready["status"].clone(), ready["reason"].clone()))
    };
    let finalizers = json!(["networking.k8s.io/service-cidr-finalizer"]);
    let ready = (finalizers.clone(), json!("True"), json!(""));
    api.until("the network is ready", |api| state(api) == Some(ready.clone())).await;
    api.with(|objects| objects.delete("servicecidrs", "", "more", &json!({}))).unwrap();
    let waiting = (finalizers, json!("False"), json!("Terminating"));
    api.until("the network waits for its address", |api| state(api) == Some(waiting.clone())).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(api.get("servicecidrs", "more").is_some());
    api.with(|objects| objects.delete("ipaddresses", "", "10.1.0.7", &json!({}))).unwrap();
    api.until("the network goes with its last address", |api| api.get("servicecidrs", "more").is_none())
        .await;
}
