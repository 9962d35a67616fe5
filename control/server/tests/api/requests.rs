//! Options and forms that contradict each other, and what is asked for in passing: upstream's codes, fields and words.

use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{Cluster, cluster};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// The causes of a refusal, as `field: message`, and what it is about.
fn causes(status: &Value) -> Vec<String> {
    let all = status["details"]["causes"].as_array().cloned().unwrap_or_default();
    let text = |cause: &Value, member: &str| cause[member].as_str().unwrap_or_default().to_owned();
    all.iter().map(|cause| format!("{}: {}", text(cause, "field"), text(cause, "message"))).collect()
}

#[tokio::test]
async fn list_whose_options_contradict_each_other_is_told_all_of_it() {
    let cluster = cluster().await;
    let word = "resourceVersionMatch";
    let unless = format!("{word}: Forbidden: {word} is forbidden unless resourceVersion is provided");
    let beside = format!("{word}: Forbidden: {word} is forbidden when continue is provided");
    let watch =
        format!("{word}: Forbidden: {word} is forbidden for watch unless sendInitialEvents is provided");
    let unknown =
        format!("{word}: Unsupported value: \"Foo\": supported values: \"Exact\", \"NotOlderThan\", \"\"");
    let only = format!("{word}: Unsupported value: \"Foo\": supported values: \"NotOlderThan\"");
    let zero = format!("{word}: Forbidden: {word} \"exact\" is forbidden for resourceVersion \"0\"");
    let initial = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list".to_owned();
    for (query, expected) in [
        ("resourceVersionMatch=Foo", vec![&unless, &unknown]),
        ("resourceVersionMatch=Exact&continue=x", vec![&unless, &beside]),
        ("resourceVersionMatch=Exact&resourceVersion=0", vec![&zero]),
        ("resourceVersionMatch=Foo&sendInitialEvents=true", vec![&unless, &unknown, &initial]),
        ("watch=1&resourceVersionMatch=Foo", vec![&watch, &only]),
        ("watch=1&continue=x", vec![&beside]),
    ] {
        let status = cluster.get(&format!("{MAPS}?{query}")).await.expect(422);
        assert_eq!(causes(&status).iter().collect::<Vec<_>>(), expected, "{query}");
        assert_eq!(status["details"]["kind"], "ListOptions", "{query}");
    }
    for (query, expected) in [
        ("limit=", "strconv.ParseInt: parsing \"\": invalid syntax"),
        (
            "continue=x",
            "invalid continue token: continue key is not valid: illegal base64 data at input byte 1",
        ),
        (
            "continue=eyJ2Ijox",
            "invalid continue token: continue key is not valid: unexpected end of JSON input",
        ),
        (
            "resourceVersion=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiJhIn0",
            "specifying resource version is not allowed when using continue",
        ),
    ] {
        let message = cluster.get(&format!("{MAPS}?{query}")).await.failure(400, "BadRequest");
        assert_eq!(message, expected, "{query}");
    }
}

#[tokio::test]
async fn write_whose_options_are_wrong_is_told_all_of_it() {
    let cluster = cluster().await;
    let dry = |words: &str| format!("dryRun: Unsupported value: [{words}]: supported values: \"All\"");
    let fields =
        "fieldValidation: Unsupported value: \"x\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"";
    let object = json!({ "metadata": { "name": "a" } });
    let empty = cluster.post(&format!("{MAPS}?dryRun="), "ConfigMap", object.clone()).await.expect(422);
    assert_eq!(causes(&empty), [dry("\"\"")]);
    assert_eq!(empty["details"]["kind"], "CreateOptions");
    let many = format!("{MAPS}?dryRun=All&dryRun=x&fieldValidation=x&fieldManager=a%07");
    let status = cluster.post(&many, "ConfigMap", object.clone()).await.expect(422);
    let manager = "fieldManager: Invalid value: \"a\\u0007\": invalid character U+0007 (at position 1)";
    assert_eq!(causes(&status), [manager.to_owned(), dry("\"All\",\"x\""), fields.to_owned()]);
    let gone = cluster.delete(&format!("{MAPS}/a?propagationPolicy=x"), Value::Null).await.expect(422);
    assert!(causes(&gone)[0].ends_with("\"Foreground\", \"Background\", \"Orphan\", \"nil\""), "{gone}");
    let options = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "dryRun": "All" });
    cluster.delete(&format!("{MAPS}/a"), options).await.failure(400, "BadRequest");
    cluster.get(&format!("{MAPS}/a")).await.failure(404, "NotFound");
}

