//! Requests in, responses and watch streams out.

use std::collections::HashMap;
use std::convert::Infallible;

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};

use super::FakeApi;
use super::objects::{Change, KINDS, Refusal};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What a path asks for.
struct Target {
    plural: String,
    namespace: Option<String>,
    name: Option<String>,
    subresource: Option<String>,
}

pub(super) async fn answer(api: &FakeApi, request: Request<Body>) -> Answer {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("a body in memory").to_bytes();
    let query: HashMap<String, String> =
        parts.uri.query().unwrap_or_default().split('&').filter_map(pair).collect();
    if let Some(discovery) = discover(parts.uri.path()) {
        return reply(Ok(discovery));
    }
    let Some(target) = parse(parts.uri.path()) else {
        return reply(Err((404, "NotFound", format!("no such path: {}", parts.uri.path()))));
    };
    if parts.method == Method::GET && query.get("watch").is_some_and(|watch| watch == "true") {
        return watch(api, target, &query);
    }
    let body: Value =
        if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
    let kind = parts.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    reply(act(api, &parts.method, target, body, kind.contains("strategic")))
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.to_owned(), value.replace("%3D", "=").replace("%2C", ",")))
}

fn act(
    api: &FakeApi,
    method: &Method,
    target: Target,
    body: Value,
    strategic: bool,
) -> Result<Value, Refusal> {
    let Target { plural, namespace, name, subresource } = target;
    let scope = namespace.clone().unwrap_or_default();
    api.with(|objects| match (method.as_str(), name, subresource.as_deref()) {
        ("GET", Some(name), _) => objects.get(&plural, &scope, &name),
        ("GET", None, _) => {
            let items = objects.list(&plural, namespace.as_deref());
            Ok(json!({"kind": "List", "apiVersion": "v1", "items": items,
                "metadata": {"resourceVersion": objects.revision.to_string()}}))
        }
        ("POST", Some(name), Some("binding")) => objects.bind(&scope, &name, &body["target"]["name"]),
        ("POST", None, _) => {
            let mut object = body;
            if let Some(namespace) = namespace {
                object["metadata"]["namespace"] = json!(namespace);
            }
            objects.create(&plural, object)
        }
        ("PUT", Some(_), subresource) => objects.put(&plural, body, subresource),
        ("PATCH", Some(name), subresource) => {
            objects.patch(&plural, (&scope, &name), &body, strategic, subresource)
        }
        ("DELETE", Some(name), _) => objects.delete(&plural, &scope, &name, &body),
        ("DELETE", None, _) => {
            for object in objects.list(&plural, namespace.as_deref()) {
                objects.delete(
                    &plural,
                    &scope,
                    object["metadata"]["name"].as_str().unwrap_or_default(),
                    &body,
                )?;
            }
            Ok(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
        }
        (method, ..) => Err((405, "MethodNotAllowed", method.to_owned())),
    })
}

fn parse(path: &str) -> Option<Target> {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let skip = if *parts.first()? == "api" { 2 } else { 3 };
    parts.drain(..skip.min(parts.len()));
    let known = |plural: &str| KINDS.iter().any(|kind| kind.1 == plural);
    let namespaced = parts.first() == Some(&"namespaces") && parts.len() > 2 && known(parts[2]);
    let namespace = namespaced.then(|| parts[1].to_owned());
    if namespaced {
        parts.drain(..2);
    }
    let part = |index: usize| parts.get(index).map(|part| (*part).to_owned());
    Some(Target {
        plural: part(0).filter(|plural| known(plural))?,
        namespace,
        name: part(1),
        subresource: part(2),
    })
}

fn reply(result: Result<Value, Refusal>) -> Answer {
    let (code, body) = match result {
        Ok(body) => (200, body),
        Err((code, reason, message)) => (
            code,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
                "message": message, "metadata": {}}),
        ),
    };
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(body)
        .expect("a response")
}

/// Initial objects where asked for, then every change.
fn watch(api: &FakeApi, target: Target, query: &HashMap<String, String>) -> Answer {
    let field =
        query.get("fieldSelector").and_then(|field| field.strip_prefix("metadata.name=")).map(str::to_owned);
    let initial = query.get("sendInitialEvents").is_some_and(|send| send == "true");
    let fits = move |object: &Value| {
        let meta = &object["metadata"];
        target.namespace.as_deref().is_none_or(|namespace| meta["namespace"] == namespace)
            && field.as_deref().is_none_or(|name| meta["name"] == name)
    };
    let plural = target.plural;
    let (mut lines, mut seen) =
        (Vec::new(), query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0));
    if initial {
        api.with(|objects| {
            lines.extend(
                objects.list(&plural, None).into_iter().filter(&fits).map(|object| line("ADDED", object)),
            );
            seen = objects.revision;
        });
        let kind = KINDS.iter().find(|kind| kind.1 == plural).expect("a known kind");
        let end = json!({"apiVersion": kind.0, "kind": kind.2, "metadata": {"resourceVersion": seen.to_string(),
            "creationTimestamp": null, "annotations": {"k8s.io/initial-events-end": "true"}}});
        lines.push(line("BOOKMARK", end));
    }
    let state = (api.clone(), lines, seen);
    let events = stream::unfold(state, move |(api, mut lines, mut seen)| {
        let (plural, fits) = (plural.clone(), fits.clone());
        async move {
            loop {
                let changed = api.changed.notified();
                if !lines.is_empty() {
                    let bytes = Bytes::from(lines.concat());
                    lines.clear();
                    return Some((Ok::<_, Infallible>(Frame::data(bytes)), (api.clone(), lines, seen)));
                }
                let news = |change: &&Change| {
                    change.revision > seen && change.plural == plural && fits(&change.object)
                };
                (lines, seen) = {
                    let objects = api.objects.lock();
                    let lines =
                        objects.history.iter().filter(news).map(|c| line(c.kind, c.object.clone())).collect();
                    (lines, objects.revision)
                };
                let lag = api.lags.lock().get(&plural).copied();
                match lag {
                    _ if lines.is_empty() => changed.await,
                    Some(lag) => tokio::time::sleep(lag).await,
                    None => {}
                }
            }
        }
    });
    let body = StreamBody::new(events).boxed_unsync();
    Response::builder().status(200).header("content-type", "application/json").body(body).expect("a response")
}

fn line(kind: &str, object: Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

/// Classic discovery; the aggregated form is asked for first and answered with this, as an old server would.
fn discover(path: &str) -> Option<Value> {
    let resources = |version: &str| -> Vec<Value> {
        let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
        let kinds = KINDS.iter().filter(|kind| kind.0 == version);
        kinds
            .map(|kind| {
                json!({"name": kind.1, "singularName": "", "namespaced": kind.3, "kind": kind.2, "verbs": verbs})
            })
            .collect()
    };
    match path {
        "/api" => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        "/apis" => {
            let mut versions: Vec<&str> =
                KINDS.iter().map(|kind| kind.0).filter(|v| v.contains('/')).collect();
            versions.dedup();
            let group = |version: &&str| {
                let (name, short) = version.split_once('/').expect("group and version");
                let version = json!({"groupVersion": version, "version": short});
                json!({"name": name, "versions": [version], "preferredVersion": version})
            };
            let groups: Vec<Value> = versions.iter().map(group).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        _ => {
            let version = path.strip_prefix("/apis/").or(path.strip_prefix("/api/"))?;
            let known = KINDS.iter().any(|kind| kind.0 == version);
            known.then(|| json!({"kind": "APIResourceList", "groupVersion": version, "resources": resources(version)}))
        }
    }
}
