//! Tokens of an issuer on the network: good ones, forged ones, and an issuer that fails.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use prometheus::Registry;
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};

use super::{AuthenticationConfiguration, JwtTokens, OidcFlags};
use crate::authn::TokenAuthenticator;
use crate::callout::testing::Server;
use crate::metrics::{IssuerMetrics, hash};
use crate::testing::{TestClock, counted};
use crate::user::UserInfo;

/// An issuer whose keys can be changed.
pub(super) struct Issuer {
    pub(super) server: Server,
    pub(super) keys: Arc<Mutex<Vec<Value>>>,
    /// What is at `/groups`, for who shows the right token.
    pub(super) groups: Arc<Mutex<String>>,
    pub(super) key: KeyPair,
    clock: TestClock,
    registry: Registry,
}

fn jwk(key: &KeyPair, id: &str) -> Value {
    let point = key.der_bytes();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": id, "x": encode(&point[1..33]), "y": encode(&point[33..65])})
}

pub(super) async fn issuer() -> Issuer {
    let keys = Arc::new(Mutex::new(Vec::new()));
    let address = Arc::new(Mutex::new(String::new()));
    let (known, own) = (Arc::clone(&keys), Arc::clone(&address));
    let groups = Arc::new(Mutex::new(String::new()));
    let shown = Arc::clone(&groups);
    let server = Server::seeing(move |parts, _| {
        let url = own.lock().clone();
        let document = match parts.uri.path() {
            "/groups" => {
                let token = parts.headers.get("authorization");
                let may = token.is_some_and(|token| token == "Bearer f005ba11");
                return Some(if may {
                    (200, shown.lock().clone())
                } else {
                    (401, "who are you?".to_owned())
                });
            }
            "/.well-known/openid-configuration" => json!({"issuer": url, "jwks_uri": format!("{url}/keys")}),
            "/elsewhere" => json!({"issuer": "https://issuer.example", "jwks_uri": format!("{url}/keys")}),
            _ => json!({"keys": *known.lock()}),
        };
        Some((200, document.to_string()))
    })
    .await;
    *address.lock() = server.url("");
    let key = KeyPair::generate().unwrap();
    keys.lock().push(jwk(&key, "k1"));
    Issuer { server, keys, groups, key, clock: TestClock::new(), registry: Registry::new() }
}

impl Issuer {
    pub(super) fn file(&self, more: &str) -> String {
        let ca = self.server.ca.replace('\n', "\n      ");
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: {}\n    \
             audiences: [kube, other]\n    audienceMatchPolicy: MatchAny\n    certificateAuthority: |\n      {ca}\n{more}\n",
            self.server.url("")
        )
    }

    fn metrics(&self) -> IssuerMetrics {
        IssuerMetrics::new(&self.registry, "here")
    }

    pub(super) fn tokens(&self, more: &str) -> JwtTokens {
        self.tokens_of(&self.file(more))
    }

    pub(super) fn tokens_of(&self, file: &str) -> JwtTokens {
        let file = AuthenticationConfiguration::of_file(file, Path::new("f"), &[]).unwrap();
        JwtTokens::new(file.issuers, self.clock.clock(), self.metrics()).unwrap()
    }

    pub(super) fn claims(&self, more: Value) -> Value {
        let now = self.clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims =
            json!({"iss": self.server.url(""), "aud": "kube", "sub": "jane", "exp": now + 3600, "jti": "j1"});
        for (key, value) in more.as_object().unwrap() {
            claims[key] = value.clone();
        }
        claims
    }

    pub(super) fn token(&self, more: Value) -> String {
        sign(&self.key, "k1", &self.claims(more))
    }
}

pub(super) fn sign(key: &KeyPair, id: &str, claims: &Value) -> String {
    crate::tokens::use_ring();
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(id.to_owned());
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_der(&key.serialize_der())).unwrap()
}

/// Asks until the issuer's keys are there.
pub(super) async fn ask(tokens: &JwtTokens, token: &str) -> Result<Option<UserInfo>, String> {
    loop {
        match tokens.authenticate(token, &[]).await {
            Err(error) if error.contains("not initialized") => tokio::task::yield_now().await,
            other => return other.map(|known| known.map(|known| known.user)),
        }
    }
}

