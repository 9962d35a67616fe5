//! Groups that are elsewhere, on a real server: found, not found, and forged.

use rcgen::KeyPair;
use serde_json::{Value, json};

use super::tests::{PLAIN, ask, issuer, sign};

/// Claims that say that the groups are at this address.
fn elsewhere(endpoint: &str) -> Value {
    json!({
        "_claim_names": { "groups": "src" },
        "_claim_sources": { "src": { "endpoint": endpoint, "access_token": "f005ba11" } },
    })
}

#[tokio::test]
async fn groups_that_are_elsewhere_are_fetched_and_remembered() {
    let issuer = issuer().await;
    let tokens = issuer.tokens(PLAIN);
    *issuer.groups.lock() = issuer.token(json!({ "groups": ["a", "b"] })) + "\n";
    let token = issuer.token(elsewhere(&issuer.server.url("/groups")));
    let jane = ask(&tokens, &token).await.unwrap().unwrap();
    assert_eq!((jane.name.as_str(), jane.groups.join(",").as_str()), ("oidc:jane", "g:a,g:b"));
    let calls = issuer.server.calls();
    assert_eq!(ask(&tokens, &token).await.unwrap().unwrap().groups, ["g:a", "g:b"]);
    assert_eq!(issuer.server.calls(), calls, "it was asked a moment ago");
}

#[tokio::test]
async fn groups_of_another_issuer_are_believed_when_its_keys_fit() {
    let (issuer, other) = (issuer().await, issuer().await);
    // Both have to be trusted: the authority of one is that of the other, too.
    let both = issuer.file(PLAIN).replace(
        "-----END CERTIFICATE-----",
        &format!("-----END CERTIFICATE-----\n      {}", other.server.ca.trim().replace('\n', "\n      ")),
    );
    let tokens = issuer.tokens_of(&both);
    *issuer.groups.lock() = other.token(json!({ "groups": "theirs" }));
    let token = issuer.token(elsewhere(&issuer.server.url("/groups")));
    assert_eq!(ask(&tokens, &token).await.unwrap().unwrap().groups, ["g:theirs"]);
    let forged = sign(&issuer.key, "k1", &other.claims(json!({ "groups": "masters" })));
    *issuer.groups.lock() = forged;
    let token = issuer.token(json!({ "jti": "j2", "_claim_names": { "groups": "src" }, "_claim_sources": {
        "src": { "endpoint": issuer.server.url("/groups"), "access_token": "f005ba11" } } }));
    let error = ask(&tokens, &token).await.unwrap_err();
    assert!(
        error.ends_with("verify distributed claim token: oidc: failed to verify id token signature"),
        "{error}"
    );
}

#[tokio::test]
async fn token_whose_groups_cannot_be_found_is_refused_in_upstreams_words() {
    let issuer = issuer().await;
    let tokens = issuer.tokens(PLAIN);
    let place = issuer.server.url("/groups");
    let now = issuer.claims(json!({}))["exp"].as_u64().unwrap();
    for (at, (served, expected)) in [
        (issuer.token(json!({})), "jwt returned by distributed claim endpoint"),
        (issuer.token(json!({ "groups": "a", "aud": "vault" })), "expected audience in"),
        (issuer.token(json!({ "groups": "a", "exp": now - 7200 })), "oidc: token is expired"),
        (
            sign(&KeyPair::generate().unwrap(), "k1", &issuer.claims(json!({ "groups": "a" }))),
            "id token signature",
        ),
        ("nothing".to_owned(), "getting untrusted issuer from endpoint"),
        (String::new(), "getting untrusted issuer from endpoint"),
    ]
    .into_iter()
    .enumerate()
    {
        *issuer.groups.lock() = served;
        let mut claims = elsewhere(&place);
        // What is asked for anew is not remembered.
        claims["jti"] = json!(format!("t{at}"));
        let error = ask(&tokens, &issuer.token(claims)).await.unwrap_err();
        assert!(
            error.starts_with("oidc: could not expand distributed claims: ") && error.contains(expected),
            "{error}"
        );
    }
    *issuer.groups.lock() = issuer.token(json!({ "groups": "a" }));
    let mut nobody = elsewhere(&place);
    nobody["_claim_sources"]["src"]["access_token"] = json!("other");
    let error = ask(&tokens, &issuer.token(nobody)).await.unwrap_err();
    assert!(
        error.contains("while getting distributed claim \"groups\": ")
            && error.contains("provide credentials"),
        "{error}"
    );
    let plain = elsewhere(&place.replace("https", "http"));
    let error = ask(&tokens, &issuer.token(plain)).await.unwrap_err();
    assert!(error.contains("'https' is the only allowed URL scheme"), "{error}");
    let nowhere = json!({ "_claim_names": { "groups": "src" } });
    let error = ask(&tokens, &issuer.token(nowhere)).await.unwrap_err();
    assert!(error.contains("oidc: source does not exist"), "{error}");
}

#[tokio::test]
async fn groups_are_fetched_only_where_the_token_has_none_and_somebody_wants_them() {
    let issuer = issuer().await;
    let place = issuer.server.url("/groups");
    let tokens = issuer.tokens(PLAIN);
    let mut claims = elsewhere(&place);
    claims["groups"] = json!(["own"]);
    assert_eq!(ask(&tokens, &issuer.token(claims)).await.unwrap().unwrap().groups, ["g:own"]);
    let aggregated =
        json!({ "_claim_names": { "groups": "s" }, "_claim_sources": { "s": { "JWT": "a.b.c" } } });
    assert!(ask(&tokens, &issuer.token(aggregated)).await.unwrap().unwrap().groups.is_empty());
    let unmapped = issuer.tokens("  claimMappings:\n    username: {claim: sub, prefix: ''}");
    assert!(ask(&unmapped, &issuer.token(elsewhere(&place))).await.unwrap().unwrap().groups.is_empty());
}

#[tokio::test]
async fn token_of_the_longest_curve_is_known() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use p521::ecdsa::signature::Signer;
    use p521::ecdsa::{Signature, SigningKey};

    let issuer = issuer().await;
    let signer = SigningKey::from_slice(&[&[0][..], &[9; 65]].concat()).unwrap();
    let point = signer.verifying_key().to_sec1_point(false);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (x, y) = (encode(&point.as_bytes()[1..67]), encode(&point.as_bytes()[67..]));
    issuer.keys.lock().push(
        json!({ "kty": "EC", "crv": "P-521", "use": "sig", "alg": "ES512", "kid": "long", "x": x, "y": y }),
    );
    let token = |claims: &Value, key: &str| {
        let head = json!({ "alg": "ES512", "kid": key }).to_string();
        let signed = format!("{}.{}", encode(head.as_bytes()), encode(claims.to_string().as_bytes()));
        let signature: Signature = signer.sign(signed.as_bytes());
        format!("{signed}.{}", encode(&signature.to_bytes()))
    };
    let tokens = issuer.tokens(PLAIN);
    let jane = ask(&tokens, &token(&issuer.claims(json!({})), "long")).await.unwrap().unwrap();
    assert_eq!(jane.name, "oidc:jane");
    // The key of another algorithm, under its id.
    let error = ask(&tokens, &token(&issuer.claims(json!({})), "k1")).await.unwrap_err();
    assert_eq!(error, "oidc: failed to verify id token signature");
}
