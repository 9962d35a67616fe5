//! The pods of one node: from the API's wish to running containers and back to a status.
//!
//! [`agent`] watches the pods that are bound to the node and the runtime's events, and keeps one [`worker`] per pod.
//! A worker observes ([`observe`]), plans ([`plan`], pure), applies, and reports ([`status`], pure). [`node`]
//! registers the node and keeps its Lease and status.
//!
//! Not owned: the runtime's calls (`skep-runtime`), the pods' network (the CNI plugin), logs and streams for clients
//! (`skep-endpoint`).

pub mod agent;
pub mod backoff;
pub mod cgroups;
pub mod claims;
pub mod clock;
pub mod cluster;
mod hooks;
pub mod images;
pub mod logs;
pub mod metrics;
pub mod node;
pub mod observe;
pub mod plan;
pub mod probes;
pub mod recorder;
mod references;
pub mod resize;
pub mod spec;
pub mod status;
#[cfg(test)]
mod testing;
pub mod volumes;
pub mod worker;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;
use skep_runtime::Runtime;
use tokio_util::sync::CancellationToken;

pub use agent::{Agent, Pods};

/// The version that nodes report. The part before `+` is the Kubernetes version whose behaviour this is.
pub const KUBELET_VERSION: &str = "v1.36.0+skep";

/// What can go wrong in taking care of pods.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to the API failed.
    #[error("cannot {action} {name}")]
    Api {
        /// What was tried.
        action: &'static str,
        /// Name of the object.
        name: String,
        /// What the API said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API's answer lacks what it must have.
    #[error("the {what} for {name} is incomplete")]
    Incomplete {
        /// What was asked for.
        what: &'static str,
        /// Name of the object.
        name: String,
    },
    /// A call to the runtime failed.
    #[error("the container runtime failed")]
    Runtime(#[from] skep_runtime::Error),
    /// A volume cannot be made.
    #[error("volume {volume:?}: {message}")]
    Volume {
        /// Name of the volume.
        volume: String,
        /// A sentence for the user.
        message: String,
    },
    /// A file on the node cannot be read or written.
    #[error("cannot access {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A metric cannot be registered.
    #[error("cannot register metrics")]
    Metrics(#[from] prometheus::Error),
}

impl Error {
    pub(crate) fn api(action: &'static str, name: &str, source: kube::Error) -> Self {
        Self::Api { action, name: name.to_owned(), source: Box::new(source) }
    }
}

/// An error with its causes, on one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// What the agent is told about its node.
#[derive(Clone, Debug)]
pub struct PodsConfig {
    /// Name of the Node object.
    pub node_name: String,
    /// Addresses of the node, the primary one first.
    pub node_ips: Vec<IpAddr>,
    /// Labels of the Node object besides the well-known ones.
    pub node_labels: Vec<(String, String)>,
    /// Addresses of the cluster's DNS service.
    pub cluster_dns: Vec<String>,
    /// The cluster's domain, such as `cluster.local`.
    pub cluster_domain: String,
    /// The node's own resolver configuration, usually `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Where volumes are kept, such as `/var/lib/skep`.
    pub state_dir: PathBuf,
    /// Where pods' logs go, usually `/var/log/pods`.
    pub log_dir: PathBuf,
    /// Where links to containers' logs go, usually `/var/log/containers`.
    pub link_dir: PathBuf,
    /// cgroup of the node in every hierarchy, `/` for the root.
    pub cgroup_parent: String,
    /// Most pods that the node takes.
    pub max_pods: u32,
    /// Amounts below which the node says that it is short of memory or disk.
    pub thresholds: node::Thresholds,
    /// TCP port of the node's endpoint.
    pub endpoint_port: u16,
}

impl PodsConfig {
    /// The usual folders and numbers.
    pub fn new(node_name: &str, node_ips: Vec<IpAddr>) -> Self {
        Self {
            node_name: node_name.to_owned(),
            node_ips,
            node_labels: Vec::new(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            state_dir: "/var/lib/skep".into(),
            log_dir: "/var/log/pods".into(),
            link_dir: "/var/log/containers".into(),
            cgroup_parent: "/".into(),
            max_pods: 110,
            thresholds: node::Thresholds::default(),
            endpoint_port: 10250,
        }
    }
}

/// Takes care of the node and its pods until `shutdown`. Pods keep running after it.
///
/// # Errors
/// What prevents the start: metrics that are registered twice, a runtime that does not answer.
pub async fn run(
    config: PodsConfig,
    client: Client,
    runtime: Arc<dyn Runtime>,
    registry: &prometheus::Registry,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    Agent::new(config, client, runtime, registry).await?.run(shutdown).await;
    Ok(())
}