pub(super) const PLAIN: &str = "  claimMappings:\n    username: {claim: sub, prefix: 'oidc:'}\n    groups: {claim: groups, prefix: 'g:'}";

#[tokio::test]
async fn token_of_the_issuer_is_mapped_by_claims() {
    let issuer = issuer().await;
    let tokens = issuer.tokens(PLAIN);
    let jane = ask(&tokens, &issuer.token(json!({"groups": ["a", "b"]}))).await.unwrap().unwrap();
    assert_eq!((jane.name.as_str(), jane.groups.join(",").as_str()), ("oidc:jane", "g:a,g:b"));
    assert_eq!(jane.extra["authentication.kubernetes.io/credential-id"], ["JTI=j1"]);
    let one = ask(&tokens, &issuer.token(json!({"groups": "only"}))).await.unwrap().unwrap();
    assert_eq!(one.groups, ["g:only"]);
    assert_eq!(ask(&tokens, &issuer.token(json!({"iss": "https://other"}))).await, Ok(None));
    assert_eq!(ask(&tokens, "no.jwt.this").await, Ok(None));
}

#[tokio::test]
async fn token_is_mapped_by_expressions_and_must_keep_the_rules() {
    let issuer = issuer().await;
    let more = "  claimValidationRules:\n  - {claim: tenant, requiredValue: t1}\n  - {expression: 'claims.level > 2', message: \
                too low}\n  claimMappings:\n    username: {expression: \"'oidc:' + claims.sub\"}\n    groups: {expression: \
                \"claims.roles.filter(r, r != 'x').map(r, 'g:' + r)\"}\n    uid: {claim: uid}\n    extra:\n    - {key: \
                acme.io/tenant, valueExpression: claims.tenant}\n    - {key: acme.io/none, valueExpression: \"''\"}\n  \
                userValidationRules:\n  - {expression: \"!user.username.startsWith('oidc:system:')\", message: reserved}";
    let tokens = issuer.tokens(more);
    let good = json!({"tenant": "t1", "level": 3, "roles": ["a", "x"], "uid": "7"});
    let user = ask(&tokens, &issuer.token(good.clone())).await.unwrap().unwrap();
    assert_eq!(
        (user.name.as_str(), user.uid.as_str(), user.groups.join(",").as_str()),
        ("oidc:jane", "7", "g:a")
    );
    assert_eq!(user.extra["acme.io/tenant"], ["t1"]);
    assert!(!user.extra.contains_key("acme.io/none"));
    for (field, value, expected) in [
        ("tenant", json!("t2"), "required claim tenant value does not match"),
        ("level", json!(1), "failed: too low"),
        ("level", json!(null), "level"),
        ("sub", json!("system:admin"), "failed: reserved"),
        ("roles", json!(7), "group claim expression"),
        ("uid", json!(7), "parse uid claim"),
    ] {
        let mut claims = good.clone();
        claims[field] = value;
        let error = ask(&tokens, &issuer.token(claims)).await.unwrap_err();
        assert!(error.contains(expected), "{field}: {error}");
    }
}

#[tokio::test]
async fn email_must_be_verified_where_the_issuer_says_whether_it_is() {
    let issuer = issuer().await;
    let tokens = issuer.tokens("  claimMappings:\n    username: {claim: email, prefix: ''}");
    let with = |verified: Value| {
        let mut claims = json!({"email": "jane@example.com"});
        if !verified.is_null() {
            claims["email_verified"] = verified;
        }
        issuer.token(claims)
    };
    assert_eq!(ask(&tokens, &with(json!(true))).await.unwrap().unwrap().name, "jane@example.com");
    assert!(ask(&tokens, &with(json!(null))).await.is_ok());
    assert!(ask(&tokens, &with(json!(false))).await.is_err());
    assert!(ask(&tokens, &with(json!("true"))).await.is_err());
}

