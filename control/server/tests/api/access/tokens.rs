//! Service-account tokens through the API: issued, used from outside, reviewed, replayed after their end.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Ask, ask_from_outside, create, namespace, pod};
use crate::harness::{Cluster, cluster};

const WHO: &str = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews";

async fn populated() -> Cluster {
    let cluster = cluster().await;
    namespace(&cluster, "shop").await;
    create(&cluster, "/api/v1/nodes", "Node", json!({"metadata": {"name": "n1"}})).await;
    create(&cluster, "/api/v1/namespaces/shop/pods", "Pod", pod("web", "n1", json!({}))).await;
    cluster
}

async fn token(cluster: &Cluster, spec: Value) -> String {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let path = "/api/v1/namespaces/shop/serviceaccounts/default/token";
    let answer =
        cluster.call(http::Method::POST, path, "application/json", body.to_string()).await.expect(201);
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// Who the server takes the bearer of a token for, or the code of its refusal.
async fn who(cluster: &Cluster, token: &str) -> Result<Value, u16> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let ask = Ask::new(WHO, review).header("authorization", &format!("Bearer {token}"));
    let answer = ask_from_outside(cluster, &ask).await;
    if answer.code == 201 { Ok(answer.json()["status"]["userInfo"].clone()) } else { Err(answer.code) }
}

fn for_pod(uid: &Value) -> Value {
    json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": uid}, "expirationSeconds": 3607})
}

#[tokio::test]
async fn token_of_a_pod_tells_pod_and_node_and_ends_with_the_pod() {
    let cluster = populated().await;
    let uid = cluster.get("/api/v1/namespaces/shop/pods/web").await.expect(200)["metadata"]["uid"].clone();
    let token = token(&cluster, for_pod(&uid)).await;
    let user = who(&cluster, &token).await.unwrap();
    assert_eq!(user["username"], "system:serviceaccount:shop:default");
    assert_eq!(
        user["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"])
    );
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-name"], json!(["web"]));
    assert_eq!(user["extra"]["authentication.kubernetes.io/node-name"], json!(["n1"]));
    // Admission's own life of a token is stretched, and the token says from when on it is stale.
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap();
    let seconds = |field: &str| claims[field].as_u64().unwrap();
    assert_eq!(seconds("exp") - seconds("iat"), 365 * 24 * 3600);
    assert_eq!(claims["kubernetes.io"]["warnafter"].as_u64().unwrap() - seconds("iat"), 3607);
    let delete = json!({"gracePeriodSeconds": 0, "apiVersion": "v1", "kind": "DeleteOptions"});
    cluster.delete("/api/v1/namespaces/shop/pods/web", delete).await.expect(200);
    assert_eq!(who(&cluster, &token).await, Err(401));
    // Another pod of that name has another token.
    create(&cluster, "/api/v1/namespaces/shop/pods", "Pod", pod("web", "n1", json!({}))).await;
    assert_eq!(who(&cluster, &token).await, Err(401));
}

#[tokio::test]
async fn token_ends_with_its_account_secret_or_node() {
    let cluster = populated().await;
    let secret = json!({"metadata": {"name": "k"}});
    create(&cluster, "/api/v1/namespaces/shop/secrets", "Secret", secret).await;
    let bound =
        |kind: &str, name: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name}});
    let of_secret = token(&cluster, bound("Secret", "k")).await;
    let of_node = token(&cluster, bound("Node", "n1")).await;
    let plain = token(&cluster, json!({})).await;
    for token in [&of_secret, &of_node, &plain] {
        who(&cluster, token).await.unwrap();
    }
    cluster.delete("/api/v1/namespaces/shop/secrets/k", Value::Null).await.expect(200);
    cluster.delete("/api/v1/nodes/n1", Value::Null).await.expect(200);
    assert_eq!((who(&cluster, &of_secret).await, who(&cluster, &of_node).await), (Err(401), Err(401)));
    who(&cluster, &plain).await.unwrap();
    cluster.delete("/api/v1/namespaces/shop/serviceaccounts/default", Value::Null).await.expect(200);
    assert_eq!(who(&cluster, &plain).await, Err(401));
    let again = json!({"metadata": {"name": "default"}});
    create(&cluster, "/api/v1/namespaces/shop/serviceaccounts", "ServiceAccount", again).await;
    assert_eq!(who(&cluster, &plain).await, Err(401), "an account of the same name is another");
}

