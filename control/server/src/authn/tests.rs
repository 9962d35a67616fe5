//! Credentials in, identity or refusal out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::executor::block_on;
use http::Request;
use prometheus::Registry;
use serde_json::json;

use super::x509::Verifier;
use super::{
    BootstrapTokens, Chain, FrontProxy, ProxyHeaders, StaticTokens, TokenAuthenticator, credentials,
    impersonated,
};
use crate::authz::Authz;
use crate::authz::bootstrap::bootstrap_objects;
use crate::gate::{Assumed, Authenticator, Authorizer, Credentials, Decision};
use crate::metrics::ImpersonationMetrics;
use crate::pki::{Authority, Leaf, Role, Subject};
use crate::request::RequestInfo;
use crate::testing::{Objects, TestClock, counted};
use crate::tokens::{DEFAULT_ISSUER, Keys, Tokens};
use crate::user::UserInfo;

/// Made by OpenSSL: CN=jane, O=team, O=other, valid for a century.
const TWO_GROUPS: &str = include_str!("two-groups.pem");
/// Of jane, too, with one and with two values of Kubernetes' attribute for uids.
const ONE_UID: &str = include_str!("one-uid.pem");
const TWO_UIDS: &str = include_str!("two-uids.pem");

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

/// Counts that nobody reads.
fn counts() -> ImpersonationMetrics {
    ImpersonationMetrics::new(&Registry::new())
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
    let (certificates, bearer) = (certificate.into_iter().collect(), bearer.map(str::to_owned));
    let credentials = Credentials { certificates, bearer, refused: None };
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
async fn certificate_may_give_a_uid_and_only_one() {
    let fixture = fixture();
    let der = |pem: &str| crate::tls::certificates(pem).unwrap()[0].to_vec();
    let user = identify(&fixture.chain, Some(der(ONE_UID)), None).await.unwrap().unwrap();
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "uid-7"));
    let refused = identify(&fixture.chain, Some(der(TWO_UIDS)), None).await.unwrap_err();
    assert_eq!(refused, "expected 1 UID, but found multiple: [uid-7 uid-8]");
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

#[tokio::test]
async fn certificate_of_another_authority_is_nobody_and_a_token_beside_it_still_counts() {
    let Fixture { chain, clock, .. } = fixture();
    let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let clients = Authority::open_or_create(own.path(), Role::Cluster, clock.now()).unwrap();
    let proxies = Authority::open_or_create(other.path(), Role::FrontProxy, clock.now()).unwrap();
    let chain = chain.with_client_authority(Arc::new(Verifier::new(clients.certificate_pem()).unwrap()));
    let der = |authority: &Authority| {
        let leaf = authority.issue(&Subject::client("root", Some("system:masters")), clock.now()).unwrap();
        crate::tls::certificates(&leaf.certificate_pem).unwrap()[0].to_vec()
    };
    let (good, bad) = (der(&clients), der(&proxies));
    for _ in 0..2 {
        assert_eq!(identify(&chain, Some(good.clone()), None).await.unwrap().unwrap().name, "root");
        assert!(identify(&chain, Some(bad.clone()), None).await.is_err());
    }
    assert_eq!(identify(&chain, Some(bad.clone()), Some("secret-1")).await.unwrap().unwrap().name, "jane");
    assert!(identify(&chain, Some(bad), Some("wrong")).await.is_err());
    clock.advance(Duration::from_secs(366 * 24 * 3600));
    assert!(identify(&chain, Some(good), None).await.is_err());
}

#[tokio::test]
async fn certificate_that_was_refused_is_not_nobody_and_a_token_beside_it_still_counts() {
    let Fixture { chain, .. } = fixture();
    let refused = |bearer: Option<&str>| Credentials {
        refused: Some("of somebody else".into()),
        bearer: bearer.map(str::to_owned),
        ..Credentials::default()
    };
    assert_eq!(chain.authenticate(&refused(None)).await.unwrap_err(), "of somebody else");
    assert_eq!(chain.authenticate(&refused(Some("secret-1"))).await.unwrap().unwrap().name, "jane");
    let both = chain.authenticate(&refused(Some("wrong"))).await.unwrap_err();
    assert_eq!(both, "[of somebody else, invalid bearer token]");
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
    assert_eq!(bearer("bearer abc ").as_deref(), Some("abc"));
    assert_eq!(bearer("Bearer abc def").as_deref(), Some("abc"));
    assert_eq!(bearer("Bearer  abc"), None);
    assert_eq!(bearer("Bearer "), None);
    assert_eq!(bearer("Basic abc"), None);
    let protocols = "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.YWJj";
    let (parts, ()) =
        Request::builder().header("sec-websocket-protocol", protocols).body(()).unwrap().into_parts();
    assert_eq!(credentials(&parts).unwrap().bearer.as_deref(), Some("abc"));
}

