//! Admission webhooks: when they are asked, what they are asked, and what becomes of their answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use skep_server::AdmissionConfig;

use crate::definitions::define;
use crate::harness::{Cluster, cluster};
use crate::hooks::{Hook, Reply, Seen};

pub(crate) const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn rule(group: &str, version: &str, resources: &str) -> Value {
    json!({ "operations": ["*"], "apiGroups": [group], "apiVersions": [version], "resources": [resources] })
}

fn hook(hook: &Hook, path: &str, more: Value) -> Value {
    let mut one = json!({
        "name": format!("{}.hooks.example", path.trim_start_matches('/')),
        "clientConfig": hook.client_config(path),
        "rules": [rule("", "v1", "configmaps")],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    });
    for (member, value) in more.as_object().into_iter().flatten() {
        one[member.as_str()] = value.clone();
    }
    one
}

async fn configure(cluster: &Cluster, mutating: bool, name: &str, hooks: Vec<Value>) {
    let kind = if mutating { "MutatingWebhookConfiguration" } else { "ValidatingWebhookConfiguration" };
    let path = format!("{REGISTRATION}/{}s", kind.to_lowercase());
    cluster.post(&path, kind, json!({ "metadata": { "name": name }, "webhooks": hooks })).await.expect(201);
}

fn answer(seen: &Seen, response: Value) -> Reply {
    let mut review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview" });
    review["response"] = response;
    review["response"]["uid"] = seen.body["request"]["uid"].clone();
    Reply::Json(review)
}

fn allow(seen: &Seen) -> Reply {
    answer(seen, json!({ "allowed": true }))
}

fn patch(seen: &Seen, operations: &Value) -> Reply {
    let patch = STANDARD.encode(operations.to_string());
    answer(seen, json!({ "allowed": true, "patch": patch, "patchType": "JSONPatch" }))
}

async fn map(cluster: &Cluster, name: &str, data: Value) -> crate::harness::Answer {
    cluster.post(MAPS, "ConfigMap", json!({ "metadata": { "name": name }, "data": data })).await
}

#[tokio::test]
async fn validating_webhook_refuses_in_its_own_words() {
    let cluster = cluster().await;
    let server = Hook::start(&[], |seen| match seen.body["request"]["object"]["data"]["bad"].as_str() {
        None => answer(seen, json!({ "allowed": true, "warnings": ["careful"], "auditAnnotations": { "k": "v" } })),
        Some(_) => answer(seen, json!({ "allowed": false, "status": { "reason": "because", "message": "bad data", "code": 418 } })),
    })
    .await;
    configure(&cluster, false, "c", vec![hook(&server, "/v", json!({}))]).await;
    let fine = map(&cluster, "a", json!({})).await;
    fine.expect(201);
    assert_eq!(fine.headers["warning"], "299 - \"careful\"");
    let refused = map(&cluster, "b", json!({ "bad": "x" })).await;
    let message = refused.failure(418, "because");
    assert_eq!(message, "admission webhook \"v.hooks.example\" denied the request: bad data");
    assert_eq!(cluster.get(&format!("{MAPS}/b")).await.code, 404);
    let path = format!("{MAPS}/a");
    assert_eq!(cluster.patch(&path, "merge", json!({ "data": { "bad": "x" } })).await.code, 418);
    let request = server.seen()[0].body["request"].clone();
    assert_eq!(server.seen()[0].target, "/v?timeout=10s");
    let kind = json!({ "group": "", "version": "v1", "kind": "ConfigMap" });
    let resource = json!({ "group": "", "version": "v1", "resource": "configmaps" });
    assert_eq!((&request["kind"], &request["requestKind"]), (&kind, &kind));
    assert_eq!((&request["resource"], &request["requestResource"]), (&resource, &resource));
    assert_eq!(
        (&request["operation"], &request["name"], &request["namespace"]),
        (&json!("CREATE"), &json!("a"), &json!("default"))
    );
    assert_eq!((&request["oldObject"], &request["dryRun"]), (&Value::Null, &json!(false)));
    assert_eq!(request["userInfo"]["username"], "admin");
    assert_eq!(request["options"]["kind"], "CreateOptions");
    let update = server.seen().pop().unwrap().body["request"].clone();
    assert_eq!((&update["operation"], &update["oldObject"]["kind"]), (&json!("UPDATE"), &json!("ConfigMap")));
    cluster.delete(&path, Value::Null).await.expect(200);
    let delete = server.seen().pop().unwrap().body["request"].clone();
    assert_eq!((&delete["operation"], &delete["object"]), (&json!("DELETE"), &Value::Null));
    assert_eq!(delete["oldObject"]["metadata"]["name"], "a");
}

