//! Reviews answer what requests would meet.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Reviews;
use crate::authn::{Chain, StaticTokens};
use crate::authz::Authz;
use crate::authz::bootstrap::bootstrap_objects;
use crate::request::RequestInfo;
use crate::testing::{Objects, TestClock};
use crate::tokens::{DEFAULT_ISSUER, Keys, Tokens};
use crate::user::UserInfo;

struct Fixture {
    reviews: Reviews,
    tokens: Arc<Tokens>,
}

fn fixture() -> Fixture {
    let objects = Arc::new(Objects::default());
    for entry in bootstrap_objects() {
        objects.put(entry.group, entry.resource, entry.object);
    }
    objects.put(
        "",
        "serviceaccounts",
        json!({"metadata": {"name": "web", "namespace": "shop", "uid": "sa-1"}}),
    );
    let binding = json!({"metadata": {"name": "b", "namespace": "shop"}, "roleRef": {"kind": "ClusterRole", "name": "view"},
                         "subjects": [{"kind": "User", "name": "jane"}]});
    objects.put("rbac.authorization.k8s.io", "rolebindings", binding);
    let clock = TestClock::new();
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let keys = Arc::new(Keys::from_pem(&key, "").unwrap());
    let new_id = Arc::new(|| "id".to_owned());
    let reader = Arc::clone(&objects) as _;
    let tokens =
        Arc::new(Tokens::new(keys, DEFAULT_ISSUER.into(), Vec::new(), reader, clock.clock(), new_id));
    let fixed = StaticTokens::parse("secret,jane,u1", Path::new("t")).unwrap();
    let chain = Arc::new(Chain::new(Arc::clone(&tokens), fixed, clock.clock()));
    let authz = Arc::new(Authz::new(objects));
    Fixture { reviews: Reviews::new(authz, chain), tokens }
}

impl Fixture {
    async fn ask(&self, user: &UserInfo, path: &str, spec: Value) -> Result<Value, u16> {
        let (group, resource) = path.split_once('/').unwrap();
        let request = RequestInfo {
            is_resource: true,
            verb: "create".into(),
            group: format!("{group}.k8s.io"),
            version: "v1".into(),
            resource: resource.into(),
            namespace: if resource.starts_with("local") { "shop".into() } else { String::new() },
            ..RequestInfo::default()
        };
        let answer = self.reviews.create(user, &request, json!({"spec": spec}), "now").await;
        answer.map(|value| value["status"].clone()).map_err(|status| status.code)
    }
}

#[tokio::test]
async fn review_is_answered_with_what_was_sent_and_its_status() {
    let fixture = fixture();
    let jane = UserInfo::new("jane", &[]);
    let whole = async |resource: &str, namespace: &str, body: Value| {
        let request = RequestInfo {
            is_resource: true,
            verb: "create".into(),
            group: "authorization.k8s.io".into(),
            version: "v1".into(),
            resource: resource.into(),
            namespace: namespace.into(),
            ..RequestInfo::default()
        };
        fixture.reviews.create(&jane, &request, body, "now").await
    };
    let request = RequestInfo {
        is_resource: true,
        group: "authentication.k8s.io".into(),
        version: "v1".into(),
        resource: "selfsubjectreviews".into(),
        ..RequestInfo::default()
    };
    let myself = fixture.reviews.create(&jane, &request, json!({}), "now").await.unwrap();
    assert_eq!(
        myself,
        json!({
            "kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {"creationTimestamp": "now"},
            "status": {"userInfo": {"username": "jane", "groups": ["system:authenticated"]}},
        })
    );
    let path = json!({"spec": {"user": "a", "nonResourceAttributes": {"verb": "get", "path": "/x"}}});
    let found = whole("subjectaccessreviews", "", path.clone()).await.unwrap();
    assert_eq!((&found["spec"], &found["metadata"]), (&path["spec"], &json!({})));
    let asked = json!({"verb": "get", "resource": "pods", "group": "", "namespace": "shop"});
    let found = whole(
        "localsubjectaccessreviews",
        "shop",
        json!({"spec": {"user": "a", "resourceAttributes": asked}}),
    );
    let found = found.await.unwrap();
    assert_eq!(found["metadata"], json!({"namespace": "shop"}));
    assert_eq!(
        found["spec"]["resourceAttributes"],
        json!({"verb": "get", "resource": "pods", "namespace": "shop"})
    );
    // All that is wrong is said at once, without the kind, as upstream does.
    let refused =
        whole("localsubjectaccessreviews", "shop", json!({"metadata": {"name": "x"}, "spec": {}})).await;
    assert_eq!(
        refused.unwrap_err().message,
        ".authorization.k8s.io \"\" is invalid: [spec.resourceAttributes: Invalid value: null: exactly one of \
         nonResourceAttributes or resourceAttributes must be specified, spec.user: Invalid value: \"\": at least one of \
         user or group must be specified, metadata: Invalid value: {\"name\":\"x\"}: must be empty except for namespace]"
    );
}

