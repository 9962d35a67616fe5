//! Custom resources whose versions a webhook converts: `host` and `port` apart in v2, in one text in v1, which is stored.

use http::Method;
use serde_json::{Value, json};

use crate::definitions::{DEFINITIONS, define};
use crate::harness::{Cluster, cluster};
use crate::hooks::{Hook, Reply, Seen};

type Make = fn(&Seen) -> Reply;

const V1: &str = "/apis/shop.example/v1/namespaces/default/routes";
const V2: &str = "/apis/shop.example/v2/namespaces/default/routes";

fn definition(hook: &Hook) -> Value {
    let version = |name: &str, storage: bool, properties: Value| {
        json!({
            "name": name, "served": true, "storage": storage,
            "schema": { "openAPIV3Schema": { "type": "object", "properties": properties } },
        })
    };
    let text = json!({ "type": "string" });
    json!({
        "metadata": { "name": "routes.shop.example" },
        "spec": {
            "group": "shop.example",
            "scope": "Namespaced",
            "names": { "plural": "routes", "kind": "Route" },
            "conversion": {
                "strategy": "Webhook",
                "webhook": { "clientConfig": hook.client_config("/convert"), "conversionReviewVersions": ["v1"] },
            },
            "versions": [
                version("v1", true, json!({ "hostPort": text })),
                version("v2", false, json!({ "host": text, "port": text })),
            ],
        },
    })
}

fn convert(mut object: Value, desired: &str) -> Value {
    let members = object.as_object_mut().unwrap();
    let text =
        |value: Option<Value>| value.and_then(|one| one.as_str().map(str::to_owned)).unwrap_or_default();
    if desired.ends_with("v2") {
        let both = text(members.remove("hostPort"));
        let (host, port) = both.split_once(':').unwrap_or((&both, ""));
        members.insert("host".into(), json!(host));
        members.insert("port".into(), json!(port));
    } else {
        let (host, port) = (text(members.remove("host")), text(members.remove("port")));
        members.insert("hostPort".into(), json!(format!("{host}:{port}")));
    }
    members.insert("apiVersion".into(), json!(desired));
    object
}

fn answer(seen: &Seen) -> Value {
    let request = &seen.body["request"];
    let desired = request["desiredAPIVersion"].as_str().unwrap();
    let objects = request["objects"].as_array().unwrap();
    let converted: Vec<Value> = objects.iter().map(|object| convert(object.clone(), desired)).collect();
    json!({
        "apiVersion": seen.body["apiVersion"],
        "kind": "ConversionReview",
        "response": { "uid": request["uid"], "result": { "status": "Success" }, "convertedObjects": converted },
    })
}

async fn start(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Cluster, Hook) {
    let (cluster, hook) = (cluster().await, Hook::start(&[], reply).await);
    define(&cluster, definition(&hook)).await;
    (cluster, hook)
}

async fn working() -> (Cluster, Hook) {
    start(|seen| Reply::Json(answer(seen))).await
}

#[tokio::test]
async fn object_is_served_in_every_version_and_stored_in_one() {
    let (cluster, hook) = working().await;
    let meta = json!({ "name": "a", "labels": { "x": "1" }, "finalizers": ["a.example/f"] });
    let made =
        cluster.post(V2, "Route", json!({ "metadata": meta, "host": "h", "port": "1" })).await.expect(201);
    assert_eq!((&made["apiVersion"], &made["host"]), (&json!("shop.example/v2"), &json!("h")));
    let first = cluster.get(&format!("{V1}/a")).await.expect(200);
    assert_eq!((&first["apiVersion"], &first["hostPort"]), (&json!("shop.example/v1"), &json!("h:1")));
    assert_eq!(first["metadata"]["finalizers"], json!(["a.example/f"]));
    assert!(first["metadata"]["resourceVersion"].is_string());
    let asked = hook.seen().len();
    let second = cluster.get(&format!("{V2}/a")).await.expect(200);
    assert_eq!((&second["host"], &second["port"]), (&json!("h"), &json!("1")));
    assert_eq!(second["metadata"]["uid"], first["metadata"]["uid"]);
    assert_eq!(hook.seen().len(), asked, "what was converted before is kept");
}

