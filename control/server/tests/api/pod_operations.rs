//! Subresources of pods that are operations of their own: eviction and ephemeral containers.

use serde_json::{Value, json};

use crate::harness::cluster;

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn eviction_deletes_what_its_budget_lets_go() {
    let cluster = cluster().await;
    let evict = async |name: &str, wishes: Value| {
        let body = json!({
            "kind": "Eviction", "apiVersion": "policy/v1", "metadata": { "name": name }, "deleteOptions": wishes,
        });
        let path = format!("{PODS}/{name}/eviction");
        cluster.call(http::Method::POST, &path, "application/json", body.to_string()).await
    };
    // A pod that never ran is nobody's loss.
    cluster.pod("pending").await;
    assert_eq!(evict("pending", Value::Null).await.expect(201)["status"], "Success");
    cluster.get(&format!("{PODS}/pending")).await.failure(404, "NotFound");
    evict("pending", Value::Null).await.failure(404, "NotFound");

    for name in ["one", "two"] {
        cluster.pod(name).await;
        let label = json!({ "metadata": { "labels": { "app": "web" } } });
        cluster.patch(&format!("{PODS}/{name}"), "merge", label).await.expect(200);
        cluster.bind(name, "n1").await.expect(201);
        let ready = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
        cluster.patch(&format!("{PODS}/{name}/status"), "merge", ready).await.expect(200);
    }
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let spec = json!({ "minAvailable": 1, "selector": { "matchLabels": { "app": "web" } } });
    let budget = json!({ "metadata": { "name": "web" }, "spec": spec });
    cluster.post(budgets, "PodDisruptionBudget", budget.clone()).await.expect(201);
    let refused = evict("one", Value::Null).await;
    assert_eq!(refused.headers["retry-after"], "10");
    refused.failure(429, "TooManyRequests");

    let status = json!({ "status": {
        "observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2,
    } });
    cluster.patch(&format!("{budgets}/web/status"), "merge", status).await.expect(200);
    let trial = evict("one", json!({ "dryRun": ["All"] })).await;
    trial.expect(201);
    let left = |budget: &Value| budget["status"]["disruptionsAllowed"].as_i64();
    assert_eq!(left(&cluster.get(&format!("{budgets}/web")).await.expect(200)), Some(1));
    evict("one", json!({ "preconditions": { "uid": "other" } })).await.failure(409, "Conflict");
    assert_eq!(left(&cluster.get(&format!("{budgets}/web")).await.expect(200)), Some(1));

    evict("one", Value::Null).await.expect(201);
    let going = cluster.get(&format!("{PODS}/one")).await.expect(200);
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let conditions = going["status"]["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .any(|one| one["type"] == "DisruptionTarget" && one["reason"] == "EvictionByEvictionAPI")
    );
    let spent = cluster.get(&format!("{budgets}/web")).await.expect(200);
    assert_eq!(left(&spent), Some(0));
    assert!(spent["status"]["disruptedPods"]["one"].is_string());
    let refused = evict("two", Value::Null).await.expect(429);
    let cause = &refused["details"]["causes"][0];
    assert_eq!(cause["message"], "The disruption budget web needs 1 healthy pods and has 2 currently");

    let mut second = budget;
    second["metadata"]["name"] = json!("web-too");
    cluster.post(budgets, "PodDisruptionBudget", second).await.expect(201);
    assert!(
        evict("two", Value::Null).await.expect(500)["message"].as_str().unwrap().contains("more than one")
    );
}

#[tokio::test]
async fn ephemeral_container_comes_by_its_subresource_alone() {
    let cluster = cluster().await;
    let mut pod = cluster.pod("p").await;
    pod["spec"]["ephemeralContainers"] = json!([{ "name": "debug", "image": "busybox" }]);
    pod["spec"]["containers"][0]["image"] = json!("other");
    let path = format!("{PODS}/p/ephemeralcontainers");
    let with = cluster.put(&path, &pod).await.expect(200);
    assert_eq!(with["spec"]["ephemeralContainers"][0]["terminationMessagePolicy"], "File");
    assert_eq!(with["spec"]["containers"][0]["image"], "echo");
    assert_eq!(with["metadata"]["generation"], 2);
    let patch = json!({ "spec": { "ephemeralContainers": [{ "name": "more", "image": "busybox" }] } });
    let both = cluster.patch(&path, "strategic-merge", patch).await.expect(200);
    assert_eq!(both["spec"]["ephemeralContainers"].as_array().unwrap().len(), 2);
    let none = json!({ "spec": { "ephemeralContainers": [] } });
    let refused = cluster.patch(&path, "merge", none.clone()).await.failure(422, "Invalid");
    assert!(refused.contains("may not be removed"), "{refused}");
    // Through the pod itself they cannot be changed.
    cluster.patch(&format!("{PODS}/p"), "merge", none).await.failure(422, "Invalid");
    let kept = cluster.get(&format!("{PODS}/p")).await.expect(200);
    assert_eq!(kept["spec"]["ephemeralContainers"].as_array().unwrap().len(), 2);
}