async fn accepting(cluster: &Cluster, method: Method, path: &str, accept: &str, body: Value) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).header("accept", accept);
    let request = request.header("content-type", "application/json");
    let answer = cluster.send(request.body(Full::new(body.to_string().into())).unwrap()).await;
    (answer.code, answer.json())
}

#[tokio::test]
async fn metadata_of_one_object_is_none_of_a_list() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({})).await;
    let (one, many) = (format!("{MAPS}/a"), MAPS.to_owned());
    let form = |kind: &str| format!("application/json;as={kind};g=meta.k8s.io;v=v1");
    let get =
        async |path: &str, kind: &str| accepting(&cluster, Method::GET, path, &form(kind), Value::Null).await;
    let (code, status) = get(&one, "PartialObjectMetadataList").await;
    let why =
        "you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)";
    assert_eq!((code, &status["message"], &status["reason"]), (406, &json!(why), &json!("NotAcceptable")));
    let (code, status) = get(&many, "PartialObjectMetadata").await;
    let why = "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)";
    assert_eq!((code, &status["message"]), (406, &json!(why)));
    assert_eq!(get(&one, "PartialObjectMetadata").await.1["kind"], "PartialObjectMetadata");
    assert_eq!(get(&many, "PartialObjectMetadataList").await.1["kind"], "PartialObjectMetadataList");
    // A write that cannot be answered does not happen.
    let body = json!({ "metadata": { "name": "b" } });
    let list = form("PartialObjectMetadataList");
    assert_eq!(accepting(&cluster, Method::POST, MAPS, &list, body).await.0, 406);
    cluster.get(&format!("{MAPS}/b")).await.failure(404, "NotFound");
}

#[tokio::test]
async fn media_types_are_judged_as_upstreams_router_does() {
    let cluster = cluster().await;
    let why = cluster.accepting(MAPS, "application/*").await.failure(406, "NotAcceptable");
    assert!(why.starts_with("406: Not Acceptable\n\nAvailable representations: application/json, "), "{why}");
    assert!(why.ends_with("application/vnd.kubernetes.protobuf;stream=watch"), "{why}");
    cluster.accepting("/version", "application/*").await.failure(406, "NotAcceptable");
    cluster.accepting("/openid/v1/jwks", "application/json").await.failure(406, "NotAcceptable");
    assert_eq!(cluster.accepting(MAPS, "application/*,*/*;q=0.1").await.code, 200);
    assert_eq!(cluster.accepting("/%61pi/v1/n%61mespaces/default", "*/*").await.code, 200);
}

#[tokio::test]
async fn failure_and_discovery_are_in_protobuf_for_those_who_want_it() {
    let cluster = cluster().await;
    let wanted = "application/vnd.kubernetes.protobuf";
    let controllers = "/api/v1/namespaces/default/replicationcontrollers";
    let spec = json!({ "replicas": 3, "selector": { "a": "b" }, "template": {
        "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c", "image": "i" }] },
    } });
    let object = json!({ "metadata": { "name": "a" }, "spec": spec });
    cluster.post(controllers, "ReplicationController", object).await.expect(201);
    for (path, code, kind) in [
        (format!("{controllers}/a/scale"), 200, "Scale"),
        (format!("{MAPS}/none"), 404, "Status"),
        ("/apis/apps/v1".to_owned(), 200, "APIResourceList"),
        ("/apis/apps".to_owned(), 200, "APIGroup"),
        ("/api".to_owned(), 200, "APIVersions"),
    ] {
        let answer = cluster.accepting(&path, wanted).await;
        assert_eq!((answer.code, answer.headers["content-type"].to_str().unwrap()), (code, wanted), "{path}");
        let read = skep_api::decode::parse(&answer.bytes, skep_api::decode::Encoding::Protobuf).unwrap();
        assert_eq!(read.value["kind"], kind);
    }
}