#[tokio::test]
async fn object_is_changed_in_a_version_that_is_not_stored() {
    let (cluster, _hook) = working().await;
    cluster.post(V1, "Route", json!({ "metadata": { "name": "a" }, "hostPort": "h:1" })).await.expect(201);
    let path = format!("{V2}/a");
    cluster.patch(&path, "merge", json!({ "port": "2" })).await.expect(200);
    assert_eq!(cluster.get(&format!("{V1}/a")).await.expect(200)["hostPort"], "h:2");
    let mut object = cluster.get(&path).await.expect(200);
    object["host"] = json!("i");
    cluster.put(&path, &object).await.expect(200);
    let applied = "{\"apiVersion\":\"shop.example/v2\",\"kind\":\"Route\",\"metadata\":{\"name\":\"a\"},\"port\":\"3\"}";
    let query = format!("{path}?fieldManager=me&force=true");
    cluster.call(Method::PATCH, &query, "application/apply-patch+yaml", applied).await.expect(200);
    assert_eq!(cluster.get(&format!("{V1}/a")).await.expect(200)["hostPort"], "i:3");
    let dry = cluster.patch(&format!("{path}?dryRun=All"), "merge", json!({ "port": "9" })).await.expect(200);
    assert_eq!(dry["port"], "9");
    assert_eq!(cluster.get(&path).await.expect(200)["port"], "3");
    cluster.delete(&path, Value::Null).await.expect(200);
    assert_eq!(cluster.get(&format!("{V1}/a")).await.code, 404);
}

#[tokio::test]
async fn fields_applied_in_another_version_are_those_of_their_owner() {
    let (cluster, _hook) = working().await;
    let apply = async |path: &str, manager: &str, members: Value| {
        let version = path.split('/').nth(3).unwrap();
        let mut object = json!({ "apiVersion": format!("shop.example/{version}"), "kind": "Route", "metadata": { "name": "a" } });
        object.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let target = format!("{path}/a?fieldManager={manager}");
        cluster.call(Method::PATCH, &target, "application/apply-patch+yaml", object.to_string()).await
    };
    let owners = |object: &Value| -> Vec<(String, String, Value)> {
        let text = |entry: &Value, member: &str| entry[member].as_str().unwrap_or_default().to_owned();
        let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let of =
            |entry: &Value| (text(entry, "manager"), text(entry, "apiVersion"), entry["fieldsV1"].clone());
        entries.iter().map(of).collect()
    };
    apply(V2, "one", json!({ "host": "h", "port": "1" })).await.expect(201);
    // In v1 both are one field: to change it is to change what was applied in v2.
    let refused = apply(V1, "two", json!({ "hostPort": "h:2" })).await;
    let message = refused.failure(409, "Conflict");
    assert!(message.contains("conflict with \"one\"") && message.contains(".port"), "{message}");
    assert!(!message.contains(".host\n") && !message.ends_with(".host"), "{message}");
    // The same value conflicts with nobody.
    let both = apply(V1, "two", json!({ "hostPort": "h:1" })).await.expect(200);
    let mine = json!({ "f:host": {}, "f:port": {} });
    let theirs = json!({ "f:hostPort": {} });
    // Who changed nothing has owned it at no time, and so before the others.
    let expected = [("two", "v1", &theirs), ("one", "v2", &mine)];
    let expected = expected
        .map(|(name, version, fields)| (name.to_owned(), format!("shop.example/{version}"), fields.clone()));
    assert_eq!(owners(&both), expected);
    // An update in v2 takes the port from its owner there, and all of it from the one in v1.
    let path = format!("{V2}/a?fieldManager=three");
    let patched = cluster.patch(&path, "merge", json!({ "port": "7" })).await.expect(200);
    let host = json!({ "f:host": {} });
    let port = json!({ "f:port": {} });
    let left: Vec<_> = owners(&patched).into_iter().map(|(name, _, fields)| (name, fields)).collect();
    assert_eq!(left, [("one".to_owned(), host), ("three".to_owned(), port)]);
    // Who applies nothing in another version than before is the same one, and owns nothing any more.
    let less = apply(V1, "one", json!({})).await.expect(200);
    let left: Vec<_> = owners(&less).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(left, ["three"]);
}

