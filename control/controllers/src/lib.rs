//! The controllers: one folder per kind, all of them clients of the Kubernetes API and of nothing else.
//!
//! [`run`] starts the shared watches and every controller and returns at shutdown. Each controller acts under
//! its own identity, so that the bootstrap roles of RBAC bound what it can do. What they share is in
//! [`runtime`]; which kinds are watched is in [`informers`].

pub mod backends;
mod bootstrap_tokens;
mod certificates;
mod clusterrole_aggregation;
mod deployment;
mod discovery;
mod endpoints;
mod endpointslice;
mod endpointslice_mirroring;
mod error;
mod garbage_collector;
pub mod informers;
mod namespace;
mod node_ipam;
mod node_lifecycle;
pub mod pod;
mod pod_gc;
pub mod pod_state;
mod replicaset;
mod resource_quota;
mod root_ca;
pub mod runtime;
mod service_account;
mod service_account_token;
mod service_cidr;
mod storage_protection;
mod taint_eviction;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use certificates::{CertificateOf, CertificateSigner};
pub use error::{Error, Result};
pub use service_account_token::{TokenOf, TokenSigner};

use crate::informers::Informers;
use crate::runtime::clock::Clock;
use crate::runtime::events::Recorder;
use crate::runtime::metrics::Metrics;
use crate::runtime::worker::{Reconcile, Workers};

/// The identity of the shared watches: the user `system:kube-controller-manager`. All other names that
/// [`run`] asks clients for are service accounts of the namespace kube-system.
pub const SHARED_IDENTITY: &str = "kube-controller-manager";

/// What the controllers need to know.
#[derive(Clone)]
pub struct ControllersConfig {
    /// The cluster's CA certificate in PEM, which every namespace publishes to its pods.
    pub root_ca: String,
    /// The ranges that nodes get their pods' addresses from (`10.244.0.0/16`), at most one per family. With
    /// none, nodes get no ranges.
    pub cluster_cidrs: Vec<String>,
    /// Prefix length of a node's IPv4 range.
    pub node_mask_v4: u8,
    /// Prefix length of a node's IPv6 range.
    pub node_mask_v6: u8,
    /// Signs the tokens in Secrets of service accounts; without it they get none.
    pub token_signer: Option<TokenSigner>,
    /// Signs certificates that were asked for and approved; without it nobody does.
    pub certificate_signer: Option<CertificateSigner>,
    /// Where metrics are registered.
    pub metrics: prometheus::Registry,
    /// The wall clock.
    pub clock: Clock,
}

impl ControllersConfig {
    /// The usual node ranges (/24 and /64), the machine's clock, metrics of its own.
    pub fn new(root_ca: impl Into<String>, cluster_cidrs: Vec<String>) -> Self {
        Self {
            root_ca: root_ca.into(),
            cluster_cidrs,
            node_mask_v4: 24,
            node_mask_v6: 64,
            token_signer: None,
            certificate_signer: None,
            metrics: prometheus::Registry::new(),
            clock: Clock::system(),
        }
    }
}

/// What a controller is made from.
pub(crate) struct Context<'a> {
    pub(crate) informers: Informers,
    pub(crate) clock: Clock,
    clients: &'a (dyn Fn(&str) -> Client + Send + Sync),
    tasks: &'a mut JoinSet<()>,
}

impl Context<'_> {
    /// A client of the controller's identity, and a recorder of events that uses it.
    pub(crate) fn identity(&mut self, name: &'static str) -> (Client, Recorder) {
        let client = (self.clients)(name);
        let (recorder, writer) = Recorder::new(client.clone(), name, self.clock.clone());
        self.tasks.spawn(writer);
        (client, recorder)
    }
}

