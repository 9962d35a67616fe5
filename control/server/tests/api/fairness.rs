//! Priority and fairness through the API: upstream's objects, their conditions, and what answers say.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use skep_server::in_process;
use skep_server::user::UserInfo;
use tower::ServiceExt;

use crate::harness::{Cluster, cluster};

const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";

/// Waits until an object is as wanted; the server writes by itself, and says nothing when it is done.
async fn until(cluster: &Cluster, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..10_000 {
        let answer = cluster.get(path).await;
        if answer.code == 200 && wanted(&answer.json()) {
            return answer.json();
        }
        tokio::task::yield_now().await;
    }
    panic!("{path} is {}", cluster.get(path).await.json());
}

fn condition(schema: &Value) -> (&str, &str) {
    let condition = &schema["status"]["conditions"][0];
    (condition["status"].as_str().unwrap_or_default(), condition["reason"].as_str().unwrap_or_default())
}

fn schema(name: &str, level: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "matchingPrecedence": 500, "priorityLevelConfiguration": { "name": level } },
    })
}

#[tokio::test]
async fn objects_of_upstream_are_there_and_say_that_their_levels_are() {
    let cluster = cluster().await;
    let all = cluster.get(SCHEMAS).await.expect(200);
    assert_eq!(all["items"].as_array().unwrap().len(), 11);
    for name in ["exempt", "catch-all", "global-default", "system-nodes", "probes"] {
        let found =
            until(&cluster, &format!("{SCHEMAS}/{name}"), |one| condition(one) == ("False", "Found")).await;
        assert!(found["status"]["conditions"][0]["lastTransitionTime"].is_string());
    }
}

#[tokio::test]
async fn schema_without_its_level_says_that_it_dangles_until_the_level_is_there() {
    let cluster = cluster().await;
    cluster.post(SCHEMAS, "FlowSchema", schema("mine", "mine")).await.expect(201);
    let path = format!("{SCHEMAS}/mine");
    let found = until(&cluster, &path, |one| condition(one) == ("True", "NotFound")).await;
    let message = "This FlowSchema references the PriorityLevelConfiguration object named \"mine\" but there is no such \
                   object";
    assert_eq!(found["status"]["conditions"][0]["message"], message);
    let level = json!({
        "metadata": { "name": "mine" },
        "spec": { "type": "Limited", "limited": { "limitResponse": { "type": "Reject" } } },
    });
    cluster.post(LEVELS, "PriorityLevelConfiguration", level).await.expect(201);
    until(&cluster, &path, |one| condition(one) == ("False", "Found")).await;
}

#[tokio::test]
async fn objects_of_upstream_are_put_right_at_start_unless_told_otherwise() {
    let cluster = cluster().await;
    let path = format!("{SCHEMAS}/global-default");
    let changed = json!({ "spec": { "matchingPrecedence": 77 } });
    cluster.patch(&path, "merge", changed.clone()).await.expect(200);
    let cluster = cluster.restarted().await;
    until(&cluster, &path, |one| one["spec"]["matchingPrecedence"] == 9900).await;
    let mut kept = changed;
    kept["metadata"]["annotations"]["apf.kubernetes.io/autoupdate-spec"] = json!("false");
    cluster.patch(&path, "merge", kept).await.expect(200);
    cluster.delete(&format!("{LEVELS}/catch-all"), Value::Null).await;
    let cluster = cluster.restarted().await;
    until(&cluster, &format!("{LEVELS}/catch-all"), |_| true).await;
    // What is maintained in order was maintained when the last of it is there.
    assert_eq!(cluster.get(&path).await.json()["spec"]["matchingPrecedence"], 77);
}

#[tokio::test]
async fn answer_names_the_objects_that_it_was_judged_by() {
    let cluster = cluster().await;
    let uid = |object: Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
    let schema = uid(cluster.get(&format!("{SCHEMAS}/global-default")).await.expect(200));
    let level = uid(cluster.get(&format!("{LEVELS}/global-default")).await.expect(200));
    until(&cluster, &format!("{SCHEMAS}/global-default"), |one| condition(one).1 == "Found").await;
    let request = Request::get("/api/v1/nodes").body(Full::<Bytes>::default()).unwrap();
    let service = in_process::service(&cluster.server, UserInfo::new("ann", &[]));
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 403);
    assert_eq!(response.headers()["x-kubernetes-pf-flowschema-uid"], schema.as_str());
    assert_eq!(response.headers()["x-kubernetes-pf-prioritylevel-uid"], level.as_str());
}

#[tokio::test]
async fn time_that_cannot_be_read_is_refused() {
    let cluster = cluster().await;
    let message = cluster.get("/api/v1/nodes?timeout=5").await.failure(400, "BadRequest");
    assert!(message.starts_with("invalid timeout specified in the request URL"), "{message}");
    cluster.get("/api/v1/nodes?timeout=5s").await.expect(200);
}

#[tokio::test]
async fn what_fairness_holds_is_shown_to_who_may_see_it() {
    let cluster = cluster().await;
    let below = |table: &str| format!("/debug/api_priority_and_fairness/{table}");
    let path = below("dump_requests?includeRequestDetails=1");
    let answer = cluster.get(&path).await;
    assert_eq!(
        (answer.code, &answer.headers["content-type"]),
        (200, &"text/plain; charset=utf-8".parse().unwrap())
    );
    let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
    // The request that asks is being handled itself.
    let row = text.lines().find(|line| line.contains("/debug/")).unwrap();
    let cells: Vec<&str> = row.split(',').map(str::trim).collect();
    assert_eq!(cells[..4], ["exempt", "exempt", "-1", "-1"]);
    assert_eq!(cells[10..13], ["admin", "get", "/debug/api_priority_and_fairness/dump_requests"]);
    for (table, head) in [
        ("dump_priority_levels", "PriorityLevelName, ActiveQueues, "),
        ("dump_queues", "PriorityLevelName, Index, "),
    ] {
        let text = String::from_utf8(cluster.get(&below(table)).await.bytes.to_vec()).unwrap();
        assert!(text.starts_with(head) && text.contains("\nglobal-default, "), "{text}");
    }
    assert_eq!(cluster.get(&below("dump")).await.code, 404);
    let jane = UserInfo::new("jane", &[]);
    cluster.call_as(jane, http::Method::GET, &path, "", "").await.failure(403, "Forbidden");
}
