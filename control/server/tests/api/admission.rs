//! Admission as clients see it: no way of writing leads around it, and what the plug-ins make of objects.

use http::Method;
use serde_json::{Value, json};
use skep_server::AdmissionConfig;
use skep_server::user::UserInfo;

use crate::harness::{Answer, Cluster, cluster};

const BASE: &str = "/api/v1/namespaces/default";
const DENIED: &str = "admission control is denying all modifications";

fn enabling(names: &[&str]) -> AdmissionConfig {
    let mut config = AdmissionConfig::default();
    config.enable = names.iter().map(|name| (*name).to_owned()).collect();
    config
}

pub(crate) fn with_file(text: &str) -> AdmissionConfig {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admission.yaml");
    std::fs::write(&path, text).unwrap();
    let mut config = AdmissionConfig::default();
    config.read(&path).unwrap();
    config
}

fn warnings(answer: &Answer) -> Vec<String> {
    let texts = answer.headers.get_all("warning").iter().map(|value| value.to_str().unwrap());
    let inside = |text: &str| {
        let text = text.strip_prefix("299 - \"")?.strip_suffix('"')?;
        Some(text.replace("\\\"", "\""))
    };
    texts.filter_map(inside).collect()
}

/// One object of each kind that the writes below are about.
async fn furnished() -> Cluster {
    let cluster = cluster().await;
    cluster.pod("p").await;
    cluster.config_map("m", json!({ "a": "b" })).await;
    let selector = json!({ "matchLabels": { "app": "d" } });
    let template = json!({
        "metadata": { "labels": { "app": "d" } }, "spec": { "containers": [{ "name": "c", "image": "echo" }] },
    });
    let deployment =
        json!({ "metadata": { "name": "d" }, "spec": { "selector": selector, "template": template } });
    cluster.post("/apis/apps/v1/namespaces/default/deployments", "Deployment", deployment).await.expect(201);
    cluster.post("/api/v1/namespaces", "Namespace", json!({ "metadata": { "name": "n" } })).await.expect(201);
    cluster
}

