//! Real handshakes over loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::{Request, Response, Version};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prometheus::Registry;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use super::{Leaves, Limits, Listener, Named, TlsKeys, certificates, private_key, roots};
use crate::body::{self, Body};
use crate::gate::Credentials;
use crate::pki::{Authority, Leaf, Pki, Role, ServingNames};

struct Server {
    directory: tempfile::TempDir,
    pki: Pki,
    keys: TlsKeys,
    address: SocketAddr,
    registry: Registry,
    shutdown: CancellationToken,
    done: tokio::task::JoinHandle<()>,
}

/// Answers with the number of client certificates and the protocol version, and whether a certificate was refused; on wish with the path or the body instead, or
/// with an answer that never ends, or one after which the client is to leave.
async fn answer(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/hold" {
        let endless = futures::stream::pending::<Result<http_body::Frame<bytes::Bytes>, body::BoxError>>();
        return Ok(Response::new(body::boxed(http_body_util::StreamBody::new(endless))));
    }
    if request.uri().path() == "/leave" {
        let mut response = Response::new(body::full("elsewhere"));
        response.extensions_mut().insert(Leaves);
        return Ok(response);
    }
    if request.uri().path() == "/body" {
        let bytes = request.into_body().collect().await.unwrap().to_bytes();
        return Ok(Response::new(body::full(bytes)));
    }
    if request.headers().contains_key("x-echo") {
        return Ok(Response::new(body::full(request.uri().path().to_owned())));
    }
    let Credentials { certificates, refused, .. } = request.extensions().get::<Credentials>().unwrap();
    let (certificates, refused) = (certificates.len(), refused.as_ref().map_or("", |_| " refused"));
    let version = if request.version() == Version::HTTP_2 { "h2" } else { "h1" };
    Ok(Response::new(body::full(format!("{certificates} {version}{refused}"))))
}

async fn server(limits: Limits) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path(), ServingNames::default(), SystemTime::now()).unwrap();
    let keys = TlsKeys::new(&pki.serving().unwrap(), &pki.ca_pem().unwrap()).unwrap();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), keys.clone(), limits).await.unwrap();
    let (address, shutdown) = (listener.address().unwrap(), CancellationToken::new());
    let registry = Registry::new();
    let listener = listener.counting(&registry);
    let done = tokio::spawn(listener.serve(service_fn(answer), shutdown.clone()));
    Server { directory, pki, keys, address, registry, shutdown, done }
}

fn client(ca: &str, identity: Option<&Leaf>, alpn: &str) -> TlsConnector {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(ca).unwrap());
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(leaf) => builder
            .with_client_auth_cert(
                certificates(&leaf.certificate_pem).unwrap(),
                private_key(&leaf.key_pem).unwrap(),
            )
            .unwrap(),
    };
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn connect(
    server: &Server,
    client: &TlsConnector,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.address).await?;
    client.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

