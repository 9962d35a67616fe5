//! Credentials in, identity or refusal out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use serde_json::json;

use super::{Chain, StaticTokens, credentials, impersonated};
use crate::authz::Authz;
use crate::authz::bootstrap::bootstrap_objects;
use crate::gate::{Authenticator, Credentials};
use crate::pki::{Authority, Leaf, Role, Subject};
use crate::testing::{Objects, TestClock};
use crate::tokens::{DEFAULT_ISSUER, Keys, Tokens};
use crate::user::UserInfo;

/// Made by OpenSSL: CN=jane, O=team, O=other, valid for a century.
const TWO_GROUPS: &str = include_str!("two-groups.pem");

struct Fixture {
    chain: Chain,
    tokens: Arc<Tokens>,
    clock: TestClock,
}

fn fixture() -> Fixture {
    let objects = Arc::new(Objects::default());
    let account = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "sa-1"}});
    objects.put("", "serviceaccounts", account);
    let clock = TestClock::new();
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let keys = Arc::new(Keys::from_pem(&key, "").unwrap());
    let new_id = Arc::new(|| "id".to_owned());
    let tokens = Tokens::new(keys, DEFAULT_ISSUER.into(), Vec::new(), objects, clock.clock(), new_id);
    let tokens = Arc::new(tokens);
    let file = "secret-1,jane,u1,\"team,other\"\n\n# a comment\nsecret-2,\"joe \"\"x\"\"\",u2\n";
    let fixed = StaticTokens::parse(file, Path::new("tokens.csv")).unwrap();
    Fixture { chain: Chain::new(Arc::clone(&tokens), fixed, clock.clock()), tokens, clock }
}

fn certificate(subject: &Subject, clock: &TestClock) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(directory.path(), Role::Cluster, clock.now()).unwrap();
    let leaf: Leaf = authority.issue(subject, clock.now()).unwrap();
    crate::tls::certificates(&leaf.certificate_pem).unwrap()[0].to_vec()
}

async fn identify(
    chain: &Chain,
    certificate: Option<Vec<u8>>,
    bearer: Option<&str>,
) -> Result<Option<UserInfo>, String> {
    let credentials =
        Credentials { certificates: certificate.into_iter().collect(), bearer: bearer.map(str::to_owned) };
    chain.authenticate(&credentials).await
}

#[tokio::test]
async fn certificate_gives_name_and_groups() {
    let fixture = fixture();
    let der = crate::tls::certificates(TWO_GROUPS).unwrap()[0].to_vec();
    let user = identify(&fixture.chain, Some(der), None).await.unwrap().unwrap();
    assert_eq!(user.name, "jane");
    assert_eq!(user.groups, ["team", "other", "system:authenticated"]);
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
}

#[tokio::test]
async fn certificate_expired_malformed_or_nameless_is_refused() {
    let fixture = fixture();
    let der = certificate(&Subject::client("jane", None), &fixture.clock);
    let nameless = certificate(&Subject::client("", Some("system:masters")), &fixture.clock);
    assert!(identify(&fixture.chain, Some(nameless), None).await.is_err());
    assert!(identify(&fixture.chain, Some(vec![0x30, 1, 2]), None).await.is_err());
    fixture.clock.advance(Duration::from_secs(366 * 24 * 3600));
    assert!(identify(&fixture.chain, Some(der), None).await.is_err());
}