/// Runs every controller until shutdown.
///
/// `clients` gives a client for a controller's name, such as `deployment-controller`, or for
/// [`SHARED_IDENTITY`].
///
/// # Errors
/// When the configuration cannot work or a metric is registered already. Later failures are logged and
/// retried.
pub async fn run(
    config: ControllersConfig,
    clients: impl Fn(&str) -> Client + Send + Sync,
    shutdown: CancellationToken,
) -> Result<()> {
    let metrics = Metrics::register(&config.metrics)?;
    let mut tasks = JoinSet::new();
    let mut context = Context {
        informers: Informers::default(),
        clock: config.clock.clone(),
        clients: &clients,
        tasks: &mut tasks,
    };
    let deployments = deployment::Deployments::new(&mut context);
    let replica_sets = replicaset::ReplicaSets::<ReplicaSet>::new(&mut context);
    let replication_controllers = replicaset::ReplicaSets::<ReplicationController>::new(&mut context);
    let endpoint_slices = endpointslice::EndpointSlices::new(&mut context);
    let endpoints = endpoints::EndpointsObjects::new(&mut context);
    let mirrored = endpointslice_mirroring::MirroredSlices::new(&mut context);
    let namespaces = namespace::Namespaces::new(&mut context);
    let service_accounts = service_account::ServiceAccounts::new(&mut context);
    let service_cidrs = service_cidr::ServiceCidrs::new(&mut context);
    let root_cas = root_ca::RootCas::new(&mut context, config.root_ca.clone());
    let node_ranges = node_ipam::NodeRanges::new(&mut context, &config)?;
    let node_lifecycle = node_lifecycle::NodeLifecycle::new(&mut context);
    let taint_eviction = taint_eviction::TaintEviction::new(&mut context);
    let pod_garbage = pod_gc::PodGarbage::new(&mut context);
    let aggregated_roles = clusterrole_aggregation::AggregatedRoles::new(&mut context);
    let account_tokens = config.token_signer.clone().map(|signer| {
        service_account_token::AccountTokens::new(&mut context, config.root_ca.clone(), signer)
    });
    let approving = certificates::Approving::new(&mut context);
    let signing =
        config.certificate_signer.clone().map(|signer| certificates::Signing::new(&mut context, signer));
    let cleaning = certificates::Cleaning::new(&mut context);
    let token_cleaner = bootstrap_tokens::TokenCleaner::new(&mut context);
    let bootstrap_signer = bootstrap_tokens::BootstrapSigner::new(&mut context);
    let watching = clients(SHARED_IDENTITY);
    let quotas = resource_quota::ResourceQuotas::new(&mut context, watching, shutdown.clone());
    let claims = storage_protection::ClaimProtection::new(&mut context);
    let volumes = storage_protection::VolumeProtection::new(&mut context);
    let classes = storage_protection::ClassProtection::new(&mut context);
    let collector = garbage_collector::GarbageCollector::new(&mut context);
    let informers = context.informers.clone();
    tasks.spawn(collector.watch(shutdown.clone()));
    informers.start(&clients(SHARED_IDENTITY), &mut tasks, &shutdown);
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = informers.synced() => tracing::info!("controllers: caches are filled"),
    }
    start(deployments, &metrics, &mut tasks, &shutdown);
    start(replica_sets, &metrics, &mut tasks, &shutdown);
    start(replication_controllers, &metrics, &mut tasks, &shutdown);
    start(endpoint_slices, &metrics, &mut tasks, &shutdown);
    start(endpoints, &metrics, &mut tasks, &shutdown);
    start(mirrored, &metrics, &mut tasks, &shutdown);
    start(namespaces, &metrics, &mut tasks, &shutdown);
    start(service_accounts, &metrics, &mut tasks, &shutdown);
    start(service_cidrs, &metrics, &mut tasks, &shutdown);
    start(root_cas, &metrics, &mut tasks, &shutdown);
    start(node_ranges, &metrics, &mut tasks, &shutdown);
    start(node_lifecycle, &metrics, &mut tasks, &shutdown);
    start(taint_eviction, &metrics, &mut tasks, &shutdown);
    start(pod_garbage, &metrics, &mut tasks, &shutdown);
    start(aggregated_roles, &metrics, &mut tasks, &shutdown);
    if let Some(account_tokens) = account_tokens {
        start(account_tokens, &metrics, &mut tasks, &shutdown);
    }
    start(approving, &metrics, &mut tasks, &shutdown);
    if let Some(signing) = signing {
        start(signing, &metrics, &mut tasks, &shutdown);
    }
    start(cleaning, &metrics, &mut tasks, &shutdown);
    start(token_cleaner, &metrics, &mut tasks, &shutdown);
    start(bootstrap_signer, &metrics, &mut tasks, &shutdown);
    start(quotas, &metrics, &mut tasks, &shutdown);
    start(claims, &metrics, &mut tasks, &shutdown);
    start(volumes, &metrics, &mut tasks, &shutdown);
    start(classes, &metrics, &mut tasks, &shutdown);
    start(collector, &metrics, &mut tasks, &shutdown);
    shutdown.cancelled().await;
    // Recorders end when the controllers that hold them have ended and what waits is written.
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(std::time::Duration::from_secs(5), drained).await.is_err() {
        tracing::warn!("controllers: some calls did not end in time");
    }
    Ok(())
}

fn start<C: Reconcile>(
    controller: C,
    metrics: &Metrics,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) {
    let workers = Workers {
        name: C::NAME,
        count: C::WORKERS,
        queue: controller.queue().clone(),
        metrics: metrics.clone(),
    };
    let shutdown = shutdown.clone();
    tasks.spawn(async move { workers.run(shutdown, |key| controller.reconcile(key)).await });
}
