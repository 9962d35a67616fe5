//! What is said about tokens beside the answer: of stale and shortened ones.

use serde_json::{Value, json};

use super::{Ask, ask_from_outside, create, namespace, pod};
use crate::audit::{audit_to_file, events};
use crate::harness::{Answer, Cluster, cluster_with};

const ACCOUNT: &str = "/api/v1/namespaces/shop/serviceaccounts/default";

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
