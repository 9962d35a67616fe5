//! What is written down about requests: events of the log backend, and what happens when they cannot be written.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use prometheus::Registry;
use serde_json::{Value, json};
use skep_server::ServerConfig;
use skep_server::audit::{
    Audit, AuditOptions, BatchOptions, Format, LogOptions, Mode, OutputOptions, Rotation,
};
use skep_server::in_process;
use skep_server::user::UserInfo;
use tower::ServiceExt;

use crate::harness::{Answer, Cluster, cluster_with};

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- {level: None, users: ['system:apiserver']}
- {level: Metadata, resources: [{group: '', resources: [secrets]}]}
- {level: Request, verbs: [watch]}
- {level: RequestResponse}
";

fn audit(config: &mut ServerConfig, directory: &Path, policy: &str, path: &Path, mode: Mode) {
    let file = directory.join("policy.yaml");
    std::fs::write(&file, policy).unwrap();
    let batch = BatchOptions {
        buffer: 100,
        max_size: 1,
        max_wait: Duration::from_secs(1),
        throttle: None,
        in_parallel: false,
    };
    let log = LogOptions {
        path: path.to_owned(),
        // Nothing is ever put aside: /dev/full must stay where it is.
        rotation: Rotation { max_size: 0, max_age: 0, max_backups: 0, compress: false },
        format: Format::Json,
        output: OutputOptions { mode, batch, truncate: None },
    };
    let options = AuditOptions { policy: Some(file), log: Some(log), webhook: None };
    config.metrics = Registry::new();
    config.audit = Audit::open(options, config.ids.clock.clone(), &config.metrics).unwrap();
}

/// Writes down what happens, in a file that [`events`] reads.
pub(crate) fn audit_to_file(config: &mut ServerConfig, directory: &Path) {
    audit(config, directory, POLICY, &directory.join("audit.log"), Mode::Blocking);
}

async fn audited() -> Cluster {
    cluster_with(&audit_to_file).await
}

fn text(cluster: &Cluster) -> String {
    std::fs::read_to_string(cluster.directory.path().join("audit.log")).unwrap()
}

/// The events whose request URI contains `part`.
pub(crate) fn events(cluster: &Cluster, part: &str) -> Vec<Value> {
    let all = text(cluster).lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    all.into_iter().filter(|event| event["requestURI"].as_str().unwrap().contains(part)).collect()
}

pub(crate) fn stages(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["stage"].as_str().unwrap()).collect()
}

async fn as_user(cluster: &Cluster, user: UserInfo, request: Request<Full<Bytes>>) -> Answer {
    use http_body_util::BodyExt;
    let response = in_process::service(&cluster.server, user).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
}

#[tokio::test]
async fn creation_is_written_down_with_both_objects() {
    let cluster = audited().await;
    cluster.config_map("one", json!({ "key": "value" })).await;
    let events = events(&cluster, "/configmaps");
    assert_eq!(stages(&events), ["RequestReceived", "ResponseComplete"]);
    let event = &events[1];
    assert_eq!(event["auditID"], events[0]["auditID"]);
    assert_eq!((&event["verb"], &event["level"]), (&json!("create"), &json!("RequestResponse")));
    assert_eq!(event["user"]["username"], "admin");
    assert_eq!(event["responseStatus"], json!({ "metadata": {}, "code": 201 }));
    let reference =
        json!({ "resource": "configmaps", "namespace": "default", "name": "one", "apiVersion": "v1" });
    assert_eq!(event["objectRef"], reference);
    assert_eq!(event["requestObject"]["data"]["key"], "value");
    assert_eq!(event["responseObject"]["data"]["key"], "value");
    assert!(event["responseObject"]["metadata"]["uid"].is_string());
    assert!(event["responseObject"]["metadata"].get("managedFields").is_none());
    assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(event["annotations"]["authorization.k8s.io/reason"], "");
}

#[tokio::test]
async fn secret_is_not_in_the_log_beyond_what_the_policy_says() {
    let cluster = audited().await;
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "password": "hunter-two" } });
    let made = cluster.post("/api/v1/namespaces/default/secrets", "Secret", secret).await.expect(201);
    cluster.get("/api/v1/secrets").await.expect(200);
    let mut changed = made.clone();
    changed["data"]["password"] = json!("aHVudGVyLXRocmVl");
    cluster.put("/api/v1/namespaces/default/secrets/s", &changed).await.expect(200);
    let patch = json!({ "stringData": { "password": "hunter-four" } });
    cluster.patch("/api/v1/namespaces/default/secrets/s", "merge", patch).await.expect(200);
    let log = text(&cluster);
    assert_eq!(stages(&events(&cluster, "/secrets")).len(), 8);
    for secret in ["hunter", "aHVudGVy"] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn patch_is_written_down_as_sent() {
    let cluster = audited().await;
    cluster.config_map("one", json!({})).await;
    let patch = json!({ "data": { "a": "b" } });
    cluster.patch("/api/v1/namespaces/default/configmaps/one", "merge", patch.clone()).await.expect(200);
    let event = events(&cluster, "/configmaps/one").pop().unwrap();
    assert_eq!((&event["requestObject"], &event["responseObject"]["data"]), (&patch, &json!({ "a": "b" })));
}

