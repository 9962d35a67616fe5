//! The least that a server over TLS costs: HTTP, and for a body an append with an fsync. No object, no store, no check.
//! Who watches is told of every body, at once and by a write to its socket.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use futures::stream;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_rustls::TlsAcceptor;

/// The argument by which this program becomes the bare server: `bare-server PORT FOLDER`.
pub const COMMAND: &str = "bare-server";

/// What watchers are told of a body: about as much as of an object of 7 KB.
const PADDING: usize = 7_000;
/// So many bodies a watcher may be behind.
const BEHIND: usize = 4096;

struct State {
    log: Mutex<File>,
    bodies: broadcast::Sender<Bytes>,
}

/// Serves until the process is ended.
///
/// # Errors
/// The port is taken, or the file cannot be made.
pub fn serve(port: &str, folder: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let acceptor = TlsAcceptor::from(Arc::new(tls()?));
        let log = Mutex::new(File::create(folder.join("log"))?);
        let state = Arc::new(State { log, bodies: broadcast::Sender::new(BEHIND) });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse()?)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (acceptor, state) = (acceptor.clone(), state.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| answer(request, state.clone()));
                // A client that goes away is none of its concern.
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    })
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Body>, Infallible> {
    if request.uri().query().is_some_and(|query| query.contains("watch=1")) {
        return Ok(Response::new(watch(&state)));
    }
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    if body.is_empty() {
        return Ok(Response::new(Full::from(vec![b'x'; 1536]).boxed_unsync()));
    }
    let (written, log) = (body.clone(), state.clone());
    let done = tokio::task::spawn_blocking(move || {
        let mut log = log.log.lock();
        log.write_all(&written).and_then(|()| log.sync_data())
    });
    let status = if matches!(done.await, Ok(Ok(()))) { 201 } else { 500 };
    // Nobody may be watching.
    let _ = state.bodies.send([&body[..], &[b' '; PADDING], b"\n"].concat().into());
    let mut response = Response::new(Full::from(body).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    Ok(response)
}

/// Every body from now on, as one that does not end; who is too far behind is cut off.
fn watch(state: &State) -> Body {
    let bodies = stream::unfold(state.bodies.subscribe(), |mut bodies| async move {
        let body = bodies.recv().await.ok()?;
        Some((Ok(Frame::data(body)), bodies))
    });
    StreamBody::new(bodies).boxed_unsync()
}

fn tls() -> anyhow::Result<ServerConfig> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::generate_simple_self_signed(names).context("make a certificate")?;
    let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)?)
}
