//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: rules that the server evaluates itself.

use serde_json::{Value, json};

use crate::counters::{metrics, value};
use crate::definitions::until;
use crate::harness::{Answer, Cluster, cluster};
use crate::webhooks::REGISTRATION;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn object(cluster: &Cluster, kind: &str, name: &str, spec: Value) {
    let plural = match kind.strip_suffix("Policy") {
        Some(start) => format!("{}policies", start.to_lowercase()),
        None => format!("{}s", kind.to_lowercase()),
    };
    let object = json!({ "metadata": { "name": name }, "spec": spec });
    cluster.post(&format!("{REGISTRATION}/{plural}"), kind, object).await.expect(201);
}

fn constraints() -> Value {
    json!({ "resourceRules": [{
        "operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
    }] })
}

async fn validate(cluster: &Cluster, name: &str, mut spec: Value, mut binding: Value) {
    spec["matchConstraints"] = constraints();
    object(cluster, "ValidatingAdmissionPolicy", name, spec).await;
    binding["policyName"] = json!(name);
    object(cluster, "ValidatingAdmissionPolicyBinding", name, binding).await;
}

async fn map(cluster: &Cluster, name: &str, data: Value) -> Answer {
    cluster.post(MAPS, "ConfigMap", json!({ "metadata": { "name": name }, "data": data })).await
}

#[tokio::test]
async fn policy_refuses_what_its_expressions_do_not_allow() {
    let cluster = cluster().await;
    let spec = json!({
        "variables": [{ "name": "count", "expression": "has(object.data) ? object.data.size() : 0" }],
        "validations": [
            { "expression": "variables.count <= 2", "messageExpression": "'at most 2, not ' + string(variables.count)" },
            { "expression": "!has(object.data) || !('bad' in object.data)", "reason": "Forbidden", "message": "bad data" },
        ],
        "matchConditions": [{ "name": "c", "expression": "!object.metadata.name.startsWith('free')" }],
    });
    validate(&cluster, "p", spec, json!({ "validationActions": ["Deny"] })).await;
    map(&cluster, "a", json!({ "x": "1" })).await.expect(201);
    let refused = map(&cluster, "b", json!({ "x": "1", "y": "2", "z": "3" })).await;
    assert_eq!(
        refused.failure(422, "Invalid"),
        "configmaps \"b\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: at most 2, not 3"
    );
    let refused = map(&cluster, "b", json!({ "bad": "1" })).await;
    assert!(refused.failure(403, "Forbidden").ends_with("denied request: bad data"));
    assert_eq!(cluster.get(&format!("{MAPS}/b")).await.code, 404);
    // What a policy has against an object comes before what is wrong with its version.
    let object = json!({ "metadata": { "name": "b", "resourceVersion": "5" }, "data": { "bad": "1" } });
    cluster.post(MAPS, "ConfigMap", object.clone()).await.failure(403, "Forbidden");
    map(&cluster, "free", json!({ "bad": "1" })).await.expect(201);
    let patch = json!({ "data": { "bad": "1" } });
    assert_eq!(cluster.patch(&format!("{MAPS}/a"), "merge", patch).await.code, 403);
    cluster.delete(&format!("{MAPS}/a"), Value::Null).await.expect(200);
}

#[tokio::test]
async fn binding_says_what_becomes_of_a_failure_and_where() {
    let cluster = cluster().await;
    let spec = json!({ "validations": [{ "expression": "false", "message": "never" }] });
    validate(&cluster, "warns", spec.clone(), json!({ "validationActions": ["Warn", "Audit"] })).await;
    let elsewhere = json!({
        "validationActions": ["Deny"],
        "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "other" } } },
    });
    validate(&cluster, "elsewhere", spec, elsewhere).await;
    let made = map(&cluster, "a", json!({})).await;
    made.expect(201);
    let warning =
        "299 - \"Validation failed for ValidatingAdmissionPolicy 'warns' with binding 'warns': never\"";
    assert_eq!(made.headers["warning"], warning);
    cluster
        .post("/api/v1/namespaces", "Namespace", json!({ "metadata": { "name": "other" } }))
        .await
        .expect(201);
    let object = json!({ "metadata": { "name": "a" } });
    let refused = cluster.post("/api/v1/namespaces/other/configmaps", "ConfigMap", object).await;
    assert_eq!(refused.code, 422);
}