#[tokio::test]
async fn no_way_of_writing_leads_around_admission() {
    let before = furnished().await;
    let cluster = before.with_admission(enabling(&["AlwaysDeny"])).await.unwrap();
    let revision = async || {
        let pods = cluster.get(&format!("{BASE}/pods/p")).await.expect(200);
        let maps = cluster.get(&format!("{BASE}/configmaps")).await.expect(200)["items"].clone();
        (pods, maps)
    };
    let unchanged = revision().await;
    let map =
        json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "m" }, "data": { "x": "y" } });
    let fresh = json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": "new" } });
    let pod = unchanged.0.clone();
    let meta = |kind: &str, version: &str, extra: Value| {
        let mut object = json!({ "kind": kind, "apiVersion": version, "metadata": { "name": "p" } });
        for (key, value) in extra.as_object().into_iter().flatten() {
            object[key] = value.clone();
        }
        object
    };
    let json_patch = json!([{ "op": "add", "path": "/metadata/labels", "value": { "a": "b" } }]);
    let labels = json!({ "metadata": { "labels": { "a": "b" } } });
    let scale = json!({ "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": { "name": "d" }, "spec": { "replicas": 3 } });
    let namespace = cluster.get("/api/v1/namespaces/n").await.expect(200);
    let request = meta("TokenRequest", "authentication.k8s.io/v1", json!({ "spec": {} }));
    let review = json!({
        "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1",
    });
    let plain = "application/json";
    let (merge, strategic) = ("application/merge-patch+json", "application/strategic-merge-patch+json");
    let apply = "application/apply-patch+yaml";
    let deployment = "/apis/apps/v1/namespaces/default/deployments/d";
    let writes: Vec<(Method, String, &str, Value)> = vec![
        (Method::POST, format!("{BASE}/configmaps"), plain, fresh.clone()),
        (Method::POST, format!("{BASE}/configmaps?dryRun=All"), plain, fresh.clone()),
        (Method::PUT, format!("{BASE}/configmaps/m"), plain, map.clone()),
        (Method::PUT, format!("{BASE}/configmaps/m?dryRun=All"), plain, map.clone()),
        (Method::PATCH, format!("{BASE}/configmaps/m"), "application/json-patch+json", json_patch),
        (Method::PATCH, format!("{BASE}/configmaps/m"), merge, labels.clone()),
        (Method::PATCH, format!("{BASE}/configmaps/m"), strategic, labels.clone()),
        (Method::PATCH, format!("{BASE}/configmaps/m?fieldManager=t&force=true"), apply, map.clone()),
        (Method::PATCH, format!("{BASE}/configmaps/new?fieldManager=t"), apply, fresh),
        (Method::DELETE, format!("{BASE}/configmaps/m"), plain, Value::Null),
        (Method::DELETE, format!("{BASE}/configmaps/m?dryRun=All"), plain, Value::Null),
        (Method::DELETE, format!("{BASE}/configmaps"), plain, Value::Null),
        (
            Method::POST,
            format!("{BASE}/pods/p/binding"),
            plain,
            meta("Binding", "v1", json!({ "target": { "name": "n1" } })),
        ),
        (Method::POST, format!("{BASE}/pods/p/eviction"), plain, meta("Eviction", "policy/v1", json!({}))),
        (Method::PUT, format!("{BASE}/pods/p/status"), plain, pod.clone()),
        (Method::PATCH, format!("{BASE}/pods/p/status"), merge, json!({ "status": { "phase": "Failed" } })),
        (Method::PUT, format!("{BASE}/pods/p/ephemeralcontainers"), plain, pod),
        (Method::POST, format!("{BASE}/serviceaccounts/default/token"), plain, request),
        (Method::PUT, format!("{deployment}/scale"), plain, scale.clone()),
        (Method::PATCH, format!("{deployment}/scale"), merge, json!({ "spec": { "replicas": 3 } })),
        (Method::PATCH, format!("{deployment}/scale?fieldManager=t&force=true"), apply, scale),
        (Method::PUT, "/api/v1/namespaces/n/finalize".to_owned(), plain, namespace),
        (Method::DELETE, "/api/v1/namespaces/n".to_owned(), plain, Value::Null),
        (Method::POST, "/apis/authentication.k8s.io/v1/selfsubjectreviews".to_owned(), plain, review),
        (Method::POST, format!("{BASE}/pods/p/exec?command=id"), plain, Value::Null),
        (Method::GET, format!("{BASE}/pods/p/attach"), plain, Value::Null),
        (Method::POST, format!("{BASE}/pods/p/portforward"), plain, Value::Null),
        (Method::GET, format!("{BASE}/pods/p/proxy/x"), plain, Value::Null),
        (Method::POST, "/api/v1/nodes/n1/proxy/x".to_owned(), plain, Value::Null),
        (Method::DELETE, format!("{BASE}/services/kubernetes/proxy/"), plain, Value::Null),
    ];
    for (method, path, kind, body) in writes {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = cluster.call(method.clone(), &path, kind, body).await;
        let text = String::from_utf8_lossy(&answer.bytes).into_owned();
        assert!(answer.code == 403 && text.contains(DENIED), "{method} {path}: {} {text}", answer.code);
    }
    assert_eq!(revision().await, unchanged);
}

#[tokio::test]
async fn plugins_that_nobody_knows_are_refused_at_start() {
    let before = cluster().await;
    let refused = async |config: AdmissionConfig| {
        let error = before.with_admission(config).await.map(drop).unwrap_err();
        std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
    };
    assert_eq!(refused(enabling(&["X"])).await, "enable-admission-plugins plugin \"X\" is unknown");
    assert!(
        refused(enabling(&["EventRateLimit"])).await.contains("limits: Invalid value: must not be empty")
    );
    let webhooks = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n\
                    plugins: [{name: MutatingAdmissionWebhook, configuration: {apiVersion: apiserver.config.k8s.io/v1, \
                    kind: WebhookAdmissionConfiguration, kubeConfigFile: beside}}]\n";
    assert_eq!(
        refused(with_file(webhooks)).await,
        "couldn't init admission plugin \"MutatingAdmissionWebhook\": \
         kubeConfigFile: Invalid value: \"beside\": must be an absolute file path"
    );
}

