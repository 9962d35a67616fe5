//! API servers behind this one: requests reach them in the name of their users, documents show them, and what is said of
//! them is true.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use skep_store::{Expected, Store};

use crate::definitions::{define, definition, until};
use crate::harness::{Cluster, cluster};
use crate::hooks::{Hook, Reply, Seen};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const GROUP: &str = "/apis/wardle.example.com";
const NAME: &str = "v1alpha1.wardle.example.com";

fn answer(seen: &Seen) -> Reply {
    let resource = json!({
        "name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
        "verbs": ["create", "get", "list"],
    });
    match seen.target.as_str() {
        "/apis/wardle.example.com/v1alpha1" => Reply::Json(json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1",
            "resources": [resource],
        })),
        "/openapi/v3" => Reply::Json(json!({ "paths": { "apis/wardle.example.com/v1alpha1": {
            "serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=ABC",
        } } })),
        "/openapi/v2" => Reply::Json(json!({
            "paths": { "/apis/wardle.example.com/v1alpha1/flunders": {} }, "definitions": { "Flunder": {} },
        })),
        target if target.contains("refused") => Reply::Json(json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "why", "code": 200,
        })),
        target if target.contains("missing") => Reply::Text(404, "nothing here".into()),
        _ => Reply::Json(json!({ "kind": "Seen", "target": seen.target, "body": seen.body })),
    }
}

/// A service with an endpoint at the address of the server.
async fn service(cluster: &Cluster, hook: &Hook) {
    let spec = json!({ "ports": [{ "port": 443, "targetPort": 443 }] });
    let object = json!({ "metadata": { "name": "api" }, "spec": spec });
    cluster.post("/api/v1/namespaces/default/services", "Service", object).await.expect(201);
    let slice = json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
        "metadata": {
            "name": "api", "namespace": "default", "uid": "u", "labels": { "kubernetes.io/service-name": "api" },
        },
        "endpoints": [{ "addresses": ["127.0.0.1"], "conditions": { "ready": true } }],
        "ports": [{ "name": "", "port": hook.address.port(), "protocol": "TCP" }],
    });
    // Nobody may say through the API that a service is on the API server's own machine.
    let bytes = Bytes::from(slice.to_string());
    let key = "/registry/endpointslices/default/api";
    cluster.store.put(key, bytes, Expected::Absent, None).await.unwrap();
}

fn api_service(hook: &Hook) -> Value {
    json!({
        "metadata": { "name": NAME },
        "spec": {
            "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
            "caBundle": hook.bundle(), "service": { "namespace": "default", "name": "api" },
        },
    })
}