#[tokio::test]
async fn parameters_come_from_where_the_binding_says() {
    let cluster = cluster().await;
    let spec = json!({
        "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
        "validations": [{ "expression": "object.metadata.name == params.metadata.name || has(object.data) && size(object.data) <= int(params.data.most)" }],
    });
    let reference = json!({ "name": "limit", "namespace": "default", "parameterNotFoundAction": "Deny" });
    validate(&cluster, "p", spec.clone(), json!({ "validationActions": ["Deny"], "paramRef": reference }))
        .await;
    let refused = map(&cluster, "a", json!({ "x": "1" })).await.failure(422, "Invalid");
    assert!(refused.ends_with("failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"), "{refused}");
    let path = format!("{REGISTRATION}/validatingadmissionpolicybindings/p");
    let allow = json!({ "spec": { "paramRef": { "parameterNotFoundAction": "Allow" } } });
    cluster.patch(&path, "merge", allow).await.expect(200);
    map(&cluster, "limit", json!({ "most": "1" })).await.expect(201);
    map(&cluster, "b", json!({ "x": "1" })).await.expect(201);
    assert_eq!(map(&cluster, "c", json!({ "x": "1", "y": "2" })).await.code, 422);
    let selected =
        json!({ "spec": { "paramRef": { "name": null, "selector": { "matchLabels": { "a": "b" } } } } });
    cluster.patch(&path, "merge", selected).await.expect(200);
    map(&cluster, "c", json!({ "x": "1", "y": "2" })).await.expect(201);
}

#[tokio::test]
async fn rights_and_namespace_are_known_to_policies() {
    let cluster = cluster().await;
    let spec = json!({ "validations": [
        { "expression": "authorizer.group('').resource('secrets').namespace('x').check('get').allowed()" },
        { "expression": "namespaceObject.metadata.name == 'default' && request.userInfo.username == 'admin'" },
        { "expression": "!authorizer.serviceAccount('a', 'b').requestResource.check('create').allowed()" },
    ] });
    validate(&cluster, "p", spec, json!({ "validationActions": ["Deny"] })).await;
    map(&cluster, "a", json!({})).await.expect(201);
}

#[tokio::test]
async fn policy_that_cannot_be_evaluated_is_judged_by_its_failure_policy() {
    let cluster = cluster().await;
    let spec = |policy: &str| json!({ "failurePolicy": policy, "validations": [{ "expression": "object.gone.x == 1" }] });
    validate(&cluster, "ignored", spec("Ignore"), json!({ "validationActions": ["Deny"] })).await;
    map(&cluster, "a", json!({})).await.expect(201);
    validate(&cluster, "fails", spec("Fail"), json!({ "validationActions": ["Deny"] })).await;
    let message = map(&cluster, "b", json!({})).await.failure(422, "Invalid");
    assert!(
        message.ends_with("expression 'object.gone.x == 1' resulted in error: no such key: gone"),
        "{message}"
    );
}

#[tokio::test]
async fn expressions_are_checked_against_the_kinds_that_they_name() {
    let cluster = cluster().await;
    let spec = json!({
        "matchConstraints": { "resourceRules": [{
            "operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"],
        }] },
        "validations": [{ "expression": "object.spec.replicas > '1'" }],
    });
    object(&cluster, "ValidatingAdmissionPolicy", "typo", spec).await;
    let path = format!("{REGISTRATION}/validatingadmissionpolicies/typo");
    until(async || cluster.get(&path).await.expect(200)["status"]["observedGeneration"] == 1).await;
    let found = cluster.get(&path).await.expect(200);
    let warning = &found["status"]["typeChecking"]["expressionWarnings"][0];
    assert_eq!(warning["fieldRef"], "spec.validations[0].expression");
    assert!(
        warning["warning"]
            .as_str()
            .unwrap()
            .contains("found no matching overload for '_>_' applied to '(int, string)'")
    );
}

async fn mutate(cluster: &Cluster, name: &str, mutations: Value, more: Value) {
    let mut spec = json!({
        "matchConstraints": constraints(), "mutations": mutations, "reinvocationPolicy": "IfNeeded",
    });
    for (member, value) in more.as_object().into_iter().flatten() {
        spec[member.as_str()] = value.clone();
    }
    object(cluster, "MutatingAdmissionPolicy", name, spec).await;
    object(cluster, "MutatingAdmissionPolicyBinding", name, json!({ "policyName": name })).await;
}

