//! The API server as a whole: its parts, how they are put together, and its end.

mod config;
mod ending;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use skep_api::registry::registry;
use skep_store::Store;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::{AdmissionMetrics, Chain, Ingredients, ManifestSettings, TypeChecks};
use crate::aggregation::{Aggregation, FrontProxy};
use crate::allocation::{Cidr, Ranges, Services};
use crate::audit::Audit;
use crate::bootstrap::{self, Own};
use crate::browsers::Browsers;
use crate::cache::Cache;
use crate::callout::Caller;
use crate::conversion::Converter;
use crate::definitions::{Definitions, Kinds};
use crate::encryption::{EncryptedStore, Encryption};
use crate::endpoint;
use crate::fairness::{self, Concurrency, Fairness};
use crate::gate::Gate;
use crate::hooks::{Hooks, Names};
use crate::ids::Ids;
use crate::long_lived;
use crate::metrics::{CelMetrics, GateMetrics, Metrics, PluginReloads};
use crate::paths::Documents;
use crate::service::ApiService;
use crate::storage::Storage;
use crate::turns::Turns;

pub use config::{Check, Lasting, ServerConfig, StartError};
use ending::Ending;
pub(crate) use ending::Farewell;

/// Where in the first service network the cluster DNS service is.
const DNS_OFFSET: u64 = 10;

/// What is done, under upstream's names for it, when the objects are there that every cluster has.
const BOOTSTRAPPED: Names = &[
    "poststarthook/bootstrap-controller",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/start-system-namespaces-controller",
];
const ADMISSION: Names = &["poststarthook/start-apiserver-admission-initializer"];
const AUTHENTICATION_INFO: Names = &["poststarthook/start-cluster-authentication-info-controller"];
const FAIRNESS: Names = &[
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/priority-and-fairness-filter",
];
/// The same where requests are only counted: the objects are looked after, and nobody goes by them.
const IN_FLIGHT: Names =
    &["poststarthook/max-in-flight-filter", "poststarthook/priority-and-fairness-config-producer"];

/// The parts of a server, shared by all of its requests.
pub(crate) struct Inner {
    storage: Storage,
    kinds: Arc<Kinds>,
    gate: Gate,
    audit: Audit,
    encryption: Option<Arc<Encryption>>,
    fairness: Fairness,
    turns: Turns,
    lasting: Lasting,
    metrics: Metrics,
    documents: Documents,
    own: Own,
    aggregation: Arc<Aggregation>,
    hooks: Hooks,
    log: Option<Check>,
    ending: Ending,
    browsers: Browsers,
    /// Until then `/livez` takes it that what has not begun yet will; for ever, if it never comes.
    lives_until: Option<Instant>,
}

impl Inner {
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(crate) fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }

    pub(crate) fn fairness(&self) -> &Fairness {
        &self.fairness
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.turns
    }

    pub(crate) fn lasting(&self) -> Lasting {
        self.lasting
    }

    pub(crate) fn encryption(&self) -> Option<&Encryption> {
        self.encryption.as_deref()
    }

    pub(crate) fn ids(&self) -> &Ids {
        &self.storage.ids
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn documents(&self) -> &Documents {
        &self.documents
    }

    pub(crate) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// Whether the log works, where that is known.
    pub(crate) fn log_works(&self) -> Option<bool> {
        self.log.as_ref().map(|check| (check.0)())
    }

    pub(crate) fn ending(&self) -> &Ending {
        &self.ending
    }

    pub(crate) fn browsers(&self) -> &Browsers {
        &self.browsers
    }

    /// Whether it began so recently that `/livez` does not ask what has begun.
    pub(crate) fn is_young(&self) -> bool {
        self.lives_until.is_none_or(|until| Instant::now() < until)
    }

    pub(crate) fn aggregation(&self) -> &Aggregation {
        &self.aggregation
    }
}

