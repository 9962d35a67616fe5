//! Calls over real TLS: good answers, bad ones, none at all.

use std::time::Duration;

use serde_json::json;

use super::testing::{Server, write_kubeconfig};
use super::{Fixed, Why};

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn call_reaches_the_path_of_the_file_and_returns_the_answer() {
    let server =
        Server::start(|path, body| Some((200, json!({"path": path, "was": body}).to_string()))).await;
    let hook = Fixed::from_kubeconfig(&server.kubeconfig()).unwrap();
    let answer = hook.ask(&json!({"a": 1}), PATIENCE).await.unwrap();
    assert_eq!(answer, json!({"path": "/hook", "was": {"a": 1}}));
}

#[tokio::test]
async fn call_with_a_bad_answer_fails_by_name() {
    let large = "x".repeat(super::fixed::LARGEST + 1);
    for (code, text, expected) in [
        (403, "{}".to_owned(), Why::Code(403, "{}".into())),
        (302, "{}".to_owned(), Why::Code(302, "{}".into())),
        (200, "not json".to_owned(), Why::Send("the answer is not JSON".into())),
        (200, large, Why::TooLarge(super::fixed::LARGEST)),
    ] {
        let server = Server::start(move |_, _| Some((code, text.clone()))).await;
        let hook = Fixed::from_kubeconfig(&server.kubeconfig()).unwrap();
        assert_eq!(hook.ask(&json!({}), PATIENCE).await.unwrap_err().why, expected);
    }
}

#[tokio::test]
async fn call_that_hangs_ends_in_time_and_is_not_repeated() {
    let server = Server::start(|_, _| None).await;
    let hook = Fixed::from_kubeconfig(&server.kubeconfig()).unwrap();
    let failed = hook.ask(&json!({}), Duration::from_millis(100)).await;
    assert_eq!(failed.unwrap_err().why, Why::Timeout);
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn server_of_another_authority_is_not_believed() {
    let server = Server::start(|_, _| Some((200, "{}".into()))).await;
    let other = Server::start(|_, _| Some((200, "{}".into()))).await;
    let file = write_kubeconfig(other.directory.path(), &server.url("/hook"), "ca.crt");
    let hook = Fixed::from_kubeconfig(&file).unwrap();
    let failed = hook.ask(&json!({}), Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(failed.why, Why::Send(_) | Why::Timeout), "{failed:?}");
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn server_that_is_not_to_be_verified_is_believed() {
    let server = Server::start(|_, _| Some((200, "{}".into()))).await;
    let file = server.directory.path().join("unverified");
    let cluster = format!("server: '{}', insecure-skip-tls-verify: true", server.url("/hook"));
    let text = format!(
        "clusters: [{{name: c, cluster: {{{cluster}}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c}}}}]\ncurrent-context: x\n"
    );
    std::fs::write(&file, text).unwrap();
    Fixed::from_kubeconfig(&file).unwrap().ask(&json!({}), PATIENCE).await.unwrap();
    assert_eq!(server.calls(), 1);
}

#[test]
fn file_that_is_wrong_is_refused_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let check = |text: &str, expected: &str| {
        let path = directory.path().join("k");
        std::fs::write(&path, text).unwrap();
        let error = Fixed::from_kubeconfig(&path).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("kubeconfig {}: ", path.display())) && error.contains(expected),
            "{error}"
        );
    };
    let file = |cluster: &str, user: &str| {
        format!(
            "clusters: [{{name: c, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n\
             contexts: [{{name: x, context: {{cluster: c, user: u}}}}]\ncurrent-context: x\n"
        )
    };
    check("clusters: []", "current-context");
    check("current-context: x", "not among its contexts");
    check(&file("server: 'http://a'", ""), "https URL");
    check(&file("server: 'ftp://a'", ""), "not an HTTP URL");
    check(
        &file("server: 'https://a', insecure-skip-tls-verify: true, certificate-authority-data: eA==", ""),
        "exclude each other",
    );
    check(&file("server: 'https://a', certificate-authority-data: '%'", ""), "not base64");
    check(
        &file("server: 'https://a', proxy-url: 'https://p'", ""),
        "invalid 'proxy-url' for cluster: unsupported scheme",
    );
    check(&file("server: 'https://a'", "exec: {command: x}"), "apiVersion must be specified for u");
    check(&file("server: 'https://a'", "client-certificate-data: eA=="), "needs its client-key");
}
