//! What the operator's server is shown of pods, and what becomes of them.

use std::collections::BTreeMap;

use skep_api::registry::registry;

use super::*;
use crate::admission::{Asked, AuditDetail, Notes, Operation};
use crate::callout::testing::Server;
use crate::query::Query;
use crate::storage::{Ownership, Scope};
use crate::user::UserInfo;

fn config(server: &Server, more: &str) -> Value {
    let mut policy: Value = serde_json::from_str(more).unwrap();
    policy["kubeConfigFile"] = json!(server.kubeconfig());
    json!({ "imagePolicy": policy })
}

fn policy(server: &Server, more: &str) -> ImagePolicy {
    ImagePolicy::new(Some(&config(server, more))).unwrap()
}

/// The verdict on a pod, or on the ephemeral containers that one gets, with what is written down about it.
async fn judge(
    policy: &ImagePolicy,
    part: &str,
    pod: Value,
) -> (Result<(), String>, BTreeMap<String, String>) {
    let resource = registry().find("", "v1", "pods").unwrap();
    let (notes, query, user) = (Notes::default(), Query::parse(""), UserInfo::new("ann", &[]));
    let scope = Scope {
        resource,
        kinds: registry(),
        namespace: "default",
        subresource: part,
        user: &user,
        dry_run: false,
        ownership: Ownership::Decided,
        asked: Some(Asked { query: &query, notes: &notes, until: None }),
        admitted: false,
    };
    let attributes = Attributes::new(Operation::Create, &scope, "p", None, Value::Null);
    assert!(policy.handles(&attributes));
    let verdict = policy.validate(&attributes, Some(&pod)).await.map_err(|status| {
        assert_eq!(status.code, 403);
        status.message
    });
    (verdict, notes.annotations(AuditDetail::Metadata))
}

fn pod(image: &str) -> Value {
    json!({
        "metadata": { "name": "p", "annotations": { "x.image-policy.k8s.io/ticket": "7", "other": "hidden" } },
        "spec": {
            "containers": [{ "name": "c", "image": image }],
            "initContainers": [{ "name": "i", "image": "init" }],
            "ephemeralContainers": [{ "name": "e", "image": "debug" }],
        },
    })
}

/// Allows what is called good, and gives a reason against what is called bad.
fn opinions(_: &str, review: Value) -> Option<(u16, String)> {
    let mut answer = review.clone();
    answer["status"] = match review["spec"]["containers"][0]["image"].as_str().unwrap() {
        "good" => json!({ "allowed": true, "auditAnnotations": { "seen": "yes" } }),
        "bad" => json!({ "allowed": false, "reason": "never" }),
        "lost" => return Some((404, String::new())),
        _ => json!({}),
    };
    Some((200, answer.to_string()))
}

#[tokio::test]
async fn server_decides_and_is_asked_once() {
    let server = Server::start(opinions).await;
    let policy = policy(&server, "{}");
    for _ in 0..2 {
        let (verdict, noted) = judge(&policy, "", pod("good")).await;
        assert_eq!(verdict, Ok(()));
        assert_eq!(noted, BTreeMap::from([(format!("{PREFIX}seen"), "yes".to_owned())]));
        let why = "pods \"p\" is forbidden: image policy webhook backend denied one or more images: never";
        assert_eq!(judge(&policy, "", pod("bad")).await.0.unwrap_err(), why);
        let why = "pods \"p\" is forbidden: one or more images rejected by webhook backend";
        assert_eq!(judge(&policy, "", pod("unknown")).await.0.unwrap_err(), why);
    }
    assert_eq!(server.calls(), 3);
}

#[tokio::test]
async fn server_is_shown_images_and_the_annotations_that_are_meant_for_it() {
    let shown = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let sees = shown.clone();
    let server = Server::start(move |_: &str, mut review: Value| {
        sees.lock().push(review["spec"].clone());
        review["status"] = json!({ "allowed": true });
        Some((200, review.to_string()))
    })
    .await;
    let policy = policy(&server, "{}");
    judge(&policy, "", pod("good")).await.0.unwrap();
    judge(&policy, "ephemeralcontainers", pod("good")).await.0.unwrap();
    let annotations = json!({ "x.image-policy.k8s.io/ticket": "7" });
    let of = |images: &[&str]| {
        let containers: Vec<_> = images.iter().map(|image| json!({ "image": image })).collect();
        json!({ "containers": containers, "annotations": annotations, "namespace": "default" })
    };
    assert_eq!(*shown.lock(), [of(&["good", "init"]), of(&["debug"])]);
}

#[tokio::test]
async fn without_an_answer_the_configuration_decides() {
    let server = Server::start(opinions).await;
    let (closed, _) = judge(&policy(&server, "{}"), "", pod("lost")).await;
    assert!(closed.unwrap_err().starts_with("pods \"p\" is forbidden: "));
    let (open, noted) = judge(&policy(&server, r#"{ "defaultAllow": true }"#), "", pod("lost")).await;
    assert_eq!(open, Ok(()));
    assert_eq!(noted, BTreeMap::from([(format!("{PREFIX}failed-open"), "true".to_owned())]));
}

#[tokio::test]
async fn denial_that_is_not_remembered_is_asked_for_again() {
    let server = Server::start(opinions).await;
    let policy = policy(&server, r#"{ "denyTTL": -1 }"#);
    for _ in 0..2 {
        judge(&policy, "", pod("bad")).await.0.unwrap_err();
        judge(&policy, "", pod("good")).await.0.unwrap();
    }
    assert_eq!(server.calls(), 3);
}

#[tokio::test]
async fn configuration_that_makes_no_sense_is_refused() {
    let server = Server::start(opinions).await;
    let refused = |configuration: Option<&Value>| ImagePolicy::new(configuration).err().unwrap_or_default();
    assert_eq!(refused(None), "no config specified");
    for (more, why) in [
        (r#"{ "allowTTL": 1801 }"#, "valid value is between 1s and 1800s, got 1801 times 1s"),
        (r#"{ "denyTTL": -2 }"#, "valid value is between 1s and 1800s, got -2 times 1s"),
        (r#"{ "retryBackoff": 300001 }"#, "valid value is between 1ns and 300s, got 300001 times 1ms"),
    ] {
        assert_eq!(refused(Some(&config(&server, more))), why);
    }
    assert!(refused(Some(&json!({ "imagePolicy": { "kubeConfigFile": "/nowhere" } }))).contains("/nowhere"));
}
