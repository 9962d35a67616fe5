//! Answers requests: who asks, what for, and the answer or the start of a stream.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use k8s_openapi::api::core::v1::Pod;
use rustls_pki_types::CertificateDer;
use serde_json::json;
use skep_runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::forward::{self, Dialer};
use crate::metrics::{self, InFlight, Metrics};
use crate::process::{self, Work};
use crate::refusal::{Refusal, describe};
use crate::route::{self, Query, Route, Target};
use crate::{PodSource, containers, identity, logs};

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Answer = Result<Response<Body>, Refusal>;

/// What answering needs; shared by all connections.
pub(crate) struct Handler {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) pods: Arc<dyn PodSource>,
    pub(crate) registry: prometheus::Registry,
    pub(crate) metrics: Metrics,
    pub(crate) log_dir: PathBuf,
    /// Turned when the endpoint ends: streams end then.
    pub(crate) cancel: CancellationToken,
    /// Streams that go on after their request was answered.
    pub(crate) streams: TaskTracker,
}

/// An empty body, as the parts that switch protocols make it.
#[derive(Default)]
struct NoBody;

impl Handler {
    /// Answers a request of the client with these certificates. Never fails: what goes wrong is an answer too.
    pub(crate) async fn answer(
        &self,
        certificates: Option<&[CertificateDer<'_>]>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let route = route::parse(request.uri().path());
        let label = route.as_ref().map_or("other", Route::label);
        let path = request.uri().path().to_owned();
        let answer = match identity::check(certificates) {
            Ok(()) => self.route(route, request, label).await,
            Err(refusal) => Err(refusal),
        };
        let response = answer.unwrap_or_else(|refusal| {
            tracing::debug!(path, status = refusal.status.as_u16(), message = refusal.message, "refused");
            text(refusal.status, refusal.message.into())
        });
        self.metrics.answered(label, response.status());
        response
    }

    async fn route(&self, route: Option<Route>, request: Request<Incoming>, label: &str) -> Answer {
        let Some(route) = route else { return Err(Refusal::not_found("404 page not found")) };
        let streams = matches!(route, Route::Exec(_) | Route::Attach(_) | Route::PortForward { .. });
        let allowed = request.method() == Method::GET || (streams && request.method() == Method::POST);
        if !allowed {
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed"));
        }
        let in_flight = self.metrics.in_flight(label);
        let query = route::query(request.uri().query());
        match route {
            Route::Healthz => Ok(text(StatusCode::OK, "ok".into())),
            Route::Metrics => self.metrics_text(),
            Route::Pods => self.list(),
            Route::Logs(target) => self.logs(&target, &query, in_flight).await,
            Route::Exec(target) => self.process(&target, &query, request, true, in_flight).await,
            Route::Attach(target) => self.process(&target, &query, request, false, in_flight).await,
            Route::PortForward { namespace, pod, uid } => {
                let pod = containers::pod(self.pods.as_ref(), &namespace, &pod, uid.as_deref())?;
                self.forward(&pod, &query, request, in_flight).await
            }
        }
    }

    fn metrics_text(&self) -> Answer {
        let all = metrics::text(&self.registry).map_err(|error| Refusal::internal(describe(&error)))?;
        let mut response = text(StatusCode::OK, all.into());
        let kind = HeaderValue::from_static("text/plain; version=0.0.4");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok(response)
    }

    fn list(&self) -> Answer {
        let pods = self.pods.pods();
        let items: Vec<&Pod> = pods.iter().map(Arc::as_ref).collect();
        let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
        let mut response = text(StatusCode::OK, list.to_string().into());
        let kind = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok(response)
    }

    fn pod(&self, target: &Target) -> Result<Arc<Pod>, Refusal> {
        containers::pod(self.pods.as_ref(), &target.namespace, &target.pod, target.uid.as_deref())
    }

    async fn logs(&self, target: &Target, query: &Query, in_flight: InFlight) -> Answer {
        let options = logs::options(query, jiff::Timestamp::now())?;
        let pod = self.pod(target)?;
        let cancel = self.cancel.child_token();
        let pieces =
            logs::open(&self.runtime, &self.log_dir, &pod, &target.container, options, cancel).await?;
        let frames = stream::unfold((pieces, in_flight), |(mut pieces, in_flight)| async move {
            let piece = pieces.recv().await?;
            Some((Ok(Frame::data(piece)), (pieces, in_flight)))
        });
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        let kind = HeaderValue::from_static("text/plain");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok(response)
    }

    async fn process(
        &self,
        target: &Target,
        query: &Query,
        mut request: Request<Incoming>,
        exec: bool,
        in_flight: InFlight,
    ) -> Answer {
        let streams = route::streams(query)?;
        let command = if exec { route::command(query)? } else { Vec::new() };
        // Everything that can be refused is, before the runtime begins a process.
        let client = process::client(&request)?;
        let pod = self.pod(target)?;
        let id = containers::running(self.runtime.as_ref(), &pod, &target.container).await?;
        let url = if exec {
            self.runtime.exec_url(&id, command, streams).await?
        } else {
            self.runtime.attach_url(&id, streams).await?
        };
        let cancel = self.cancel.child_token();
        let (response, work) =
            process::join::<_, NoBody>(&mut request, client, &url, streams, cancel).await?;
        Ok(self.switch(response, work, in_flight))
    }

    async fn forward(
        &self,
        pod: &Pod,
        query: &Query,
        mut request: Request<Incoming>,
        in_flight: InFlight,
    ) -> Answer {
        let ports = route::ports(query)?;
        let sandbox = containers::sandbox(self.runtime.as_ref(), pod).await?;
        let dialer = Dialer::new(self.runtime.sandbox_netns(&sandbox).await?);
        let cancel = self.cancel.child_token();
        let (response, work) = forward::join::<_, NoBody>(&mut request, ports, dialer, cancel)?;
        Ok(self.switch(response, work, in_flight))
    }

    /// Lets a stream begin when its answer has gone out.
    fn switch(&self, response: Response<NoBody>, work: Work, in_flight: InFlight) -> Response<Body> {
        self.streams.spawn(async move {
            work.await;
            drop(in_flight);
        });
        response.map(|NoBody| Empty::new().boxed_unsync())
    }
}

/// An answer in plain text.
fn text(status: StatusCode, text: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(text).boxed_unsync());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