#[tokio::test]
async fn plugins_of_features_that_are_off_can_be_named_and_have_nothing_to_say() {
    let names = ["PodGroupProtection", "PodGroupWorkloadExists", "JobValidation"];
    let before = cluster().await;
    let named = before.with_admission(enabling(&names)).await.unwrap();
    named.config_map("a", json!({})).await;
    let mut without = AdmissionConfig::default();
    without.disable = names.map(str::to_owned).into();
    before.with_admission(without).await.unwrap().config_map("b", json!({})).await;
}

#[tokio::test]
async fn pod_security_refuses_warns_and_looks_at_what_is_there() {
    let cluster = cluster().await;
    cluster.pod("old").await;
    let labels = |pairs: Value| json!({ "metadata": { "labels": pairs } });
    let enforce = labels(json!({ "pod-security.kubernetes.io/enforce": "restricted" }));
    let answer = cluster.patch("/api/v1/namespaces/default", "merge", enforce).await;
    answer.expect(200);
    assert_eq!(
        warnings(&answer),
        [
            "existing pods in namespace \"default\" violate the new PodSecurity enforce level \"restricted:latest\"",
            "old: allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile",
        ]
    );
    let pod =
        json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "x", "image": "echo" }] } });
    let violations = "allowPrivilegeEscalation != false (container \"x\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"x\" must set \
         securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"x\" must set \
         securityContext.runAsNonRoot=true), seccompProfile (pod or container \"x\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    let refused = cluster.post(&format!("{BASE}/pods"), "Pod", pod.clone()).await;
    assert_eq!(
        refused.failure(403, "Forbidden"),
        format!("pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": {violations}")
    );
    let template = json!({ "metadata": { "labels": { "a": "b" } }, "spec": pod["spec"] });
    let deployment = json!({
        "metadata": { "name": "d" },
        "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": template },
    });
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let made = cluster.post(path, "Deployment", deployment).await;
    made.expect(201);
    assert_eq!(warnings(&made), [format!("would violate PodSecurity \"restricted:latest\": {violations}")]);
    // What runs may change in what does not matter, and get nothing in that does.
    let tolerated = labels(json!({ "a": "b" }));
    cluster.patch(&format!("{BASE}/pods/old"), "merge", tolerated).await.expect(200);
    let more = json!({ "spec": { "ephemeralContainers": [{ "name": "e", "image": "x" }] } });
    let path = format!("{BASE}/pods/old/ephemeralcontainers");
    let refused = cluster.patch(&path, "strategic-merge", more).await.failure(403, "Forbidden");
    assert!(refused.contains("violates PodSecurity"), "{refused}");
    let bad = labels(json!({ "pod-security.kubernetes.io/warn": "some" }));
    let refused = cluster.patch("/api/v1/namespaces/default", "merge", bad).await.failure(422, "Invalid");
    assert_eq!(
        refused,
        "Namespace \"default\" is invalid: metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"some\": \
         must be one of privileged, baseline, restricted"
    );
}

