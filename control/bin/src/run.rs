//! The API server, with or without the components beside it.
//!
//! Start: keys, port, store, server, components; what fails first is what the operator reads. Stop: components, watches,
//! requests, store.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use prometheus::Registry;
use skep_controllers::{CertificateOf, CertificateSigner, ControllersConfig, TokenOf, TokenSigner};
use skep_scheduler::SchedulerConfig;
use skep_server::audit::Audit;
use skep_server::encryption::Encryption;
use skep_server::pki::{Authority, Role};
use skep_server::tls::Listener;
use skep_server::tokens::Keys;
use skep_server::{ApiServer, Check, ServerConfig};
use skep_store::Store;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::auth::{self, Setup};
use crate::flags::{RunArguments, ServerArguments};
use crate::keys::OpenKeys;
use crate::{components, logging, metrics, shutdown, store};

pub(crate) async fn everything(arguments: RunArguments) -> anyhow::Result<()> {
    let stop = shutdown::on_signals()?;
    let running = Running::start(&arguments.server, true, &stop).await?;
    let networks = arguments.cluster_cidr.iter().map(ToString::to_string).collect();
    let mut controllers = ControllersConfig::new(running.authority.clone(), networks);
    controllers.metrics = running.metrics.clone();
    controllers.token_signer = Some(signer(Arc::clone(&running.token_keys)));
    let authority = Authority::open(&arguments.server.data_dir.join("pki"), Role::Cluster)?;
    controllers.certificate_signer = Some(certificate_signer(authority));
    let scheduler = SchedulerConfig { metrics: running.metrics.clone(), ..SchedulerConfig::default() };
    let tasks = components::start(&running.server, controllers, scheduler, arguments.elects(), &stop);
    running.until_stopped(tasks, stop).await
}

pub(crate) async fn api_server(arguments: ServerArguments) -> anyhow::Result<()> {
    let stop = shutdown::on_signals()?;
    // Which nodes there will be, and who answers for names on them, is not known here.
    let running = Running::start(&arguments, false, &stop).await?;
    running.until_stopped(JoinSet::new(), stop).await
}

/// Signs the tokens in Secrets of service accounts.
pub(crate) fn signer(keys: Arc<Keys>) -> TokenSigner {
    Arc::new(move |of: &TokenOf<'_>| keys.sign_for_secret(of.namespace, of.account, of.uid, of.secret))
}

/// Signs certificates that were asked for and approved.
pub(crate) fn certificate_signer(authority: Authority) -> CertificateSigner {
    Arc::new(move |of: &CertificateOf<'_>| authority.sign(of.request, of.usages, of.life, SystemTime::now()))
}

/// An API server that takes requests.
struct Running {
    server: ApiServer,
    store: Arc<dyn Store>,
    metrics: Registry,
    audit: Audit,
    shutdown_delay: Duration,
    authority: String,
    token_keys: Arc<Keys>,
    listener: JoinHandle<()>,
    announced: JoinHandle<()>,
    close: CancellationToken,
    keys: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    async fn start(
        arguments: &ServerArguments,
        cluster_dns: bool,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let keys = OpenKeys::open(arguments)?;
        let listener =
            Listener::bind(arguments.listen, keys.listener.clone(), arguments.serving.limits()).await?;
        let metrics = Registry::new();
        metrics::serve(arguments.metrics_listen, metrics.clone(), stop).await?;
        let store = store::open(arguments, &metrics).await?;
        let mut gate = keys.gate(&arguments.authentication.accounts)?;
        let setup = Setup::apply(
            &arguments.authentication,
            &arguments.authorization,
            arguments.token_auth_file.as_deref(),
            &keys.client_authority()?,
            &mut gate,
            &metrics,
        )?;
        let token_keys = Arc::clone(&gate.token_keys);
        let mut config = ServerConfig::new(gate, arguments.advertised()?, arguments.service_cidr.clone());
        config.advertise_port = listener.address().context("the listening address is unknown")?.port();
        config.metrics = metrics.clone();
        config.cluster_dns = cluster_dns;
        config.front_proxy = Some(keys.front_proxy.clone());
        let audit = Audit::open(arguments.audit.options()?, config.ids.clock.clone(), &metrics)?;
        config.audit = audit.clone();
        arguments.serving.apply(&mut config)?;
        if let Some(options) = arguments.encryption.options()? {
            config.encryption = Some(Encryption::open(options, &metrics, &auth::server_name()).await?);
        }
        config.admission = arguments.admission.config()?;
        config.log = Some(Check(Arc::new(logging::works)));
        config.shared = !arguments.etcd.etcd_endpoints.is_empty();
        let server =
            ApiServer::new(Arc::clone(&store), config).await.context("cannot start the API server")?;
        let (authorizer, registry, until) = (server.gate().authorizer(), metrics.clone(), stop.clone());
        tokio::spawn(async move { setup.follow(authorizer, &registry, until).await });
        let close = CancellationToken::new();
        let listener = listener.sharing(server.turns()).counting(&metrics);
        let listener = tokio::spawn(listener.serve(server.service(), close.clone()));
        let kubeconfig = keys.write_kubeconfig()?;
        tracing::info!(listen = %arguments.listen, kubeconfig = %kubeconfig.display(), "serving the API");
        let announced = tokio::spawn(server.clone().announce(stop.clone()));
        let authority = keys.authority()?;
        let keys = tokio::spawn(keys.keep_fresh(server.clone(), stop.clone()));
        let shutdown_delay = arguments.serving.shutdown_delay_duration;
        Ok(Self {
            server,
            store,
            metrics,
            audit,
            shutdown_delay,
            authority,
            token_keys,
            listener,
            announced,
            close,
            keys,
        })
    }

    /// Runs until `stop`, or until a task fails; then ends everything in order.
    async fn until_stopped(
        self,
        mut tasks: JoinSet<anyhow::Result<()>>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let outcome = tokio::select! {
            () = stop.cancelled() => Ok(()),
            Some(ended) = tasks.join_next() => ended.context("a component panicked").and_then(|result| result),
        };
        stop.cancel();
        while tasks.join_next().await.is_some() {}
        // Balancers see that /readyz says no, and send nobody here any more, before anybody is sent away.
        self.server.announce_shutdown();
        tokio::time::sleep(self.shutdown_delay).await;
        self.server.shut_down();
        // Who uses the cluster's own address goes elsewhere before the door closes.
        let announced = self.announced.await.context("the announcement panicked");
        self.server.drained().await;
        self.close.cancel();
        let listened = self.listener.await.context("the listener panicked");
        let renewed = self.keys.await.context("the renewal of keys panicked").and_then(|result| result);
        drop(self.server);
        self.audit.close().await;
        drop(self.store);
        outcome.and(announced).and(listened).and(renewed)
    }
}
