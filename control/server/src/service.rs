//! The way of every request: read its line, find out who it is, may they, then the handler; counted and timed.
//!
//! Writes run to their end even when the client goes away in the middle, so that what was reserved for them is never
//! given to another. A handler that panics is answered with 500 and takes nobody along.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::request::Parts;
use http::{Request, Response};
use serde_json::Value;
use skep_api::registry::{Registry, Resource};
use skep_api::status::Status;
use tokio::time::Instant;
use tower::Service;

use crate::admission::{Asked, Attributes, Notes, Operation};
use crate::body::{self, Body, BoxError};
use crate::failure;
use crate::handlers::{self, Call};
use crate::metrics::Counted;
use crate::paths;
use crate::query::Query;
use crate::request::RequestInfo;
use crate::respond;
use crate::server::Inner;
use crate::storage::{Ownership, Scope};
use crate::streams;
use crate::user::UserInfo;

/// Requests that are not meant to last are ended after this time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer paths and queries are refused.
const LONGEST_TARGET: usize = 64 * 1024;

/// The server as a tower service. It never fails: every failure is an answer.
#[derive(Clone)]
pub struct ApiService {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for ApiService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiService").finish_non_exhaustive()
    }
}

impl ApiService {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }
}

impl<B> Service<Request<B>> for ApiService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = self.inner.clone();
        let request = request.map(body::boxed);
        Box::pin(async move { Ok(answer(inner, request).await) })
    }
}

async fn answer(inner: Arc<Inner>, request: Request<Body>) -> Response<Body> {
    let started = Instant::now();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let info = RequestInfo::parse(request.method(), request.uri().path(), &query);
    let kinds = inner.kinds().current();
    let resource = info.is_resource.then(|| kinds.find(&info.group, &info.version, &info.resource)).flatten();
    let writes = matches!(info.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection");
    // A client that goes away drops this future: what counts it must go with it.
    let counted = Counted::new(inner.metrics().inflight(writes));
    let notes = Arc::new(Notes::default());
    let handling = dispatch(&inner, &info, &kinds, resource, query, request, &notes);
    let outcome = AssertUnwindSafe(handling).catch_unwind().await;
    drop(counted);
    let mut response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => failure::response(&status),
        Err(_) => {
            tracing::error!(path = info.path, verb = info.verb, "a handler panicked");
            failure::response(&Status::internal("the server failed while handling the request"))
        }
    };
    respond::warn(&mut response, &notes.warnings());
    inner.metrics().answered(&info, resource.is_some(), response.status().as_u16(), started.elapsed());
    tracing::debug!(
        verb = info.verb,
        path = info.path,
        code = response.status().as_u16(),
        ms = started.elapsed().as_millis() as u64,
        "answered"
    );
    response
}

async fn dispatch(
    inner: &Arc<Inner>,
    info: &RequestInfo,
    kinds: &Arc<Registry>,
    resource: Option<&Arc<Resource>>,
    query: Query,
    request: Request<Body>,
    notes: &Arc<Notes>,
) -> Result<Response<Body>, Status> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > LONGEST_TARGET {
        return Err(Status::new(414, "RequestURITooLong", "the request's path and query are too long"));
    }
    // What is behind a proxy may know more methods than the API; only a rule for every verb allows them.
    if info.is_resource && info.verb.is_empty() && info.subresource != "proxy" {
        return Err(no_such_method());
    }
    let (mut parts, body) = request.into_parts();
    let user = let_in(inner, info, &mut parts).await?;
    if !info.is_resource {
        return paths::handle(inner, info, &parts, &query);
    }
    let resource = resource.ok_or_else(Status::no_such_path)?;
    check_path(resource, info)?;
    if matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy") {
        resource.subresource(&info.subresource).ok_or_else(Status::no_such_path)?;
        connect(inner, info, kinds, resource, &user, &query, notes).await?;
        return inner.gate().streams.handle(&user, info, Request::from_parts(parts, body)).await;
    }
    let (resource, kinds) = (resource.clone(), kinds.clone());
    let call = Call {
        server: inner.clone(),
        resource,
        kinds,
        info: info.clone(),
        user,
        query,
        parts,
        notes: notes.clone(),
    };
    if info.is_long_running() {
        return handlers::handle(call, body).await;
    }
    let patience = patience(&call.query);
    let handling = tokio::spawn(handlers::handle(call, body));
    match tokio::time::timeout(patience, handling).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(failed)) => {
            tracing::error!(error = %failed, path = info.path, verb = info.verb, "a handler panicked");
            Err(Status::internal("the server failed while handling the request"))
        }
        Err(_) => Err(Status::timeout(
            format!("request did not complete within requested timeout {}s", patience.as_secs()),
            0,
        )),
    }
}