fn header_map(headers: &[(&str, &str)]) -> http::HeaderMap {
    let mut request = Request::builder();
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().headers().clone()
}

#[tokio::test]
async fn impersonation_needs_the_right_to_each_part() {
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
        let list = RequestInfo {
            is_resource: true,
            verb: "list".into(),
            resource: "pods".into(),
            ..RequestInfo::default()
        };
        let answer = block_on(impersonated(user, &header_map(headers), &list, &authz, &counts()));
        answer.map(|assumed| assumed.map(|assumed| assumed.user)).map_err(|status| status.code)
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

#[tokio::test]
async fn constrained_impersonation_allows_a_request_and_no_other() {
    let objects = Arc::new(Objects::default());
    let group = "authentication.k8s.io";
    let rules = json!([
        {"verbs": ["impersonate:user-info"], "apiGroups": [group], "resources": ["users"], "resourceNames": ["jane"]},
        {"verbs": ["impersonate:user-info"], "apiGroups": [group], "resources": ["groups"]},
        {"verbs": ["impersonate-on:user-info:list"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["impersonate:associated-node"], "apiGroups": [group], "resources": ["nodes"]},
        {"verbs": ["impersonate-on:associated-node:get"], "apiGroups": [""], "resources": ["pods"]},
    ]);
    objects.put(
        "rbac.authorization.k8s.io",
        "clusterroles",
        json!({"metadata": {"name": "i"}, "rules": rules}),
    );
    objects.put(
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        json!({"metadata": {"name": "i"}, "roleRef": {"kind": "ClusterRole", "name": "i"},
               "subjects": [{"kind": "User", "name": "helper"},
                            {"kind": "ServiceAccount", "name": "agent", "namespace": "shop"}]}),
    );
    let authz = Authz::new(objects);
    let ask = |user: &UserInfo, verb: &str, headers: &[(&str, &str)]| {
        let request = RequestInfo {
            is_resource: true,
            verb: verb.into(),
            resource: "pods".into(),
            ..RequestInfo::default()
        };
        let answer = block_on(impersonated(user, &header_map(headers), &request, &authz, &counts()));
        let answer =
            answer.map(|assumed| assumed.map(|Assumed { user, constraint }| (user, constraint)).unwrap());
        answer.map_err(|status| (status.code, status.message))
    };
    let helper = UserInfo::new("helper", &[]);
    let jane = ("impersonate-user", "jane");
    let (user, constraint) = ask(&helper, "list", &[jane, ("impersonate-group", "team")]).unwrap();
    assert_eq!((user.name.as_str(), constraint), ("jane", "impersonate:user-info"));
    assert_eq!(user.groups, ["team", "system:authenticated"]);
    let refused = ask(&helper, "delete", &[jane]).unwrap_err();
    assert!(refused.1.contains("cannot impersonate-on:user-info:delete resource \"pods\""), "{}", refused.1);
    for headers in [
        &[("impersonate-user", "joe")][..],
        &[jane, ("impersonate-group", "system:masters")],
        &[jane, ("impersonate-uid", "1")],
        &[("impersonate-user", "system:node:n1")],
        &[("impersonate-user", "system:serviceaccount:a:b")],
    ] {
        assert_eq!(ask(&helper, "list", headers).unwrap_err().0, 403, "{headers:?}");
    }
    let mut agent = UserInfo::service_account("shop", "agent");
    agent.extra.insert("authentication.kubernetes.io/node-name".into(), vec!["n1".into()]);
    let (node, constraint) = ask(&agent, "get", &[("impersonate-user", "system:node:n1")]).unwrap();
    assert_eq!(
        (node.groups.join(","), constraint),
        ("system:nodes,system:authenticated".into(), "impersonate:associated-node")
    );
    assert_eq!(ask(&agent, "get", &[("impersonate-user", "system:node:n2")]).unwrap_err().0, 403);
    assert_eq!(ask(&agent, "delete", &[("impersonate-user", "system:node:n1")]).unwrap_err().0, 403);
}

/// Allows what constrained modes ask, and writes down what it was shown of who asks.
#[derive(Default)]
struct Writes(parking_lot::Mutex<Vec<(String, UserInfo)>>);

#[async_trait::async_trait]
impl Authorizer for Writes {
    async fn authorize(&self, user: &UserInfo, request: &RequestInfo) -> Decision {
        self.0.lock().push((request.verb.clone(), user.clone()));
        Decision::allow("")
    }
}

#[tokio::test]
async fn account_that_acts_as_the_node_of_its_pod_shows_the_keys_of_its_attributes_only() {
    let mut agent = UserInfo::service_account("shop", "agent");
    for (key, value) in [("node-name", "n1"), ("node-uid", "u1"), ("pod-name", "p1")] {
        agent.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.into()]);
    }
    let shown = |node: &str| {
        let writes = Writes::default();
        let headers = header_map(&[("impersonate-user", node)]);
        let request = RequestInfo { verb: "get".into(), ..RequestInfo::default() };
        block_on(impersonated(&agent, &headers, &request, &writes, &counts())).unwrap().unwrap();
        writes.0.into_inner()
    };
    let asked = shown("system:node:n1");
    assert_eq!(
        asked.iter().map(|(verb, _)| verb.as_str()).collect::<Vec<_>>(),
        ["impersonate-on:associated-node:get", "impersonate:associated-node"]
    );
    let keys = ["node-name", "node-uid", "pod-name"].map(|key| format!("authentication.kubernetes.io/{key}"));
    for (_, user) in &asked {
        let known = ("authentication.kubernetes.io/associated-node-keys".to_owned(), keys.to_vec());
        assert_eq!(user.extra, std::collections::BTreeMap::from([known]));
        assert_eq!((&user.name, &user.groups), (&agent.name, &agent.groups));
    }
    assert_eq!(shown("system:node:n2")[0].1, agent, "as another node it is shown as it is");
}