/// A running API server. Clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Starts a server on a store: fills its cache, and creates the objects that every cluster has.
    ///
    /// # Errors
    ///
    /// When the store cannot be read or written, or the service networks cannot be used.
    pub async fn new(store: Arc<dyn Store>, config: ServerConfig) -> Result<Self, StartError> {
        let ServerConfig {
            gate,
            advertise_address,
            advertise_port,
            shared,
            service_networks,
            cluster_dns,
            node_ports,
            metrics,
            ids,
            audit,
            encryption,
            concurrency,
            lasting,
            shutdown_sends_away,
            watch_grace,
            livez_grace,
            browsers,
            front_proxy,
            admission,
            log,
        } = config;
        let (hooks, lives_until) = (Hooks::default(), Instant::now().checked_add(livez_grace));
        let ranges = ranges(&service_networks, node_ports)?;
        let stopped = CancellationToken::new();
        let (store, encrypted) = encrypted(store, encryption.as_ref(), &stopped);
        let cache = Cache::start(store.clone(), registry(), stopped.clone()).await?;
        let services = Services::new(store.clone(), cache.clone(), ranges, ids.clone());
        let services = services.expect("services and their addresses are built-in kinds that are stored");
        let counters = GateMetrics::new(&metrics, gate.token_cache.clone());
        let gate = Gate::new(gate, cache.clone(), counters);
        let services = Arc::new(services);
        let caller = Arc::new(Caller::new(cache.clone()));
        let converter = Converter::new(caller.clone(), ids.clone());
        let (admits, cel) = (Chain::default(), CelMetrics::new(&metrics));
        let bare = Storage {
            store,
            encrypted,
            cache,
            admission: admits,
            services,
            converter,
            ids,
            cel,
            commits: Arc::default(),
        };
        let ingredients = Ingredients {
            cache: bare.cache.clone(),
            ids: bare.ids.clone(),
            authorizer: gate.authorizer(),
            toleration_seconds: admission.toleration_seconds,
            caller: caller.clone(),
            storage: bare.clone(),
            manifests: ManifestSettings {
                enabled: admission.manifests,
                reloads: Arc::new(PluginReloads::new(&metrics, &admission.server)),
            },
            metrics: AdmissionMetrics::new(&metrics),
        };
        let storage = Storage { admission: Chain::new(&admission, &ingredients)?, ..bare };
        hooks.done(ADMISSION);
        let kinds = Kinds::builtin();
        let (address, port, network) = (advertise_address, advertise_port, service_networks[0]);
        let own = Own { address, port, network, shared, cluster_dns };
        Definitions::start(storage.clone(), kinds.clone(), &hooks, stopped.clone()).await?;
        TypeChecks::start(storage.clone(), kinds.clone(), stopped.clone());
        let aggregation = Aggregation::start(
            storage.clone(),
            kinds.clone(),
            caller,
            front_proxy.clone(),
            &metrics,
            &hooks,
            stopped.clone(),
        );
        let inner = Inner {
            storage,
            aggregation,
            kinds,
            gate,
            audit,
            encryption,
            fairness: Fairness::new(concurrency, &metrics),
            turns: Turns::default(),
            lasting,
            metrics: Metrics::new(metrics),
            documents: Documents::new(SocketAddr::new(advertise_address, advertise_port).to_string()),
            own,
            hooks,
            log,
            ending: Ending::new(stopped, shutdown_sends_away, watch_grace),
            browsers,
            lives_until,
        };
        let server = Self { inner: Arc::new(inner) };
        let storage = &server.inner.storage;
        storage.begin_allocation().await.map_err(|source| StartError::Bootstrap {
            object: "the records of service addresses and node ports".into(),
            source,
        })?;
        bootstrap::run(storage, &server.inner.own, front_proxy.as_ref()).await?;
        let hooks = &server.inner.hooks;
        hooks.done(BOOTSTRAPPED);
        if front_proxy.is_some() {
            hooks.done(AUTHENTICATION_INFO);
        }
        let stopped = server.inner.ending.stopped();
        storage.follow_allocation(hooks, stopped.clone());
        if let Some(uses) = server.inner.gate.tokens.uses() {
            long_lived::track(storage.clone(), uses, stopped.clone()).await;
        }
        let keep = fairness::keep(server.inner.fairness.clone(), server.inner.storage.clone());
        let names = if matches!(concurrency, Concurrency::Fair(_)) { FAIRNESS } else { IN_FLIGHT };
        hooks.spawn(names, async move {
            stopped.run_until_cancelled(keep).await;
        });
        Ok(server)
    }

    /// The server as a service: what the listener and in-process clients call.
    pub fn service(&self) -> ApiService {
        ApiService::new(self.inner.clone())
    }

    /// The turns that its requests have, for the listeners before it.
    pub fn turns(&self) -> Turns {
        self.inner.turns.clone()
    }

    /// The gate, for who needs more of it than requests do.
    pub fn gate(&self) -> Gate {
        self.inner.gate.clone()
    }

    /// Says that it will stop: `/readyz` says no, everything else goes on.
    pub fn announce_shutdown(&self) {
        self.inner.ending.leave();
    }

    /// Begins to stop: `/readyz` says no, watches end. Requests that are being handled go on, as do new ones, unless they
    /// are sent away, until the listener closes.
    pub fn shut_down(&self) {
        self.inner.ending.stop();
    }

    /// Returns when the listener may close, after [`ApiServer::shut_down`]: at once, unless new requests are sent away until
    /// the last ones from before are over.
    pub async fn drained(&self) {
        self.inner.ending.drained(self.inner.lasting.request).await;
    }

    /// Keeps this server among the endpoints of the API, beside others on the same store, until `stop`; then takes it
    /// away. Does nothing until then where the store is not shared.
    pub async fn announce(self, stop: CancellationToken) {
        match self.inner.own.shared {
            true => endpoint::announce(&self.inner.storage, &self.inner.own, &stop).await,
            false => stop.cancelled().await,
        }
    }

    /// Says whom aggregated servers may believe, after that changed.
    ///
    /// # Errors
    ///
    /// When the ConfigMap that says so cannot be written.
    pub async fn tell_extensions(&self, front_proxy: &FrontProxy) -> Result<(), StartError> {
        bootstrap::tell_extensions(&self.inner.storage, front_proxy).await
    }

    /// Whether [`ApiServer::shut_down`] was called.
    pub fn is_stopping(&self) -> bool {
        self.inner.ending.is_stopping()
    }
}