#[tokio::test]
async fn forged_and_untimely_tokens_are_refused() {
    let issuer = issuer().await;
    let tokens = issuer.tokens(PLAIN);
    let good = issuer.token(json!({}));
    ask(&tokens, &good).await.unwrap().unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let admin = encode(issuer.claims(json!({"sub": "admin"})));
    let tampered = format!("{}.{admin}.{}", parts[0], parts[2]);
    let unsigned = format!("{}.{admin}.", encode(json!({"alg": "none"})));
    // The public key as a shared secret.
    let shared = {
        let signed = format!("{}.{admin}", encode(json!({"alg": "HS256", "kid": "k1"})));
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, issuer.key.der_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(ring::hmac::sign(&secret, signed.as_bytes())))
    };
    let other = sign(&KeyPair::generate().unwrap(), "k1", &issuer.claims(json!({})));
    let now = issuer.clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (token, what) in [
        (tampered, "tampered"),
        (unsigned, "alg none"),
        (shared, "HS256"),
        (other, "another key"),
        (issuer.token(json!({"aud": "vault"})), "audience"),
        (issuer.token(json!({"aud": null})), "no audience"),
        (issuer.token(json!({"exp": now - 1})), "expired"),
        (issuer.token(json!({"exp": null})), "no end"),
        (issuer.token(json!({"nbf": now + 3600})), "not yet"),
        (issuer.token(json!({"sub": 7})), "no name"),
    ] {
        assert!(ask(&tokens, &token).await.is_err(), "{what}");
    }
    let both = issuer.token(json!({"aud": ["x", "other"]}));
    assert!(ask(&tokens, &both).await.is_ok());
    issuer.clock.advance(Duration::from_secs(3601));
    assert!(ask(&tokens, &good).await.unwrap_err().contains("expired"));
}

#[tokio::test]
async fn token_with_an_unknown_key_is_refused_without_a_storm_of_requests() {
    let issuer = issuer().await;
    let tokens = issuer.tokens(PLAIN);
    ask(&tokens, &issuer.token(json!({}))).await.unwrap().unwrap();
    let calls = issuer.server.calls();
    let stranger = KeyPair::generate().unwrap();
    let attempts = (0..8).map(|at| {
        let token = sign(&stranger, &format!("x{at}"), &issuer.claims(json!({})));
        let tokens = &tokens;
        async move { tokens.authenticate(&token, &[]).await }
    });
    let found = futures::future::join_all(attempts).await;
    assert!(found.iter().all(Result::is_err));
    assert!(issuer.server.calls() <= calls + 2, "{} calls", issuer.server.calls());
}

#[tokio::test]
async fn key_that_the_issuer_takes_up_is_fetched_and_one_that_it_drops_is_forgotten() {
    let issuer = issuer().await;
    let tokens = issuer.tokens(PLAIN);
    let before = issuer.token(json!({}));
    ask(&tokens, &before).await.unwrap().unwrap();
    let next = KeyPair::generate().unwrap();
    *issuer.keys.lock() = vec![jwk(&next, "k2")];
    // The next attempt is due.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    let after = sign(&next, "k2", &issuer.claims(json!({})));
    ask(&tokens, &after).await.unwrap().unwrap();
    assert!(ask(&tokens, &before).await.is_err());
}

#[tokio::test]
async fn issuer_that_says_to_be_another_is_not_believed() {
    let issuer = issuer().await;
    let file = issuer.file(PLAIN).replace(
        "    audiences:",
        &format!("    discoveryURL: {}\n    audiences:", issuer.server.url("/elsewhere")),
    );
    let configuration = AuthenticationConfiguration::of_file(&file, Path::new("f"), &[]).unwrap();
    let tokens = JwtTokens::new(configuration.issuers, issuer.clock.clock(), issuer.metrics()).unwrap();
    while issuer.server.calls() == 0 {
        tokio::task::yield_now().await;
    }
    let error = tokens.authenticate(&issuer.token(json!({})), &[]).await.unwrap_err();
    assert!(error.contains("not initialized"), "{error}");
    // The keys of an issuer whose document is elsewhere.
    let file = file.replace(&format!("url: {}\n", issuer.server.url("")), "url: https://issuer.example\n");
    let configuration = AuthenticationConfiguration::of_file(&file, Path::new("f"), &[]).unwrap();
    tokens.replace(configuration.issuers).unwrap();
    let token = issuer.token(json!({"iss": "https://issuer.example"}));
    assert_eq!(ask(&tokens, &token).await.unwrap().unwrap().name, "oidc:jane");
    // Who was believed before is not any more.
    assert_eq!(ask(&tokens, &issuer.token(json!({}))).await, Ok(None));
}