#[tokio::test]
async fn pod_security_has_defaults_and_exemptions_by_configuration() {
    let before = cluster().await;
    let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
                - name: PodSecurity\n  configuration:\n\
                \x20   apiVersion: pod-security.admission.config.k8s.io/v1\n\
                \x20   kind: PodSecurityConfiguration\n\
                \x20   defaults: {enforce: baseline}\n\
                \x20   exemptions: {usernames: [trusted], namespaces: [kube-system]}\n";
    let cluster = before.with_admission(with_file(text)).await.unwrap();
    let pod = |name: &str| {
        json!({
            "kind": "Pod", "apiVersion": "v1", "metadata": { "name": name },
            "spec": { "hostNetwork": true, "containers": [{ "name": "x", "image": "echo" }] },
        })
    };
    let as_user = async |user: &str, namespace: &str| {
        let user = UserInfo::new(user, &["system:masters"]);
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        cluster.call_as(user, Method::POST, &path, "application/json", pod("p").to_string()).await
    };
    let refused = as_user("admin", "default").await.failure(403, "Forbidden");
    assert!(refused.contains("violates PodSecurity \"baseline:latest\": host namespaces"), "{refused}");
    as_user("trusted", "default").await.expect(201);
    let account = json!({ "metadata": { "name": "default" } });
    cluster
        .post("/api/v1/namespaces/kube-system/serviceaccounts", "ServiceAccount", account)
        .await
        .expect(201);
    as_user("admin", "kube-system").await.expect(201);
}

#[tokio::test]
async fn objects_get_what_their_classes_and_the_cluster_say() {
    let cluster = cluster().await;
    let class = json!({
        "metadata": { "name": "fast", "annotations": { "storageclass.kubernetes.io/is-default-class": "true" } },
        "provisioner": "example.com/p",
    });
    cluster.post("/apis/storage.k8s.io/v1/storageclasses", "StorageClass", class).await.expect(201);
    let claim = json!({ "metadata": { "name": "c" }, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } },
    } });
    let claims = format!("{BASE}/persistentvolumeclaims");
    let made = cluster.post(&claims, "PersistentVolumeClaim", claim).await.expect(201);
    assert_eq!(made["spec"]["storageClassName"], "fast");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let bound = json!({ "status": { "phase": "Bound" } });
    cluster.patch(&format!("{claims}/c/status"), "merge", bound).await.expect(200);
    let larger = json!({ "spec": { "resources": { "requests": { "storage": "2Gi" } } } });
    let refused = cluster.patch(&format!("{claims}/c"), "merge", larger).await;
    assert!(
        String::from_utf8_lossy(&refused.bytes).contains("only dynamically provisioned pvc can be resized")
    );

    let ingress_class = json!({
        "metadata": { "name": "web", "annotations": { "ingressclass.kubernetes.io/is-default-class": "true" } },
        "spec": { "controller": "example.com/c" },
    });
    cluster
        .post("/apis/networking.k8s.io/v1/ingressclasses", "IngressClass", ingress_class)
        .await
        .expect(201);
    let backend = json!({ "service": { "name": "s", "port": { "number": 80 } } });
    let ingress = json!({ "metadata": { "name": "i" }, "spec": { "defaultBackend": backend } });
    let path = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
    let made = cluster.post(path, "Ingress", ingress).await.expect(201);
    assert_eq!(made["spec"]["ingressClassName"], "web");

    let runtime = json!({
        "metadata": { "name": "sandbox" }, "handler": "h",
        "overhead": { "podFixed": { "cpu": "250m" } }, "scheduling": { "nodeSelector": { "sandbox": "yes" } },
    });
    cluster.post("/apis/node.k8s.io/v1/runtimeclasses", "RuntimeClass", runtime).await.expect(201);
    let pod = |class: &str| {
        json!({ "metadata": { "name": "p" }, "spec": {
            "runtimeClassName": class, "containers": [{ "name": "c", "image": "echo" }],
        } })
    };
    let made = cluster.post(&format!("{BASE}/pods"), "Pod", pod("sandbox")).await.expect(201);
    assert_eq!(made["spec"]["overhead"], json!({ "cpu": "250m" }));
    assert_eq!(made["spec"]["nodeSelector"], json!({ "sandbox": "yes" }));
    let refused = cluster.post(&format!("{BASE}/pods"), "Pod", pod("none")).await.failure(403, "Forbidden");
    assert_eq!(refused, "pods \"p\" is forbidden: pod rejected: RuntimeClass \"none\" not found");

    let node =
        cluster.post("/api/v1/nodes", "Node", json!({ "metadata": { "name": "n1" } })).await.expect(201);
    assert_eq!(
        node["spec"]["taints"],
        json!([{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }])
    );
}

