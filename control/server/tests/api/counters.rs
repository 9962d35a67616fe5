//! What dashboards read: the gate's counters under upstream's names and labels.

use http::Request;
use http_body_util::Full;
use serde_json::json;
use skep_server::user::UserInfo;

use crate::definitions::{WIDGETS, define, definition};
use crate::harness::{Cluster, cluster};
use crate::hooks::{Hook, Reply};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub(crate) async fn metrics(cluster: &Cluster) -> String {
    String::from_utf8(cluster.get("/metrics").await.bytes.to_vec()).unwrap()
}

/// The value of a line that begins with this name and has all of these labels.
#[track_caller]
pub(crate) fn value(text: &str, name: &str, labels: &[&str]) -> f64 {
    let line = text.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    let line = line.unwrap_or_else(|| panic!("no {name} with {labels:?}"));
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn access_is_counted_by_outcome() {
    let cluster = cluster().await;
    for token in [None, Some("nonsense")] {
        let mut request = Request::get("/api/v1/pods");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::<bytes::Bytes>::default()).unwrap();
        let response = tower::ServiceExt::oneshot(cluster.server.service(), request).await.unwrap();
        assert_eq!(response.status(), 401);
    }
    let request = Request::get("/version").body(Full::<bytes::Bytes>::default()).unwrap();
    tower::ServiceExt::oneshot(cluster.server.service(), request).await.unwrap();
    let jane = UserInfo::new("jane", &[]);
    cluster.call_as(jane, http::Method::GET, "/api/v1/pods", "", "").await.failure(403, "Forbidden");
    let text = metrics(&cluster).await;
    for (result, count) in [("failure", 1.0), ("error", 1.0), ("success", 1.0)] {
        assert_eq!(value(&text, "authentication_attempts", &[&format!("result=\"{result}\"")]), count);
    }
    assert_eq!(value(&text, "authenticated_user_requests", &["username=\"other\""]), 1.0);
    assert_eq!(value(&text, "authorization_attempts_total", &["result=\"no-opinion\""]), 1.0);
    assert!(value(&text, "authorization_duration_seconds_count", &["result=\"allowed\""]) >= 1.0);
    assert!(!text.contains("jane"), "names are nobody's business");
}

#[tokio::test]
async fn admission_is_counted_by_step_plugin_and_webhook() {
    let cluster = cluster().await;
    let hook = Hook::start(&[], |seen| {
        let request = &seen.body["request"];
        let fine = request["name"] != "bad";
        let result = json!({ "code": 418, "message": "no" });
        let response = json!({ "uid": request["uid"], "allowed": fine, "result": result });
        let review =
            json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response });
        Reply::Json(review)
    });
    let hook = hook.await;
    let rule = json!({ "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"] });
    let webhook = |name: &str, client: serde_json::Value, policy: &str| {
        json!({
            "name": name, "clientConfig": client, "rules": [rule], "failurePolicy": policy, "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "timeoutSeconds": 5,
        })
    };
    let away = json!({ "url": "https://127.0.0.1:1/" });
    let configuration = json!({
        "metadata": { "name": "w" },
        "webhooks": [webhook("judge.example.org", hook.client_config("/"), "Fail"),
                     webhook("away.example.org", away, "Ignore")],
    });
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    cluster.post(path, "ValidatingWebhookConfiguration", configuration).await.expect(201);
    let object = |name: &str| json!({ "metadata": { "name": name } });
    cluster.post(MAPS, "ConfigMap", object("good")).await.expect(201);
    assert_eq!(cluster.post(MAPS, "ConfigMap", object("bad")).await.code, 418);
    let text = metrics(&cluster).await;
    let of = |end: &str, labels: &[&str]| value(&text, &format!("apiserver_admission_{end}"), labels);
    let (create, judge) = ("operation=\"CREATE\"", "name=\"judge.example.org\"");
    let (yes, no) = ("rejected=\"true\"", "rejected=\"false\"");
    let step = "step_admission_duration_seconds_count";
    assert_eq!(of(step, &[create, "type=\"validate\"", yes]), 1.0);
    assert!(of(step, &[create, "type=\"admit\"", no]) >= 2.0);
    let controller = "controller_admission_duration_seconds_count";
    assert_eq!(of(controller, &["name=\"ValidatingAdmissionWebhook\"", create, yes]), 1.0);
    let webhook = "webhook_admission_duration_seconds_count";
    assert_eq!(of(webhook, &[judge, "type=\"validating\"", create, no]), 1.0);
    assert_eq!(of("webhook_request_total", &[judge, "code=\"200\"", no]), 1.0);
    let rejection = [judge, "error_type=\"no_error\"", "rejection_code=\"418\""];
    assert_eq!(of("webhook_rejection_count", &rejection), 1.0);
    assert_eq!(of("webhook_fail_open_count", &["name=\"away.example.org\"", "type=\"validating\""]), 2.0);
    let time = ["resource=\"configmaps\"", "verb=\"CREATE\""];
    let whole = value(&text, "apiserver_request_duration_seconds_sum", &time);
    let own = value(&text, "apiserver_request_sli_duration_seconds_sum", &time);
    assert!(own < whole, "what webhooks take is not the server's: {own} of {whole}");
}

