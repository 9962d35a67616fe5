//! What a server is made of, and why it may not start.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use skep_store::StoreError;

use crate::admission::{AdmissionConfig, ConfigError};
use crate::aggregation::FrontProxy;
use crate::allocation::Cidr;
use crate::audit::Audit;
use crate::browsers::Browsers;
use crate::encryption::Encryption;
use crate::fairness::Concurrency;
use crate::gate::GateConfig;
use crate::ids::Ids;

/// Whether what the server is asked about works.
#[derive(Clone)]
pub struct Check(pub Arc<dyn Fn() -> bool + Send + Sync>);

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Check")
    }
}

/// What a server is made of, besides its store.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Who is let in, and to what.
    pub gate: GateConfig,
    /// Where other machines and pods reach this server: the endpoint of the service `default/kubernetes`.
    pub advertise_address: IpAddr,
    /// The port there.
    pub advertise_port: u16,
    /// Whether other servers use the same store: then [`ApiServer::announce`] keeps this one among the endpoints.
    pub shared: bool,
    /// The networks of service addresses, the first one for services that do not say which; at most one of each family.
    pub service_networks: Vec<Cidr>,
    /// Whether the nodes answer for the service `kube-system/kube-dns`, which is made if it is not there. Its address is
    /// kept for it in any case.
    pub cluster_dns: bool,
    /// First and last node port.
    pub node_ports: (u16, u16),
    /// Where counters are registered; those of others in there are shown, too.
    pub metrics: prometheus::Registry,
    /// Time and chance.
    pub ids: Ids,
    /// What is written down about requests.
    pub audit: Audit,
    /// What is stored encrypted.
    pub encryption: Option<Arc<Encryption>>,
    /// How many requests are handled at the same time, but for those that are exempt.
    pub concurrency: Concurrency,
    /// How long requests may last.
    pub lasting: Lasting,
    /// Whether requests that come after [`ApiServer::shut_down`] are sent away (429).
    pub shutdown_sends_away: bool,
    /// Over how long a time watches end when the server does, one after another; all at once if it is zero.
    pub watch_grace: Duration,
    /// So long after its start `/livez` takes it that what has not begun yet will.
    pub livez_grace: Duration,
    /// What answers say to browsers.
    pub browsers: Browsers,
    /// Who this server is before aggregated API servers; without it, none of them can be asked.
    pub front_proxy: Option<FrontProxy>,
    /// Which admission plug-ins run.
    pub admission: AdmissionConfig,
    /// Whether lines of the log arrive where they should; the health checks tell it.
    pub log: Option<Check>,
}

/// How long requests may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lasting {
    /// Those that are not meant to.
    pub request: Duration,
    /// Watches that do not say, at least; at most twice as long.
    pub watch: Duration,
}

impl Default for Lasting {
    fn default() -> Self {
        Self { request: Duration::from_secs(60), watch: Duration::from_secs(1800) }
    }
}

impl ServerConfig {
    /// A server with upstream's defaults: node ports 30000 to 32767, port 6443.
    pub fn new(gate: GateConfig, advertise_address: IpAddr, service_networks: Vec<Cidr>) -> Self {
        Self {
            gate,
            advertise_address,
            advertise_port: 6443,
            shared: false,
            service_networks,
            cluster_dns: true,
            node_ports: (30000, 32767),
            metrics: prometheus::Registry::new(),
            ids: Ids::default(),
            audit: Audit::default(),
            encryption: None,
            concurrency: Concurrency::Fair(600),
            lasting: Lasting::default(),
            shutdown_sends_away: false,
            watch_grace: Duration::ZERO,
            livez_grace: Duration::ZERO,
            browsers: Browsers::default(),
            front_proxy: None,
            admission: AdmissionConfig::default(),
            log: None,
        }
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store cannot be read.
    #[error("cannot read the store")]
    Store(#[from] StoreError),
    /// The service networks cannot be used.
    #[error("cannot use the service networks: {0}")]
    ServiceNetworks(&'static str),
    /// The configuration of admission is not one.
    #[error("cannot set up admission")]
    Admission(#[from] ConfigError),
    /// An object that every cluster has cannot be made.
    #[error("cannot create {object}")]
    Bootstrap {
        /// Kind and name.
        object: String,
        /// Why.
        #[source]
        source: skep_api::status::Status,
    },
}
