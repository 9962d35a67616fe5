//! What admission makes of pods, and binding.

use serde_json::{Value, json};

use crate::harness::cluster;

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn pod_gets_account_token_tolerations_priority_and_status() {
    let cluster = cluster().await;
    let pod = cluster.pod("p").await;
    let spec = &pod["spec"];
    assert_eq!((&spec["serviceAccountName"], &spec["priority"]), (&json!("default"), &json!(0)));
    let volume = &spec["volumes"][0];
    assert!(volume["name"].as_str().unwrap().starts_with("kube-api-access-"));
    assert_eq!(volume["projected"]["sources"].as_array().unwrap().len(), 3);
    let mount = &spec["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["name"], volume["name"]);
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&pod["status"]["phase"], &pod["status"]["qosClass"]),
        (&json!("Pending"), &json!("BestEffort"))
    );
}

#[tokio::test]
async fn pod_without_its_account_or_class_is_refused() {
    let cluster = cluster().await;
    let pod = |extra: (&str, &str)| {
        let mut pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "echo" }] } });
        pod["spec"][extra.0] = json!(extra.1);
        pod
    };
    let answer = cluster.post(PODS, "Pod", pod(("serviceAccountName", "none"))).await;
    assert_eq!(
        answer.failure(403, "Forbidden"),
        "pods \"p\" is forbidden: error looking up service account default/none: serviceaccount \"none\" not found"
    );
    let answer = cluster.post(PODS, "Pod", pod(("priorityClassName", "none"))).await;
    assert_eq!(
        answer.failure(403, "Forbidden"),
        "pods \"p\" is forbidden: no PriorityClass with name none was found"
    );
    let answer = cluster.post(PODS, "Pod", pod(("priorityClassName", "system-node-critical"))).await;
    assert_eq!(answer.expect(201)["spec"]["priority"], 2000001000);
}

#[tokio::test]
async fn pod_is_bound_once() {
    let cluster = cluster().await;
    cluster.pod("p").await;
    assert_eq!(cluster.bind("p", "n1").await.expect(201)["status"], "Success");
    let pod = cluster.get(&format!("{PODS}/p")).await.expect(200);
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
    let message = cluster.bind("p", "n2").await.failure(409, "Conflict");
    assert!(message.contains("pod p is already assigned to node \"n1\""), "{message}");
    cluster.bind("none", "n1").await.failure(404, "NotFound");
    let selected = cluster.get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await.expect(200);
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn token_of_an_account_that_is_there_is_issued() {
    let cluster = cluster().await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let request = json!({ "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {} });
    let call = |path: String| {
        cluster.call(
            http::Method::POST,
            Box::leak(path.into_boxed_str()),
            "application/json",
            request.to_string(),
        )
    };
    let answer = call(path.into()).await.expect(201);
    assert!(answer["status"]["token"].is_string());
    call(path.replace("/default/token", "/none/token")).await.failure(404, "NotFound");
}

#[tokio::test]
async fn resize_changes_the_resources_of_a_pod_and_nothing_else() {
    let cluster = cluster().await;
    let pod = |cpu: &str| {
        let resources = json!({ "requests": { "cpu": cpu, "memory": "64Mi" }, "limits": { "cpu": "2", "memory": "64Mi" } });
        json!({
            "metadata": { "name": "r" },
            "spec": { "containers": [{ "name": "c", "image": "echo", "resources": resources }] },
        })
    };
    let made = cluster.post("/api/v1/namespaces/default/pods", "Pod", pod("1")).await.expect(201);
    assert_eq!(made["status"]["qosClass"], "Burstable");
    let path = "/api/v1/namespaces/default/pods/r";
    let resize = format!("{path}/resize");
    let change =
        |resources: Value| json!({ "spec": { "containers": [{ "name": "c", "resources": resources }] } });
    let more = change(json!({ "requests": { "cpu": "1500m" } }));
    let resized = cluster.patch(&resize, "strategic-merge", more).await.expect(200);
    assert_eq!(resized["spec"]["containers"][0]["resources"]["requests"]["cpu"], "1500m");
    assert_eq!(resized["metadata"]["generation"], 2);
    for (body, why) in [
        (
            change(json!({ "requests": { "cpu": "2" } })),
            "Pod QOS Class may not change as a result of resizing",
        ),
        (change(json!({ "limits": { "cpu": null } })), "resource limits cannot be removed"),
        (change(json!({ "requests": { "cpu": "3" } })), "must be less than or equal to cpu limit of 2"),
        (
            json!({ "spec": { "containers": [{ "name": "d", "image": "other" }] } }),
            "containers may not be added or removed on resize",
        ),
    ] {
        let message = cluster.patch(&resize, "strategic-merge", body).await.failure(422, "Invalid");
        assert!(message.contains(why), "{message}");
    }
    // What is no resource stays as it is.
    let other = json!({ "spec": { "containers": [{ "name": "c", "image": "other" }] } });
    let same = cluster.patch(&resize, "strategic-merge", other).await.expect(200);
    assert_eq!(same["spec"]["containers"][0]["image"], "echo");
    let through_the_pod = change(json!({ "requests": { "cpu": "1" } }));
    let message = cluster.patch(path, "strategic-merge", through_the_pod).await.failure(422, "Invalid");
    assert!(message.contains("pod updates may not change fields other than"), "{message}");
    // Labels sent along are not for this subresource.
    let label = json!({ "metadata": { "labels": { "a": "b" } } });
    let same = cluster.patch(&resize, "merge", label).await.expect(200);
    assert!(same["metadata"]["labels"].is_null(), "{same}");
}