#[tokio::test]
async fn bootstrap_token_is_good_while_its_secret_says_so() {
    use base64::Engine;
    let encode = |text: &str| json!(base64::engine::general_purpose::STANDARD.encode(text));
    let objects = Arc::new(Objects::default());
    let clock = TestClock::new();
    let secret = |changes: &[(&str, &str)]| {
        let mut data = json!({});
        let usual = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token"),
            ("expiration", "2027-06-01T00:00:00Z"),
        ];
        for (key, value) in usual.iter().chain(changes) {
            data[*key] = encode(value);
        }
        json!({"metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
               "type": "bootstrap.kubernetes.io/token", "data": data})
    };
    let tokens = BootstrapTokens::new(Arc::clone(&objects) as _, clock.clock());
    let ask = |token: &str| block_on(tokens.authenticate(token, &[])).unwrap().map(|known| known.user);
    let token = "abcdef.0123456789abcdef";
    assert_eq!(ask(token), None);
    objects.put("", "secrets", secret(&[]));
    let user = ask(token).unwrap();
    assert_eq!(user.name, "system:bootstrap:abcdef");
    assert_eq!(user.groups, ["system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token"]);
    for other in
        ["abcdef.0123456789abcdee", "abcdeg.0123456789abcdef", "abcdef", "abcdef.", "ABCDEF.0123456789abcdef"]
    {
        assert_eq!(ask(other), None, "{other}");
    }
    for change in [
        ("token-secret", "0123456789abcdee"),
        ("token-id", "abcdeg"),
        ("usage-bootstrap-authentication", "yes"),
        ("auth-extra-groups", "system:masters"),
        ("auth-extra-groups", "system:bootstrappers:"),
        ("expiration", "2020-01-01T00:00:00Z"),
        ("expiration", "soon"),
    ] {
        objects.put("", "secrets", secret(&[change]));
        assert_eq!(ask(token), None, "{change:?}");
    }
    for (field, value) in [
        ("type", json!("Opaque")),
        (
            "metadata",
            json!({"name": "bootstrap-token-abcdef", "namespace": "kube-system", "deletionTimestamp": "2026-01-01T00:00:00Z"}),
        ),
    ] {
        let mut other = secret(&[]);
        other[field] = value;
        objects.put("", "secrets", other);
        assert_eq!(ask(token), None, "{field}");
    }
    objects.put("", "secrets", secret(&[]));
    clock.advance(Duration::from_secs(400 * 24 * 3600));
    assert_eq!(ask(token), None);
}