#[tokio::test]
async fn mutations_are_applied_in_order_before_validation() {
    let cluster = cluster().await;
    let apply = "Object{metadata: Object.metadata{labels: Object.metadata.labels{env: 'test'}}}";
    let patch = "[JSONPatch{op: 'add', path: '/data/env', value: object.metadata.labels.env}]";
    let mutations = json!([
        { "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": apply } },
        { "patchType": "JSONPatch", "jsonPatch": { "expression": patch } },
    ]);
    mutate(&cluster, "m", mutations, json!({})).await;
    let spec = json!({ "validations": [{ "expression": "object.data.env == 'test'" }] });
    validate(&cluster, "v", spec, json!({ "validationActions": ["Deny"] })).await;
    let made = map(&cluster, "a", json!({ "x": "1" })).await.expect(201);
    assert_eq!(
        (&made["data"], &made["metadata"]["labels"]),
        (&json!({ "x": "1", "env": "test" }), &json!({ "env": "test" }))
    );
}

#[tokio::test]
async fn policy_that_sees_later_changes_is_evaluated_again() {
    let cluster = cluster().await;
    let count = "[JSONPatch{op: 'add', path: '/data/count', value: string(object.data.size())}]";
    let late = "Object{data: Object.data{late: '1'}}";
    mutate(
        &cluster,
        "a",
        json!([{ "patchType": "JSONPatch", "jsonPatch": { "expression": count } }]),
        json!({}),
    )
    .await;
    let apply = json!([{ "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": late } }]);
    mutate(&cluster, "b", apply, json!({})).await;
    let made = map(&cluster, "x", json!({ "x": "1" })).await.expect(201);
    assert_eq!(made["data"], json!({ "x": "1", "late": "1", "count": "3" }));
}

#[tokio::test]
async fn mutation_that_fails_refuses_the_write() {
    let cluster = cluster().await;
    let mutations = json!([{ "patchType": "JSONPatch", "jsonPatch": { "expression": "[JSONPatch{op: 'remove', path: '/data/gone'}]" } }]);
    mutate(&cluster, "m", mutations.clone(), json!({})).await;
    let message = map(&cluster, "a", json!({ "x": "1" })).await.failure(403, "Invalid");
    assert!(message.starts_with("policy 'm' with binding 'm' denied request: "), "{message}");
    let path = format!("{REGISTRATION}/mutatingadmissionpolicies/m");
    cluster.patch(&path, "merge", json!({ "spec": { "failurePolicy": "Ignore" } })).await.expect(200);
    map(&cluster, "a", json!({ "x": "1" })).await.expect(201);
}

#[tokio::test]
async fn policy_that_makes_no_sense_is_refused() {
    let cluster = cluster().await;
    let post = async |kind: &str, plural: &str, spec: Value| {
        let object = json!({ "metadata": { "name": "p" }, "spec": spec });
        cluster.post(&format!("{REGISTRATION}/{plural}"), kind, object).await.failure(422, "Invalid")
    };
    let validating = json!({
        "matchConstraints": constraints(),
        "validations": [{ "expression": "params.x", "reason": "Whatever" }, { "expression": "1" }],
        "variables": [{ "name": "for", "expression": "1" }],
    });
    let message = post("ValidatingAdmissionPolicy", "validatingadmissionpolicies", validating).await;
    for part in [
        "spec.validations[0].expression: Invalid value: \"params.x\": compilation failed: ERROR: <input>:1:1: \
         undeclared reference to 'params' (in container '')\n | params.x\n | ^",
        "spec.validations[0].reason: Unsupported value: \"Whatever\"",
        "spec.variables[0].name: Invalid value: \"for\": must be a valid CEL identifier",
        "must evaluate to bool but got int",
    ] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    let binding = json!({ "policyName": "p", "validationActions": ["Deny", "Warn"], "paramRef": {} });
    let message =
        post("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", binding).await;
    for part in ["must not contain both Deny and Warn", "one of name or selector must be specified"] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    let mutating = json!({
        "matchConstraints": constraints(), "reinvocationPolicy": "Never",
        "mutations": [{ "patchType": "JSONPatch", "applyConfiguration": { "expression": "Object{}" } }],
    });
    let message = post("MutatingAdmissionPolicy", "mutatingadmissionpolicies", mutating).await;
    assert!(
        message.contains(
            "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch"
        ),
        "{message}"
    );
}

