//! Authorization webhooks: conditions, caches, failure policies, and the files that describe them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use serde_json::{Value, json};

use super::{AuthorizerChain, Authz};
use crate::callout::testing::Server;
use crate::gate::{Authorizer, Decision, Verdict};
use crate::metrics::AuthorizationMetrics;
use crate::request::RequestInfo;
use crate::testing::{Objects, counted};
use crate::user::UserInfo;

fn file(server: &Server, more: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n- type: Webhook\n  name: \
         hook\n  webhook:\n    timeout: 300ms\n    subjectAccessReviewVersion: v1\n    \
         matchConditionSubjectAccessReviewVersion: v1\n    connectionInfo: {{type: KubeConfigFile, kubeConfigFile: \
         {}}}\n{more}\n- type: RBAC\n  name: rbac\n",
        server.kubeconfig().display()
    )
}

fn authz(server: &Server, more: &str) -> Authz {
    counting(server, more).0
}

/// The same, with what it counts.
fn counting(server: &Server, more: &str) -> (Authz, Registry) {
    let objects = Arc::new(Objects::default());
    let role = json!({"metadata": {"name": "r"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]});
    objects.put("rbac.authorization.k8s.io", "clusterroles", role);
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "r"},
                         "subjects": [{"kind": "User", "name": "jane"}]});
    objects.put("rbac.authorization.k8s.io", "clusterrolebindings", binding);
    let registry = Registry::new();
    let authz = Authz::counting(objects, AuthorizationMetrics::new(&registry));
    authz.set_chain(AuthorizerChain::of_file(&file(server, more), Path::new("f"), None).unwrap());
    (authz, registry)
}

async fn ask(authz: &Authz, verb: &str, resource: &str) -> Decision {
    let request = RequestInfo {
        is_resource: true,
        verb: verb.into(),
        resource: resource.into(),
        version: "v1".into(),
        field_selector: super::selectors::of_fields("spec.nodeName=n1"),
        ..RequestInfo::default()
    };
    authz.authorize(&UserInfo::new("jane", &[]), &request).await
}

/// Allows what it is asked about secrets, denies nodes, has no opinion on the rest.
fn opinions(_: &str, review: Value) -> Option<(u16, String)> {
    let mut answer = review.clone();
    assert_eq!(
        review["spec"]["resourceAttributes"]["fieldSelector"]["requirements"][0]["values"],
        json!(["n1"])
    );
    answer["status"] = match review["spec"]["resourceAttributes"]["resource"].as_str() {
        Some("secrets") => json!({"allowed": true, "reason": "as you like"}),
        Some("nodes") => json!({"allowed": false, "denied": true, "reason": "never"}),
        Some("both") => json!({"allowed": true, "denied": true}),
        _ => json!({"allowed": false, "reason": "no idea"}),
    };
    Some((200, answer.to_string()))
}

#[tokio::test]
async fn webhook_decides_before_roles_and_is_asked_once() {
    let server = Server::start(opinions).await;
    let authz = authz(&server, "    failurePolicy: Deny");
    for _ in 0..2 {
        assert_eq!(ask(&authz, "delete", "secrets").await, Decision::allow("as you like"));
        assert_eq!(ask(&authz, "get", "nodes").await, Decision::deny("never"));
        assert!(ask(&authz, "get", "pods").await.reason.starts_with("RBAC: allowed by"));
        assert_eq!(ask(&authz, "delete", "pods").await, Decision::none("no idea"));
    }
    assert_eq!(server.calls(), 4);
    let both = ask(&authz, "get", "both").await;
    assert_eq!((both.verdict, both.error.is_empty()), (Verdict::Deny, false));
    let held = authz.rules_for(&UserInfo::new("jane", &[]), "default");
    assert!(held.incomplete && held.errors == ["webhook authorizer does not support user rule resolution"]);
}

