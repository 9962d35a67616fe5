//! Which requests are approved, signed and deleted, and which fail.

use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::{Value, json};

use super::plan::{Right, check, end, is_due, is_open, life, rights};
use super::request::Asked;

fn request(signer: &str, status: Value) -> CertificateSigningRequest {
    serde_json::from_value(json!({
        "metadata": { "name": "r" },
        "spec": { "request": "", "signerName": signer },
        "status": status,
    }))
    .expect("a request")
}

fn conditions(kinds: &[&str]) -> Value {
    kinds.iter().map(|kind| json!({ "type": kind, "status": "True" })).collect()
}

#[test]
fn request_is_due_once_approved_and_until_it_is_answered() {
    let signer = "kubernetes.io/kube-apiserver-client";
    let due = |status: Value| is_due(&request(signer, status));
    assert!(due(json!({ "conditions": conditions(&["Approved"]) })));
    assert!(!due(json!({})) && !due(json!({ "conditions": conditions(&["Denied"]) })));
    assert!(!due(json!({ "conditions": conditions(&["Approved", "Failed"]) })));
    assert!(!due(json!({ "conditions": conditions(&["Approved"]), "certificate": "YQ==" })));
    let approved = json!({ "conditions": conditions(&["Approved"]) });
    assert!(!is_due(&request("example.com/own", approved)), "other signers are others' business");
}

#[test]
fn life_is_what_was_asked_for_within_limits() {
    assert_eq!(life(Some(3600)), Duration::from_secs(3600));
    assert_eq!((life(Some(1)), life(Some(-5))), (Duration::from_secs(600), life(None)));
    assert_eq!(life(Some(i32::MAX)), life(None));
}

#[test]
fn signers_sign_what_upstreams_sign() {
    let node = Asked {
        common_name: "system:node:n1".into(),
        organizations: vec!["system:nodes".into()],
        ..Asked::default()
    };
    let host = Asked { addresses: 1, ..node.clone() };
    let bob = Asked { common_name: "bob".into(), organizations: vec!["dev".into()], ..Asked::default() };
    let two = Asked { organizations: vec!["system:nodes".into(), "dev".into()], ..node.clone() };
    let named = Asked { common_name: "n1".into(), ..node.clone() };
    let (client, serving) = (["digital signature", "client auth"], ["digital signature", "server auth"]);
    let all = ["digital signature", "key encipherment", "client auth"];
    let wrong_usages = Err("usages did not match [client auth digital signature key encipherment]");
    type Case<'a> = (&'a str, &'a Asked, &'a [&'a str], Result<(), &'a str>);
    let cases: [Case<'_>; 12] = [
        ("kube-apiserver-client", &bob, &client, Ok(())),
        ("kube-apiserver-client", &bob, &serving, Err("invalid usage for client certificate: server auth")),
        (
            "kube-apiserver-client",
            &bob,
            &["digital signature"],
            Err("missing required usage for client certificate: client auth"),
        ),
        ("kube-apiserver-client-kubelet", &node, &client, Ok(())),
        ("kube-apiserver-client-kubelet", &node, &all, Ok(())),
        ("kube-apiserver-client-kubelet", &node, &serving, wrong_usages),
        ("kube-apiserver-client-kubelet", &host, &client, Err("IP subjectAltNames are not allowed")),
        ("kube-apiserver-client-kubelet", &two, &client, Err("subject organization is not system:nodes")),
        (
            "kube-apiserver-client-kubelet",
            &named,
            &client,
            Err("subject common name does not begin with system:node:"),
        ),
        ("kubelet-serving", &host, &serving, Ok(())),
        ("kubelet-serving", &node, &serving, Err("DNS or IP subjectAltName is required")),
        ("legacy-unknown", &bob, &serving, Ok(())),
    ];
    for (signer, asked, usages, expected) in cases {
        let usages: Vec<String> = usages.iter().map(|usage| (*usage).to_owned()).collect();
        let found = check(&format!("kubernetes.io/{signer}"), asked, &usages);
        assert_eq!(found, expected.map_err(str::to_owned), "{signer} {asked:?}");
    }
}

#[test]
fn request_of_a_node_is_approved_by_its_own_right_or_that_of_whoever_brings_nodes() {
    let asked = Asked {
        common_name: "system:node:n1".into(),
        organizations: vec!["system:nodes".into()],
        ..Asked::default()
    };
    let of = |signer: &str, user: &str, usages: &[&str]| {
        let mut request = request(signer, json!({}));
        request.spec.username = Some(user.to_owned());
        request.spec.usages = Some(usages.iter().map(|usage| (*usage).to_owned()).collect());
        rights(&request, &asked)
    };
    let (kubelet, client) =
        ("kubernetes.io/kube-apiserver-client-kubelet", ["digital signature", "client auth"]);
    assert_eq!(of(kubelet, "system:node:n1", &client), [Right::OfItself, Right::OfANode]);
    assert_eq!(of(kubelet, "system:bootstrap:abcdef", &client), [Right::OfANode]);
    assert_eq!(of(kubelet, "system:node:n1", &["digital signature", "server auth"]), []);
    assert_eq!(of("kubernetes.io/kube-apiserver-client", "system:node:n1", &client), []);
    let named = Asked { dns: 1, ..asked.clone() };
    let mut with_name = request(kubelet, json!({}));
    with_name.spec.usages = Some(client.map(str::to_owned).to_vec());
    assert_eq!(rights(&with_name, &named), []);
    assert_eq!(rights(&with_name, &asked), [Right::OfANode]);
}

#[test]
fn request_is_open_until_somebody_decides() {
    let open = |status: Value| is_open(&request("example.com/own", status));
    assert!(open(json!({})) && open(json!({ "conditions": conditions(&["Failed"]) })));
    assert!(!open(json!({ "conditions": conditions(&["Approved"]) })));
    assert!(!open(json!({ "conditions": conditions(&["Denied"]) })));
}

#[test]
fn request_is_deleted_an_hour_after_its_answer_and_a_day_after_nothing() {
    let at = |status: Value| {
        let mut request = request("example.com/own", status);
        request.metadata.creation_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time"));
        end(&request).map(|end| end.to_string())
    };
    let answered = |kind: &str| json!({ "conditions": [{ "type": kind, "status": "True", "lastUpdateTime": "2026-01-01T05:00:00Z" }] });
    assert_eq!(at(json!({})).as_deref(), Some("2026-01-02T00:00:00Z"));
    assert_eq!(at(answered("Denied")).as_deref(), Some("2026-01-01T06:00:00Z"));
    assert_eq!(at(answered("Failed")).as_deref(), Some("2026-01-01T06:00:00Z"));
    assert_eq!(at(answered("Approved")).as_deref(), Some("2026-01-02T05:00:00Z"));
    let mut issued = answered("Approved");
    issued["certificate"] = json!("YQ==");
    assert_eq!(at(issued).as_deref(), Some("2026-01-01T06:00:00Z"));
    assert_eq!(at(json!({ "conditions": conditions(&["Denied"]) })), None);
}