#[tokio::test]
async fn decisions_of_policies_are_counted_and_timed() {
    let cluster = cluster().await;
    let spec = json!({ "validations": [{ "expression": "object.metadata.name != 'bad'" }] });
    validate(&cluster, "p", spec, json!({ "validationActions": ["Deny"] })).await;
    let lax = json!({ "failurePolicy": "Ignore", "validations": [{ "expression": "object.gone.x == 1" }] });
    validate(&cluster, "lax", lax, json!({ "validationActions": ["Deny"] })).await;
    assert_eq!(map(&cluster, "bad", json!({})).await.code, 422);
    let text = metrics(&cluster).await;
    for (policy, action) in [("p", "deny"), ("lax", "allow")] {
        let labels = [
            &*format!("policy=\"{policy}\""),
            &*format!("policy_binding=\"{policy}\""),
            // So upstream counts what is refused as it should be.
            "error_type=\"invalid_error\"",
            &*format!("enforcement_action=\"{action}\""),
        ];
        for end in ["total", "duration_seconds_count"] {
            let name = format!("apiserver_validating_admission_policy_check_{end}");
            assert_eq!(value(&text, &name, &labels), 1.0, "{policy}");
        }
    }
}

async fn mutate_part(cluster: &Cluster, name: &str, resource: (&str, &str), expression: &str) {
    let spec = json!({
        "matchConstraints": { "resourceRules": [{
            "operations": ["*"], "apiGroups": [resource.0], "apiVersions": ["*"], "resources": [resource.1],
        }] },
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "mutations": [{ "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": expression } }],
    });
    object(cluster, "MutatingAdmissionPolicy", name, spec).await;
    object(cluster, "MutatingAdmissionPolicyBinding", name, json!({ "policyName": name })).await;
}

#[tokio::test]
async fn configuration_is_laid_over_what_only_a_subresource_has() {
    let cluster = cluster().await;
    let scale = "Object{spec: Object.spec{replicas: object.spec.replicas > 3 ? 3 : object.spec.replicas}}";
    mutate_part(&cluster, "few", ("apps", "deployments/scale"), scale).await;
    let mark = "Object{metadata: Object.metadata{annotations: Object.metadata.annotations{by: 'policy'}}}";
    mutate_part(&cluster, "mark", ("", "pods/binding"), mark).await;
    let wrong = "Object{spec: Object.spec{nothing: 1}}";
    mutate_part(&cluster, "wrong", ("", "pods/eviction"), wrong).await;
    let template = json!({
        "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c", "image": "echo" }] },
    });
    let deployment = json!({
        "metadata": { "name": "d" },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "a": "b" } }, "template": template },
    });
    let path = "/apis/apps/v1/namespaces/default/deployments";
    cluster.post(path, "Deployment", deployment).await.expect(201);
    let patch = json!({ "spec": { "replicas": 9 } });
    let scaled = cluster.patch(&format!("{path}/d/scale"), "merge", patch).await.expect(200);
    assert_eq!((&scaled["kind"], &scaled["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    assert_eq!(cluster.get(&format!("{path}/d")).await.json()["spec"]["replicas"], 3);
    cluster.pod("p").await;
    cluster.bind("p", "n1").await.expect(201);
    let bound = cluster.get("/api/v1/namespaces/default/pods/p").await.json();
    assert_eq!(
        (&bound["spec"]["nodeName"], &bound["metadata"]["annotations"]["by"]),
        (&json!("n1"), &json!("policy"))
    );
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "p", "namespace": "default" } });
    let eviction = cluster.call(
        http::Method::POST,
        "/api/v1/namespaces/default/pods/p/eviction",
        "application/json",
        eviction.to_string(),
    );
    let refused = eviction.await;
    assert_eq!(refused.code, 403, "{}", String::from_utf8_lossy(&refused.bytes));
    assert!(
        String::from_utf8_lossy(&refused.bytes)
            .contains("policy 'wrong' with binding 'wrong' denied request: ")
    );
}
