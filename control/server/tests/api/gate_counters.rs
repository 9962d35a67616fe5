//! What dashboards read of the gate: who decided, who acted as somebody else, which tokens were used, what Pod Security and
//! match conditions came to, and where time went before the handlers.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use skep_server::user::UserInfo;

use crate::admission::with_file;
use crate::counters::{metrics, value};
use crate::harness::{Cluster, cluster};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// The value of a series, 0 where there is none.
async fn count(cluster: &Cluster, name: &str, labels: &[&str]) -> f64 {
    let text = metrics(cluster).await;
    let is = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    };
    text.lines().find(is).map_or(0.0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

#[tokio::test]
async fn authorizers_are_counted_by_what_they_decided() {
    let cluster = cluster().await;
    let decisions = "apiserver_authorization_decisions_total";
    let rbac = ["type=\"RBAC\"", "name=\"rbac\"", "decision=\"allowed\""];
    let before = count(&cluster, decisions, &rbac).await;
    let jane = || UserInfo::new("jane", &["system:authenticated"]);
    assert_eq!(cluster.call_as(jane(), Method::GET, "/version", "", "").await.code, 200);
    cluster.call_as(jane(), Method::GET, "/api/v1/nodes", "", "").await.failure(403, "Forbidden");
    assert_eq!(
        count(&cluster, decisions, &rbac).await,
        before + 1.0,
        "whom nobody allows, nobody decided about"
    );
    let node = UserInfo::new("system:node:n1", &["system:nodes", "system:authenticated"]);
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1";
    cluster.call_as(node, Method::GET, lease, "", "").await.failure(404, "NotFound");
    assert_eq!(
        count(&cluster, decisions, &["type=\"Node\"", "name=\"node\"", "decision=\"allowed\""]).await,
        1.0
    );
}

#[tokio::test]
async fn impersonation_and_filters_are_counted() {
    let cluster = cluster().await;
    let filter = |name: &str| format!("filter=\"{name}\"");
    let passed = "apiserver_request_filter_duration_seconds_count";
    let before = count(&cluster, passed, &[&filter("authorization")]).await;
    let request = Request::get("/api/v1/nodes").header("impersonate-user", "jane");
    let answer = cluster.send(request.body(Full::<Bytes>::default()).unwrap()).await;
    answer.failure(403, "Forbidden");
    let attempts = "apiserver_impersonation_attempts_total";
    assert_eq!(count(&cluster, attempts, &["mode=\"user-info\"", "decision=\"allowed\""]).await, 1.0);
    assert_eq!(
        count(&cluster, passed, &[&filter("impersonation")]).await,
        1.0,
        "nobody else wanted to be another"
    );
    for name in ["authentication", "audit", "priorityandfairness", "authorization"] {
        assert!(count(&cluster, passed, &[&filter(name)]).await > before, "{name}");
    }
}

#[tokio::test]
async fn tokens_of_service_accounts_are_counted() {
    let cluster = cluster().await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let answer = cluster.call(Method::POST, path, "application/json", body.to_string()).await.expect(201);
    let token = answer["status"]["token"].as_str().unwrap();
    for _ in 0..2 {
        let request = Request::get("/version").header("authorization", format!("Bearer {token}"));
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let response = tower::ServiceExt::oneshot(cluster.server.service(), request).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    let text = metrics(&cluster).await;
    assert_eq!(value(&text, "serviceaccount_valid_tokens_total", &[]), 2.0);
    for status in ["hit", "miss"] {
        let status = format!("status=\"{status}\"");
        assert_eq!(value(&text, "authentication_token_cache_request_total", &[&status]), 1.0);
    }
}

fn pod(name: &str, privileged: bool) -> Value {
    let container = json!({ "name": "c", "image": "echo", "securityContext": { "privileged": privileged } });
    json!({ "metadata": { "name": name }, "spec": { "containers": [container] } })
}

#[tokio::test]
async fn judgements_of_pod_security_are_counted() {
    let text = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
                - name: PodSecurity\n  configuration:\n\
                \x20   apiVersion: pod-security.admission.config.k8s.io/v1\n\
                \x20   kind: PodSecurityConfiguration\n\
                \x20   exemptions: {usernames: [builder]}\n";
    let cluster = cluster().await.with_admission(with_file(text)).await.unwrap();
    let judged = "pod_security_evaluations_total";
    let open = ["decision=\"allow\"", "policy_level=\"privileged\"", "mode=\"enforce\"", "resource=\"pod\""];
    cluster.post(PODS, "Pod", pod("a", true)).await.expect(201);
    assert_eq!(
        count(
            &cluster,
            judged,
            &[&open[..], &["policy_version=\"latest\"", "request_operation=\"create\""]].concat()
        )
        .await,
        1.0
    );
    let labels = json!({ "metadata": { "labels": {
        "pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.30",
        "pod-security.kubernetes.io/warn": "restricted", "pod-security.kubernetes.io/warn-version": "v1.99",
    } } });
    cluster.patch("/api/v1/namespaces/default", "merge", labels).await.expect(200);
    cluster.post(PODS, "Pod", pod("b", true)).await.failure(403, "Forbidden");
    cluster.post(PODS, "Pod", pod("c", false)).await.expect(201);
    for (decision, mode, version) in
        [("deny", "enforce", "v1.30"), ("allow", "enforce", "v1.30"), ("deny", "warn", "future")]
    {
        let labels = [("decision", decision), ("mode", mode), ("policy_version", version)];
        let labels = labels.map(|(name, value)| format!("{name}=\"{value}\""));
        assert_eq!(
            count(&cluster, judged, &labels.each_ref().map(String::as_str)).await,
            1.0,
            "{decision} {mode}"
        );
    }
    let builder = UserInfo::new("builder", &["system:masters"]);
    let body = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "d" }, "spec": pod("d", true)["spec"] });
    cluster.call_as(builder, Method::POST, PODS, "application/json", body.to_string()).await.expect(201);
    assert_eq!(
        count(
            &cluster,
            "pod_security_exemptions_total",
            &["request_operation=\"create\"", "resource=\"pod\""]
        )
        .await,
        1.0
    );
    // Nobody can write such labels; they may be from before.
    assert_eq!(count(&cluster, "pod_security_errors_total", &[]).await, 0.0);
}