#[tokio::test]
async fn webhook_that_renames_gets_an_object_of_that_name_and_moves_none() {
    let cluster = cluster().await;
    let server = Hook::start(&[], |seen| {
        let object = &seen.body["request"]["object"];
        match object["data"]["to"].as_str() {
            Some(to) => patch(seen, &json!([{ "op": "replace", "path": object["data"]["at"], "value": to }])),
            None => allow(seen),
        }
    })
    .await;
    configure(&cluster, true, "c", vec![hook(&server, "/m", json!({}))]).await;
    let renamed = |to: &str| json!({ "to": to, "at": "/metadata/name" });
    assert_eq!(map(&cluster, "a", renamed("b")).await.expect(201)["metadata"]["name"], "b");
    // It does not know yet what the server gives the object.
    let first = server.seen()[0].body["request"]["object"]["metadata"].clone();
    assert_eq!((&first["uid"], &first["creationTimestamp"]), (&Value::Null, &Value::Null));
    assert_eq!(cluster.get(&format!("{MAPS}/a")).await.code, 404);
    assert_eq!(cluster.get(&format!("{MAPS}/b")).await.expect(200)["metadata"]["name"], "b");
    let again = map(&cluster, "c", renamed("b")).await;
    assert_eq!(again.failure(409, "AlreadyExists"), "configmaps \"b\" already exists");
    let elsewhere = map(&cluster, "d", json!({ "to": "kube-system", "at": "/metadata/namespace" })).await;
    assert_eq!(
        elsewhere.failure(400, "BadRequest"),
        "the namespace of the provided object does not match the namespace sent on the request"
    );
    let update = |to: &str, at: &str| json!({ "data": { "to": to, "at": at } });
    let path = format!("{MAPS}/b");
    let refused = cluster.patch(&path, "merge", update("e", "/metadata/name")).await;
    assert!(
        refused.failure(422, "Invalid").contains("metadata.name: Invalid value: \"e\": field is immutable")
    );
    let uid = cluster.get(&path).await.expect(200)["metadata"]["uid"].clone();
    let kept = cluster.patch(&path, "merge", update("other", "/metadata/uid")).await.expect(200);
    assert_eq!(kept["metadata"]["uid"], uid);
    assert_eq!(server.seen().last().unwrap().body["request"]["options"]["kind"], "UpdateOptions");
}

#[tokio::test]
async fn webhook_is_shown_what_stands_for_its_host() {
    let server = Hook::start(&[], |seen| answer(seen, json!({ "allowed": true }))).await;
    let users = format!(
        "users: [{{name: '{}', user: {{token: own}}}}, {{name: '*', user: {{username: u, password: p}}}}]",
        server.address
    );
    let directory = tempfile::tempdir().unwrap();
    let (path, credentials) = (directory.path().join("admission"), directory.path().join("credentials"));
    std::fs::write(&credentials, users).unwrap();
    let own = format!(
        "{{apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration, kubeConfigFile: '{}'}}",
        credentials.display()
    );
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n\
         plugins: [{{name: ValidatingAdmissionWebhook, configuration: {own}}}]\n"
    );
    std::fs::write(&path, text).unwrap();
    let mut config = AdmissionConfig::default();
    config.read(&path).unwrap();
    let cluster = cluster().await.with_admission(config).await.unwrap();
    let other = Hook::start(&[], |seen| answer(seen, json!({ "allowed": true }))).await;
    let hooks = vec![hook(&server, "/v", json!({})), hook(&other, "/w", json!({}))];
    configure(&cluster, false, "c", hooks).await;
    map(&cluster, "a", json!({})).await.expect(201);
    assert_eq!(server.seen()[0].headers["authorization"], "Bearer own");
    assert_eq!(other.seen()[0].headers["authorization"], "Basic dTpw");
}

#[tokio::test]
async fn mutating_webhooks_see_what_those_before_them_made() {
    let cluster = cluster().await;
    let server = Hook::start(&[], |seen| match seen.target.split('?').next() {
        Some("/first") => patch(seen, &json!([{ "op": "add", "path": "/data/first", "value": "1" }])),
        _ => {
            let first = seen.body["request"]["object"]["data"]["first"].clone();
            patch(seen, &json!([{ "op": "add", "path": "/data/second", "value": first }]))
        }
    })
    .await;
    configure(&cluster, true, "a", vec![hook(&server, "/first", json!({}))]).await;
    configure(&cluster, true, "b", vec![hook(&server, "/second", json!({}))]).await;
    let made = map(&cluster, "a", json!({ "x": "y" })).await.expect(201);
    assert_eq!(made["data"], json!({ "x": "y", "first": "1", "second": "1" }));
    assert_eq!(cluster.get(&format!("{MAPS}/a")).await.expect(200)["data"], made["data"]);
}

