//! The connection: TCP to the first endpoint that answers, TLS with the certificate checked, kept for the next call.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{self};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::client::WebPkiServerVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::proxy::Proxy;
use super::service::{self, Address};
use super::target::{Place, Target, Trust};
use crate::body::Body;
use crate::gate::ObjectReader;
use crate::pki::Leaf;
use crate::tls::{AnyCertificate, certificates, private_key, roots};

/// Connections are kept so long without a call.
const IDLE: Duration = Duration::from_secs(90);
/// So long one endpoint may take to accept a connection, before the next is tried.
const DIAL: Duration = Duration::from_secs(5);
/// So many endpoints are tried.
const TRIED: usize = 3;

/// A client of one server. Clones share its connections.
pub(super) type Client = legacy::Client<Connector, Body>;

/// Connects with the server of one target.
#[derive(Clone)]
pub(super) struct Connector(Arc<Settings>);

struct Settings {
    place: Place,
    server_name: String,
    /// Nothing where it is called without.
    tls: Option<Arc<ClientConfig>>,
    services: Option<Services>,
    proxy: Option<Proxy>,
}

/// What finds the endpoints of services.
#[derive(Clone)]
pub(super) struct Services {
    pub(super) reader: Arc<dyn ObjectReader>,
    /// Counts connections, to take the endpoints of a service in turn.
    pub(super) turn: Arc<AtomicUsize>,
}

/// A client for `target`, which can be a service where services are known.
///
/// # Errors
///
/// When certificates cannot be used.
pub(super) fn client(
    target: &Target,
    identity: Option<&Leaf>,
    services: Option<Services>,
) -> Result<Client, String> {
    let settings = Settings {
        place: target.place.clone(),
        server_name: target.server_name(),
        tls: if target.plain { None } else { Some(tls(&target.trust, identity)?) },
        services,
        proxy: target.proxy.clone(),
    };
    Ok(legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_timer(TokioTimer::new())
        .build(Connector(Arc::new(settings))))
}

fn tls(trust: &Trust, identity: Option<&Leaf>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let unusable = |error: crate::error::Error| match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    let builder = match trust {
        Trust::Anyone => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
        }
        Trust::System => {
            builder.dangerous().with_custom_certificate_verifier(verifier(SYSTEM.clone(), provider)?)
        }
        Trust::Authority(pem) => {
            let roots = Arc::new(roots(pem).map_err(unusable)?);
            builder.dangerous().with_custom_certificate_verifier(verifier(roots, provider)?)
        }
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(leaf) => builder
            .with_client_auth_cert(
                certificates(&leaf.certificate_pem).map_err(unusable)?,
                private_key(&leaf.key_pem).map_err(unusable)?,
            )
            .map_err(|error| error.to_string())?,
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The usual verifier of rustls, which is not to be had without any root: a machine may trust nobody.
fn verifier(
    roots: Arc<RootCertStore>,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    WebPkiServerVerifier::builder_with_provider(roots, provider).build().map_err(|error| error.to_string())
}

/// What the machine trusts, read once.
static SYSTEM: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "cannot read a certificate that this machine trusts");
    }
    store.add_parsable_certificates(found.certs);
    Arc::new(store)
});

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, Result<Stream, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let settings = self.0.clone();
        Box::pin(async move { settings.open().await.map_err(std::io::Error::other) })
    }
}

impl Settings {
    fn addresses(&self) -> Result<Vec<Address>, String> {
        match &self.place {
            Place::Host { host, port, .. } => Ok(vec![(host.clone(), *port)]),
            Place::Service { namespace, name, port } => {
                let services = self.services.as_ref().ok_or("no service can be called from here")?;
                let turn = services.turn.fetch_add(1, Ordering::Relaxed);
                service::resolve(&*services.reader, namespace, name, *port, turn)
            }
        }
    }

    async fn open(&self) -> Result<Stream, String> {
        let addresses = self.addresses()?;
        let mut failed = String::new();
        for address in addresses.iter().take(TRIED) {
            let dialled = match &self.proxy {
                None => dial(address).await,
                Some(proxy) => proxy.open(&address.0, address.1).await,
            };
            match dialled {
                Ok(stream) => return self.secure(stream).await,
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    async fn secure(&self, stream: TcpStream) -> Result<Stream, String> {
        let Some(tls) = &self.tls else { return Ok(Stream(TokioIo::new(Either::Right(stream)))) };
        let name = ServerName::try_from(self.server_name.clone()).map_err(|error| error.to_string())?;
        let connecting = TlsConnector::from(tls.clone()).connect(name, stream);
        let stream = connecting.await.map_err(|error| {
            let certificate = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match certificate {
                Some(rustls::Error::InvalidCertificate(_)) => {
                    format!("tls: failed to verify certificate: {error}")
                }
                _ => error.to_string(),
            }
        })?;
        Ok(Stream(TokioIo::new(Either::Left(stream))))
    }
}

async fn dial((host, port): &Address) -> Result<TcpStream, String> {
    let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let outcome = tokio::time::timeout(DIAL, TcpStream::connect((host.as_str(), *port))).await;
    let stream = match outcome {
        Err(_) => return Err(format!("dial tcp {shown}: i/o timeout")),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Err(format!("dial tcp {shown}: connect: connection refused"));
        }
        Ok(Err(error)) => return Err(format!("dial tcp {shown}: {error}")),
        Ok(Ok(stream)) => stream,
    };
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream)
}

/// A connection, as the client of hyper takes it.
pub(super) struct Stream(TokioIo<Either<TlsStream<TcpStream>, TcpStream>>);

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
