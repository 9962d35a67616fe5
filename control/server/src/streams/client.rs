//! Connections to nodes: TLS with the server's client certificate, the node's certificate verified by the cluster's
//! authority; and connections to pods, plain or TLS, whose certificates nobody here can judge.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::body::Body;
use crate::error::Error;
use crate::pki::Leaf;
use crate::tls::{AnyCertificate, certificates, private_key, roots};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) host: String,
    /// Where the host is, if that was looked up already; otherwise connecting does.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) port: u16,
    pub(super) security: Security,
}

/// What a connection is wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    /// Nothing.
    Plain,
    /// TLS that takes any certificate and shows none: `https:` targets of the proxy, as upstream's.
    Unverified,
    /// Mutual TLS with a node's own endpoint.
    Node,
}

impl Endpoint {
    /// The endpoint of a node agent, from the Node's status. Addresses come before names: a cluster need not have DNS
    /// for its nodes.
    pub(super) fn of_node(node: &Value) -> Result<Self, String> {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        let addresses = node["status"]["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
        let of_type =
            |kind: &str| addresses.iter().find(|a| a["type"] == kind).and_then(|a| a["address"].as_str());
        let host = ["InternalIP", "ExternalIP", "Hostname"]
            .into_iter()
            .find_map(of_type)
            .ok_or_else(|| format!("no preferred addresses found for node {name:?}"))?;
        let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)
            .unwrap_or(10250);
        Ok(Self { host: host.to_owned(), addresses: Vec::new(), port, security: Security::Node })
    }

    /// The endpoint at the addresses that its host has now, so that a later connection goes to no others.
    ///
    /// # Errors
    ///
    /// Why it has none.
    pub(super) async fn resolved(self) -> Result<Self, String> {
        let found = tokio::time::timeout(CONNECT_TIMEOUT, lookup_host((self.host.as_str(), self.port)));
        let found = found.await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let found = found.map_err(|error| format!("lookup {}: {error}", self.host))?;
        let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
        if addresses.is_empty() {
            return Err("no addresses for hostname".to_owned());
        }
        Ok(Self { addresses, ..self })
    }

    /// `host:port`, with brackets around IPv6 addresses.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Reaches nodes. Clones share the keys, so that renewed ones serve all.
#[derive(Clone)]
pub struct NodeClient {
    config: Arc<RwLock<Arc<ClientConfig>>>,
}

impl std::fmt::Debug for NodeClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeClient").finish_non_exhaustive()
    }
}

impl NodeClient {
    /// A client that trusts `ca_pem` and shows `identity`.
    ///
    /// # Errors
    ///
    /// When the keys cannot be used.
    pub fn new(ca_pem: &str, identity: &Leaf) -> Result<Self, Error> {
        Ok(Self { config: Arc::new(RwLock::new(Arc::new(config(ca_pem, identity)?))) })
    }

    /// Uses renewed keys for new connections.
    ///
    /// # Errors
    ///
    /// When the keys cannot be used; the former ones stay.
    pub fn reload(&self, ca_pem: &str, identity: &Leaf) -> Result<(), Error> {
        *self.config.write() = Arc::new(config(ca_pem, identity)?);
        Ok(())
    }

    /// An HTTP/1.1 connection to `endpoint`, for one request.
    pub(super) async fn connect(&self, endpoint: &Endpoint) -> Result<SendRequest<Body>, String> {
        let attempt = tokio::time::timeout(CONNECT_TIMEOUT, self.open(endpoint));
        attempt
            .await
            .unwrap_or_else(|_| Err("timed out".into()))
            .map_err(|why| format!("dial tcp {}: {why}", endpoint.authority()))
    }

    async fn open(&self, endpoint: &Endpoint) -> Result<SendRequest<Body>, String> {
        let stream = match endpoint.addresses.as_slice() {
            [] => TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await,
            known => {
                let known: Vec<SocketAddr> = known.iter().map(|one| (*one, endpoint.port).into()).collect();
                TcpStream::connect(known.as_slice()).await
            }
        };
        let stream = stream.map_err(|e| e.to_string())?;
        // Keystrokes of a terminal must not wait for more.
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let config = match endpoint.security {
            Security::Plain => return start(stream).await,
            Security::Unverified => unverified().map_err(|e| e.to_string())?,
            Security::Node => Arc::clone(&self.config.read()),
        };
        let name = ServerName::try_from(endpoint.host.clone()).map_err(|e| e.to_string())?;
        let connector = TlsConnector::from(config);
        start(connector.connect(name, stream).await.map_err(|e| e.to_string())?).await
    }
}

async fn start(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Body>, String> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a node or pod ended");
        }
    });
    Ok(sender)
}

/// The settings of connections that verify nothing, made once.
fn unverified() -> Result<Arc<ClientConfig>, rustls::Error> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
        .with_no_client_auth();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

fn config(ca_pem: &str, identity: &Leaf) -> Result<ClientConfig, Error> {
    let failed = |source: rustls::Error| Error::Tls {
        operation: "use the client certificate for nodes",
        source: source.into(),
    };
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots(ca_pem)?)
        .with_client_auth_cert(certificates(&identity.certificate_pem)?, private_key(&identity.key_pem)?)
        .map_err(failed)
}