#[tokio::test]
async fn webhook_that_wants_to_see_later_changes_is_asked_again() {
    let cluster = cluster().await;
    let server = Hook::start(&[], |seen| {
        let data = &seen.body["request"]["object"]["data"];
        match seen.target.split('?').next() {
            Some("/counts") => {
                let count = data.as_object().map_or(0, serde_json::Map::len).to_string();
                patch(seen, &json!([{ "op": "add", "path": "/data/count", "value": count }]))
            }
            _ if data["late"].is_string() => allow(seen),
            _ => patch(seen, &json!([{ "op": "add", "path": "/data/late", "value": "1" }])),
        }
    })
    .await;
    let again = json!({ "reinvocationPolicy": "IfNeeded" });
    configure(&cluster, true, "a", vec![hook(&server, "/counts", again), hook(&server, "/late", json!({}))])
        .await;
    let made = map(&cluster, "a", json!({ "x": "y" })).await.expect(201);
    assert_eq!(made["data"], json!({ "x": "y", "count": "3", "late": "1" }));
    let asked: Vec<String> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(asked, ["/counts?timeout=10s", "/late?timeout=10s", "/counts?timeout=10s"]);
}

#[tokio::test]
async fn webhook_that_does_not_answer_is_judged_by_its_failure_policy() {
    let cases: [(&str, &str); 5] = [
        ("/hang", "context deadline exceeded"),
        ("/crash", "EOF"),
        ("/garbage", "received invalid webhook response: expected"),
        ("/lie", "received invalid webhook response: expected response.uid="),
        ("/error", "an error on the server (\"no\") has prevented the request from succeeding"),
    ];
    for mutating in [true, false] {
        let server = Hook::start(&[], |seen| match seen.target.split('?').next() {
            Some("/hang") => Reply::Hang,
            Some("/crash") => Reply::Crash,
            Some("/garbage") => Reply::Text(200, "garbage".into()),
            Some("/error") => Reply::Text(500, "no".into()),
            _ => Reply::Json(json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "response": { "uid": "another", "allowed": true },
            })),
        })
        .await;
        for (path, expected) in cases {
            let cluster = cluster().await;
            let one =
                |policy: &str| hook(&server, path, json!({ "failurePolicy": policy, "timeoutSeconds": 1 }));
            configure(&cluster, mutating, "c", vec![one("Fail")]).await;
            let message = map(&cluster, "a", json!({})).await.failure(500, "InternalError");
            let name = path.trim_start_matches('/');
            let start = format!("Internal error occurred: failed calling webhook \"{name}.hooks.example\": ");
            assert!(message.starts_with(&start) && message.contains(expected), "{message}");
            assert_eq!(cluster.get(&format!("{MAPS}/a")).await.code, 404);
            let kind = if mutating { "mutating" } else { "validating" };
            let path = format!("{REGISTRATION}/{kind}webhookconfigurations/c");
            // The configuration itself is never in the way.
            cluster.patch(&path, "merge", json!({ "webhooks": [one("Ignore")] })).await.expect(200);
            map(&cluster, "a", json!({})).await.expect(201);
        }
    }
}

#[tokio::test]
async fn webhook_is_asked_only_about_what_it_is_for() {
    let cluster = cluster().await;
    let server = Hook::start(&[], allow).await;
    let selectors = json!({
        "objectSelector": { "matchLabels": { "seen": "yes" } },
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "default" } },
        "matchConditions": [{ "name": "c", "expression": "object.metadata.name != 'skipped'" }],
    });
    configure(&cluster, false, "c", vec![hook(&server, "/v", selectors)]).await;
    let make = async |name: &str, label: &str| {
        let meta = json!({ "name": name, "labels": { "seen": label } });
        cluster.post(MAPS, "ConfigMap", json!({ "metadata": meta })).await.expect(201);
    };
    make("a", "no").await;
    make("skipped", "yes").await;
    cluster
        .post("/api/v1/namespaces/default/secrets", "Secret", json!({ "metadata": { "name": "s" } }))
        .await
        .expect(201);
    assert_eq!(server.seen().len(), 0);
    make("b", "yes").await;
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn dry_run_asks_only_webhooks_without_side_effects() {
    let cluster = cluster().await;
    let server = Hook::start(&[], allow).await;
    configure(&cluster, false, "c", vec![hook(&server, "/v", json!({ "sideEffects": "NoneOnDryRun" }))])
        .await;
    let object = json!({ "metadata": { "name": "a" } });
    cluster.post(&format!("{MAPS}?dryRun=All"), "ConfigMap", object).await.expect(201);
    assert_eq!(server.seen()[0].body["request"]["dryRun"], true);
    assert_eq!(cluster.get(&format!("{MAPS}/a")).await.code, 404);
}

