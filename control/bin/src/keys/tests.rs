//! A server whose files are replaced under it: whom it believes then, over real TLS, and whom it tells others to believe.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Parser;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use skep_server::pki::Leaf;
use skep_server::tls::{Limits, Listener, certificates, private_key, roots};
use skep_server::user::UserInfo;
use skep_server::{ServerConfig, in_process};
use skep_store::memory::MemoryStore;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower::ServiceExt;

use super::*;
use crate::auth::Setup;
use crate::flags::{Arguments, Command};

/// A server that keeps its keys fresh.
struct Running {
    server: ApiServer,
    address: SocketAddr,
    authority: String,
    stop: CancellationToken,
    kept: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn start(directory: &Path, files: [&Path; 2]) -> Running {
    let line = [
        "skep-control",
        "apiserver",
        "--listen=127.0.0.1:0",
        "--advertise-address=192.0.2.1",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        &format!("--data-dir={}", directory.join("data").display()),
        &format!("--requestheader-client-ca-file={}", files[0].display()),
        &format!("--client-ca-file={}", files[1].display()),
    ]
    .map(str::to_owned);
    let Command::Apiserver(arguments) = Arguments::try_parse_from(line).unwrap().command else {
        panic!("another command");
    };
    let keys = OpenKeys::open(&arguments).unwrap();
    let mut gate = keys.gate(&arguments.authentication.accounts).unwrap();
    let (authentication, authorization) = (&arguments.authentication, &arguments.authorization);
    let clients = keys.client_authority().unwrap();
    Setup::apply(authentication, authorization, None, &clients, &mut gate, &prometheus::Registry::new())
        .unwrap();
    let mut config = ServerConfig::new(gate, arguments.advertised().unwrap(), arguments.service_cidr.clone());
    config.front_proxy = Some(keys.front_proxy.clone());
    let server = ApiServer::new(Arc::new(MemoryStore::new()), config).await.unwrap();
    let listener = Listener::bind(arguments.listen, keys.listener.clone(), Limits::default()).await.unwrap();
    let (address, authority) = (listener.address().unwrap(), keys.authority().unwrap());
    let stop = CancellationToken::new();
    tokio::spawn(listener.serve(server.service(), stop.clone()));
    let kept = tokio::spawn(keys.keep_fresh(server.clone(), stop.clone()));
    Running { server, address, authority, stop, kept }
}

impl Running {
    /// Who a client is that shows this certificate and says to ask for jane; nothing for nobody.
    async fn who(&self, leaf: &Leaf) -> Option<String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let chain = certificates(&leaf.certificate_pem).unwrap();
        let config = builder
            .with_root_certificates(roots(&self.authority).unwrap())
            .with_client_auth_cert(chain, private_key(&leaf.key_pem).unwrap())
            .unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let review = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
        let request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("x-remote-user", "jane")
            .header("x-remote-group", "team")
            .body(Full::<hyper::body::Bytes>::from(review))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        if response.status() != StatusCode::CREATED {
            assert!(matches!(response.status().as_u16(), 401 | 403), "{}", response.status());
            return None;
        }
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let name = text.split_once("\"username\":\"").and_then(|(_, rest)| rest.split_once('"'));
        Some(name.map_or(text.clone(), |(name, _)| name.to_owned()))
    }

    /// What others are told to believe.
    async fn told(&self) -> String {
        let user = UserInfo::new("admin", &["system:masters"]);
        let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
        let request = Request::get(path).body(Full::<hyper::body::Bytes>::default()).unwrap();
        let response = in_process::service(&self.server, user).oneshot(request).await.unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// As it stands in JSON.
fn shown(pem: &str) -> String {
    pem.trim().replace('\n', "\\n")
}

#[tokio::test]
async fn authorities_that_are_replaced_are_believed_and_told_to_others() {
    let directory = tempfile::tempdir().unwrap();
    let other = |name: &str| {
        Pki::open(&directory.path().join(name), ServingNames::default(), SystemTime::now()).unwrap()
    };
    let (before, after) = (other("before"), other("after"));
    let (proxies, clients) = (directory.path().join("proxies.pem"), directory.path().join("clients.pem"));
    let write = |of: &Pki| {
        std::fs::write(&proxies, of.front_proxy_ca_pem().unwrap()).unwrap();
        std::fs::write(&clients, of.ca_pem().unwrap()).unwrap();
    };
    write(&before);
    let running = start(directory.path(), [&proxies, &clients]).await;
    let (old, new) = (before.front_proxy_client().unwrap(), after.front_proxy_client().unwrap());
    assert_eq!(running.who(&old).await.as_deref(), Some("jane"));
    assert_eq!(running.who(&new).await, None);
    let [old_clients, new_clients] = [&before, &after].map(|pki| shown(&pki.ca_pem().unwrap()));
    let told = running.told().await;
    assert!(told.contains(&old_clients) && !told.contains(&new_clients), "{told}");
    write(&after);
    // They are looked at when the time has come.
    tokio::time::pause();
    tokio::time::advance(LOOK + Duration::from_secs(1)).await;
    tokio::time::resume();
    while !running.told().await.contains(&new_clients) {
        tokio::task::yield_now().await;
    }
    assert!(!running.told().await.contains(&old_clients));
    assert_eq!(running.who(&new).await.as_deref(), Some("jane"));
    assert_eq!(running.who(&old).await, None, "who was believed before is nobody");
    running.stop.cancel();
    running.kept.await.unwrap().unwrap();
}
