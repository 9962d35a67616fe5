//! Takes connections: TCP, TLS, HTTP/1.1, and their end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use skep_runtime::Runtime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::handle::Handler;
use crate::metrics::Metrics;
use crate::tls::Credentials;
use crate::{EndpointConfig, EndpointError, PodSource};

/// How long a client may take for the TLS handshake, and for the head of a request.
const OPENING: Duration = Duration::from_secs(10);
/// How long streams may take to end.
const CLOSING: Duration = Duration::from_secs(5);
/// How long to wait when the system has no more file descriptors.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// Most connections at a time that have not become streams.
const CONNECTIONS: usize = 1024;

/// An endpoint that listens.
pub struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
    credentials: Credentials,
    handler: Arc<Handler>,
}

impl Endpoint {
    /// Reads the certificates and listens.
    ///
    /// # Errors
    /// Unreadable or unusable certificates, an address in use, metrics registered twice.
    pub async fn bind(
        config: EndpointConfig,
        runtime: Arc<dyn Runtime>,
        pods: Arc<dyn PodSource>,
    ) -> Result<Self, EndpointError> {
        let credentials = Credentials::load(config.clone())?;
        let metrics = Metrics::new(&config.metrics)?;
        let fail = |source| EndpointError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let handler = Arc::new(Handler {
            runtime,
            pods,
            registry: config.metrics,
            metrics,
            log_dir: config.log_dir,
            cancel: CancellationToken::new(),
            streams: TaskTracker::new(),
        });
        Ok(Self { listener, address, credentials, handler })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` turns true or its sender is gone, then ends what is open.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let Self { listener, address, credentials, handler } = self;
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        tracing::info!(%address, "the node's endpoint listens");
        loop {
            let accepted = tokio::select! {
                // A sender that is gone cannot ask any more: that is an end as well.
                _ = shutdown.wait_for(|end| *end) => break,
                accepted = accept(&listener, &slots) => accepted,
            };
            match accepted {
                Ok((connection, slot)) => {
                    let (acceptor, own) = (credentials.acceptor(), Arc::clone(&handler));
                    handler.streams.spawn(async move {
                        serve(acceptor, connection, own).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
        drop(listener);
        handler.cancel.cancel();
        handler.streams.close();
        if tokio::time::timeout(CLOSING, handler.streams.wait()).await.is_err() {
            tracing::warn!("streams were left open at the endpoint's end");
        }
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
    let (connection, _) = listener.accept().await?;
    Ok((connection, slot))
}

async fn serve(acceptor: TlsAcceptor, connection: TcpStream, handler: Arc<Handler>) {
    // Answers to keys that are typed must not wait for more.
    let _ = connection.set_nodelay(true);
    let cancel = handler.cancel.clone();
    let opening = tokio::time::timeout(OPENING, acceptor.accept(connection));
    let connection = match cancel.run_until_cancelled(opening).await {
        Some(Ok(Ok(connection))) => connection,
        Some(Ok(Err(error))) => return tracing::debug!(%error, "a TLS handshake failed"),
        Some(Err(_)) | None => return,
    };
    let certificates: Option<Arc<[_]>> = connection
        .get_ref()
        .1
        .peer_certificates()
        .map(|chain| chain.iter().map(|certificate| certificate.clone().into_owned()).collect());
    let service = service_fn(move |request: Request<Incoming>| {
        let (handler, certificates) = (Arc::clone(&handler), certificates.clone());
        async move { Ok::<_, Infallible>(handler.answer(certificates.as_deref(), request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(OPENING)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(connection), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