#[tokio::test]
async fn access_reviews_answer_as_the_authorizer_does() {
    let fixture = fixture();
    let jane = UserInfo::new("jane", &[]);
    let admin = UserInfo::new("admin", &["system:masters"]);
    let pods = |verb: &str, namespace: &str| json!({"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": namespace}});
    let allowed = |answer: Result<Value, u16>| answer.unwrap()["allowed"] == true;
    let own = "authorization/selfsubjectaccessreviews";
    assert!(allowed(fixture.ask(&jane, own, pods("get", "shop")).await));
    assert!(!allowed(fixture.ask(&jane, own, pods("delete", "shop")).await));
    assert!(!allowed(fixture.ask(&jane, own, pods("get", "other")).await));
    let path = json!({"nonResourceAttributes": {"verb": "get", "path": "/version"}});
    assert!(allowed(fixture.ask(&jane, own, path).await));
    let other = |user: &str, mut spec: Value| {
        spec["user"] = json!(user);
        spec
    };
    let any = "authorization/subjectaccessreviews";
    assert!(allowed(fixture.ask(&admin, any, other("jane", pods("get", "shop"))).await));
    assert!(!allowed(fixture.ask(&admin, any, other("joe", pods("get", "shop"))).await));
    let local = "authorization/localsubjectaccessreviews";
    assert!(allowed(fixture.ask(&admin, local, other("jane", pods("get", "shop"))).await));
    assert_eq!(fixture.ask(&admin, local, other("jane", pods("get", "other"))).await, Err(422));
    assert_eq!(fixture.ask(&admin, any, pods("get", "shop")).await, Err(422));
    assert_eq!(fixture.ask(&jane, own, json!({})).await, Err(422));
    let with = |selector: Value| {
        let mut spec = pods("list", "shop");
        spec["resourceAttributes"]["fieldSelector"] = selector;
        spec
    };
    let plain = json!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]});
    let answer = fixture.ask(&jane, own, with(plain)).await.unwrap();
    assert_eq!((&answer["allowed"], &answer["evaluationError"]), (&json!(true), &Value::Null));
    let newer = json!({"requirements": [{"key": "a", "operator": "Newer"}]});
    let answer = fixture.ask(&jane, own, with(newer)).await.unwrap();
    assert_eq!(answer["evaluationError"], "spec.resourceAttributes.fieldSelector ignored due to parse error");
    for wrong in [
        json!({}),
        json!({"rawSelector": "a=b", "requirements": [{"key": "a", "operator": "Exists"}]}),
        json!({"requirements": [{"key": "", "operator": "In", "values": ["x"]}]}),
        json!({"requirements": [{"key": "a", "operator": "In"}]}),
        json!({"requirements": [{"key": "a", "operator": "Exists", "values": ["x"]}]}),
    ] {
        assert_eq!(fixture.ask(&jane, own, with(wrong.clone())).await, Err(422), "{wrong}");
    }
    assert_eq!(fixture.ask(&jane, "authorization/others", json!({})).await, Err(404));
}

#[tokio::test]
async fn rules_review_lists_both_kinds() {
    let fixture = fixture();
    let jane = UserInfo::new("jane", &[]);
    let path = "authorization/selfsubjectrulesreviews";
    let status = fixture.ask(&jane, path, json!({"namespace": "shop"})).await.unwrap();
    let rules = status["resourceRules"].to_string();
    assert!(rules.contains("\"pods\"") && rules.contains("selfsubjectaccessreviews"), "{rules}");
    assert!(status["nonResourceRules"].to_string().contains("/version"));
    assert_eq!(status["incomplete"], false);
    let elsewhere = fixture.ask(&jane, path, json!({"namespace": "other"})).await.unwrap();
    assert!(!elsewhere["resourceRules"].to_string().contains("\"pods\""));
    assert_eq!(fixture.ask(&jane, path, json!({})).await, Err(400));
}

#[tokio::test]
async fn token_review_tells_the_user_or_the_reason() {
    let fixture = fixture();
    let admin = UserInfo::new("admin", &["system:masters"]);
    let review = |spec| fixture.ask(&admin, "authentication/tokenreviews", spec);
    let known = review(json!({"token": "secret"})).await.unwrap();
    assert_eq!(known["authenticated"], true);
    assert_eq!(known["user"]["username"], "jane");
    let answer =
        fixture.tokens.request(&admin, "shop", "web", json!({"spec": {"audiences": ["vault"]}})).unwrap();
    let token = answer["status"]["token"].clone();
    let vault = review(json!({"token": token, "audiences": ["vault"]})).await.unwrap();
    assert_eq!(vault["user"]["uid"], "sa-1");
    assert_eq!(vault["audiences"], json!(["vault"]));
    for spec in [
        json!({"token": token}),
        json!({"token": "nonsense"}),
        json!({"token": "secret", "audiences": ["vault"]}),
    ] {
        let refused = review(spec).await.unwrap();
        assert_ne!(refused["authenticated"], true);
        assert!(refused["error"].is_string());
    }
    assert_eq!(review(json!({})).await, Err(400));
}

#[tokio::test]
async fn self_subject_review_shows_who_asks() {
    let fixture = fixture();
    let user = UserInfo::service_account("shop", "web");
    let status = fixture.ask(&user, "authentication/selfsubjectreviews", json!({})).await.unwrap();
    assert_eq!(status["userInfo"]["username"], "system:serviceaccount:shop:web");
    assert_eq!(status["userInfo"]["groups"][0], "system:serviceaccounts");
}
