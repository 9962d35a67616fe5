//! Tokens: issued ones pass, and whatever is altered, forged, expired or orphaned does not.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prometheus::Registry;
use serde_json::{Value, json};

use super::{DEFAULT_ISSUER, Keys, TokenMetrics, Tokens};
use crate::metrics::TokenCacheMetrics;
use crate::testing::{Objects, TestClock, counted};
use crate::user::UserInfo;

struct Fixture {
    objects: Arc<Objects>,
    clock: TestClock,
    tokens: Tokens,
}

fn key_pem() -> String {
    rcgen::KeyPair::generate().unwrap().serialize_pem()
}

fn tokens(key: &str, further: &str, objects: &Arc<Objects>, clock: &TestClock) -> Tokens {
    let keys = Arc::new(Keys::from_pem(key, further).unwrap());
    let new_id = Arc::new(|| "id-1".to_owned());
    Tokens::new(keys, DEFAULT_ISSUER.into(), Vec::new(), Arc::clone(objects) as _, clock.clock(), new_id)
}

fn fixture() -> Fixture {
    let objects = Arc::new(Objects::default());
    let account = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "sa-1"}});
    objects.put("", "serviceaccounts", account);
    let node = json!({"metadata": {"name": "n1", "uid": "node-1"}});
    objects.put("", "nodes", node);
    objects.put("", "pods", pod("pod-1"));
    let clock = TestClock::new();
    let tokens = tokens(&key_pem(), "", &objects, &clock);
    Fixture { objects, clock, tokens }
}

fn pod(uid: &str) -> Value {
    json!({"metadata": {"name": "web-0", "namespace": "shop", "uid": uid},
           "spec": {"nodeName": "n1", "serviceAccountName": "web", "volumes": [
               {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}},
                                                       {"serviceAccountToken": {"path": "v", "audience": "vault"}}]}},
               {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}})
}

fn admin() -> UserInfo {
    UserInfo::new("admin", &["system:masters"])
}

impl Fixture {
    fn request(&self, spec: Value) -> Result<Value, (u16, String)> {
        let body = json!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec});
        self.tokens.request(&admin(), "shop", "web", body).map_err(|status| (status.code, status.message))
    }

    fn token(&self, spec: Value) -> String {
        self.request(spec).unwrap()["status"]["token"].as_str().unwrap().to_owned()
    }

    fn pod_token(&self) -> String {
        self.token(
            json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "web-0", "uid": "pod-1"}}),
        )
    }

    fn verify(&self, token: &str) -> Result<UserInfo, String> {
        self.tokens.verify(token, &[]).map(|verified| verified.user)
    }
}

#[test]
fn token_bound_to_pod_names_account_pod_and_node() {
    let fixture = fixture();
    let token = fixture.pod_token();
    assert!(fixture.tokens.claims_to_be_ours(&token));
    let user = fixture.verify(&token).unwrap();
    assert_eq!(user.name, "system:serviceaccount:shop:web");
    assert_eq!(user.uid, "sa-1");
    assert_eq!(
        user.groups,
        ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"]
    );
    let extra = |key: &str| user.extra[&format!("authentication.kubernetes.io/{key}")].join("");
    assert_eq!(extra("pod-name"), "web-0");
    assert_eq!(extra("pod-uid"), "pod-1");
    assert_eq!(extra("node-name"), "n1");
    assert_eq!(extra("credential-id"), "JTI=id-1");
}

#[test]
fn request_without_spec_gives_an_hour_for_the_server_itself() {
    let answer = fixture().request(Value::Null).unwrap();
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    assert_eq!(answer["spec"]["audiences"], json!([DEFAULT_ISSUER]));
    assert_eq!(answer["status"]["expirationTimestamp"], "2027-01-15T09:00:00Z");
}

#[test]
fn token_expired_is_refused() {
    let fixture = fixture();
    let token = fixture.token(json!({"expirationSeconds": 600}));
    fixture.clock.advance(Duration::from_secs(599));
    fixture.verify(&token).unwrap();
    fixture.clock.advance(Duration::from_secs(12));
    assert_eq!(fixture.verify(&token).unwrap_err(), "service account token has expired");
}

