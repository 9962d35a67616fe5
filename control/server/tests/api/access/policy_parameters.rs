//! Reading by a policy what one may not read: refused, whichever way it is written.

use serde_json::{Value, json};
use skep_server::user::UserInfo;

use super::{Ask, RBAC, ask, bind, create, namespace};
use crate::harness::{Answer, Cluster, cluster};
use crate::webhooks::REGISTRATION;

const GROUP_VERSION: &str = "admissionregistration.k8s.io/v1";

fn author() -> UserInfo {
    UserInfo::new("author", &[])
}

async fn role(cluster: &Cluster, name: &str, rules: Value) {
    let role = json!({"metadata": {"name": name}, "rules": rules});
    create(cluster, &format!("{RBAC}/clusterroles"), "ClusterRole", role).await;
}

/// A cluster in which somebody writes all policies, gets all ConfigMaps, and administers the namespace shop.
async fn with_author() -> Cluster {
    let cluster = cluster().await;
    for name in ["shop", "bank"] {
        namespace(&cluster, name).await;
    }
    let rules = json!([
        {"verbs": ["*"], "apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]},
    ]);
    role(&cluster, "author", rules).await;
    bind(&cluster, "", "author", "author").await;
    bind(&cluster, "shop", "author", "admin").await;
    cluster
}

fn policy(kind: &str, name: &str, param: Value) -> Value {
    let mut spec = json!({
        "paramKind": param,
        "matchConstraints": {"resourceRules": [{
            "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
        }]},
    });
    if kind.starts_with("Validating") {
        spec["validations"] = json!([{"expression": "false", "messageExpression": "string(params.data.a)"}]);
    } else {
        let patch = "[JSONPatch{op: 'add', path: '/data/a', value: string(params.data.a)}]";
        spec["reinvocationPolicy"] = json!("Never");
        spec["mutations"] = json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}]);
    }
    json!({"apiVersion": GROUP_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn binding(kind: &str, name: &str, policy: &str, mut param: Value) -> Value {
    param["parameterNotFoundAction"] = json!("Deny");
    let mut spec = json!({"policyName": policy, "paramRef": param});
    if kind.starts_with("Validating") {
        spec["validationActions"] = json!(["Deny"]);
    }
    json!({"apiVersion": GROUP_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn secret() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret"})
}

fn map() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap"})
}

#[track_caller]
fn refused(answer: &Answer, field: &str) -> String {
    let status = answer.expect(422);
    let causes = &status["details"]["causes"];
    assert_eq!(causes.as_array().unwrap().len(), 1, "{status}");
    assert_eq!((&causes[0]["reason"], &causes[0]["field"]), (&json!("FieldValueForbidden"), &json!(field)));
    causes[0]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn author_of_a_policy_needs_to_get_all_of_its_parameters() {
    let cluster = with_author().await;
    for (kind, plural) in [
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
        ("MutatingAdmissionPolicy", "mutatingadmissionpolicies"),
    ] {
        let path = format!("{REGISTRATION}/{plural}");
        let post = async |param: Value| {
            ask(&cluster, &author(), &Ask::new(&format!("POST {path}"), policy(kind, "p", param))).await
        };
        // The right to one namespace's secrets is not that to all.
        assert_eq!(
            refused(&post(secret()).await, "spec.paramKind"),
            "Forbidden: user &{author  [system:authenticated] map[]} must have \"get\" permission on all objects of the \
             referenced paramKind (kind=Secret, apiVersion=v1)"
        );
        refused(&post(json!({"apiVersion": "example.com/v1", "kind": "Unknown"})).await, "spec.paramKind");
        post(map()).await.expect(201);

        let one = format!("{path}/p");
        let param = json!({"spec": {"paramKind": {"kind": "Secret"}}});
        let mut whole = policy(kind, "p", secret());
        let mut applied = Ask::new(&format!("PATCH {one}?fieldManager=x&force=true"), whole.clone());
        applied.kind = "application/apply-patch+yaml";
        let mut fresh =
            Ask::new(&format!("PATCH {path}/fresh?fieldManager=x"), policy(kind, "fresh", secret()));
        fresh.kind = "application/apply-patch+yaml";
        whole["metadata"] = cluster.get(&one).await.expect(200)["metadata"].clone();
        for attempt in [
            Ask::new(&format!("PATCH {one}"), param.clone()),
            Ask::new(&format!("PATCH {one}?dryRun=All"), param),
            Ask::new(&format!("PUT {one}"), whole),
            applied,
            fresh,
        ] {
            refused(&ask(&cluster, &author(), &attempt).await, "spec.paramKind");
        }
        assert_eq!(cluster.get(&one).await.expect(200)["spec"]["paramKind"]["kind"], "ConfigMap");
        // What stays as it is was somebody else's decision.
        cluster.patch(&one, "merge", json!({"spec": {"paramKind": {"kind": "Secret"}}})).await.expect(200);
        let labels = Ask::new(&format!("PATCH {one}"), json!({"metadata": {"labels": {"a": "b"}}}));
        ask(&cluster, &author(), &labels).await.expect(200);
    }
}

#[tokio::test]
async fn author_of_a_binding_needs_to_read_what_it_refers_to() {
    let cluster = with_author().await;
    let one =
        json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["known"]}]);
    role(&cluster, "known", one).await;
    bind(&cluster, "bank", "author", "known").await;
    for (kind, plural, policies) in [
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicybindings", "validatingadmissionpolicies"),
        ("MutatingAdmissionPolicy", "mutatingadmissionpolicybindings", "mutatingadmissionpolicies"),
    ] {
        create(&cluster, &format!("{REGISTRATION}/{policies}"), kind, policy(kind, "s", secret())).await;
        create(&cluster, &format!("{REGISTRATION}/{policies}"), kind, policy(kind, "m", map())).await;
        let (kind, path) = (format!("{kind}Binding"), format!("{REGISTRATION}/{plural}"));
        let post = async |name: &str, policy: &str, param: Value| {
            let object = binding(&kind, name, policy, param);
            ask(&cluster, &author(), &Ask::new(&format!("POST {path}"), object)).await
        };
        let all = json!({"selector": {}, "namespace": "bank"});
        for (policy, param, why) in [
            (
                "s",
                json!({"name": "s", "namespace": "bank"}),
                "permission on the object referenced by paramRef",
            ),
            // In every namespace that a write is in.
            ("s", json!({"name": "known"}), "does not have \"get\" permission on the object"),
            ("s", all.clone(), "does not have \"list\" permission on the object"),
            ("m", all, "does not have \"list\" permission on the object"),
            ("gone", json!({"name": "known", "namespace": "bank"}), "unable to get policy gone"),
        ] {
            let message = refused(&post("b", policy, param).await, "spec.paramRef");
            assert!(message.contains(why), "{message}");
        }
        post("known", "s", json!({"name": "known", "namespace": "bank"})).await.expect(201);
        post("own", "s", json!({"selector": {}, "namespace": "shop"})).await.expect(201);
        post("map", "m", json!({"name": "any", "namespace": "bank"})).await.expect(201);
        for (name, change) in [
            ("known", json!({"paramRef": {"name": "other"}})),
            ("own", json!({"paramRef": {"namespace": "bank"}})),
            ("map", json!({"policyName": "s"})),
        ] {
            let attempt = Ask::new(&format!("PATCH {path}/{name}"), json!({"spec": change}));
            refused(&ask(&cluster, &author(), &attempt).await, "spec.paramRef");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_policy_comes_before_the_right_to_its_parameters() {
    let cluster = with_author().await;
    let mut policy = policy("ValidatingAdmissionPolicy", "p", secret());
    policy["spec"]["validations"][0]["expression"] = json!("1");
    let path = format!("{REGISTRATION}/validatingadmissionpolicies");
    let answer = ask(&cluster, &author(), &Ask::new(&format!("POST {path}"), policy)).await;
    let message = answer.failure(422, "Invalid");
    assert!(message.contains("must evaluate to bool") && !message.contains("paramKind"), "{message}");
}