#[tokio::test]
async fn list_and_watch_are_in_the_version_asked_for() {
    let (cluster, hook) = working().await;
    for name in ["a", "b"] {
        let object = json!({ "metadata": { "name": name, "labels": { "n": name } }, "hostPort": "h:1" });
        cluster.post(V1, "Route", object).await.expect(201);
    }
    let list = cluster.get(V2).await.expect(200);
    assert_eq!(list["items"][1]["host"], "h");
    assert_eq!(hook.seen().len(), 1, "one question for a whole list");
    let list = cluster.get(&format!("{V2}?labelSelector=n=b")).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let mut watch = cluster.watch(&format!("{V2}?watch=1&resourceVersion=0")).await;
    let (kind, object) = watch.next().await.unwrap();
    assert_eq!((kind.as_str(), &object["port"]), ("ADDED", &json!("1")));
    watch.next().await.unwrap();
    cluster.patch(&format!("{V1}/b"), "merge", json!({ "hostPort": "h:7" })).await.expect(200);
    let (kind, object) = watch.next().await.unwrap();
    assert_eq!(
        (kind.as_str(), &object["apiVersion"], &object["port"]),
        ("MODIFIED", &json!("shop.example/v2"), &json!("7"))
    );
    cluster.delete(&format!("{V1}/b"), Value::Null).await.expect(200);
    let (kind, object) = watch.next().await.unwrap();
    assert_eq!((kind.as_str(), &object["port"]), ("DELETED", &json!("7")));
}

#[tokio::test]
async fn webhook_that_fails_fails_the_request_and_changes_nothing() {
    let cases: [(Make, &str); 5] = [
        (|_| Reply::Crash, "conversion webhook for shop.example/v2, Kind=Route failed: Post \"https://"),
        (
            |_| Reply::Text(200, "nonsense".into()),
            "conversion webhook for shop.example/v2, Kind=Route failed: expected",
        ),
        (|_| Reply::Text(500, "no".into()), "failed: an error on the server (\"no\")"),
        (
            |seen| {
                let mut answer = answer(seen);
                answer["response"]["result"] = json!({ "status": "Failure", "message": "cannot" });
                Reply::Json(answer)
            },
            "conversion webhook for shop.example/v2, Kind=Route failed: cannot",
        ),
        (
            |seen| {
                let mut answer = answer(seen);
                answer["response"]["convertedObjects"][0]["metadata"]["uid"] = json!("another");
                Reply::Json(answer)
            },
            "must have the same UID",
        ),
    ];
    for (reply, expected) in cases {
        let (cluster, _hook) = start(reply).await;
        let refused = cluster.post(V2, "Route", json!({ "metadata": { "name": "a" }, "host": "h" })).await;
        let status = refused.expect(500);
        let message = status["message"].as_str().unwrap_or_default();
        assert!(message.contains(expected), "{message}");
        assert_eq!(cluster.get(&format!("{V1}/a")).await.code, 404);
        // What needs no conversion goes on.
        cluster
            .post(V1, "Route", json!({ "metadata": { "name": "a" }, "hostPort": "h:1" }))
            .await
            .expect(201);
        assert_eq!(cluster.get(&format!("{V2}/a")).await.code, 500);
        assert_eq!(cluster.get(V2).await.code, 500);
    }
}

#[tokio::test]
async fn definition_with_a_webhook_that_cannot_be_called_is_refused() {
    let (cluster, hook) = (cluster().await, Hook::start(&[], |_| Reply::Hang).await);
    let mut definition = definition(&hook);
    definition["spec"]["conversion"]["webhook"] = json!({ "clientConfig": { "url": "http://a" } });
    let refused = cluster.post(DEFINITIONS, "CustomResourceDefinition", definition).await;
    let message = refused.failure(422, "Invalid");
    for part in [
        "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme",
        "spec.conversion.conversionReviewVersions: Required value",
    ] {
        assert!(message.contains(part), "{message}");
    }
}