#[tokio::test]
async fn answer_is_written_down_whatever_its_encoding() {
    let cluster = audited().await;
    for at in 0..40 {
        cluster.config_map(&format!("large-{at}"), json!({ "text": "x".repeat(4096) })).await;
    }
    let path = "/api/v1/namespaces/default/configmaps?encoded=";
    for (at, header, value) in [
        (1, "accept-encoding", "gzip"),
        (2, "accept", "application/vnd.kubernetes.protobuf"),
        (3, "accept", "application/json;as=Table;v=v1;g=meta.k8s.io"),
        (4, "user-agent", "curl/8"),
    ] {
        let request = Request::get(format!("{path}{at}")).header(header, value);
        let answer = cluster.send(request.body(Full::default()).unwrap()).await;
        assert_eq!(answer.code, 200);
        let event = events(&cluster, &format!("encoded={at}")).pop().unwrap();
        let items = if at == 3 { "rows" } else { "items" };
        assert_eq!(event["responseObject"][items].as_array().unwrap().len(), 40, "{header}: {value}");
    }
}

#[tokio::test]
async fn watch_is_written_down_when_it_begins_and_when_it_ends() {
    let cluster = audited().await;
    let watch = cluster.watch("/api/v1/configmaps?watch=1").await;
    assert_eq!(stages(&events(&cluster, "watch=1")), ["RequestReceived", "ResponseStarted"]);
    drop(watch);
    // The end is written by a task of its own.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let events = events(&cluster, "watch=1");
    assert_eq!(stages(&events), ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
    assert_eq!(events[2]["responseStatus"]["code"], 200);
}

#[tokio::test]
async fn failure_is_written_down_as_it_was_told() {
    let cluster = audited().await;
    cluster.get("/api/v1/namespaces/default/configmaps/none").await.expect(404);
    let event = events(&cluster, "/configmaps/none").pop().unwrap();
    assert_eq!(event["responseStatus"]["reason"], "NotFound");
    assert_eq!(event["responseStatus"]["code"], 404);
    assert_eq!(event["responseObject"]["kind"], "Status");
    cluster.config_map("gone", json!({})).await;
    cluster.delete("/api/v1/namespaces/default/configmaps/gone", Value::Null).await.expect(200);
    let event = events(&cluster, "/configmaps/gone").pop().unwrap();
    assert_eq!(event["responseStatus"]["status"], "Success");
    assert_eq!(event["responseStatus"]["details"]["name"], "gone");
    assert_eq!(event["responseStatus"]["code"], 200);
}

#[tokio::test]
async fn refusals_are_written_down() {
    let cluster = audited().await;
    let request = Request::get("/api/v1/nodes?by=nobody").header("authorization", "Bearer wrong");
    let response = cluster.server.service().oneshot(request.body(Full::<Bytes>::default()).unwrap()).await;
    assert_eq!(response.unwrap().status(), 401);
    let found = events(&cluster, "by=nobody");
    assert_eq!(stages(&found), ["ResponseStarted"]);
    assert_eq!(found[0]["responseStatus"]["reason"], "Unauthorized");
    assert_eq!((&found[0]["user"], &found[0]["responseStatus"]["code"]), (&json!({}), &json!(401)));
    assert!(!text(&cluster).contains("wrong"));
    // What the API has no method for is refused to who may not do everything, and written down, too.
    for method in ["OPTIONS", "GET"] {
        let request = Request::builder().method(method).uri(format!("/api/v1/nodes?by=ann-{method}"));
        let request = request.body(Full::default()).unwrap();
        assert_eq!(as_user(&cluster, UserInfo::new("ann", &[]), request).await.code, 403);
    }
    let found = events(&cluster, "by=ann-OPTIONS");
    assert_eq!((stages(&found).len(), &found[1]["verb"]), (2, &json!("")));
    let found = events(&cluster, "by=ann-GET");
    assert_eq!(stages(&found), ["RequestReceived", "ResponseComplete"]);
    assert_eq!(found[1]["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(found[1]["responseStatus"]["reason"], "Forbidden");
}

#[tokio::test]
async fn impersonation_names_both_users() {
    let cluster = audited().await;
    for (who, code) in [("admin", 200), ("ann", 403)] {
        let request = Request::get(format!("/api/v1/nodes?by={who}")).header("impersonate-user", "bob");
        let request = request.header("impersonate-group", "system:masters").body(Full::default()).unwrap();
        let groups: &[&str] = if who == "admin" { &["system:masters"] } else { &[] };
        assert_eq!(as_user(&cluster, UserInfo::new(who, groups), request).await.code, code);
        let event = events(&cluster, &format!("by={who}")).pop().unwrap();
        assert_eq!(
            (&event["user"]["username"], &event["responseStatus"]["code"]),
            (&json!(who), &json!(code))
        );
        let expected = if who == "admin" { json!("bob") } else { Value::Null };
        assert_eq!(event["impersonatedUser"]["username"], expected);
    }
}

#[tokio::test]
async fn constrained_impersonation_names_its_constraint() {
    let cluster = audited().await;
    let group = "authentication.k8s.io";
    let rules = json!([
        { "verbs": ["impersonate:user-info"], "apiGroups": [group], "resources": ["users"] },
        { "verbs": ["impersonate-on:user-info:list"], "apiGroups": [""], "resources": ["nodes"] },
        { "verbs": ["list"], "apiGroups": [""], "resources": ["nodes"] },
    ]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({ "metadata": { "name": "i" }, "rules": rules });
    cluster.post(&format!("{rbac}/clusterroles"), "ClusterRole", role).await.expect(201);
    let subject =
        |name: &str| json!({ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name });
    let binding = json!({
        "metadata": { "name": "i" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "i" },
        "subjects": [subject("helper"), subject("jane")],
    });
    cluster.post(&format!("{rbac}/clusterrolebindings"), "ClusterRoleBinding", binding).await.expect(201);
    let request = Request::get("/api/v1/nodes?by=helper").header("impersonate-user", "jane");
    let request = request.body(Full::default()).unwrap();
    assert_eq!(as_user(&cluster, UserInfo::new("helper", &[]), request).await.code, 200);
    let event = events(&cluster, "by=helper").pop().unwrap();
    assert_eq!(event["impersonatedUser"]["username"], "jane");
    let constraint = json!({ "impersonationConstraint": "impersonate:user-info" });
    assert_eq!(event["authenticationMetadata"], constraint);
}

#[tokio::test]
async fn answer_carries_the_id_of_its_events() {
    let cluster = audited().await;
    let request = Request::get("/api/v1/nodes?id=1").header("audit-id", "mine");
    let answer = cluster.send(request.body(Full::default()).unwrap()).await;
    assert_eq!(answer.headers["audit-id"], "mine");
    assert!(events(&cluster, "id=1").iter().all(|event| event["auditID"] == "mine"));
    let answer = cluster.get("/api/v1/nodes?id=2").await;
    assert_eq!(events(&cluster, "id=2")[0]["auditID"], answer.headers["audit-id"].to_str().unwrap());
}

#[tokio::test]
async fn full_disk_refuses_requests_in_strict_mode_and_is_counted_in_others() {
    let policy = POLICY.replace("level: RequestResponse", "level: Metadata");
    let metric = |answer: &Answer, line: &str| {
        let text = String::from_utf8_lossy(&answer.bytes).into_owned();
        text.lines().any(|one| one.starts_with(line) && !one.ends_with(" 0"))
    };
    for mode in [Mode::BlockingStrict, Mode::Blocking, Mode::Batch] {
        let start = |config: &mut ServerConfig, directory: &Path| {
            let policy = policy
                .replace("rules:", "rules:\n- {level: None, verbs: [get], nonResourceURLs: [/metrics]}");
            // The service account of the harness is made before the disk is full.
            let policy = policy
                .replace("rules:", "rules:\n- {level: None, resources: [{resources: [serviceaccounts]}]}");
            audit(config, directory, &policy, Path::new("/dev/full"), mode);
        };
        let cluster = cluster_with(&start).await;
        let object = json!({ "metadata": { "name": "one" } });
        let answer = cluster.post("/api/v1/namespaces/default/configmaps", "ConfigMap", object).await;
        let strict = mode == Mode::BlockingStrict;
        if strict {
            let message = answer.failure(500, "InternalError");
            assert_eq!(message, "Internal error occurred: failed to store audit event");
        } else {
            answer.expect(201);
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let metrics = cluster.get("/metrics").await;
        assert!(metric(&metrics, "apiserver_audit_error_total{plugin=\"log\"}"), "{mode:?}");
        assert_eq!(metric(&metrics, "apiserver_audit_requests_rejected_total"), strict, "{mode:?}");
    }
}
