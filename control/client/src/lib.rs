//! How Skep's components reach an API server: a [`kube::Client`] that notices when its server is gone without a word.
//!
//! A machine that loses its power or its cable says nothing. A watch is silent by nature, so whoever waits on one would
//! wait for as long as TCP does: for ever on a connection where nothing is under way, a quarter of an hour otherwise.
//! Here the kernel asks the other side when a connection is silent, and gives a connection up when nothing that was sent
//! is acknowledged ([`Patience`]); watches then go on, and requests are made again, over a new connection.
//!
//! Owns connections alone. Addresses, names and credentials are the kubeconfig's; what is asked is the caller's.

mod error;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder};

pub use self::error::ClientError;

/// How long a server may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// After so long without a word the kernel asks whether the other side is there, and goes on asking at this pace.
    pub asks_after: Duration,
    /// A connection is given up when the other side has acknowledged nothing for so long of what it was sent or asked.
    pub unacknowledged: Duration,
    /// Longest wait for a connection.
    pub connect: Duration,
    /// A connection is given up when its server, whose machine is there, has said nothing for so long: it hangs. A watch
    /// is told something every minute or so.
    pub says_nothing: Duration,
}

impl Default for Patience {
    /// A machine that was cut off is noticed within some 15 s; that of upstream's clients is 45 s.
    fn default() -> Self {
        Self {
            asks_after: Duration::from_secs(5),
            unacknowledged: Duration::from_secs(15),
            connect: Duration::from_secs(10),
            says_nothing: Duration::from_secs(100),
        }
    }
}

/// A client of the server that the kubeconfig at `path` names, with its credentials.
///
/// # Errors
/// The file cannot be read, or does not say how to reach a server.
pub async fn from_kubeconfig(path: &Path) -> Result<Client, ClientError> {
    let kubeconfig =
        Kubeconfig::read_from(path).map_err(|source| ClientError::Read { path: path.to_owned(), source })?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|source| ClientError::Read { path: path.to_owned(), source })?;
    from_config(config, Patience::default())
        .map_err(|source| ClientError::Use { path: path.to_owned(), source: Box::new(source) })
}

/// A client of the server that `config` names.
///
/// # Errors
/// The credentials cannot be used.
pub fn from_config(mut config: Config, patience: Patience) -> Result<Client, kube::Error> {
    config.connect_timeout = Some(patience.connect);
    config.read_timeout = Some(patience.says_nothing);
    if config.proxy_url.is_some() {
        // What is on the other side of the connection is the proxy then, and kube knows how to talk to it.
        return Client::try_from(config);
    }
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp(patience))?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let connections: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new()).build(connector);
    let retry = config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry()));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(retry)
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(connections);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

/// Connections whose other side is asked whether it is there.
fn tcp(patience: Patience) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(patience.asks_after));
    connector.set_keepalive_interval(Some(patience.asks_after));
    // Once it is set, this and not the number of questions decides when a connection is given up (tcp(7)).
    connector.set_tcp_user_timeout(Some(patience.unacknowledged));
    connector
}