#[tokio::test]
async fn node_writes_its_own_and_nothing_else() {
    let cluster = cluster().await;
    let node = || UserInfo::new("system:node:n1", &["system:nodes"]);
    let send = async |method: Method, path: &str, kind: &str, body: Value| {
        cluster.call_as(node(), method, path, kind, body.to_string()).await
    };
    let merge = "application/merge-patch+json";
    let own = json!({ "kind": "Node", "apiVersion": "v1", "metadata": { "name": "n1" } });
    send(Method::POST, "/api/v1/nodes", "application/json", own).await.expect(201);
    let taints = json!({ "spec": { "taints": [] } });
    let refused = send(Method::PATCH, "/api/v1/nodes/n1", merge, taints).await.failure(403, "Forbidden");
    assert_eq!(refused, "nodes \"n1\" is forbidden: node \"n1\" is not allowed to modify taints");
    let role = json!({ "metadata": { "labels": { "node-role.kubernetes.io/control-plane": "" } } });
    let refused = send(Method::PATCH, "/api/v1/nodes/n1/status", merge, role).await.failure(403, "Forbidden");
    assert_eq!(
        refused,
        "nodes \"n1\" is forbidden: is not allowed to modify labels: node-role.kubernetes.io/control-plane"
    );
    cluster.pod("p").await;
    cluster.bind("p", "n1").await.expect(201);
    let status = json!({ "metadata": { "labels": { "a": "b" } }, "status": { "phase": "Running" } });
    let path = format!("{BASE}/pods/p/status");
    let refused = send(Method::PATCH, &path, merge, status).await.failure(403, "Forbidden");
    assert_eq!(refused, "pods \"p\" is forbidden: node \"n1\" cannot update labels through pod status");
    let pod = json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": { "name": "q" },
        "spec": { "nodeName": "n1", "containers": [{ "name": "c", "image": "echo" }] },
    });
    let refused = send(Method::POST, &format!("{BASE}/pods"), "application/json", pod).await;
    assert!(refused.failure(403, "Forbidden").contains("can only create mirror pods"));
}

#[tokio::test]
async fn options_on_demand_select_nodes_and_hold_events_back() {
    let before = cluster().await;
    let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
                - name: PodNodeSelector\n  configuration:\n\
                \x20   podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: 'zone=a'}\n\
                - name: EventRateLimit\n  configuration:\n\
                \x20   apiVersion: eventratelimit.admission.k8s.io/v1alpha1\n\
                \x20   kind: Configuration\n\
                \x20   limits: [{type: Namespace, qps: 1, burst: 2}]\n";
    let mut config = with_file(text);
    config.enable = vec!["PodNodeSelector".to_owned(), "EventRateLimit".to_owned()];
    let cluster = before.with_admission(config).await.unwrap();
    assert_eq!(cluster.pod("p").await["spec"]["nodeSelector"], json!({ "zone": "a" }));
    let pod = json!({ "metadata": { "name": "q" }, "spec": {
        "nodeSelector": { "zone": "b" }, "containers": [{ "name": "c", "image": "echo" }],
    } });
    assert_eq!(
        cluster.post(&format!("{BASE}/pods"), "Pod", pod).await.failure(403, "Forbidden"),
        "pods \"q\" is forbidden: pod node label selector conflicts with its namespace node label selector"
    );
    let event = async |name: &str| {
        let event = json!({ "metadata": { "name": name }, "involvedObject": { "namespace": "default" } });
        cluster.post(&format!("{BASE}/events"), "Event", event).await
    };
    event("a").await.expect(201);
    event("b").await.expect(201);
    assert_eq!(
        event("c").await.failure(429, "TooManyRequests"),
        "Too many requests: limit reached on type Namespace for key default"
    );
    cluster.pass(1);
    event("c").await.expect(201);
}