#[tokio::test]
async fn answers_are_counted_with_dry_runs_sizes_and_deprecations() {
    let cluster = cluster().await;
    let object = json!({ "metadata": { "name": "x" } });
    cluster.post(&format!("{MAPS}?dryRun=All"), "ConfigMap", object.clone()).await.expect(201);
    cluster.post(MAPS, "ConfigMap", object).await.expect(201);
    cluster.get(&format!("{MAPS}/x")).await.expect(200);
    cluster.get("/api/v1/namespaces/default/endpoints").await.expect(200);
    let text = metrics(&cluster).await;
    let create = ["resource=\"configmaps\"", "verb=\"CREATE\"", "code=\"201\""];
    let requests = |dry: &str| value(&text, "apiserver_request_total", &[&create[..], &[dry]].concat());
    assert_eq!((requests("dry_run=\"All\""), requests("dry_run=\"\"")), (1.0, 1.0));
    let sizes = ["resource=\"configmaps\"", "verb=\"GET\""];
    assert!(value(&text, "apiserver_response_sizes_sum", &sizes) > 100.0);
    assert_eq!(value(&text, "apiserver_requested_deprecated_apis", &["resource=\"endpoints\""]), 1.0);
}

#[tokio::test]
async fn build_events_and_beginnings_of_watches_are_counted() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({})).await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = cluster.watch(&format!("{MAPS}?{query}")).await;
    while !watch.name().await.starts_with("BOOKMARK") {}
    let text = metrics(&cluster).await;
    let build = ["major=\"1\"", "minor=\"36\"", "git_version=\"v1.36.0+skep\"", "platform=\"linux/"];
    assert_eq!(value(&text, "kubernetes_build_info", &build), 1.0);
    let of_maps = ["group=\"\"", "resource=\"configmaps\""];
    assert!(value(&text, "apiserver_storage_events_received_total", &of_maps) >= 1.0);
    let beginnings = [&of_maps[..], &["version=\"v1\"", "scope=\"namespace\""]].concat();
    assert_eq!(value(&text, "apiserver_watch_list_duration_seconds_count", &beginnings), 1.0);
}

#[tokio::test]
async fn rules_of_custom_resources_are_timed() {
    let cluster = cluster().await;
    let count = async |what: &str| {
        let name = format!("apiserver_cel_{what}_duration_seconds_count");
        value(&metrics(&cluster).await, &name, &[])
    };
    assert_eq!((count("compilation").await, count("evaluation").await), (0.0, 0.0));
    let schema = json!({ "type": "object", "x-kubernetes-validations": [{ "rule": "self.n < 5" }],
        "properties": { "n": { "type": "integer" } } });
    define(&cluster, definition(schema)).await;
    for (n, code) in [(3, 201), (7, 422)] {
        let widget = json!({ "metadata": { "name": format!("w{n}") }, "spec": { "n": n } });
        assert_eq!(cluster.post(WIDGETS, "Widget", widget).await.code, code);
    }
    assert_eq!((count("compilation").await, count("evaluation").await), (1.0, 2.0));
}
