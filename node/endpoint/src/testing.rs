//! An endpoint for tests: on loopback, with certificates of its own, a runtime in memory and a fake of the runtime's
//! streaming server. And clients of it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use skep_runtime::{FakeRuntime, Runtime, cri};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

use crate::spdy::{Role, Session};
use crate::{Endpoint, EndpointConfig};

/// Name of the pod and its container.
pub(crate) const POD: &str = "web";
pub(crate) const CONTAINER: &str = "app";
const UID: &str = "11-22";

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for loopback in this name, and its key.
    pub(crate) fn issue(&self, name: &str, group: Option<&str>) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// An endpoint that runs.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) runtime: FakeRuntime,
    pub(crate) authority: Authority,
    pub(crate) folder: TempDir,
    /// Id of the running container.
    pub(crate) container: String,
    pub(crate) shutdown: watch::Sender<bool>,
    pub(crate) serving: JoinHandle<()>,
}

/// The connection of a client.
pub(crate) type Connection = TlsStream<TcpStream>;

impl Node {
    /// Starts an endpoint of a node with one pod, whose container runs.
    pub(crate) async fn start() -> Self {
        let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
        let runtime = FakeRuntime::default();
        let container = run_pod(&runtime).await;
        let file = |name: &str, content: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let (certificate, key) = authority.issue("system:node:n1", None);
        let config = EndpointConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            serving_cert: file("serving.crt", certificate.pem()),
            serving_key: file("serving.key", key.serialize_pem()),
            client_ca: file("ca.crt", authority.certificate.clone()),
            metrics: prometheus::Registry::new(),
            log_dir: folder.path().join("pods"),
        };
        let pods = || vec![Arc::new(pod())];
        let endpoint = Endpoint::bind(config, Arc::new(runtime.clone()), Arc::new(pods)).await.unwrap();
        let address = endpoint.address();
        let (shutdown, receiver) = watch::channel(false);
        let serving = tokio::spawn(endpoint.run(receiver));
        Self { address, runtime, authority, folder, container, shutdown, serving }
    }

    /// Folder of the pod's container's logs.
    pub(crate) fn log_folder(&self) -> std::path::PathBuf {
        let folder = self.folder.path().join(format!("pods/default_{POD}_{UID}/{CONTAINER}"));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Connects as the API server does.
    pub(crate) async fn connect(&self) -> Connection {
        let (certificate, key) =
            self.authority.issue("system:kube-apiserver-kubelet-client", Some("system:masters"));
        self.connect_with(Some((certificate, key))).await.unwrap()
    }

    /// Connects in another name, signed by another authority if one is given.
    pub(crate) async fn connect_as(
        &self,
        name: &str,
        authority: Option<&Authority>,
    ) -> std::io::Result<Connection> {
        self.connect_with(Some(authority.unwrap_or(&self.authority).issue(name, None))).await
    }

    /// Connects with or without a certificate.
    pub(crate) async fn connect_with(
        &self,
        identity: Option<(rcgen::Certificate, KeyPair)>,
    ) -> std::io::Result<Connection> {
        let mut roots = RootCertStore::empty();
        let (_, authority) = x509_parser::pem::parse_x509_pem(self.authority.certificate.as_bytes()).unwrap();
        roots.add(CertificateDer::from(authority.contents)).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        let connection = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, connection).await
    }

    /// Asks for a path as the API server; status and text.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.connect().await, path).await.unwrap()
    }

    /// Opens a WebSocket as the API server passes it on. Status and text if that is refused.
    pub(crate) async fn websocket(
        &self,
        path: &str,
        protocol: &'static str,
    ) -> Result<WebSocketStream<Connection>, (u16, String)> {
        let mut request = format!("wss://127.0.0.1{path}").into_client_request().unwrap();
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.parse().unwrap());
        match tokio_tungstenite::client_async(request, self.connect().await).await {
            Ok((socket, response)) => {
                assert_eq!(response.headers()[header::SEC_WEBSOCKET_PROTOCOL], protocol);
                Ok(socket)
            }
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                let text = response.body().as_deref().unwrap_or_default();
                Err((response.status().as_u16(), String::from_utf8_lossy(text).into_owned()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Switches a connection to SPDY.
    pub(crate) async fn spdy(&self, path: &str, version: &'static str) -> TokioIo<hyper::upgrade::Upgraded> {
        let io = TokioIo::new(self.connect().await);
        let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(driver.with_upgrades());
        let request = Request::post(path)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "SPDY/3.1")
            .header("X-Stream-Protocol-Version", version)
            .body(Empty::<Bytes>::new())
            .unwrap();
        let mut response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["X-Stream-Protocol-Version"], version);
        TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap())
    }
}