#[tokio::test]
async fn equivalent_form_is_what_the_webhook_asked_for() {
    let cluster = cluster().await;
    let version = |name: &str, storage: bool| {
        json!({
            "name": name, "served": true, "storage": storage,
            "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
        })
    };
    let names = json!({ "plural": "gadgets", "kind": "Gadget" });
    let definition = json!({
        "metadata": { "name": "gadgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": names,
            "versions": [version("v1", true), version("v2", false)],
        },
    });
    define(&cluster, definition).await;
    let server = Hook::start(&[], |seen| {
        patch(
            seen,
            &json!([{ "op": "add", "path": "/touched", "value": seen.body["request"]["kind"]["version"] }]),
        )
    })
    .await;
    let rules = json!({ "rules": [rule("example.com", "v1", "gadgets")] });
    configure(&cluster, true, "c", vec![hook(&server, "/m", rules)]).await;
    let path = "/apis/example.com/v2/namespaces/default/gadgets";
    let made = cluster.post(path, "Gadget", json!({ "metadata": { "name": "a" } })).await.expect(201);
    assert_eq!((&made["apiVersion"], &made["touched"]), (&json!("example.com/v2"), &json!("v1")));
    let request = server.seen()[0].body["request"].clone();
    assert_eq!(
        (&request["object"]["apiVersion"], &request["requestKind"]["version"]),
        (&json!("example.com/v1"), &json!("v2"))
    );
    assert_eq!(
        (&request["resource"]["version"], &request["requestResource"]["version"]),
        (&json!("v1"), &json!("v2"))
    );
}

#[tokio::test]
async fn connections_and_subresources_are_shown_to_webhooks() {
    let cluster = cluster().await;
    cluster.pod("p").await;
    let server = Hook::start(&[], |seen| answer(seen, json!({ "allowed": false }))).await;
    let rules = json!({ "rules": [rule("", "v1", "pods/*")] });
    configure(&cluster, false, "c", vec![hook(&server, "/v", rules)]).await;
    let refused = cluster.get("/api/v1/namespaces/default/pods/p/attach?container=c").await;
    assert_eq!(refused.code, 400);
    let request = server.seen()[0].body["request"].clone();
    assert_eq!((&request["operation"], &request["subResource"]), (&json!("CONNECT"), &json!("attach")));
    assert_eq!(request["kind"]["kind"], "PodAttachOptions");
    assert_eq!(request["object"]["container"], "c");
    assert_eq!(cluster.bind("p", "n").await.code, 400);
    assert_eq!(server.seen().pop().unwrap().body["request"]["object"]["target"]["name"], "n");
}

#[tokio::test]
async fn configuration_that_makes_no_sense_is_refused() {
    let (cluster, server) = (cluster().await, Hook::start(&[], allow).await);
    let kind = "ValidatingWebhookConfiguration";
    let path = format!("{REGISTRATION}/validatingwebhookconfigurations");
    let refused = async |more: Value| {
        let one = hook(&server, "/v", more);
        let object = json!({ "metadata": { "name": "c" }, "webhooks": [one] });
        cluster.post(&path, kind, object).await.failure(422, "Invalid")
    };
    for (more, expected) in [
        (
            json!({ "name": "short" }),
            "webhooks[0].name: Invalid value: \"short\": should be a domain with at least three segments separated by dots",
        ),
        (
            json!({ "sideEffects": "Some" }),
            "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
        ),
        (
            json!({ "timeoutSeconds": 31 }),
            "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
        ),
        (
            json!({ "matchConditions": [{ "name": "c", "expression": "nothing" }] }),
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'nothing'",
        ),
        (json!({ "rules": [rule("", "v1", "")] }), "webhooks[0].rules[0].resources[0]: Required value"),
        (json!({ "admissionReviewVersions": ["v7"] }), "must include at least one of v1, v1beta1"),
    ] {
        let message = refused(more).await;
        assert!(message.contains(expected), "{message}");
    }
    configure(&cluster, false, "d", vec![hook(&server, "/v", json!({}))]).await;
    let made = cluster.get(&format!("{path}/d")).await.expect(200);
    let one = &made["webhooks"][0];
    let defaults =
        (&one["failurePolicy"], &one["matchPolicy"], &one["timeoutSeconds"], &one["rules"][0]["scope"]);
    assert_eq!(defaults, (&json!("Fail"), &json!("Equivalent"), &json!(10), &json!("*")));
}
