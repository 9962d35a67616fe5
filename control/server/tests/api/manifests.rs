//! Webhooks and policies out of files: in force from the first request on, over those of the API, and out of its reach.

use std::path::Path;

use serde_json::{Value, json};
use skep_server::{AdmissionConfig, ServerConfig};

use crate::harness::{Cluster, cluster, cluster_with};
use crate::hooks::{Hook, Reply, Seen};
use crate::webhooks::REGISTRATION;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn policy(name: &str, resource: (&str, &str), operation: &str, expression: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": {
            "matchConstraints": { "resourceRules": [{
                "operations": [operation], "apiGroups": [resource.0], "apiVersions": ["v1"], "resources": [resource.1],
            }] },
            "validations": [{ "expression": expression }],
        },
    })
}

fn binding(name: &str, policy: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name }, "spec": { "policyName": policy, "validationActions": ["Deny"] },
    })
}

/// Has a plug-in take these objects out of a directory.
fn admission(directory: &Path, plugin: &str, kind: &str, objects: &[Value]) -> AdmissionConfig {
    let place = directory.join("manifests");
    std::fs::create_dir_all(&place).unwrap();
    write(&place, objects);
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
        "plugins": [{ "name": plugin, "configuration": {
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": kind, "staticManifestsDir": place,
        } }],
    });
    let file = directory.join("admission.yaml");
    std::fs::write(&file, configuration.to_string()).unwrap();
    let mut config = AdmissionConfig::default();
    config.manifests = true;
    config.read(&file).unwrap();
    config
}

fn write(place: &Path, objects: &[Value]) {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    std::fs::write(place.join("all.json"), list.to_string()).unwrap();
}

async fn with_policies(objects: &[Value]) -> Cluster {
    let (plugin, kind) = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyConfiguration");
    cluster_with(&|config, directory| config.admission = admission(directory, plugin, kind, objects)).await
}

async fn map(cluster: &Cluster, name: &str) -> crate::harness::Answer {
    cluster.post(MAPS, "ConfigMap", json!({ "metadata": { "name": name } })).await
}

#[tokio::test]
async fn policy_in_a_file_judges_and_cannot_be_bound_otherwise() {
    let never = policy("never.static.k8s.io", ("", "configmaps"), "CREATE", "object.metadata.name != 'bad'");
    let idle = policy("idle.static.k8s.io", ("", "configmaps"), "CREATE", "false");
    let cluster = with_policies(&[never, idle, binding("b.static.k8s.io", "never.static.k8s.io")]).await;
    assert_eq!(
        map(&cluster, "bad").await.failure(422, "Invalid"),
        "configmaps \"bad\" is forbidden: ValidatingAdmissionPolicy 'never.static.k8s.io' with binding 'b.static.k8s.io' \
         denied request: failed expression: object.metadata.name != 'bad'"
    );
    // A binding of the API binds a policy of the API.
    let path = format!("{REGISTRATION}/validatingadmissionpolicybindings");
    let foreign = binding("foreign", "idle.static.k8s.io");
    cluster.post(&path, "ValidatingAdmissionPolicyBinding", foreign).await.expect(201);
    map(&cluster, "good").await.expect(201);
    assert_eq!(
        cluster.get(&format!("{REGISTRATION}/validatingadmissionpolicies")).await.json()["items"],
        json!([])
    );
}

#[tokio::test]
async fn policy_in_a_file_judges_what_becomes_of_policies_and_one_of_the_api_does_not() {
    let kinds = ("admissionregistration.k8s.io", "validatingadmissionpolicies");
    let guard = policy("guard.static.k8s.io", kinds, "DELETE", "oldObject.metadata.name != 'kept'");
    let cluster = with_policies(&[guard, binding("b.static.k8s.io", "guard.static.k8s.io")]).await;
    let path = format!("{REGISTRATION}/validatingadmissionpolicies");
    for name in ["kept", "other"] {
        let own = policy(name, kinds, "*", "false");
        cluster.post(&path, "ValidatingAdmissionPolicy", own).await.expect(201);
        let bound = format!("{REGISTRATION}/validatingadmissionpolicybindings");
        cluster.post(&bound, "ValidatingAdmissionPolicyBinding", binding(name, name)).await.expect(201);
    }
    let refused = cluster.delete(&format!("{path}/kept"), Value::Null).await.failure(422, "Invalid");
    assert!(refused.contains("ValidatingAdmissionPolicy 'guard.static.k8s.io'"), "{refused}");
    cluster.delete(&format!("{path}/other"), Value::Null).await.expect(200);
}