#[tokio::test]
async fn forged_and_misdirected_tokens_are_refused() {
    let cluster = populated().await;
    let good = token(&cluster, json!({})).await;
    who(&cluster, &good).await.unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let decode =
        |part: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let (header, mut claims) = (decode(parts[0]), decode(parts[1]));
    claims["sub"] = json!("system:serviceaccount:kube-system:admin");
    claims["kubernetes.io"]["namespace"] = json!("kube-system");
    let forged = encode(&claims);
    let with = |field: &str, value: Value| {
        let mut header = header.clone();
        header[field] = value;
        encode(&header)
    };
    let elsewhere = token(&cluster, json!({"audiences": ["vault"]})).await;
    for (token, what) in [
        (format!("{}.{forged}.{}", parts[0], parts[2]), "tampered claims"),
        (format!("{}.{forged}.", with("alg", json!("none"))), "alg none"),
        (format!("{}.{forged}.{}", with("alg", json!("HS256")), parts[2]), "another algorithm"),
        (format!("{}.{}.{}", with("kid", json!("other")), parts[1], parts[2]), "unknown key"),
        (format!("{}.{}.{}", parts[0], parts[1], &parts[2][1..]), "broken signature"),
        (format!("{}.{}", parts[0], parts[1]), "no signature"),
        (elsewhere, "another audience"),
        (String::from("x"), "no token"),
        ("a".repeat(200_000), "endless token"),
    ] {
        assert_eq!(who(&cluster, &token).await, Err(401), "{what}");
    }
}

#[tokio::test]
async fn token_review_tells_for_whom_and_for_what() {
    let cluster = populated().await;
    let token = token(&cluster, json!({"audiences": ["vault", "x"]})).await;
    let review = |audiences: Value| {
        let spec = json!({"token": token, "audiences": audiences});
        json!({"spec": spec})
    };
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let found =
        cluster.post(path, "TokenReview", review(json!(["vault", "y"]))).await.expect(201)["status"].clone();
    assert_eq!((&found["authenticated"], &found["audiences"]), (&json!(true), &json!(["vault"])));
    assert_eq!(found["user"]["username"], "system:serviceaccount:shop:default");
    let other = cluster.post(path, "TokenReview", review(json!([]))).await.expect(201)["status"].clone();
    assert_ne!(other["authenticated"], true);
    assert!(other["error"].is_string());
}

#[tokio::test]
async fn request_for_a_token_that_makes_no_sense_is_refused() {
    let cluster = populated().await;
    let path = "/api/v1/namespaces/shop/serviceaccounts/default/token";
    let bound = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name, "uid": uid}});
    for (spec, code, expected) in [
        (json!({"expirationSeconds": 599}), 422, "may not specify a duration less than 10 minutes"),
        (
            json!({"expirationSeconds": 1_i64 << 33}),
            422,
            "may not specify a duration larger than 2^32 seconds",
        ),
        (bound("Pod", "nowhere", ""), 404, "pods \"nowhere\" not found"),
        (bound("Pod", "web", "other"), 409, "does not match the UID in record"),
        (bound("ConfigMap", "m", ""), 400, "cannot bind token to object of type /v1, Kind=ConfigMap"),
    ] {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let answer = cluster.call(http::Method::POST, path, "application/json", body.to_string()).await;
        assert_eq!(answer.code, code, "{spec}");
        assert!(
            answer.json()["message"].as_str().unwrap().contains(expected),
            "{}",
            answer.json()["message"]
        );
    }
}

#[tokio::test]
async fn issuer_publishes_its_document_and_keys_to_accounts() {
    let cluster = populated().await;
    let token = token(&cluster, json!({})).await;
    let get = |path: &str| {
        Ask::new(&format!("GET {path}"), Value::Null).header("authorization", &format!("Bearer {token}"))
    };
    let document = ask_from_outside(&cluster, &get("/.well-known/openid-configuration")).await.expect(200);
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap();
    assert_eq!(document["issuer"], claims["iss"]);
    assert_eq!(document["id_token_signing_alg_values_supported"], json!(["ES256"]));
    let keys = ask_from_outside(&cluster, &get("/openid/v1/jwks")).await.expect(200);
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    assert!(keys["keys"].as_array().unwrap().iter().any(|key| key["kid"] == header["kid"]));
}