/// Who makes a request, if they may: authenticate, impersonate, authorize.
async fn let_in(inner: &Inner, info: &RequestInfo, parts: &mut Parts) -> Result<UserInfo, Status> {
    let gate = inner.gate();
    let user = gate.authenticate(parts, info).await?;
    let user = gate.impersonate(&user, parts, info).await?.map_or(user, |assumed| assumed.user);
    gate.authorize(&user, info).await?;
    Ok(user)
}

/// Asks admission about a connection. Reading a log is none.
async fn connect(
    inner: &Inner,
    info: &RequestInfo,
    kinds: &Registry,
    resource: &Resource,
    user: &UserInfo,
    query: &Query,
    notes: &Notes,
) -> Result<(), Status> {
    if info.subresource == "log" {
        return Ok(());
    }
    let scope = Scope {
        resource,
        kinds,
        namespace: if resource.namespaced { &info.namespace } else { "" },
        subresource: &info.subresource,
        user,
        dry_run: false,
        ownership: Ownership::Decided,
        asked: Some(Asked { verb: &info.verb, query, notes }),
        admitted: false,
    };
    let attributes = Attributes::new(Operation::Connect, &scope, &info.name, None, Value::Null);
    let mut options = streams::options_object(info, query);
    inner.storage().admission.pass(&attributes, Some(&mut options)).await
}

/// Whether the path suits the kind: namespaces where there are namespaces, and nothing behind the end.
fn check_path(resource: &Resource, info: &RequestInfo) -> Result<(), Status> {
    let namespace_is_itself =
        resource.group.is_empty() && resource.plural == "namespaces" && info.name == info.namespace;
    let misplaced = !resource.namespaced && !info.namespace.is_empty() && !namespace_is_itself;
    let all_namespaces = resource.namespaced && info.namespace.is_empty();
    let trailing = !info.rest.is_empty() && info.subresource != "proxy";
    if misplaced || trailing {
        return Err(Status::no_such_path());
    }
    match info.verb.as_str() {
        "list" | "watch" | "deletecollection" => Ok(()),
        _ if all_namespaces && info.name.is_empty() => Err(no_such_method()),
        _ if all_namespaces => Err(Status::no_such_path()),
        "create" => Ok(()),
        _ if info.name.is_empty() => Err(no_such_method()),
        _ => Ok(()),
    }
}

fn no_such_method() -> Status {
    Status::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
}

/// How long the client is ready to wait (`timeout=10s`), within what the server is.
fn patience(query: &Query) -> Duration {
    let text = query.get("timeout").unwrap_or_default();
    let seconds = text.strip_suffix('s').unwrap_or(text).parse::<f64>().ok();
    let asked = seconds.filter(|seconds| *seconds > 0.0).and_then(|s| Duration::try_from_secs_f64(s).ok());
    asked.map_or(PATIENCE, |asked| asked.min(PATIENCE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_the_clients_within_the_servers() {
        let cases = [
            ("", 60),
            ("timeout=10s", 10),
            ("timeout=5", 5),
            ("timeout=3600s", 60),
            ("timeout=-1s", 60),
            ("timeout=x", 60),
            ("timeout=1e300", 60),
        ];
        for (query, seconds) in cases {
            assert_eq!(patience(&Query::parse(query)), Duration::from_secs(seconds), "{query}");
        }
    }
}