#[tokio::test]
async fn issuers_take_the_place_of_others_when_their_keys_are_there() {
    let (before, after) = (issuer().await, issuer().await);
    let tokens = before.tokens(PLAIN);
    let old = before.token(json!({}));
    ask(&tokens, &old).await.unwrap().unwrap();
    let issuers =
        |text: &str| AuthenticationConfiguration::of_file(text, Path::new("f"), &[]).unwrap().issuers;
    // One of two never says its keys: it is as if nothing had been said.
    let silent = after.file(PLAIN).replace(
        "    audiences:",
        &format!("    discoveryURL: {}\n    audiences:", after.server.url("/elsewhere")),
    );
    tokio::time::pause();
    let error = tokens.replace_when_ready(issuers(&silent)).await.unwrap_err().to_string();
    tokio::time::resume();
    assert_eq!(error, format!("the keys of {} cannot be fetched", after.server.url("")));
    tokens.authenticate(&old, &[]).await.unwrap().unwrap();
    tokens.replace_when_ready(issuers(&after.file(PLAIN))).await.unwrap();
    tokens.authenticate(&after.token(json!({})), &[]).await.unwrap().unwrap();
    assert_eq!(tokens.authenticate(&old, &[]).await, Ok(None));
}

#[tokio::test]
async fn flags_make_an_issuer_as_upstream_has_it() {
    let issuer = issuer().await;
    let mut flags = OidcFlags {
        issuer: issuer.server.url(""),
        client_id: "kube".into(),
        authority: issuer.server.ca.clone(),
        username_claim: "sub".into(),
        groups_claim: "groups".into(),
        algorithms: vec!["ES256".into()],
        required: vec![("tenant".into(), "t".into())],
        ..OidcFlags::default()
    };
    let tokens =
        JwtTokens::new(vec![flags.issuer(&[]).unwrap()], issuer.clock.clock(), issuer.metrics()).unwrap();
    let claims = json!({"tenant": "t", "groups": ["a"]});
    let user = ask(&tokens, &issuer.token(claims.clone())).await.unwrap().unwrap();
    assert_eq!((user.name, user.groups.join(",")), (format!("{}#jane", issuer.server.url("")), "a".into()));
    flags.username_prefix = "-".into();
    tokens.replace(vec![flags.issuer(&[]).unwrap()]).unwrap();
    assert_eq!(ask(&tokens, &issuer.token(claims.clone())).await.unwrap().unwrap().name, "jane");
    flags.algorithms = vec!["RS256".into()];
    tokens.replace(vec![flags.issuer(&[]).unwrap()]).unwrap();
    assert!(
        tokens.authenticate(&issuer.token(claims), &[]).await.unwrap_err().contains("unsupported algorithm")
    );
    flags.algorithms = vec!["HS256".into()];
    assert!(flags.issuer(&[]).is_err());
    flags.algorithms = vec!["RS256".into()];
    assert!(flags.issuer(&[issuer.server.url("")]).is_err());
}