#[tokio::test]
async fn bearer_tokens_of_both_kinds_are_known_and_others_refused() {
    let fixture = fixture();
    let admin = UserInfo::new("admin", &["system:masters"]);
    let answer = fixture.tokens.request(&admin, "shop", "web", json!({})).unwrap();
    let token = answer["status"]["token"].as_str().unwrap();
    let user = identify(&fixture.chain, None, Some(token)).await.unwrap().unwrap();
    assert_eq!(user.name, "system:serviceaccount:shop:web");
    let user = identify(&fixture.chain, None, Some("secret-1")).await.unwrap().unwrap();
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "u1"));
    assert_eq!(user.groups, ["team", "other", "system:authenticated"]);
    let user = identify(&fixture.chain, None, Some("secret-2")).await.unwrap().unwrap();
    assert_eq!(user.name, "joe \"x\"");
    for wrong in ["secret-3", "", "a.b.c", &token[..token.len() - 2]] {
        assert!(identify(&fixture.chain, None, Some(wrong)).await.is_err(), "{wrong}");
    }
    assert_eq!(identify(&fixture.chain, None, None).await.unwrap(), None);
}

#[test]
fn token_file_bad_lines_are_named() {
    for (text, line) in [("a,b", 1), ("a,b,c\n,b,c", 2), ("a,b,c\n\nx,\"b,c", 3), ("a,\"b\"x,c", 1)] {
        let error = StaticTokens::parse(text, Path::new("t.csv")).unwrap_err().to_string();
        assert!(error.starts_with(&format!("t.csv:{line}: ")), "{text:?}: {error}");
    }
}

#[test]
fn authorization_header_forms() {
    let bearer = |value: &str| {
        let (parts, ()) = Request::builder().header("authorization", value).body(()).unwrap().into_parts();
        credentials(&parts).unwrap().bearer
    };
    assert_eq!(bearer("Bearer abc").as_deref(), Some("abc"));
    assert_eq!(bearer("bearer  abc ").as_deref(), Some("abc"));
    assert_eq!(bearer("Bearer "), None);
    assert_eq!(bearer("Basic abc"), None);
    let protocols = "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj";
    let (parts, ()) =
        Request::builder().header("sec-websocket-protocol", protocols).body(()).unwrap().into_parts();
    assert_eq!(credentials(&parts).unwrap().bearer.as_deref(), Some("abc"));
}

#[test]
fn impersonation_needs_the_right_to_each_part() {
    let objects = Arc::new(Objects::default());
    for entry in bootstrap_objects() {
        objects.put(entry.group, entry.resource, entry.object);
    }
    let rules = json!([{"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"]}]);
    objects.put(
        "rbac.authorization.k8s.io",
        "clusterroles",
        json!({"metadata": {"name": "i"}, "rules": rules}),
    );
    objects.put(
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        json!({"metadata": {"name": "i"}, "roleRef": {"kind": "ClusterRole", "name": "i"},
               "subjects": [{"kind": "User", "name": "helper"}]}),
    );
    let authz = Authz::new(objects);
    let ask = |user: &UserInfo, headers: &[(&str, &str)]| {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        impersonated(user, request.headers(), &authz).map_err(|status| status.code)
    };
    let helper = UserInfo::new("helper", &[]);
    let admin = UserInfo::new("admin", &["system:masters"]);
    assert_eq!(ask(&helper, &[]), Ok(None));
    let jane = ask(&helper, &[("impersonate-user", "jane")]).unwrap().unwrap();
    assert_eq!((jane.name.as_str(), jane.groups.join(",").as_str()), ("jane", "system:authenticated"));
    assert_eq!(
        ask(&helper, &[("impersonate-user", "jane"), ("impersonate-group", "system:masters")]),
        Err(403)
    );
    assert_eq!(ask(&helper, &[("impersonate-user", "system:serviceaccount:kube-system:x")]), Err(403));
    assert_eq!(ask(&UserInfo::new("nobody", &[]), &[("impersonate-user", "jane")]), Err(403));
    assert_eq!(ask(&admin, &[("impersonate-group", "g")]), Err(400));
    let bot = ask(
        &admin,
        &[("impersonate-user", "system:serviceaccount:shop:bot"), ("impersonate-extra-a%2Fb", "c")],
    );
    let bot = bot.unwrap().unwrap();
    assert!(bot.groups.contains(&"system:serviceaccounts:shop".to_owned()));
    assert_eq!(bot.extra["a/b"], ["c"]);
}
