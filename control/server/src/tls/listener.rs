//! Accepting connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use prometheus::{IntCounter, Registry};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::connection::Connection;
use super::keys::TlsKeys;
use crate::body::Body;
use crate::error::Error;
use crate::metrics::register;
use crate::turns::{InTurn, Lane, Spawner, Turns};

/// What a client may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at the same time; further ones wait to be accepted.
    pub connections: usize,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for the head of a request, and for the first one to begin.
    pub request_head: Duration,
    /// Time that a connection without requests is kept.
    pub idle: Duration,
    /// Time in which a client has to take at least a byte of what is sent to it.
    pub write_stall: Duration,
    /// Bytes of a request's headers.
    pub header_bytes: usize,
    /// Requests at the same time on one HTTP/2 connection.
    pub streams: u32,
    /// How probably an HTTP/2 client is asked to connect again (GOAWAY), at each of its requests: so that several servers
    /// behind one address share the clients again after one of them was away. From 0 to 1.
    pub goaway_chance: f64,
    /// Time that requests have to end when the server stops.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16 * 1024,
            handshake: Duration::from_secs(10),
            request_head: Duration::from_secs(30),
            idle: Duration::from_secs(90),
            write_stall: Duration::from_secs(60),
            header_bytes: 1 << 20,
            streams: 250,
            goaway_chance: 0.0,
            shutdown: Duration::from_secs(20),
        }
    }
}

/// A bound socket, not yet accepting.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    keys: TlsKeys,
    limits: Limits,
    turns: Turns,
    /// Connections that never got to their first request.
    failures: IntCounter,
}

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    ///
    /// When the address cannot be had: in use, not of this machine, or not permitted.
    pub async fn bind(address: SocketAddr, keys: TlsKeys, limits: Limits) -> Result<Self, Error> {
        let socket = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        Ok(Self { socket, keys, limits, turns: Turns::default(), failures: failures() })
    }

    /// The same, with connections that share the turns of the server behind it.
    #[must_use]
    pub fn sharing(self, turns: Turns) -> Self {
        Self { turns, ..self }
    }

    /// The same, which counts handshakes that fail.
    #[must_use]
    pub fn counting(self, registry: &Registry) -> Self {
        Self { failures: register(registry, failures()), ..self }
    }

    /// The address that was bound, with the port that the system chose where 0 was asked for.
    ///
    /// # Errors
    ///
    /// When the system does not tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `shutdown`, then lets requests end for as long as the limits say.
    pub async fn serve<S>(self, service: S, shutdown: CancellationToken)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        let Self { socket, keys, limits, turns, failures } = self;
        let places = Arc::new(Semaphore::new(limits.connections));
        let (connections, closing) = (TaskTracker::new(), CancellationToken::new());
        loop {
            let accepted = tokio::select! {
                accepted = accept(&socket, &places) => accepted,
                () = shutdown.cancelled() => break,
            };
            let (stream, peer, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or the client is gone already. Waiting lets some close.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let local = stream.local_addr().ok().map(|address| address.ip().to_canonical());
            let (config, clients) = keys.current(local);
            let acceptor = TlsAcceptor::from(config);
            let lane = Lane::of_peer(&turns, peer.ip().to_canonical());
            let http = http(&limits, Spawner(lane.clone()));
            let connection = Connection {
                stream,
                peer,
                place,
                acceptor,
                clients,
                limits: limits.clone(),
                lane: lane.clone(),
                failures: failures.clone(),
            };
            let serving = connection.serve(service.clone(), http, closing.clone());
            connections.spawn(InTurn::new(serving, lane));
        }
        drop(socket);
        closing.cancel();
        connections.close();
        if tokio::time::timeout(limits.shutdown, connections.wait()).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
    }
}

fn failures() -> IntCounter {
    let help = "Connections whose TLS handshake failed.";
    let counter = IntCounter::new("apiserver_tls_handshake_errors_total", help);
    counter.expect("names of metrics are valid")
}

fn http(limits: &Limits, spawner: Spawner) -> auto::Builder<Spawner> {
    let mut http = auto::Builder::new(spawner);
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request_head)
        .max_buf_size(limits.header_bytes.max(8192));
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        // A peer that vanished without a word is noticed.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    http
}

async fn accept(
    socket: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    let (stream, peer) = socket.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, place))
}