#[tokio::test]
async fn file_that_is_wrong_is_refused_in_upstreams_words() {
    let issuer = issuer().await;
    let url = issuer.server.url("");
    let good = issuer.file(PLAIN);
    let username = "username: {claim: sub, prefix: 'oidc:'}";
    for (from, to, expected) in [
        (
            url.as_str(),
            "http://a",
            "jwt[0].issuer.url: Invalid value: \"http://a\": URL scheme must be https",
        ),
        (&url, "https://u@a", "URL must not contain a username or password"),
        (&url, "https://a?b=c", "URL must not contain a query"),
        (&url, "https://a#b", "URL must not contain a fragment"),
        (
            "MatchAny",
            "''",
            "jwt[0].issuer.audienceMatchPolicy: Invalid value: \"\": audienceMatchPolicy must be MatchAny",
        ),
        ("[kube, other]", "[]", "jwt[0].issuer.audiences: Required value"),
        ("[kube, other]", "[kube, kube]", "jwt[0].issuer.audiences[1]: Duplicate value: \"kube\""),
        (username, "username: {claim: sub}", "jwt[0].claimMappings.username.prefix: Required value"),
        (
            username,
            "username: {}",
            "jwt[0].claimMappings.username: Required value: claim or expression is required",
        ),
        (username, "username: {claim: a, expression: b}", "claim and expression can't both be set"),
        (username, "username: {expression: 'claims.email'}", "claims.email_verified must be used"),
        (username, "username: {expression: 'claim.sub'}", "undeclared reference to 'claim'"),
        (
            username,
            "username: {expression: 'claims.a', prefix: x}",
            "may not be specified when expression is set",
        ),
        (
            username,
            "extra: [{key: a, valueExpression: \"'x'\"}]",
            "jwt[0].claimMappings.extra[0].key: Invalid value",
        ),
        (username, "extra: [{key: k8s.io/a, valueExpression: \"'x'\"}]", "are reserved for Kubernetes use"),
        (
            "  claimMappings:",
            "  claimValidationRules: [{}]\n  claimMappings:",
            "jwt[0].claimValidationRules[0]: Required value",
        ),
        (
            "  claimMappings:",
            "  userValidationRules: [{expression: '1'}]\n  claimMappings:",
            "must evaluate to bool",
        ),
        (
            "jwt:",
            "anonymous: {enabled: false, conditions: [{path: /x}]}\njwt:",
            "anonymous.conditions: Invalid value",
        ),
        ("jwt:", "jwtt:", "unknown field `jwtt`"),
        ("config.k8s.io/v1", "config.k8s.io/v2", "is registered for version"),
    ] {
        assert!(good.contains(from), "{from}");
        let text = good.replacen(from, to, 1);
        let error = AuthenticationConfiguration::of_file(&text, Path::new("f"), &[]).unwrap_err().to_string();
        assert!(
            error.starts_with("authentication configuration f: ") && error.contains(expected),
            "{to}: {error}"
        );
    }
    let own = [url];
    let error = AuthenticationConfiguration::of_file(&good, Path::new("f"), &own).unwrap_err().to_string();
    assert!(error.contains("URL must not overlap with disallowed issuers"), "{error}");
}

#[tokio::test]
async fn tokens_and_keys_of_an_issuer_are_counted_until_it_goes() {
    let issuer = issuer().await;
    let tokens = issuer.tokens(PLAIN);
    ask(&tokens, &issuer.token(json!({}))).await.unwrap().unwrap();
    assert!(ask(&tokens, &issuer.token(json!({"aud": "somebody"}))).await.is_err());
    ask(&tokens, &issuer.token(json!({"iss": "https://other"}))).await.unwrap();
    let of = hash(&issuer.server.url(""));
    let count = |end: &str, labels: &[&str]| {
        counted(&issuer.registry, &format!("apiserver_authentication_jwt_authenticator_{end}"), labels)
    };
    assert_eq!(count("latency_seconds", &["success", &of]), Some(1.0));
    // There may be some from before the keys were there.
    assert!(count("latency_seconds", &["failure", &of]) >= Some(1.0));
    assert_eq!(count("latency_seconds", &[&hash("https://other")]), None, "nobody here knows it");
    let now = issuer.clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs() as f64;
    let fetched = "jwks_fetch_last_timestamp_seconds";
    assert_eq!(count(fetched, &["success", &of, &hash("here")]), Some(now));
    assert_eq!(count("jwks_fetch_last_key_set_info", &[&of, &hash("here")]), Some(1.0));
    tokens.replace(Vec::new()).unwrap();
    assert_eq!((count(fetched, &[]), count("jwks_fetch_last_key_set_info", &[])), (None, None));
}

#[test]
fn new_keys_of_an_issuer_take_the_place_of_those_before() {
    let registry = Registry::new();
    let metrics = IssuerMetrics::new(&registry, "here");
    for (issuer, keys) in [("a", Some("1")), ("b", Some("1")), ("a", Some("2")), ("a", None)] {
        metrics.fetched(issuer, keys, UNIX_EPOCH + Duration::from_secs(7));
    }
    let of = |labels: &[&str]| {
        counted(&registry, "apiserver_authentication_jwt_authenticator_jwks_fetch_last_key_set_info", labels)
    };
    assert_eq!(
        (of(&[&hash("a")]), of(&[&hash("a"), &hash("2")]), of(&[&hash("b")])),
        (Some(1.0), Some(1.0), Some(1.0))
    );
    let fetched = "apiserver_authentication_jwt_authenticator_jwks_fetch_last_timestamp_seconds";
    assert_eq!(counted(&registry, fetched, &[&hash("a"), "failure"]), Some(7.0));
}
