//! A token webhook that answers, lies, hangs and is gone.

use std::time::Duration;

use prometheus::Registry;
use serde_json::{Value, json};

use super::{ReviewVersion, TokenAuthenticator, WebhookTokens};
use crate::callout::testing::Server;
use crate::metrics::TokenCacheMetrics;
use crate::testing::counted;

const LIFE: Duration = Duration::from_secs(120);

fn tokens(server: &Server, version: ReviewVersion) -> WebhookTokens {
    counting(server, version, &Registry::new())
}

fn counting(server: &Server, version: ReviewVersion, registry: &Registry) -> WebhookTokens {
    let cache = TokenCacheMetrics::new(registry);
    WebhookTokens::new(&server.kubeconfig(), version, LIFE, vec!["api".into()], cache).unwrap()
}

/// A server that knows the token `good` and answers others with what the test says.
async fn server(others: Value) -> Server {
    Server::start(move |_, review| {
        let mut answer = review.clone();
        answer["status"] = match review["spec"]["token"].as_str() {
            Some("good") => {
                json!({"authenticated": true, "user": {"username": "jane", "uid": "7", "groups": ["a"],
                "extra": {"k": ["v"]}}})
            }
            Some("vault") => {
                json!({"authenticated": true, "user": {"username": "jane"}, "audiences": ["vault"]})
            }
            _ => others.clone(),
        };
        Some((200, answer.to_string()))
    })
    .await
}

#[tokio::test]
async fn webhook_says_whose_a_token_is_once_for_a_while() {
    for version in [ReviewVersion::V1, ReviewVersion::V1beta1] {
        let server = server(json!({"authenticated": false})).await;
        let tokens = tokens(&server, version);
        let known = tokens.authenticate("good", &[]).await.unwrap().unwrap();
        assert_eq!((known.user.name.as_str(), known.user.uid.as_str()), ("jane", "7"));
        assert_eq!((known.user.groups.join(","), known.user.extra["k"].join(",")), ("a".into(), "v".into()));
        assert_eq!(known.audiences, ["api"]);
        assert_eq!(tokens.authenticate("bad", &[]).await, Ok(None));
        for _ in 0..3 {
            tokens.authenticate("good", &[]).await.unwrap().unwrap();
            tokens.authenticate("bad", &[]).await.unwrap();
        }
        assert_eq!(server.calls(), 2);
    }
}

#[tokio::test]
async fn token_for_another_audience_is_nobodys_here() {
    let server = server(json!({})).await;
    let tokens = tokens(&server, ReviewVersion::V1);
    assert_eq!(tokens.authenticate("vault", &[]).await, Ok(None));
    let known = tokens.authenticate("vault", &["vault".into(), "x".into()]).await.unwrap().unwrap();
    assert_eq!(known.audiences, ["vault"]);
    assert_eq!(tokens.authenticate("good", &["vault".into()]).await, Ok(None));
}

#[tokio::test]
async fn webhook_that_lies_is_not_believed() {
    for (status, is_error) in [
        (json!({"authenticated": "true", "user": {"username": "root"}}), false),
        (json!({"user": {"username": "root", "groups": ["system:masters"]}}), false),
        (json!({"authenticated": true, "user": {"groups": ["system:masters"]}}), true),
        (json!({"authenticated": false, "error": "no"}), true),
    ] {
        let server = server(status.clone()).await;
        let found = tokens(&server, ReviewVersion::V1).authenticate("x", &[]).await;
        assert!(matches!(&found, Ok(None)) || is_error && found.is_err(), "{status}: {found:?}");
    }
    // Something else than was asked for, with an answer in it.
    for other in ["SubjectAccessReview", ""] {
        let kind = other.to_owned();
        let server = Server::start(move |_, mut review| {
            review["kind"] = json!(kind);
            review["status"] = json!({"authenticated": true, "user": {"username": "root"}});
            Some((200, review.to_string()))
        })
        .await;
        assert!(tokens(&server, ReviewVersion::V1).authenticate("x", &[]).await.is_err(), "{other}");
    }
}

#[tokio::test]
async fn webhook_that_fails_knows_nobody_and_is_asked_again() {
    let server = Server::start(|_, _| Some((404, "gone".into()))).await;
    let tokens = tokens(&server, ReviewVersion::V1);
    for calls in 1..3 {
        assert!(tokens.authenticate("good", &[]).await.is_err());
        assert_eq!(server.calls(), calls);
    }
}

#[tokio::test]
async fn tokens_are_counted_by_whether_they_were_remembered() {
    let server = server(json!({"authenticated": false, "error": "no"})).await;
    let registry = Registry::new();
    let tokens = counting(&server, ReviewVersion::V1, &registry);
    for token in ["good", "good", "good", "bad"] {
        let _ = tokens.authenticate(token, &[]).await;
    }
    let count =
        |end: &str, label: &str| counted(&registry, &format!("authentication_token_cache_{end}"), &[label]);
    assert_eq!((count("request_total", "hit"), count("request_total", "miss")), (Some(2.0), Some(2.0)));
    assert_eq!((count("fetch_total", "ok"), count("fetch_total", "error")), (Some(1.0), Some(1.0)));
    assert_eq!(count("request_duration_seconds", "hit"), Some(2.0));
    assert_eq!(count("active_fetch_count", "in_flight"), Some(0.0), "all are over");
}