#[tokio::test]
async fn match_conditions_are_counted_by_webhook_and_policy() {
    let cluster = cluster().await;
    let rule = json!({ "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"] });
    let conditions = |name: &str| {
        json!([
            { "name": "other", "expression": format!("object.metadata.name != '{name}'") },
            { "name": "broken", "expression": "object.metadata.name != 'broken' || object.data.missing == 'x'" },
        ])
    };
    let webhook = json!({
        "name": "away.example.org", "clientConfig": { "url": "https://127.0.0.1:1/" }, "rules": [rule],
        "failurePolicy": "Ignore", "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
        "matchConditions": conditions("passed"),
    });
    let configuration = json!({ "metadata": { "name": "w" }, "webhooks": [webhook] });
    const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
    let path = format!("{ADMISSION}/validatingwebhookconfigurations");
    cluster.post(&path, "ValidatingWebhookConfiguration", configuration).await.expect(201);
    let policy = json!({ "metadata": { "name": "judge" }, "spec": {
        "failurePolicy": "Ignore", "matchConstraints": { "resourceRules": [rule] },
        "matchConditions": conditions("passed"), "validations": [{ "expression": "true" }],
    } });
    cluster
        .post(&format!("{ADMISSION}/validatingadmissionpolicies"), "ValidatingAdmissionPolicy", policy)
        .await
        .expect(201);
    let binding = json!({ "metadata": { "name": "judge" }, "spec": { "policyName": "judge", "validationActions": ["Deny"] } });
    let path = format!("{ADMISSION}/validatingadmissionpolicybindings");
    cluster.post(&path, "ValidatingAdmissionPolicyBinding", binding).await.expect(201);
    for name in ["passed", "broken", "asked"] {
        cluster
            .post(MAPS, "ConfigMap", json!({ "metadata": { "name": name }, "data": {} }))
            .await
            .expect(201);
    }
    for (name, kind, phase, passed_by) in
        [("away.example.org", "webhook", "validating", 1.0), ("judge", "policy", "validate", 0.0)]
    {
        let labels = [("name", name), ("kind", kind), ("type", phase), ("operation", "CREATE")];
        let labels = labels.map(|(label, value)| format!("{label}=\"{value}\""));
        let labels = labels.each_ref().map(String::as_str);
        let of = async |end: &str| {
            count(&cluster, &format!("apiserver_admission_match_condition_{end}"), &labels).await
        };
        assert_eq!(of("evaluation_seconds_count").await, 3.0, "{name}");
        assert_eq!(of("evaluation_errors_total").await, 1.0, "{name}");
        assert_eq!(of("exclusions_total").await, passed_by, "{name}");
    }
}

#[tokio::test]
async fn watches_are_counted_with_the_size_of_what_they_tell() {
    let cluster = cluster().await;
    let long = [
        "verb=\"WATCH\"",
        "resource=\"configmaps\"",
        "scope=\"namespace\"",
        "component=\"apiserver\"",
        "subresource=\"\"",
    ];
    let mut watch = cluster.watch(&format!("{MAPS}?watch=1")).await;
    assert_eq!(count(&cluster, "apiserver_longrunning_requests", &long).await, 1.0);
    cluster.config_map("large", json!({ "text": "x".repeat(3000) })).await;
    watch.name().await;
    let sizes = |end: &str| format!("apiserver_watch_events_sizes_{end}");
    let maps = ["group=\"\"", "version=\"v1\"", "resource=\"configmaps\""];
    assert!(count(&cluster, &sizes("count"), &maps).await >= 1.0);
    assert!(count(&cluster, &sizes("sum"), &maps).await > 3000.0);
    drop(watch);
    assert_eq!(count(&cluster, "apiserver_longrunning_requests", &long).await, 0.0);
}

#[tokio::test]
async fn bodies_are_counted_by_size() {
    let cluster = cluster().await;
    let of = async |end: &str, verb: &str| {
        let labels = ["resource=\"configmaps\"", &format!("verb=\"{verb}\"")];
        count(&cluster, &format!("apiserver_request_body_size_bytes_{end}"), &labels).await
    };
    cluster.config_map("a", json!({ "text": "x".repeat(60_000) })).await;
    cluster.patch(&format!("{MAPS}/a"), "merge", json!({ "data": { "text": "y" } })).await.expect(200);
    cluster.delete(MAPS, json!({})).await;
    assert_eq!((of("count", "create").await, of("count", "patch").await), (1.0, 1.0));
    assert!(of("sum", "create").await > 60_000.0 && of("sum", "patch").await < 100.0);
    assert_eq!(of("count", "delete_collection").await, 1.0);
}
