//! What is said about tokens beside the answer: of stale, shortened and long-lived ones.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use skep_server::pki::{Pki, ServingNames};
use skep_server::tokens::Keys;

use super::{Ask, ask_from_outside, create, namespace, pod};
use crate::audit::{audit_to_file, events};
use crate::definitions::until;
use crate::harness::{Answer, Cluster, cluster_with};

const ACCOUNT: &str = "/api/v1/namespaces/shop/serviceaccounts/default";
const SECRET: &str = "/api/v1/namespaces/shop/secrets/long";

/// A cluster that writes down what happens, with short lives of tokens, on its own clock.
async fn populated() -> Cluster {
    let cluster = cluster_with(&|config, directory| {
        audit_to_file(config, directory);
        config.gate.clock = config.ids.clock.clone();
        config.gate.longest_token_life = Some(7200);
    })
    .await;
    namespace(&cluster, "shop").await;
    create(&cluster, "/api/v1/namespaces/shop/pods", "Pod", pod("web", "", json!({}))).await;
    cluster
}

async fn token(cluster: &Cluster, spec: Value) -> Answer {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    cluster.call(http::Method::POST, &format!("{ACCOUNT}/token"), "application/json", body.to_string()).await
}

fn text(answer: &Answer) -> String {
    answer.expect(201)["status"]["token"].as_str().unwrap().to_owned()
}

/// Asks with a token who its bearer is.
async fn who(cluster: &Cluster, token: &str) -> Answer {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let ask = Ask::new("POST /apis/authentication.k8s.io/v1/selfsubjectreviews", review);
    ask_from_outside(cluster, &ask.header("authorization", &format!("Bearer {token}"))).await
}

/// The annotations of the last event about such a request.
fn annotations(cluster: &Cluster, part: &str) -> Value {
    events(cluster, part).last().unwrap()["annotations"].clone()
}

#[tokio::test]
async fn stale_token_is_written_down_and_a_shortened_life_is_told() {
    let cluster = populated().await;
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "web"});
    let of_pod = text(&token(&cluster, json!({"boundObjectRef": bound, "expirationSeconds": 3607})).await);
    const STALE: &str = "authentication.k8s.io/stale-token";
    cluster.pass(3607);
    who(&cluster, &of_pod).await.expect(201);
    assert_eq!(annotations(&cluster, "/selfsubjectreviews")[STALE], Value::Null);
    cluster.pass(93);
    who(&cluster, &of_pod).await.expect(201);
    let said = "subject: system:serviceaccount:shop:default, seconds after warning threshold: 93";
    assert_eq!(annotations(&cluster, "/selfsubjectreviews")[STALE], said);
    // Whoever has it reviewed is told the same.
    let review = json!({"spec": {"token": of_pod}});
    cluster.post("/apis/authentication.k8s.io/v1/tokenreviews", "TokenReview", review).await.expect(201);
    assert_eq!(annotations(&cluster, "/tokenreviews")[STALE], said);

    let long = token(&cluster, json!({"expirationSeconds": 86_400})).await;
    assert_eq!(long.expect(201)["spec"]["expirationSeconds"], 7200);
    assert_eq!(
        long.headers["warning"],
        "299 - \"requested expiration of 86400 seconds shortened to 7200 seconds\""
    );
    let short = token(&cluster, json!({"expirationSeconds": 7200})).await;
    assert!(!short.headers.contains_key("warning"));
}

/// Puts a token of the account into a Secret, as the controller of tokens does.
async fn long_lived(cluster: &Cluster) -> String {
    let pki = Pki::open(cluster.directory.path(), ServingNames::default(), SystemTime::now()).unwrap();
    let keys = Keys::from_pem(&pki.token_key_pem().unwrap(), "").unwrap();
    let uid = cluster.get(ACCOUNT).await.expect(200)["metadata"]["uid"].as_str().unwrap().to_owned();
    let token = keys.sign_for_secret("shop", "default", &uid, "long").unwrap();
    let annotations =
        json!({"kubernetes.io/service-account.name": "default", "kubernetes.io/service-account.uid": uid});
    let secret = json!({"type": "kubernetes.io/service-account-token", "data": {"token": STANDARD.encode(&token)},
                        "metadata": {"name": "long", "annotations": annotations}});
    create(cluster, "/api/v1/namespaces/shop/secrets", "Secret", secret).await;
    token
}

#[tokio::test]
async fn use_of_a_long_lived_token_is_written_down_by_its_day() {
    let cluster = populated().await;
    let token = long_lived(&cluster).await;
    let last_used = async || {
        let secret = cluster.get(SECRET).await.expect(200);
        secret["metadata"]["labels"]["kubernetes.io/legacy-token-last-used"].clone()
    };
    assert_eq!(last_used().await, Value::Null);
    let answer = who(&cluster, &token).await;
    answer.expect(201);
    assert!(!answer.headers.contains_key("warning"));
    let kept = |what: &str| format!("authentication.k8s.io/legacy-token-{what}");
    assert_eq!(annotations(&cluster, "/selfsubjectreviews")[kept("manual-secret")], "long");
    until(async || last_used().await == "2027-01-15").await;
    let before = cluster.get(SECRET).await.expect(200);
    who(&cluster, &token).await.expect(201);
    cluster.pass(24 * 3600);
    // Once a day is enough.
    assert_eq!(cluster.get(SECRET).await.expect(200), before);
    let listed = json!({"secrets": [{"name": "long"}]});
    cluster.patch(ACCOUNT, "merge", listed).await.expect(200);
    let answer = who(&cluster, &token).await;
    answer.expect(201);
    assert!(
        answer.headers["warning"]
            .to_str()
            .unwrap()
            .contains("instead of auto-generated secret-based tokens.")
    );
    assert_eq!(annotations(&cluster, "/selfsubjectreviews")[kept("autogenerated-secret")], "long");
    until(async || last_used().await == "2027-01-16").await;

    let ended = json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": "2027-01-16"}}});
    cluster.patch(SECRET, "merge", ended).await.expect(200);
    assert_eq!(who(&cluster, &token).await.code, 401);
    assert_eq!(annotations(&cluster, "/selfsubjectreviews")[kept("invalidated")], "long/shop");
}

#[tokio::test]
async fn since_when_uses_are_written_down_is_known_and_stays() {
    let cluster = populated().await;
    let path =
        "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";
    let since = async || {
        let found = cluster.get(path).await;
        if found.code == 200 { found.json()["data"]["since"].clone() } else { Value::Null }
    };
    until(async || since().await == "2027-01-15").await;
    cluster.pass(24 * 3600);
    cluster.patch(path, "merge", json!({"metadata": {"labels": {"a": "b"}}})).await.expect(200);
    assert_eq!(since().await, "2027-01-15");
    cluster.patch(path, "merge", json!({"data": {"since": "soon"}})).await.expect(200);
    until(async || since().await == "2027-01-16").await;
    cluster.delete(path, Value::Null).await.expect(200);
    until(async || since().await == "2027-01-16").await;
}
