//! One connection: handshake, requests, end.
//!
//! It goes through: handshake -> serving -> leaving -> gone. It leaves when the server ends, when there was nothing to do
//! for too long, or when chance says so; from then on it takes no new requests, and is gone when those under way are.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, ready};
use futures::stream::{FuturesUnordered, StreamExt};
use http::header::HOST;
use http::{Request, Response, StatusCode, Version};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use super::clients::Clients;
use super::listener::Limits;
use super::paced::{MayPause, Paced};
use crate::body::{self, Body, BoxError};
use crate::turns::{self, Lane, Spawner};

/// So long a connection may take to end, once nothing is under way on it.
const LINGER: Duration = Duration::from_secs(5);

/// Marks an answer after which its client is to connect anew, elsewhere if there is an elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaves;

/// A connection that was accepted.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) peer: std::net::SocketAddr,
    pub(super) place: OwnedSemaphorePermit,
    pub(super) acceptor: TlsAcceptor,
    /// Whose certificates are accepted.
    pub(super) clients: Arc<Clients>,
    pub(super) limits: Limits,
    /// Where it waits for its turns; its requests say by whom they are.
    pub(super) lane: Lane,
    /// Counts handshakes that fail.
    pub(super) failures: IntCounter,
}

impl Connection {
    /// Serves it until its end; from `closing` on no new requests.
    pub(super) async fn serve<S>(self, service: S, http: auto::Builder<Spawner>, closing: CancellationToken)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        let Self { stream, peer, place, acceptor, clients, limits, lane, failures } = self;
        let stream = Paced::new(stream, limits.write_stall);
        let may_pause = stream.may_pause();
        let stream = match tokio::time::timeout(limits.handshake, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                failures.inc();
                tracing::debug!(%peer, %error, "TLS handshake failed");
                return;
            }
            Err(_) => {
                failures.inc();
                tracing::debug!(%peer, "TLS handshake took too long");
                return;
            }
        };
        let credentials = clients.credentials(stream.get_ref().1.peer_certificates().unwrap_or_default());
        if let Some(why) = &credentials.refused {
            tracing::debug!(%peer, why, "the client shows a certificate of somebody else");
        }
        let requests = Arc::new(Requests::new());
        let (counting, chance) = (Arc::clone(&requests), limits.goaway_chance);
        let service = service_fn(move |request: Request<Incoming>| {
            let (service, under_way) = (service.clone(), UnderWay::new(&counting));
            if chance > 0.0 && request.version() == Version::HTTP_2 && rand::random::<f64>() < chance {
                counting.leave.cancel();
            }
            if lacks_host(&request) {
                let mut refused = Response::new(body::full("400 Bad Request: missing required Host header"));
                *refused.status_mut() = StatusCode::BAD_REQUEST;
                let refused: BoxFuture<'static, Result<Response<Body>, Infallible>> =
                    Box::pin(ready(Ok(refused)));
                return refused;
            }
            let mut request = request.map(body::boxed);
            request.extensions_mut().insert(credentials.clone());
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(lane.clone());
            let (may_pause, counting) = (Arc::clone(&may_pause), Arc::clone(&counting));
            // Boxed, because the compiler cannot name this type's lifetimes.
            let answering: BoxFuture<'static, Result<Response<Body>, Infallible>> =
                Box::pin(service.oneshot(request));
            let answer: BoxFuture<'static, Result<Response<Body>, Infallible>> = Box::pin(async move {
                let response = answering.await?;
                if response.extensions().get::<MayPause>().is_some() {
                    may_pause.store(true, Ordering::Relaxed);
                }
                if response.extensions().get::<Leaves>().is_some() {
                    counting.leave.cancel();
                }
                Ok(response.map(|body| body::boxed(Counted { body, begun: false, _under_way: under_way })))
            });
            answer
        });
        let mut connection = pin!(http.serve_connection_with_upgrades(TokioIo::new(stream), service));
        // Looked at only when one of them has woken it, unlike the connection, which is the rule.
        let end = async {
            tokio::select! {
                () = closing.cancelled() => {}
                () = requests.leave.cancelled() => {}
                () = requests.idle(limits.request_head, limits.idle) => {}
            }
        };
        let mut end = std::iter::once(end).collect::<FuturesUnordered<_>>();
        let ended = tokio::select! {
            biased;
            outcome = connection.as_mut() => Some(outcome),
            Some(()) = end.next() => None,
        };
        drop(end);
        let ended = match ended {
            Some(outcome) => outcome,
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    outcome = connection.as_mut() => outcome,
                    () = requests.idle(LINGER, LINGER) => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, error, "connection ended");
        }
        drop(place);
    }
}

/// HTTP/1.1 says the host that it asks, and once (RFC 9112, section 3.2): a proxy in between could take another for it.
fn lacks_host<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11 && request.headers().get_all(HOST).iter().count() != 1
}

/// What is under way on a connection.
struct Requests {
    count: Mutex<Count>,
    /// The client is to go elsewhere.
    leave: CancellationToken,
}

#[derive(Clone, Copy)]
struct Count {
    /// How many requests there were,
    all: u64,
    /// and how many of them are not over.
    under_way: u64,
    /// When there last began or ended one.
    since: Instant,
}

impl Requests {
    fn new() -> Self {
        let count = Count { all: 0, under_way: 0, since: Instant::now() };
        Self { count: Mutex::new(count), leave: CancellationToken::new() }
    }

    /// Returns when nothing was under way for so long: `first` before the first request, `later` after one. It is not
    /// woken by requests, of which there are many.
    async fn idle(&self, first: Duration, later: Duration) {
        let begun = Instant::now();
        loop {
            let Count { all, under_way, since } = *self.count.lock();
            let patience = if all == 0 { first } else { later };
            let now = Instant::now();
            let due = if under_way > 0 { now } else { since.max(begun) } + patience;
            if due <= now {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// A request that is not over.
struct UnderWay(Arc<Requests>);

impl UnderWay {
    fn new(requests: &Arc<Requests>) -> Self {
        let mut count = requests.count.lock();
        *count = Count { all: count.all + 1, under_way: count.under_way + 1, since: Instant::now() };
        drop(count);
        Self(Arc::clone(requests))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut count = self.0.count.lock();
        *count = Count { under_way: count.under_way - 1, since: Instant::now(), ..*count };
    }
}

/// The body of an answer, with which its request is over. It gives way between pieces, but not before the first one, which
/// is there already, and goes out together with the head.
struct Counted {
    body: Body,
    begun: bool,
    _under_way: UnderWay,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.begun && turns::gives_way(context) {
            return Poll::Pending;
        }
        self.begun = true;
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