/// Asks for a path over a connection, which ends with the answer's body.
pub(crate) async fn send(connection: Connection, path: &str) -> hyper::Result<Response<Incoming>> {
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await?;
    tokio::spawn(driver);
    sender.send_request(Request::get(path).body(Empty::<Bytes>::new()).unwrap()).await
}

/// Asks for a path over a connection; status and text.
pub(crate) async fn get(connection: Connection, path: &str) -> hyper::Result<(u16, String)> {
    let response = send(connection, path).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8(body.to_vec()).unwrap()))
}

/// The node's pod.
pub(crate) fn pod() -> Pod {
    let mut pod = Pod::default();
    pod.metadata.namespace = Some("default".into());
    pod.metadata.name = Some(POD.into());
    pod.metadata.uid = Some(UID.into());
    let container = Container { name: CONTAINER.into(), ..Default::default() };
    pod.spec = Some(PodSpec { containers: vec![container], ..Default::default() });
    pod
}

/// Runs the pod's sandbox and its container, whose id is returned.
async fn run_pod(runtime: &FakeRuntime) -> String {
    runtime.add_image("image");
    let sandbox = cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata { name: POD.into(), ..Default::default() }),
        labels: [("io.kubernetes.pod.uid".to_owned(), UID.to_owned())].into(),
        ..Default::default()
    };
    let id = runtime.run_sandbox(sandbox, "").await.unwrap();
    run_container(runtime, &id, 0).await
}

/// Runs the container for the n-th time.
pub(crate) async fn run_container(runtime: &FakeRuntime, sandbox: &str, attempt: u32) -> String {
    let config = cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: CONTAINER.into(), attempt }),
        image: Some(cri::ImageSpec { image: "image".into(), ..Default::default() }),
        log_path: format!("{CONTAINER}/{attempt}.log"),
        labels: [
            ("io.kubernetes.pod.uid".to_owned(), UID.to_owned()),
            ("io.kubernetes.container.name".to_owned(), CONTAINER.to_owned()),
        ]
        .into(),
        ..Default::default()
    };
    let id = runtime.create_container(sandbox, config, cri::PodSandboxConfig::default()).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    id
}

/// A streaming server as the runtime has one: every stream is given to `serve`. Returns its address.
pub(crate) async fn streaming_server(
    serve: impl Fn(Session) -> BoxFuture<'static, ()> + Clone + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let serve = serve.clone();
            let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
                let serve = serve.clone();
                async move {
                    assert_eq!(request.headers()[header::UPGRADE], "SPDY/3.1");
                    let version = request.headers()["X-Stream-Protocol-Version"].clone();
                    let upgrade = hyper::upgrade::on(&mut request);
                    tokio::spawn(async move {
                        let connection = TokioIo::new(upgrade.await.unwrap());
                        serve(Session::start(connection, Role::Server, &CancellationToken::new())).await;
                    });
                    Ok::<_, std::convert::Infallible>(
                        Response::builder()
                            .status(StatusCode::SWITCHING_PROTOCOLS)
                            .header(header::CONNECTION, "Upgrade")
                            .header(header::UPGRADE, "SPDY/3.1")
                            .header("X-Stream-Protocol-Version", version)
                            .body(Full::<Bytes>::default())
                            .unwrap(),
                    )
                }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(connection), service).with_upgrades());
        }
    });
    format!("http://{address}")
}

/// Appends to a file.
pub(crate) fn append(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
