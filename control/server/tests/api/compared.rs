//! Requests that upstream's server (1.36) was sent, and how it answered: `compared.json` beside this file, a line each.
//!
//! A line is method, path, media types of the body and of the answer (or nothing), body, code, message (nothing of an answer
//! that is no failure) and warnings. What is asked about is made first, as it was there.

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, cluster_with};

type Line = (String, String, String, String, Value, u16, Option<String>, Vec<String>);

async fn prepared() -> Cluster {
    let cluster = cluster_with(&|config, _| config.service_networks.truncate(1)).await;
    let make = async |path: &str, kind: &str, object: Value| {
        cluster.post(path, kind, object).await.expect(201);
    };
    make("/api/v1/namespaces", "Namespace", json!({ "metadata": { "name": "n" } })).await;
    make("/api/v1/nodes", "Node", json!({ "metadata": { "name": "no" } })).await;
    let inside = "/api/v1/namespaces/n";
    for name in ["default", "other"] {
        let object = json!({ "metadata": { "name": name } });
        make(&format!("{inside}/serviceaccounts"), "ServiceAccount", object).await;
    }
    make(&format!("{inside}/secrets"), "Secret", json!({ "metadata": { "name": "sec" } })).await;
    make(&format!("{inside}/configmaps"), "ConfigMap", json!({ "metadata": { "name": "cm" } })).await;
    let pod = json!({
        "metadata": { "name": "po" },
        "spec": { "automountServiceAccountToken": false, "containers": [{ "name": "c", "image": "i" }] },
    });
    make(&format!("{inside}/pods"), "Pod", pod).await;
    cluster
}

async fn ask(cluster: &Cluster, line: &Line) -> Answer {
    let (method, path, kind, accept, body, ..) = line;
    let mut request = Request::builder().method(method.as_str()).uri(path);
    for (name, value) in [("content-type", kind), ("accept", accept)] {
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    let body = match body {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    cluster.send(request.body(Full::new(body.into())).unwrap()).await
}

/// The message without what is another one each time.
fn settled(message: &str) -> String {
    let uid = regex::Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}").unwrap();
    let time = regex::Regex::new("20[0-9-]+T[0-9:]+Z").unwrap();
    let scheme = regex::Regex::new("in scheme \"[^\"]+\"").unwrap();
    let message = uid.replace_all(message, "UID");
    let message = time.replace_all(&message, "TIME");
    scheme.replace_all(&message, "in scheme").into_owned()
}

#[tokio::test]
async fn requests_are_answered_as_upstreams_server_answers_them() {
    let cluster = prepared().await;
    let lines: Vec<Line> = serde_json::from_str(include_str!("compared.json")).unwrap();
    let mut wrong = Vec::new();
    for line in &lines {
        let answer = ask(&cluster, line).await;
        let (code, message, warnings) = (line.5, line.6.as_deref(), &line.7);
        let status: Value = serde_json::from_slice(&answer.bytes).unwrap_or_default();
        let found = status["message"].as_str().filter(|_| answer.code >= 300);
        let said: Vec<&str> =
            answer.headers.get_all("warning").iter().map(|warning| warning.to_str().unwrap()).collect();
        if answer.code != code || found.map(settled) != message.map(settled) || said != *warnings {
            let (method, path, body) = (&line.0, &line.1, &line.4);
            wrong.push(format!("{method} {path} {body}\n  {} {found:?} {said:?}\nnot {line:?}", answer.code));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), lines.len(), wrong.join("\n"));
}