#[test]
fn front_proxy_is_believed_by_its_certificate_alone() {
    let clock = TestClock::new();
    let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let proxies = Authority::open_or_create(own.path(), Role::FrontProxy, clock.now()).unwrap();
    let clients = Authority::open_or_create(other.path(), Role::Cluster, clock.now()).unwrap();
    let der = |authority: &Authority, subject: &Subject| {
        let leaf = authority.issue(subject, clock.now()).unwrap();
        crate::tls::certificates(&leaf.certificate_pem).unwrap()[0].to_vec()
    };
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let proxy = FrontProxy::new(
        Arc::new(Verifier::new(proxies.certificate_pem()).unwrap()),
        names(&["front"]),
        ProxyHeaders {
            user: names(&["X-Remote-User", "X-Other"]),
            uid: names(&["X-Remote-Uid"]),
            groups: names(&["X-Remote-Group"]),
            extra_prefixes: names(&["X-Remote-Extra-"]),
        },
    );
    let headers = header_map(&[
        ("x-remote-user", "jane"),
        ("x-remote-group", "a"),
        ("x-remote-group", "b"),
        ("x-remote-uid", "7"),
        ("x-remote-extra-acme.io%2fscope", "s"),
        ("accept", "x"),
    ]);
    let front = der(&proxies, &Subject::client("front", None));
    let jane = proxy.user(std::slice::from_ref(&front), &headers, clock.now()).unwrap().unwrap();
    assert_eq!((jane.name.as_str(), jane.uid.as_str()), ("jane", "7"));
    assert_eq!(jane.groups, ["a", "b", "system:authenticated"]);
    assert_eq!(jane.extra["acme.io/scope"], ["s"]);
    assert_eq!(proxy.user(&[front], &header_map(&[]), clock.now()).unwrap(), None);
    // Of the client CA, with the right name; no certificate at all; a serving one; another name; out of time.
    let forged = der(&clients, &Subject::client("front", None));
    assert_eq!(proxy.user(&[forged], &headers, clock.now()).unwrap(), None);
    assert_eq!(proxy.user(&[], &headers, clock.now()).unwrap(), None);
    let serving = der(&proxies, &Subject::server("front", None, vec!["front".into()]));
    assert_eq!(proxy.user(&[serving], &headers, clock.now()).unwrap(), None);
    assert!(proxy.user(&[der(&proxies, &Subject::client("back", None))], &headers, clock.now()).is_err());
    let front = der(&proxies, &Subject::client("front", None));
    let later = clock.now() + Duration::from_secs(800 * 24 * 3600);
    assert_eq!(proxy.user(&[front], &headers, later).unwrap(), None);
    let mut seen = headers;
    proxy.strip(&mut seen);
    assert_eq!(seen.keys().map(|key| key.as_str()).collect::<Vec<_>>(), ["accept"]);
}

#[tokio::test]
async fn impersonation_is_counted_by_mode_and_outcome() {
    let objects = Arc::new(Objects::default());
    let group = "rbac.authorization.k8s.io";
    let rules = json!([{"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"]}]);
    objects.put(group, "clusterroles", json!({"metadata": {"name": "i"}, "rules": rules}));
    let subjects = json!([{"kind": "User", "name": "helper"}]);
    let binding = json!({"metadata": {"name": "i"}, "roleRef": {"kind": "ClusterRole", "name": "i"}, "subjects": subjects});
    objects.put(group, "clusterrolebindings", binding);
    let (authz, registry) = (Authz::new(objects), Registry::new());
    let metrics = ImpersonationMetrics::new(&registry);
    let request = RequestInfo {
        is_resource: true,
        verb: "list".into(),
        resource: "pods".into(),
        ..RequestInfo::default()
    };
    let headers = header_map(&[("impersonate-user", "jane")]);
    for user in ["helper", "helper", "nobody"] {
        let _ = impersonated(&UserInfo::new(user, &[]), &headers, &request, &authz, &metrics).await;
    }
    impersonated(&UserInfo::new("helper", &[]), &header_map(&[]), &request, &authz, &metrics).await.unwrap();
    let count =
        |end: &str, labels: &[&str]| counted(&registry, &format!("apiserver_impersonation_{end}"), labels);
    assert_eq!(count("attempts_total", &["legacy", "allowed"]), Some(2.0));
    assert_eq!(count("attempts_total", &["", "denied"]), Some(1.0));
    assert_eq!(count("attempts_duration_seconds", &[]), Some(3.0), "who asks for nothing is not counted");
    // The constrained mode is tried first, and its first question is answered with no.
    assert_eq!(count("authorization_attempts_total", &["user-info", "denied"]), Some(3.0));
    assert_eq!(count("authorization_attempts_total", &["legacy", "allowed"]), Some(2.0));
    assert_eq!(count("authorization_attempts_duration_seconds", &["legacy", "denied"]), Some(1.0));
}
