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

use bytes::Bytes;
use futures::FutureExt;
use http::header::{CONNECTION, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use skep_api::registry::{Registry, Resource};
use skep_api::status::Status;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower::Service;

use crate::audit;
use crate::body::{self, Body, BoxError};
use crate::course::Course;
use crate::entrance::{connect, let_in};
use crate::failure;
use crate::handlers::{self, Call};
use crate::line::{check_media, check_path, has_yaml, is_looked_at, no_such_method, patience};
use crate::metrics::{Afterwards, Answered, Counted};
use crate::negotiate;
use crate::paths;
use crate::query::Query;
use crate::request::RequestInfo;
use crate::respond;
use crate::server::Inner;
use crate::tls::{Leaves, MayPause};
use crate::turns::{InTurn, Lane};
use crate::websocket::WebSocket;

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

async fn answer(inner: Arc<Inner>, mut request: Request<Body>) -> Response<Body> {
    let started = Instant::now();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let info = Arc::new(RequestInfo::parse(request.method(), request.uri().path(), &query));
    let kinds = inner.kinds().current();
    let resource = info.is_resource.then(|| kinds.find(&info.group, &info.version, &info.resource)).flatten();
    // A client that goes away drops this future: what counts it must go with it.
    let counted = Counted::new(inner.metrics().inflight(info.writes()));
    let lane = request.extensions().get().cloned().unwrap_or_else(|| Lane::exempt(inner.turns()));
    let mut course = Course::new(audit::id(request.headers(), inner.ids()), lane, started);
    let allowed = inner.browsers().allowed(request.headers());
    course.preflight = allowed.is_some() && request.method() == Method::OPTIONS;
    let dry_run = query.get("dryRun") == Some("All");
    let as_yaml = !info.is_long_running() && respond::yaml::take(request.headers_mut(), has_yaml(&info));
    let is_discovery = !info.is_resource && has_yaml(&info);
    let as_protobuf = !as_yaml && negotiate::protobuf_first(request.headers(), is_discovery);
    if as_protobuf && is_discovery {
        request.headers_mut().remove(http::header::ACCEPT_ENCODING);
    }
    let dispatched = dispatch(&inner, &info, &kinds, resource, query, request, &mut course);
    let outcome = AssertUnwindSafe(dispatched).catch_unwind().await;
    drop(counted);
    let outcome = outcome.unwrap_or_else(|_| Err(course.panicked(&info)));
    let steady = !info.is_long_running() || info.verb == "watch";
    let (cut_off, notes) = (course.cut_off, course.notes.clone());
    let mut response = course.end(outcome, steady).await;
    if as_yaml && (has_yaml(&info) || response.status().as_u16() >= 400) {
        response = respond::yaml::written(response).await;
    }
    if as_protobuf && (!info.is_long_running() || response.status().as_u16() >= 400) {
        response = respond::protobuf::written(response).await;
    }
    inner.browsers().tell(allowed, response.headers_mut());
    let answered = Answered {
        code: response.status().as_u16(),
        size: http_body::Body::size_hint(response.body()).exact(),
        dry_run,
        cut_off,
        after: started.elapsed(),
        waited: notes.latencies.waiting(),
    };
    inner.metrics().requests().answered(&info, resource.is_some(), &answered);
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
    info: &Arc<RequestInfo>,
    kinds: &Arc<Registry>,
    resource: Option<&Arc<Resource>>,
    query: Query,
    request: Request<Body>,
    course: &mut Course,
) -> Result<Response<Body>, Status> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > LONGEST_TARGET {
        return Err(Status::new(414, "RequestURITooLong", "the request's path and query are too long"));
    }
    if !is_looked_at(&info.path) {
        course.under_way = inner.ending().begin();
        if course.under_way.is_none() {
            return Ok(sent_away(request.version()));
        }
        if info.is_long_running() {
            course.under_way = None;
        }
        if info.verb == "watch" && inner.ending().farewell().is_over() {
            let late = Status::service_unavailable("apiserver is shutting down");
            return Err(Status { retry_after: Some(1), ..late });
        }
    }
    let (mut parts, body) = request.into_parts();
    let is_head = parts.method == Method::HEAD;
    let is_known = is_head
        || matches!(
            parts.method,
            Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS
        );
    if !info.is_long_running() {
        course.deadline = Some(Instant::now() + patience(&query, inner.lasting().request)?);
    }
    if course.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return Err(course.too_long());
    }
    if course.preflight {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let user = let_in(inner, info, resource, &query, &mut parts, course).await?;
    if let Some(known) = inner.aggregation().route(kinds, &info.path) {
        parts.extensions.insert(course.record.clone());
        if info.is_long_running() {
            // How long it takes to begin is the other server's affair.
            course.permit = None;
        }
        let passing = inner.aggregation().pass_on(&known, &user, Request::from_parts(parts, body));
        return match course.deadline.filter(|_| !info.is_long_running()) {
            None => passing.await,
            Some(deadline) => {
                let passed = tokio::time::timeout_at(deadline, passing).await;
                passed.unwrap_or_else(|_| Err(course.too_long()))
            }
        };
    }
    if !info.is_resource {
        return paths::handle(inner, info, &parts, &query).await;
    }
    let Some(resource) = resource else {
        let known = kinds.groups().any(|one| one.name == info.group);
        return if known { Err(Status::no_such_path()) } else { Ok(paths::nowhere()) };
    };
    check_path(resource, info)?;
    let part = &info.subresource;
    if !part.is_empty() && resource.subresource(part).is_none() {
        return Err(Status::no_such_path());
    }
    // What is behind a proxy may know two more methods than the API; only a rule for every verb allows them.
    if (info.verb.is_empty() || is_head) && !(info.subresource == "proxy" && is_known) {
        return Err(no_such_method());
    }
    if resource.custom.is_none() {
        check_media(info, &parts.headers)?;
    }
    let socket = WebSocket::of(info, &mut parts)?;
    if matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy") {
        if info.subresource != "log" && query.has("dryRun") {
            return Err(Status::bad_request("dryRun is not supported"));
        }
        connect(inner, info, kinds, resource, &user, &query, &course.notes).await?;
        parts.extensions.insert(course.record.clone());
        let streamed = inner.gate().streams.handle(&user, info, Request::from_parts(parts, body)).await;
        return streamed.map(|mut response| {
            response.extensions_mut().insert(MayPause);
            over(socket, response, course)
        });
    }
    let (resource, kinds) = (resource.clone(), kinds.clone());
    let call = Call {
        server: inner.clone(),
        resource,
        kinds,
        info: info.clone(),
        user,
        record: course.record.clone(),
        query,
        parts,
        notes: course.notes.clone(),
        began: course.began,
        deadline: course.deadline,
        permit: parking_lot::Mutex::new(if info.is_long_running() { course.permit.take() } else { None }),
    };
    if info.is_long_running() {
        return handlers::handle(call, body).await.map(|response| over(socket, response, course));
    }
    let deadline = course.deadline.unwrap_or_else(Instant::now);
    if matches!(info.verb.as_str(), "get" | "list") {
        // There is nothing that would have to be brought to its end: it goes with the client, in the same turn.
        let handling = Box::pin(handlers::handle(call, body));
        return tokio::time::timeout_at(deadline, handling).await.unwrap_or_else(|_| Err(course.too_long()));
    }
    let mut handling = tokio::spawn(InTurn::new(handlers::handle(call, body), course.lane.clone()));
    match tokio::time::timeout_at(deadline, &mut handling).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(course.panicked(info)),
        Err(_) => {
            tokio::spawn(see_to_its_end(inner.clone(), handling));
            Err(course.too_long())
        }
    }
}

/// What who comes too late is told: to try again, on another connection, which leads to another server if there is one.
fn sent_away(version: Version) -> Response<Body> {
    let why = "The apiserver is shutting down, please try again later.";
    let mut response = failure::response(&Status::too_many_requests(why, 5));
    response.extensions_mut().insert(Leaves);
    if version < Version::HTTP_2 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Counts what becomes of a handler that nobody waits for any more.
async fn see_to_its_end(inner: Arc<Inner>, handling: JoinHandle<Result<Response<Body>, Status>>) {
    let how = match handling.await {
        Ok(Ok(_)) => Afterwards::Answered,
        Ok(Err(_)) => Afterwards::Failed,
        Err(_) => Afterwards::Panicked,
    };
    inner.metrics().requests().ended_afterwards(how);
}

/// The answer, over the WebSocket if it was asked for over one.
fn over(socket: Option<WebSocket>, response: Response<Body>, course: &Course) -> Response<Body> {
    let Some(socket) = socket else { return response };
    let (response, sending) = socket.answer(response, course.record.clone());
    if let Some(sending) = sending {
        tokio::spawn(InTurn::new(sending, course.lane.clone()));
    }
    response
}
