//! Cluster DNS, node-local: the names of services and pods, answered on every node without a pod of its own.
//!
//! Observes Services and EndpointSlices, keeps a [`zone::Zone`], answers over UDP and TCP, and passes other names on to
//! the machine's name servers. It does not assign the address it listens on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use kube::Client;
use parking_lot::RwLock;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

mod answer;
mod follow;
mod forward;
mod handler;
mod metrics;
mod names;
#[cfg(test)]
mod tests;
pub mod view;
pub mod zone;

pub use metrics::DnsMetrics;
use zone::Zone;

/// How long a client may stay silent on a stream.
const IDLE: Duration = Duration::from_secs(10);
/// Answers that may wait for a slow client of a stream.
const QUEUE: usize = 32;

/// What the server needs to know.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// Where it listens, over UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// The cluster's domain, `cluster.local`.
    pub domain: String,
    /// Name servers for every other name; none means that other names are refused.
    pub upstreams: Vec<SocketAddr>,
}

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// An address cannot be listened on.
    #[error("cannot listen for DNS on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Serves until shutdown.
///
/// # Errors
/// An address cannot be listened on.
pub async fn serve(
    config: DnsConfig,
    client: Client,
    metrics: DnsMetrics,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), DnsError> {
    let zone = Arc::new(RwLock::new(Zone::new(&config.domain)));
    let mut server = bind(&config, zone.clone(), metrics).await?;
    let follow = tokio::spawn(follow::follow(zone, client, shutdown.clone()));
    shutdown.wait_for(|ended| *ended).await.ok();
    follow.abort();
    if let Err(error) = server.shutdown_gracefully().await {
        tracing::debug!(%error, "DNS requests were cut off");
    }
    Ok(())
}

async fn bind(
    config: &DnsConfig,
    zone: Arc<RwLock<Zone>>,
    metrics: DnsMetrics,
) -> Result<Server<handler::Handler>, DnsError> {
    let mut server = Server::new(handler::Handler::new(zone, config.upstreams.clone(), metrics));
    for address in &config.listen {
        let failed = |source| DnsError::Listen { address: *address, source };
        server.register_socket(UdpSocket::bind(address).await.map_err(failed)?);
        server.register_listener(TcpListener::bind(address).await.map_err(failed)?, IDLE, QUEUE);
    }
    Ok(server)
}