/// The store with encryption before it, tended until `stop`, if there is encryption.
fn encrypted(
    store: Arc<dyn Store>,
    encryption: Option<&Arc<Encryption>>,
    stop: &CancellationToken,
) -> (Arc<dyn Store>, Option<EncryptedStore>) {
    let Some(encryption) = encryption else { return (store, None) };
    let encrypted = EncryptedStore::new(store, encryption.clone());
    let (tended, stop) = (encrypted.clone(), stop.clone());
    tokio::spawn(async move { stop.run_until_cancelled(tended.tend()).await });
    (Arc::new(encrypted.clone()), Some(encrypted))
}

fn ranges(networks: &[Cidr], ports: (u16, u16)) -> Result<Ranges, StartError> {
    let fail = |why| Err(StartError::ServiceNetworks(why));
    match networks {
        [] => return fail("there is none"),
        [_] => {}
        [one, other] if one.family() != other.family() => {}
        _ => return fail("at most one of each family is possible"),
    }
    if ports.0 == 0 || ports.0 > ports.1 {
        return fail("the first node port must not be after the last");
    }
    let first = networks[0];
    if !first.holds(first.nth(DNS_OFFSET)) {
        return fail("the first one is too small for the cluster's own services");
    }
    let owned = [
        (first.nth(1), "default/kubernetes".to_owned()),
        (first.nth(DNS_OFFSET), "kube-system/kube-dns".to_owned()),
    ];
    Ok(Ranges { networks: networks.to_vec(), ports, owned: owned.into() })
}

/// Where the cluster DNS service is.
pub(crate) fn dns_address(network: &Cidr) -> IpAddr {
    network.nth(DNS_OFFSET)
}