#[tokio::test]
async fn names_of_files_are_not_for_the_api() {
    let (path, kind) = (format!("{REGISTRATION}/validatingadmissionpolicies"), "ValidatingAdmissionPolicy");
    let reserved = policy("x.static.k8s.io", ("", "configmaps"), "CREATE", "true");
    let plain = cluster().await;
    let made = plain.post(&path, kind, reserved.clone()).await;
    made.expect(201);
    let why = "names ending with \\\".static.k8s.io\\\" are reserved for static manifest-based configurations and cannot be \
               managed via the API";
    assert_eq!(made.headers["warning"], format!("299 - \"metadata.name: {why}\"").as_str());
    let cluster = with_policies(&[]).await;
    let refused = cluster.post(&path, kind, reserved).await.failure(422, "Invalid");
    let expected = format!("metadata.name: Invalid value: \"x.static.k8s.io\": {}", why.replace('\\', ""));
    assert!(refused.ends_with(&expected), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn files_that_change_come_into_force_while_the_server_runs() {
    let only = |expression: &str| {
        [
            policy("p.static.k8s.io", ("", "configmaps"), "CREATE", expression),
            binding("b.static.k8s.io", "p.static.k8s.io"),
        ]
    };
    let cluster = with_policies(&only("false")).await;
    map(&cluster, "a").await.failure(422, "Invalid");
    let place = cluster.directory.path().join("manifests");
    write(&place, &only("true"));
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    map(&cluster, "a").await.expect(201);
    write(&place, &[json!({ "apiVersion": "v1", "kind": "Secret" })]);
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    map(&cluster, "b").await.expect(201);
    let text = String::from_utf8_lossy(&cluster.get("/metrics").await.bytes).into_owned();
    let name = "apiserver_manifest_admission_config_controller_automatic_reloads_total";
    for (outcome, times) in [("success", 2), ("failure", 1)] {
        let line =
            text.lines().find(|line| line.starts_with(name) && line.contains(outcome)).unwrap_or_default();
        assert!(line.ends_with(&format!("}} {times}")), "{outcome}: {line}");
    }
}

fn consent(seen: &Seen, allowed: bool) -> Reply {
    Reply::Json(json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": { "uid": seen.body["request"]["uid"], "allowed": allowed,
            "status": { "message": "not here", "code": 403, "reason": "Forbidden" } },
    }))
}

#[tokio::test]
async fn webhook_in_a_file_is_asked_first_and_about_webhooks_too() {
    let server = Hook::start(&[], |seen| consent(seen, seen.body["request"]["name"] != "bad")).await;
    let hook = |name: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": name },
            "webhooks": [{
                "name": "one.hooks.example", "clientConfig": server.client_config("/file"),
                "rules": [{
                    "operations": ["CREATE"], "apiGroups": ["", "admissionregistration.k8s.io"], "apiVersions": ["v1"],
                    "resources": ["configmaps", "validatingwebhookconfigurations"],
                }],
                "sideEffects": "None", "admissionReviewVersions": ["v1"],
            }],
        })
    };
    let (plugin, kind) = ("ValidatingAdmissionWebhook", "WebhookAdmissionConfiguration");
    let objects = [hook("h.static.k8s.io")];
    let configure = |config: &mut ServerConfig, directory: &Path| {
        config.admission = admission(directory, plugin, kind, &objects);
    };
    let cluster = cluster_with(&configure).await;
    let refused = map(&cluster, "bad").await.failure(403, "Forbidden");
    assert_eq!(refused, "admission webhook \"one.hooks.example\" denied the request: not here");
    map(&cluster, "good").await.expect(201);
    let path = format!("{REGISTRATION}/validatingwebhookconfigurations");
    let refused = cluster.post(&path, "ValidatingWebhookConfiguration", hook("bad")).await;
    refused.failure(403, "Forbidden");
    cluster.post(&path, "ValidatingWebhookConfiguration", hook("good")).await.expect(201);
}

#[tokio::test]
async fn files_that_are_not_good_keep_the_server_from_starting() {
    let cluster = cluster().await;
    let (plugin, kind) = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyConfiguration");
    let objects = [policy("p", ("", "configmaps"), "CREATE", "true")];
    let directory = tempfile::tempdir().unwrap();
    let config = admission(directory.path(), plugin, kind, &objects);
    let why = |error: skep_server::StartError| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        source.unwrap_or_default()
    };
    let error = why(cluster.with_admission(config.clone()).await.err().unwrap());
    let start = "couldn't init admission plugin \"ValidatingAdmissionPolicy\": failed to load static policy manifests from ";
    assert!(error.starts_with(start) && error.contains("must have a name ending with"), "{error}");
    let mut off = config;
    off.manifests = false;
    let error = why(cluster.with_admission(off).await.err().unwrap());
    assert!(
        error.contains("requires the ManifestBasedAdmissionControlConfig feature gate to be enabled"),
        "{error}"
    );
}
