//! The node's HTTPS endpoint (port 10250): logs, exec, attach, port-forward, the node's pods, metrics, health.
//!
//! The API server calls it on behalf of clients, on paths that upstream's kubelet has. Requests come in at
//! [`server`], are read by [`route`] (pure) and answered in [`handle`]; [`logs`] reads the files that the runtime
//! writes, [`process`] joins a client's stream to the runtime's, [`forward`] carries connections into a pod's
//! network namespace, [`spdy`] is the framing that port-forward and the runtime's streams use.
//!
//! Not owned: what runs on the node (`skep-pods`), the runtime's calls (`skep-runtime`), who may do what in the
//! cluster (the API server decides before it calls; here only its identity is checked).

mod containers;
mod error;
mod forward;
mod handle;
mod identity;
mod logs;
mod metrics;
mod process;
mod refusal;
mod route;
mod server;
mod spdy;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod websocket;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use skep_runtime::Runtime;
use tokio::sync::watch;

pub use error::EndpointError;
pub use server::Endpoint;

/// Where the endpoint listens and what it shows.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Address to listen on, usually the node's address and port 10250.
    pub listen: SocketAddr,
    /// Certificate chain of the endpoint, PEM. Read anew when the file changes, and with it key and authority.
    pub serving_cert: PathBuf,
    /// Its private key, PEM.
    pub serving_key: PathBuf,
    /// The authority whose client certificates are taken, PEM.
    pub client_ca: PathBuf,
    /// What `/metrics` shows. The endpoint's own metrics are registered here too.
    pub metrics: prometheus::Registry,
    /// Folder of the pods' logs, usually `/var/log/pods`. Used where the runtime names a log relative to it.
    pub log_dir: PathBuf,
}

/// The node's pods, as the agent knows them: newest spec, and a status that may lag behind.
pub trait PodSource: Send + Sync + 'static {
    /// All of them.
    fn pods(&self) -> Vec<Arc<Pod>>;
}

impl<F> PodSource for F
where
    F: Fn() -> Vec<Arc<Pod>> + Send + Sync + 'static,
{
    fn pods(&self) -> Vec<Arc<Pod>> {
        self()
    }
}

/// Serves until `shutdown` turns true (or its sender is gone); open streams are ended then.
///
/// # Errors
/// What prevents the start: unreadable or unusable certificates, an address in use, metrics registered twice.
pub async fn serve(
    config: EndpointConfig,
    runtime: Arc<dyn Runtime>,
    pods: Arc<dyn PodSource>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), EndpointError> {
    Endpoint::bind(config, runtime, pods).await?.run(shutdown).await;
    Ok(())
}
