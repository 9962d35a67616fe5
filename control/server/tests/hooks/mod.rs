//! An HTTPS server in this process that answers as a test wants: well, badly, never.
//!
//! Used by the unit tests of the crate and by its tests of the whole API, which is why it needs nothing of either.

#![allow(dead_code, reason = "each user of this file needs a part of it")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the server does with a request.
pub(crate) enum Reply {
    /// Answers with this.
    Json(Value),
    /// Answers with this code and text.
    Text(u16, String),
    /// Does not answer.
    Hang,
    /// Ends the connection.
    Crash,
    /// Answers without end.
    Flood,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// The server. It ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Hook {
    pub(crate) address: SocketAddr,
    /// The certificate of its authority, PEM.
    pub(crate) authority: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
}

impl Hook {
    /// A server at a free port of this machine whose certificate is for these names, too.
    pub(crate) async fn start(
        names: &[&str],
        reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (authority, tls) = certificates(names);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let hook = Self { address, authority, seen: Arc::default(), connections: Arc::default() };
        let (one, reply) = (hook.clone(), Arc::new(reply));
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *one.connections.lock().unwrap() += 1;
                let (one, reply, acceptor) = (one.clone(), reply.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request| {
                        let (one, reply) = (one.clone(), reply.clone());
                        async move { one.answer(request, &*reply).await }
                    });
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        hook
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        reply: &(dyn Fn(&Seen) -> Reply + Send + Sync),
    ) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let seen = Seen {
            method: parts.method.to_string(),
            target: parts.uri.path_and_query().map_or("", |target| target.as_str()).to_owned(),
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        };
        self.seen.lock().unwrap().push(seen.clone());
        let full = |code: u16, kind: &str, text: String| {
            let body = Full::new(Bytes::from(text)).boxed_unsync();
            Ok(Response::builder().status(code).header("content-type", kind).body(body).unwrap())
        };
        match reply(&seen) {
            Reply::Json(value) => full(200, "application/json", value.to_string()),
            Reply::Text(code, text) => full(code, "text/plain", text),
            Reply::Hang => std::future::pending().await,
            Reply::Crash => Err(std::io::Error::other("crash")),
            Reply::Flood => {
                let piece = Bytes::from(vec![b' '; 64 << 10]);
                let pieces = futures::stream::repeat(piece).map(|piece| Ok(Frame::data(piece)));
                Ok(Response::new(BodyExt::boxed_unsync(StreamBody::new(pieces))))
            }
        }
    }

    /// The requests that came, in order.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    /// The `caBundle` of its authority.
    pub(crate) fn bundle(&self) -> String {
        STANDARD.encode(&self.authority)
    }

    /// A `clientConfig` that leads to a path of it.
    pub(crate) fn client_config(&self, path: &str) -> Value {
        json!({ "url": format!("https://{}{path}", self.address), "caBundle": self.bundle() })
    }
}

fn certificates(names: &[&str]) -> (String, ServerConfig) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let all: Vec<String> =
        names.iter().copied().chain(["127.0.0.1", "localhost"]).map(str::to_owned).collect();
    let own = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(all).unwrap().signed_by(&own, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(own.serialize_der().into()))
        .unwrap();
    (authority.pem(), config)
}