async fn get(stream: TlsStream<TcpStream>, h2: bool) -> Result<String, hyper::Error> {
    let io = TokioIo::new(stream);
    let request = Request::builder()
        .uri("https://kubernetes/")
        .header("host", "kubernetes")
        .body(body::empty())
        .unwrap();
    let response = if h2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    };
    Ok(String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn cipher_is_the_servers_choice() {
    let server = server(Limits::default()).await;
    let connector = client(&server.pki.ca_pem().unwrap(), None, "http/1.1");
    let stream = connect(&server, &connector, "localhost").await.unwrap();
    let chosen = stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(
        chosen,
        rustls::CipherSuite::TLS13_AES_128_GCM_SHA256,
        "the client would rather have 256 bits"
    );
}

#[tokio::test]
async fn handshake_with_and_without_client_certificate_both_versions() {
    let server = server(Limits::default()).await;
    let ca = server.pki.ca_pem().unwrap();
    let identity = server.pki.kubelet_client().unwrap();
    for (identity, h2, expected) in [
        (None, false, "0 h1"),
        (Some(&identity), false, "1 h1"),
        (None, true, "0 h2"),
        (Some(&identity), true, "1 h2"),
    ] {
        let connector = client(&ca, identity, if h2 { "h2" } else { "http/1.1" });
        for name in ["kubernetes.default.svc.cluster.local", "localhost", "127.0.0.1"] {
            let stream = connect(&server, &connector, name).await.unwrap();
            assert_eq!(get(stream, h2).await.unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn client_certificate_of_other_authority_is_told_and_not_passed_on() {
    let server = server(Limits::default()).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Pki::open(elsewhere.path(), ServingNames::default(), SystemTime::now()).unwrap();
    let connector = client(&server.pki.ca_pem().unwrap(), Some(&other.kubelet_client().unwrap()), "http/1.1");
    let stream = connect(&server, &connector, "localhost").await.unwrap();
    assert_eq!(get(stream, false).await.unwrap(), "0 h1 refused");
    // The authority is accepted from now on: connections that begin see it, whatever was agreed with the client before.
    let both = format!("{}{}", server.pki.ca_pem().unwrap(), other.ca_pem().unwrap());
    server.keys.reload(&server.pki.serving().unwrap(), &both).unwrap();
    let stream = connect(&server, &connector, "localhost").await.unwrap();
    assert_eq!(get(stream, false).await.unwrap(), "1 h1");
    server.keys.reload(&server.pki.serving().unwrap(), &server.pki.ca_pem().unwrap()).unwrap();
    let stream = connect(&server, &connector, "localhost").await.unwrap();
    assert_eq!(get(stream, false).await.unwrap(), "0 h1 refused");
}

/// A client without the key of the certificate that it shows.
#[tokio::test]
async fn client_certificate_without_its_key_ends_the_connection() {
    let server = server(Limits::default()).await;
    let stolen = server.pki.kubelet_client().unwrap().certificate_pem;
    let key_pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let connector = hostile::shows(&server, &Leaf { certificate_pem: stolen, key_pem });
    match connect(&server, &connector, "localhost").await {
        Err(_) => {}
        // With TLS 1.3 the client learns of it when it reads.
        Ok(stream) => assert!(get(stream, false).await.is_err()),
    }
}

#[tokio::test]
async fn serving_certificate_is_not_accepted_from_a_client() {
    let server = server(Limits::default()).await;
    let connector = client(&server.pki.ca_pem().unwrap(), Some(&server.pki.serving().unwrap()), "http/1.1");
    let stream = connect(&server, &connector, "localhost").await.unwrap();
    assert_eq!(get(stream, false).await.unwrap(), "0 h1 refused");
}

#[tokio::test]
async fn server_under_other_name_or_authority_is_refused_by_clients() {
    let server = server(Limits::default()).await;
    let connector = client(&server.pki.ca_pem().unwrap(), None, "http/1.1");
    assert!(connect(&server, &connector, "evil.example").await.is_err());
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Authority::open_or_create(elsewhere.path(), Role::Cluster, SystemTime::now()).unwrap();
    let connector = client(other.certificate_pem(), None, "http/1.1");
    assert!(connect(&server, &connector, "localhost").await.is_err());
}

#[tokio::test]
async fn reload_serves_the_new_certificate_to_new_connections() {
    let server = server(Limits::default()).await;
    let connector = client(&server.pki.ca_pem().unwrap(), None, "http/1.1");
    assert!(connect(&server, &connector, "new.example").await.is_err());
    let names = ServingNames { dns: vec!["new.example".into()], ..ServingNames::default() };
    let pki = Pki::open(server.directory.path(), names, SystemTime::now()).unwrap();
    server.keys.reload(&pki.serving().unwrap(), &pki.ca_pem().unwrap()).unwrap();
    let stream = connect(&server, &connector, "new.example").await.unwrap();
    assert_eq!(get(stream, false).await.unwrap(), "0 h1");
}

#[tokio::test]
async fn bind_port_in_use_is_a_clear_error() {
    let server = server(Limits::default()).await;
    let error = Listener::bind(server.address, server.keys.clone(), Limits::default()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {}", server.address));
}

#[tokio::test]
async fn certificate_is_that_of_the_name_asked_for() {
    let server = server(Limits::default()).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let names = ServingNames {
        dns: vec!["other.example".into(), "a.below.example".into()],
        ..ServingNames::default()
    };
    let other = Pki::open(elsewhere.path(), names, SystemTime::now()).unwrap();
    let named = |names: &[&str]| Named {
        leaf: other.serving().unwrap(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let (own, theirs) = (server.pki.ca_pem().unwrap(), other.ca_pem().unwrap());
    let reaches = async |ca: &str, name: &str| connect(&server, &client(ca, None, "h2"), name).await.is_ok();
    server.keys.name(vec![named(&["other.example", "*.below.example"])]).unwrap();
    assert!(reaches(&theirs, "other.example").await && reaches(&theirs, "a.below.example").await);
    assert!(reaches(&own, "localhost").await && !reaches(&theirs, "localhost").await);
    // A new certificate of the server leaves the named ones alone, and names may come from the certificate.
    server.keys.reload(&server.pki.serving().unwrap(), &own).unwrap();
    assert!(reaches(&theirs, "other.example").await);
    server.keys.name(vec![named(&[])]).unwrap();
    assert!(reaches(&theirs, "other.example").await);
    server.keys.name(Vec::new()).unwrap();
    assert!(!reaches(&theirs, "other.example").await);
}

#[tokio::test]
async fn certificate_is_that_of_the_address_for_who_asks_for_no_name() {
    let server = server(Limits::default()).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Pki::open(elsewhere.path(), ServingNames::default(), SystemTime::now()).unwrap();
    let (own, theirs) = (server.pki.ca_pem().unwrap(), other.ca_pem().unwrap());
    let reaches = async |ca: &str, name: &str| connect(&server, &client(ca, None, "h2"), name).await.is_ok();
    let named = |name: &str| Named { leaf: other.serving().unwrap(), names: vec![name.to_owned()] };
    server.keys.name(vec![named("192.0.2.9")]).unwrap();
    assert!(reaches(&own, "127.0.0.1").await, "of another address");
    server.keys.name(vec![named("127.0.0.1")]).unwrap();
    assert!(reaches(&theirs, "127.0.0.1").await && reaches(&own, "localhost").await);
    // Addresses may come from the certificate, too.
    server.keys.name(vec![Named { leaf: other.serving().unwrap(), names: Vec::new() }]).unwrap();
    assert!(reaches(&theirs, "127.0.0.1").await);
}

#[path = "hostile_tests.rs"]
mod hostile;
#[path = "limits_tests.rs"]
mod limits;