#[tokio::test]
async fn webhook_without_cache_is_asked_every_time() {
    let server = Server::start(opinions).await;
    let more = "    failurePolicy: Deny\n    cacheAuthorizedRequests: false\n    unauthorizedTTL: 5m0s";
    let authz = authz(&server, more);
    for _ in 0..2 {
        ask(&authz, "get", "secrets").await;
        ask(&authz, "get", "nodes").await;
    }
    assert_eq!(server.calls(), 3);
}

#[tokio::test]
async fn webhook_is_asked_only_where_all_conditions_hold() {
    let server = Server::start(opinions).await;
    let more = "    failurePolicy: Deny\n    matchConditions:\n    - expression: has(request.resourceAttributes)\n    - \
                expression: request.resourceAttributes.resource == 'nodes' && request.user == 'jane' && request.uid == ''";
    let authz = authz(&server, more);
    assert_eq!(ask(&authz, "get", "nodes").await.verdict, Verdict::Deny);
    assert_eq!(ask(&authz, "get", "secrets").await.verdict, Verdict::NoOpinion);
    assert!(ask(&authz, "get", "pods").await.is_allowed());
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn webhook_that_hangs_lies_or_fails_follows_its_policy() {
    for (policy, expected) in [("Deny", Verdict::Deny), ("NoOpinion", Verdict::Allow)] {
        let servers = [
            Server::start(|_, _| None).await,
            Server::start(|_, _| Some((403, "{}".into()))).await,
            Server::start(|_, _| Some((200, "yes".into()))).await,
            Server::start(|_, _| Some((200, json!({"status": {"allowed": true}}).to_string()))).await,
            Server::start(|_, mut review| {
                review["status"] = json!({"allowed": "true"});
                Some((200, review.to_string()))
            })
            .await,
        ];
        for server in &servers {
            let authz = authz(server, &format!("    failurePolicy: {policy}"));
            // Roles allow this, if they are asked.
            let decision = ask(&authz, "get", "pods").await;
            assert_eq!(decision.verdict, expected, "{decision:?}");
            let refused = ask(&authz, "delete", "pods").await;
            assert!(!refused.is_allowed() && !refused.error.is_empty(), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn condition_that_cannot_be_told_follows_the_policy_unless_another_does_not_hold() {
    let server = Server::start(opinions).await;
    let conditions = |policy: &str, second: &str| {
        format!(
            "    failurePolicy: {policy}\n    matchConditions: [{{expression: \"request.extra['x'][0] == 'y'\"}}, \
             {{expression: \"{second}\"}}]"
        )
    };
    let of = |policy: &str, second: &str| authz(&server, &conditions(policy, second));
    assert_eq!(ask(&of("Deny", "true"), "get", "pods").await.verdict, Verdict::Deny);
    assert!(ask(&of("NoOpinion", "true"), "get", "pods").await.is_allowed());
    assert!(ask(&of("Deny", "false"), "get", "pods").await.is_allowed());
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn file_that_is_wrong_is_refused_in_upstreams_words() {
    let server = Server::start(opinions).await;
    let good = file(&server, "    failurePolicy: Deny");
    for (from, to, expected) in [
        ("v1\nkind", "v9\nkind", "no kind \"AuthorizationConfiguration\" is registered for version"),
        ("type: RBAC", "type: Magic", "authorizers[1].type: Unsupported value: \"Magic\""),
        ("type: RBAC", "type: ABAC", "expected name abac for authorizer ABAC instead of rbac"),
        ("type: RBAC\n  name: rbac", "type: ABAC\n  name: abac", "ABAC needs --authorization-policy-file"),
        ("name: rbac", "name: roles", "expected name rbac for authorizer RBAC instead of roles"),
        (
            "type: RBAC\n  name: rbac",
            "type: ABAC\n  name: abac\n  webhook: {}",
            "authorizers[1].webhook: Invalid value: \"non-null\": may only be specified when type=Webhook",
        ),
        ("type: RBAC\n  name: rbac", "type: RBAC", "authorizers[1].name: Required value"),
        ("name: rbac", "name: hook", "authorizers[1].name: Duplicate value: \"hook\""),
        ("name: rbac", "name: R_", "authorizers[1].name: Invalid value: \"R_\": authorizer name is invalid"),
        ("    timeout: 300ms\n", "", "authorizers[0].timeout: Required value"),
        ("300ms", "31s", "authorizers[0].timeout: Invalid value: \"31s\": must be > 0s and <= 30s"),
        (
            "failurePolicy: Deny",
            "failurePolicy: Maybe",
            "authorizers[0].failurePolicy: Unsupported value: \"Maybe\"",
        ),
        (
            "Version: v1\n    match",
            "Version: v2\n    match",
            "authorizers[0].subjectAccessReviewVersion: Unsupported value",
        ),
        ("KubeConfigFile, ", "Carrier, ", "authorizers[0].connectionInfo.type: Unsupported value"),
        ("kubeConfigFile: /", "kubeConfigFile: x/", "must be an absolute path"),
        ("    failurePolicy: Deny", "    failurePolicy: Deny\n    unknown: 1", "unknown field `unknown`"),
        (
            "    failurePolicy: Deny",
            "    failurePolicy: Deny\n    matchConditions: [{expression: 'request.user'}, {expression: ''}, {expression: 'reqest.user == \"\"'}]",
            "authorizers[0].matchConditions[1].expression: Required value",
        ),
    ] {
        assert!(good.contains(from), "{from}");
        let text = good.replacen(from, to, 1);
        let error = AuthorizerChain::of_file(&text, Path::new("f"), None).unwrap_err().to_string();
        assert!(
            error.starts_with("authorization configuration f: ") && error.contains(expected),
            "{to}: {error}"
        );
    }
    let none = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n";
    let error = AuthorizerChain::of_file(none, Path::new("f"), None).unwrap_err().to_string();
    assert!(
        error.contains("authorizers: Required value: at least one authorization mode must be defined"),
        "{error}"
    );
}

#[tokio::test]
async fn policies_of_a_file_are_one_authorizer_among_others_and_stay_when_the_others_change() {
    let directory = tempfile::tempdir().unwrap();
    let (policies, path) = (directory.path().join("abac"), Path::new("f"));
    let line = r#"{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"user":"jane","resource":"pods","apiGroup":"*","namespace":"*","readonly":true}}"#;
    std::fs::write(&policies, line).unwrap();
    let of = |names: &[&str]| {
        let each = names.iter().map(|one| format!("- {{type: {one}, name: {}}}\n", one.to_lowercase()));
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n".to_owned()
            + &each.collect::<String>()
    };
    let first = AuthorizerChain::of_file(&of(&["ABAC", "RBAC"]), path, Some(&policies)).unwrap();
    let authz = Authz::new(Arc::new(Objects::default()));
    authz.set_chain(first.clone());
    assert!(ask(&authz, "get", "pods").await.is_allowed());
    assert!(!ask(&authz, "delete", "pods").await.is_allowed());
    // Its file is read at start only.
    std::fs::remove_file(&policies).unwrap();
    authz.set_chain(first.changed(&of(&["RBAC", "ABAC", "AlwaysDeny"]), path).unwrap());
    assert!(ask(&authz, "get", "pods").await.is_allowed());
    let refused =
        |chain: &AuthorizerChain, names: &[&str]| chain.changed(&of(names), path).unwrap_err().to_string();
    assert!(refused(&first, &["AlwaysAllow"]).ends_with("missing required types: [ABAC RBAC]"));
    let without = AuthorizerChain::of_file(&of(&["RBAC"]), path, None).unwrap();
    let late = "authorizer type ABAC is not allowed if it was not enabled at initial server startup";
    assert!(refused(&without, &["RBAC", "ABAC"]).ends_with(late));
}

#[test]
fn modes_make_a_chain_or_are_refused() {
    let chain = |modes: &[&str]| {
        let modes: Vec<String> = modes.iter().map(|mode| (*mode).to_owned()).collect();
        AuthorizerChain::of_modes(&modes, None, None)
            .map(|chain| chain.layers.len())
            .map_err(|error| error.to_string())
    };
    assert_eq!(chain(&["Node", "RBAC"]), Ok(2));
    assert_eq!(chain(&["AlwaysDeny"]), Ok(1));
    for wrong in [&[][..], &["RBAC", "RBAC"], &["Magic"], &["ABAC"], &["Webhook"]] {
        assert!(chain(wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(super::configuration::duration("5m0s"), Some(Duration::from_secs(300)));
    assert_eq!(super::configuration::duration("1h2m3s"), Some(Duration::from_secs(3723)));
    assert_eq!(super::configuration::duration("500ms"), Some(Duration::from_millis(500)));
    assert_eq!(super::configuration::duration("-1s"), None);
}

#[tokio::test]
async fn decisions_are_counted_by_who_made_them() {
    let server = Server::start(opinions).await;
    let (authz, registry) = counting(&server, "    failurePolicy: Deny");
    let decided = |kind: &str, name: &str, decision: &str| {
        counted(&registry, "apiserver_authorization_decisions_total", &[kind, name, decision])
            .unwrap_or_default()
    };
    for (verb, resource) in
        [("get", "secrets"), ("get", "secrets"), ("get", "nodes"), ("get", "pods"), ("delete", "pods")]
    {
        ask(&authz, verb, resource).await;
    }
    let webhook = |decision| decided("Webhook", "hook", decision);
    assert_eq!((webhook("allowed"), webhook("denied"), decided("RBAC", "rbac", "allowed")), (2.0, 1.0, 1.0));
    let name = |end: &str| format!("apiserver_authorization_webhook_{end}");
    // What is remembered is no question.
    assert_eq!(counted(&registry, &name("evaluations_total"), &["hook", "success"]), Some(4.0));
    assert_eq!(counted(&registry, &name("duration_seconds"), &["hook", "success"]), Some(4.0));
    assert_eq!(counted(&registry, &name("evaluations_fail_open_total"), &[]), None);
}

#[tokio::test]
async fn webhook_that_does_not_answer_is_counted_by_why_and_what_came_of_it() {
    for (policy, open) in [("Deny", None), ("NoOpinion", Some(1.0))] {
        let late = Server::start(|_, _| None).await;
        let wrong = Server::start(|_, _| Some((403, "{}".into()))).await;
        for (server, result) in [(&late, "timeout"), (&wrong, "error")] {
            let (authz, registry) = counting(server, &format!("    failurePolicy: {policy}"));
            ask(&authz, "get", "pods").await;
            let count = |end: &str| {
                counted(&registry, &format!("apiserver_authorization_webhook_{end}"), &["hook", result])
            };
            assert_eq!((count("evaluations_total"), count("evaluations_fail_open_total")), (Some(1.0), open));
        }
    }
}

#[tokio::test]
async fn conditions_of_a_webhook_are_counted_by_what_came_of_them() {
    let server = Server::start(opinions).await;
    let more = "    failurePolicy: Deny\n    matchConditions:\n    - expression: request.resourceAttributes.resource != 'pods'\n    \
                - expression: request.extra['missing'][0] == 'x' || request.resourceAttributes.resource == 'nodes'";
    let (authz, registry) = counting(&server, more);
    for resource in ["nodes", "pods", "pods", "secrets"] {
        ask(&authz, "get", resource).await;
    }
    let count = |end: &str| {
        counted(&registry, &format!("apiserver_authorization_match_condition_{end}"), &["Webhook", "hook"])
    };
    assert_eq!((count("exclusions_total"), count("evaluation_errors_total")), (Some(2.0), Some(1.0)));
    assert_eq!(count("evaluation_seconds"), Some(4.0));
}
