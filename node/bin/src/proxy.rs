//! `skep-node proxy`: the service datapath alone, on any Kubernetes cluster.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus::{Encoder, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::flags::ProxyArguments;
use crate::run::end_together;
use crate::{services, shutdown};

/// Runs until a signal. The datapath goes on without it.
pub(crate) async fn run(arguments: ProxyArguments) -> Result<()> {
    let (stop, stopped) = shutdown::on_signal()?;
    let client = services::client(&arguments.kubeconfig).await?;
    let dataplane = services::open(&arguments.datapath, &arguments.node_ips).await?;
    let registry = Registry::new();
    let mut parts = JoinSet::new();
    parts.spawn(services::follow(
        client,
        arguments.node_name,
        arguments.node_ips,
        dataplane,
        registry.clone(),
        stopped.clone(),
    ));
    parts.spawn(serve_metrics(arguments.metrics_listen, registry, stopped));
    end_together(parts, &stop).await
}

/// `/metrics` and `/healthz` over plain HTTP.
async fn serve_metrics(
    listen: SocketAddr,
    registry: Registry,
    mut stopped: watch::Receiver<bool>,
) -> Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("--metrics-listen {listen}"))?;
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.context("metrics")?.0,
            _ = stopped.wait_for(|ended| *ended) => return Ok(()),
        };
        let registry = registry.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, &registry);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection for metrics broke");
            }
        });
    }
}

fn answer<B>(request: &Request<B>, registry: &Registry) -> Response<Full<Bytes>> {
    let mut body = Vec::new();
    let status = match request.uri().path() {
        "/metrics" => match TextEncoder::new().encode(&registry.gather(), &mut body) {
            Ok(()) => StatusCode::OK,
            Err(error) => {
                body = error.to_string().into_bytes();
                StatusCode::INTERNAL_SERVER_ERROR
            }
        },
        "/healthz" => {
            body.extend_from_slice(b"ok");
            StatusCode::OK
        }
        _ => StatusCode::NOT_FOUND,
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}