#[tokio::test]
async fn read_of_one_object_minds_the_version_asked_for() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({})).await;
    cluster.get(&format!("{MAPS}/a?resourceVersion=1")).await.expect(200);
    cluster.get(&format!("{MAPS}/a?resourceVersion=abc")).await.failure(400, "BadRequest");
}

#[tokio::test]
async fn discovery_is_in_yaml_and_in_no_other_form_than_its_own() {
    let cluster = cluster().await;
    for path in ["/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1"] {
        let answer = cluster.accepting(path, "application/yaml").await;
        assert_eq!(
            (answer.code, answer.headers["content-type"].to_str().unwrap()),
            (200, "application/yaml")
        );
        let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
        assert!(text.contains("kind: API"), "{text}");
        cluster
            .accepting(path, "application/json;as=Table;g=meta.k8s.io;v=v1")
            .await
            .failure(406, "NotAcceptable");
    }
    cluster.accepting("/version", "text/plain").await.failure(406, "NotAcceptable");
    assert_eq!(cluster.accepting("/openapi/v3", "text/plain").await.code, 200);
}

#[tokio::test]
async fn patch_does_not_change_what_an_object_is() {
    let cluster = cluster().await;
    let map = cluster.config_map("a", json!({})).await;
    let patch = async |member: &str, value: &str| {
        let patch = json!({ "metadata": { member: value } });
        cluster.patch(&format!("{MAPS}/a"), "merge", patch).await
    };
    let uid = patch("uid", "another").await.failure(422, "Invalid");
    assert_eq!(
        uid,
        "ConfigMap \"a\" is invalid: metadata.uid: Invalid value: \"another\": field is immutable"
    );
    let going = patch("deletionTimestamp", "2030-01-01T00:00:00Z").await.failure(422, "Invalid");
    assert!(going.contains("metadata.deletionTimestamp: Invalid value"), "{going}");
    patch("resourceVersion", "1").await.failure(409, "Conflict");
    patch("resourceVersion", "x").await.failure(409, "Conflict");
    let mut other = map.clone();
    other["metadata"]["uid"] = json!("another");
    cluster.put(&format!("{MAPS}/a"), &other).await.failure(409, "Conflict");
    cluster.pod("p").await;
    let more = json!({ "spec": { "ephemeralContainers": [{ "name": "e", "image": "i" }] } });
    for kind in ["merge", "strategic-merge"] {
        let refused = cluster.patch(&format!("{PODS}/p"), kind, more.clone()).await;
        let message = refused.failure(422, "Invalid");
        assert!(message.contains("pod updates may not change fields other than"), "{message}");
    }
}

#[tokio::test]
async fn author_is_warned_also_when_the_object_is_refused() {
    let cluster = cluster().await;
    let object = json!({ "metadata": { "name": "Not A Name" }, "colour": "red" });
    let refused = cluster.post(MAPS, "ConfigMap", object).await;
    refused.failure(422, "Invalid");
    assert_eq!(refused.headers["warning"], "299 - \"unknown field \\\"colour\\\"\"");
}

#[tokio::test]
async fn namespace_is_finalized_by_who_names_it() {
    let cluster = cluster().await;
    let namespace = json!({ "metadata": { "name": "a" } });
    cluster.post("/api/v1/namespaces", "Namespace", namespace).await.expect(201);
    let path = "/api/v1/namespaces/a/finalize";
    let unnamed = cluster.call(Method::PUT, path, "application/json", "{}").await;
    unnamed.failure(400, "BadRequest");
    let kept = cluster.get("/api/v1/namespaces/a").await.expect(200);
    assert_eq!(kept["spec"]["finalizers"], json!(["kubernetes"]));
}