#[test]
fn token_of_deleted_or_replaced_pod_is_refused() {
    let fixture = fixture();
    let token = fixture.pod_token();
    fixture.verify(&token).unwrap();
    fixture.objects.put("", "pods", pod("pod-2"));
    assert!(fixture.verify(&token).unwrap_err().contains("was replaced"));
    fixture.objects.remove("", "pods", "shop", "web-0");
    assert!(fixture.verify(&token).unwrap_err().contains("is gone"));
}

#[test]
fn token_of_deleted_account_is_refused() {
    let fixture = fixture();
    let token = fixture.token(json!({}));
    fixture.objects.remove("", "serviceaccounts", "shop", "web");
    assert!(fixture.verify(&token).is_err());
}

#[test]
fn token_for_other_audience_is_refused_here_and_passes_there() {
    let fixture = fixture();
    let token = fixture.token(json!({"audiences": ["vault"]}));
    assert!(fixture.verify(&token).is_err());
    let verified = fixture.tokens.verify(&token, &["vault".into(), "other".into()]).unwrap();
    assert_eq!(verified.audiences, ["vault"]);
}

#[test]
fn token_altered_in_any_part_is_refused() {
    let fixture = fixture();
    let token = fixture.token(json!({}));
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    claims["sub"] = json!("system:serviceaccount:kube-system:admin");
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    let unsigned = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let hmac = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    for forged in [
        format!("{}.{claims}.{}", parts[0], parts[2]),
        format!("{unsigned}.{}.", parts[1]),
        format!("{hmac}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        "..".into(),
        String::new(),
        "x".repeat(20_000),
    ] {
        assert!(fixture.verify(&forged).is_err(), "{forged}");
    }
}

#[test]
fn token_of_another_clusters_key_is_refused() {
    let fixture = fixture();
    let other = tokens(&key_pem(), "", &fixture.objects, &fixture.clock);
    let answer = other.request(&admin(), "shop", "web", json!({})).unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    // It claims this issuer, so it is ours to refuse.
    assert!(fixture.tokens.claims_to_be_ours(token));
    assert!(fixture.verify(token).is_err());
}

#[test]
fn token_of_former_key_passes_after_rotation() {
    let fixture = fixture();
    let old = key_pem();
    let before = tokens(&old, "", &fixture.objects, &fixture.clock);
    let answer = before.request(&admin(), "shop", "web", json!({})).unwrap();
    let public = rcgen::KeyPair::from_pem(&old).unwrap().public_key_pem();
    let after = tokens(&key_pem(), &public, &fixture.objects, &fixture.clock);
    after.verify(answer["status"]["token"].as_str().unwrap(), &[]).unwrap();
    assert_eq!(after.jwks()["keys"].as_array().unwrap().len(), 2);
}

#[test]
fn request_table_of_refusals() {
    let fixture = fixture();
    let pod = |name: &str, uid: &str| json!({"boundObjectRef": {"kind": "Pod", "name": name, "uid": uid}});
    let table = [
        (json!({"expirationSeconds": 599}), 422, "may not specify a duration less than 10 minutes"),
        (json!({"expirationSeconds": 4_294_967_297_i64}), 422, "larger than 2^32 seconds"),
        (json!({"expirationSeconds": "x"}), 400, "must be an integer"),
        (json!({"audiences": [1]}), 400, "list of strings"),
        (pod("web-9", ""), 404, "pods \"web-9\" not found"),
        (pod("web-0", "pod-9"), 409, "does not match the UID in record"),
        (
            json!({"boundObjectRef": {"kind": "Service", "apiVersion": "v1", "name": "x"}}),
            400,
            "cannot bind token",
        ),
    ];
    for (spec, code, message) in table {
        let (found, text) = fixture.request(spec.clone()).unwrap_err();
        assert_eq!(found, code, "{spec}: {text}");
        assert!(text.contains(message), "{spec}: {text}");
    }
}

#[test]
fn request_by_node_only_for_pods_it_runs() {
    let fixture = fixture();
    let ask = |node: &str, spec: Value| {
        let user = UserInfo::new(format!("system:node:{node}"), &["system:nodes"]);
        fixture.tokens.request(&user, "shop", "web", json!({"spec": spec})).map_err(|status| status.code)
    };
    let bound = json!({"boundObjectRef": {"kind": "Pod", "name": "web-0", "uid": "pod-1"}});
    assert!(ask("n1", bound.clone()).is_ok());
    assert_eq!(ask("n2", bound).unwrap_err(), 403);
    assert_eq!(ask("n1", json!({})).unwrap_err(), 403);
}

/// An RSA key made for this test alone, PKCS #1 as kubeadm writes it. The key id in the test is
/// what OpenSSL gives as the digest of its public part.
const RSA_KEY: &str = include_str!("rsa-for-tests.pem");

#[test]
fn rsa_key_of_taken_over_cluster_signs_and_verifies() {
    let fixture = fixture();
    let rsa = tokens(RSA_KEY, "", &fixture.objects, &fixture.clock);
    let answer = rsa.request(&admin(), "shop", "web", json!({})).unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    rsa.verify(token, &[]).unwrap();
    let jwk = &rsa.jwks()["keys"][0];
    assert_eq!(jwk["kid"], "a4bXTVLQJGlav3V-rgYclul_2VLeUup0DPBwmcOctIY");
    assert_eq!(
        (jwk["kty"].as_str(), jwk["alg"].as_str(), jwk["e"].as_str()),
        (Some("RSA"), Some("RS256"), Some("AQAB"))
    );
    assert_eq!(rsa.openid_configuration()["id_token_signing_alg_values_supported"], json!(["RS256"]));
    assert!(fixture.verify(token).is_err());
}

#[test]
fn token_of_admission_is_accepted_for_longer_than_it_says() {
    let fixture = fixture();
    let spec = json!({"expirationSeconds": 3607,
        "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "web-0", "uid": "pod-1"}});
    let token = fixture.token(spec.clone());
    fixture.clock.advance(Duration::from_secs(3607 + 3600));
    fixture.verify(&token).unwrap();
    // Another life, another audience or no pod: no longer than asked for.
    for (field, value) in [
        ("expirationSeconds", json!(3600)),
        ("audiences", json!([DEFAULT_ISSUER, "vault"])),
        ("boundObjectRef", Value::Null),
    ] {
        let mut spec = spec.clone();
        spec[field] = value;
        let token = fixture.token(spec);
        fixture.clock.advance(Duration::from_secs(3607 + 3600));
        assert!(fixture.verify(&token).is_err(), "{field}");
    }
    let bounded = tokens(&key_pem(), "", &fixture.objects, &fixture.clock).with_lifetimes(Some(900), false);
    let answer =
        bounded.request(&admin(), "shop", "web", json!({"spec": {"expirationSeconds": 7200}})).unwrap();
    assert_eq!(answer["spec"]["expirationSeconds"], 900);
}

#[test]
fn issuer_that_was_given_up_is_still_accepted_where_it_is_listed() {
    let fixture = fixture();
    let key = key_pem();
    let new_id = || Arc::new(|| "id".to_owned());
    let of = |issuer: &str| {
        let keys = Arc::new(Keys::from_pem(&key, "").unwrap());
        Tokens::new(
            keys,
            issuer.into(),
            Vec::new(),
            Arc::clone(&fixture.objects) as _,
            fixture.clock.clock(),
            new_id(),
        )
    };
    let old = of("https://old").request(&admin(), "shop", "web", json!({})).unwrap();
    let old = old["status"]["token"].as_str().unwrap().to_owned();
    assert!(!of("https://new").claims_to_be_ours(&old));
    let both = of("https://new").with_further_issuers(vec!["https://old".into()]);
    assert!(both.claims_to_be_ours(&old));
    both.verify(&old, &[]).unwrap();
    assert_eq!(both.openid_configuration()["issuer"], "https://new");
}

#[test]
fn token_in_a_secret_is_good_while_the_secret_holds_it() {
    use base64::engine::general_purpose::STANDARD;
    let fixture = fixture();
    let key = key_pem();
    let registry = Registry::new();
    let counts = TokenMetrics::new(&registry, TokenCacheMetrics::new(&registry));
    let ours = tokens(&key, "", &fixture.objects, &fixture.clock).counting(counts);
    let sign = |claims: Value| {
        let encoding =
            jsonwebtoken::EncodingKey::from_ec_der(&rcgen::KeyPair::from_pem(&key).unwrap().serialize_der());
        jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256), &claims, &encoding)
            .unwrap()
    };
    let claims = json!({"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:shop:web",
        "kubernetes.io/serviceaccount/namespace": "shop", "kubernetes.io/serviceaccount/secret.name": "t",
        "kubernetes.io/serviceaccount/service-account.name": "web",
        "kubernetes.io/serviceaccount/service-account.uid": "sa-1"});
    let token = sign(claims.clone());
    let ask = |token: &str| {
        futures::executor::block_on(crate::authn::TokenAuthenticator::authenticate(&ours, token, &[]))
            .map(|known| known.unwrap().user.name)
    };
    assert_eq!(ask(&token).unwrap_err(), "Token has been invalidated");
    let secret = |labels: Value| {
        json!({"metadata": {"name": "t", "namespace": "shop", "labels": labels},
        "type": "kubernetes.io/service-account-token", "data": {"token": STANDARD.encode(&token)}})
    };
    fixture.objects.put("", "secrets", secret(json!({})));
    assert_eq!(ask(&token).unwrap(), "system:serviceaccount:shop:web");
    for (field, value) in [
        ("sub", "system:serviceaccount:shop:admin"),
        ("kubernetes.io/serviceaccount/service-account.uid", "sa-2"),
        ("kubernetes.io/serviceaccount/secret.name", ""),
    ] {
        let mut other = claims.clone();
        other[field] = json!(value);
        assert!(ask(&sign(other)).is_err(), "{field}");
    }
    let marked = secret(json!({"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}));
    fixture.objects.put("", "secrets", marked);
    assert!(ask(&token).unwrap_err().contains("has been marked invalid"));
    fixture.objects.put("", "secrets", secret(json!({})));
    fixture.objects.remove("", "serviceaccounts", "shop", "web");
    assert!(ask(&token).is_err());
    let count = |end: &str| counted(&registry, &format!("serviceaccount_{end}_total"), &[]).unwrap();
    // Whatever came of it, each was one.
    assert_eq!((count("legacy_tokens"), count("legacy_manual_token_uses")), (7.0, 1.0));
    assert_eq!((count("invalid_legacy_auto_token_uses"), count("legacy_auto_token_uses")), (1.0, 0.0));
}

#[test]
fn uses_of_tokens_are_counted_by_whether_they_are_stale() {
    let fixture = fixture();
    let registry = Registry::new();
    let counts = TokenMetrics::new(&registry, TokenCacheMetrics::new(&registry));
    let tokens = tokens(&key_pem(), "", &fixture.objects, &fixture.clock).counting(counts);
    let token = tokens.request(&admin(), "shop", "web", json!({})).unwrap();
    let token = token["status"]["token"].as_str().unwrap();
    for _ in 0..3 {
        tokens.verify(token, &[]).unwrap();
    }
    let count = |name: &str, labels: &[&str]| counted(&registry, name, labels);
    assert_eq!(count("serviceaccount_valid_tokens_total", &[]), Some(3.0));
    assert_eq!(count("serviceaccount_stale_tokens_total", &[]), Some(0.0));
    assert_eq!(count("authentication_token_cache_request_total", &["hit"]), Some(2.0));
    assert_eq!(count("authentication_token_cache_fetch_total", &["ok"]), Some(1.0));
    assert!(tokens.verify(&token[..token.len() - 2], &[]).is_err());
    assert_eq!(count("authentication_token_cache_fetch_total", &["error"]), Some(1.0));
    assert_eq!(count("serviceaccount_valid_tokens_total", &[]), Some(3.0));
}