async fn condition(cluster: &Cluster, name: &str) -> (String, String) {
    let object = cluster.get(&format!("{SERVICES}/{name}")).await.expect(200);
    let one = &object["status"]["conditions"][0];
    let text = |member: &str| one[member].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

async fn is(cluster: &Cluster, name: &str, status: &str, reason: &str) {
    until(async || condition(cluster, name).await == (status.to_owned(), reason.to_owned())).await;
}

async fn start() -> (Cluster, Hook) {
    let (cluster, hook) = (cluster().await, Hook::start(&["api.default.svc"], answer).await);
    service(&cluster, &hook).await;
    cluster.post(SERVICES, "APIService", api_service(&hook)).await.expect(201);
    is(&cluster, NAME, "True", "Passed").await;
    (cluster, hook)
}

#[tokio::test]
async fn request_reaches_the_server_in_the_name_of_its_user() {
    let (cluster, hook) = start().await;
    let path = format!("{GROUP}/v1alpha1/namespaces/default/flunders");
    let request = Request::post(format!("{path}?dryRun=All"))
        .header("content-type", "application/json")
        .header("authorization", "Bearer secret")
        .header("x-remote-user", "somebody-else")
        .header("x-remote-extra-more", "rights")
        .body(Full::new(Bytes::from_static(b"{\"a\":1}")))
        .unwrap();
    let answer = cluster.send(request).await.expect(200);
    assert_eq!(
        (&answer["target"], &answer["body"]),
        (&json!(format!("{path}?dryRun=All")), &json!({ "a": 1 }))
    );
    let seen = hook.seen().into_iter().find(|seen| seen.method == "POST").unwrap();
    let all =
        |name: &str| seen.headers.get_all(name).iter().map(|one| one.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(all("x-remote-user"), ["admin"]);
    assert_eq!(all("x-remote-group"), ["system:masters", "system:authenticated"]);
    assert_eq!((all("authorization"), all("x-remote-extra-more")), (vec![], vec![]));
    assert_eq!(all("host"), ["api.default.svc:443"]);
    assert_eq!(cluster.get(&format!("{GROUP}/v1alpha1/missing")).await.code, 404);
}

#[tokio::test]
async fn what_the_server_says_stays_as_it_is_for_those_who_want_protobuf() {
    let (cluster, _hook) = start().await;
    let wanted = "application/vnd.kubernetes.protobuf,application/json";
    for (path, kind) in [("v1alpha1/refused", "Status"), ("v1alpha1", "APIResourceList")] {
        let answer = cluster.accepting(&format!("{GROUP}/{path}"), wanted).await;
        assert_eq!(answer.headers["content-type"], "application/json", "{path}");
        assert_eq!(serde_json::from_slice::<Value>(&answer.bytes).unwrap()["kind"], kind);
    }
}

#[tokio::test]
async fn documents_show_what_others_serve() {
    let (cluster, _hook) = start().await;
    let list = cluster.get("/apis").await.expect(200);
    assert!(list["groups"].as_array().unwrap().iter().any(|group| group["name"] == "wardle.example.com"));
    assert_eq!(cluster.get(GROUP).await.expect(200)["preferredVersion"]["version"], "v1alpha1");
    assert_eq!(
        cluster.get(&format!("{GROUP}/v1alpha1")).await.expect(200)["resources"][0]["name"],
        "flunders"
    );
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let aggregated = cluster.accepting("/apis", accept).await.expect(200);
    let groups = aggregated["items"].as_array().unwrap();
    let group = groups.iter().find(|group| group["metadata"]["name"] == "wardle.example.com").unwrap();
    assert_eq!(group["versions"][0]["resources"][0]["resource"], "flunders");
    let index = cluster.get("/openapi/v3").await.expect(200);
    let url = index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.ends_with("hash=ABC"));
    assert_eq!(cluster.get(url).await.expect(200)["kind"], "Seen");
    let old = cluster.get("/openapi/v2").await.expect(200);
    assert!(old["paths"]["/apis/wardle.example.com/v1alpha1/flunders"].is_object());
    cluster.delete(&format!("{SERVICES}/{NAME}"), Value::Null).await.expect(200);
    assert_eq!(cluster.get(GROUP).await.code, 404);
    assert_eq!(cluster.get(&format!("{GROUP}/v1alpha1/flunders")).await.code, 404);
}

#[tokio::test]
async fn server_that_is_not_there_is_said_to_be_unavailable() {
    let (cluster, hook) = (cluster().await, Hook::start(&["api.default.svc"], answer).await);
    cluster.post(SERVICES, "APIService", api_service(&hook)).await.expect(201);
    is(&cluster, NAME, "False", "ServiceNotFound").await;
    let refused = cluster.get(&format!("{GROUP}/v1alpha1/flunders")).await;
    assert_eq!((refused.code, &refused.bytes[..]), (503, &b"service unavailable\n"[..]));
    service(&cluster, &hook).await;
    is(&cluster, NAME, "True", "Passed").await;
    cluster.get(&format!("{GROUP}/v1alpha1/flunders")).await.expect(200);
    let path = format!("{SERVICES}/{NAME}");
    let other = Hook::start(&[], answer).await;
    cluster.patch(&path, "merge", json!({ "spec": { "caBundle": other.bundle() } })).await.expect(200);
    is(&cluster, NAME, "False", "FailedDiscoveryCheck").await;
    let insecure = json!({ "spec": { "caBundle": null, "insecureSkipTLSVerify": true } });
    cluster.patch(&path, "merge", insecure).await.expect(200);
    is(&cluster, NAME, "True", "Passed").await;
}

#[tokio::test]
async fn what_is_served_here_has_objects_of_its_own() {
    let cluster = cluster().await;
    for name in ["v1.", "v1.apps", "v2.autoscaling", "v1.admissionregistration.k8s.io"] {
        until(async || cluster.get(&format!("{SERVICES}/{name}")).await.code == 200).await;
        is(&cluster, name, "True", "Local").await;
    }
    let object = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    define(&cluster, definition(object)).await;
    let path = format!("{SERVICES}/v1.example.com");
    until(async || cluster.get(&path).await.code == 200).await;
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.example.com";
    cluster.delete(definition, Value::Null).await;
    until(async || cluster.get(&path).await.code == 404).await;
}

#[tokio::test]
async fn servers_of_others_find_out_whom_to_believe() {
    let cluster = cluster().await;
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let data = cluster.get(path).await.expect(200)["data"].clone();
    assert_eq!(data["requestheader-username-headers"], "[\"X-Remote-User\"]");
    assert_eq!(data["requestheader-allowed-names"], "[\"front-proxy-client\"]");
    assert!(data["requestheader-client-ca-file"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    assert_ne!(data["requestheader-client-ca-file"], data["client-ca-file"]);
}
