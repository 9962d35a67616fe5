//! Pod network: CNI, address management, veth pairs, routes between nodes.
//!
//! Observes Node objects and the requests of the container runtime; owns the links, addresses and routes of this node's
//! pods. It does not balance services and knows no policy: [`Datapath`] is where those take part.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use netlink_packet_route::address::AddressScope;
use rtnetlink::Handle;
use tokio::sync::watch;

pub mod attacher;
pub mod configuration;
mod error;
mod links;
mod namespace;
pub mod plugin;
pub mod pool;
pub mod range;
mod records;
pub mod routes;
pub mod rpc;

pub use error::NetworkError;
pub use links::PodLink;

use attacher::Attacher;
use routes::NodeNetwork;

/// How long to wait before a change of routes that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// The datapath's part in a pod's link: programs attached and policy in force before the pod starts.
#[async_trait]
pub trait Datapath: Send + Sync + 'static {
    /// Attaches the programs to the node's end. Called again for a link that has them after a restart.
    async fn attach(&self, link: &PodLink) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
    /// Forgets the pod with these addresses, before its link goes away.
    async fn detach(&self, addresses: &[IpAddr]) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
    /// Routes to other nodes changed: next hops that were remembered may be wrong.
    async fn routes_changed(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// What the pod network of a node needs to know.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// Name of this node's Node object.
    pub node_name: String,
    /// The interface to the other nodes; pods get its MTU.
    pub uplink: String,
    /// Folder that survives a restart of the agent and of the machine.
    pub state_dir: PathBuf,
    /// Unix socket for the plugin.
    pub socket: PathBuf,
    /// Where the runtime looks for network configurations.
    pub cni_conf_dir: PathBuf,
    /// Where the runtime looks for plugins.
    pub cni_bin_dir: PathBuf,
    /// The program that the plugin's names lead to.
    pub plugin: PathBuf,
}

/// Runs the pod network until shutdown.
///
/// # Errors
/// What makes the network impossible at start. Later failures are logged and tried again.
pub async fn run(
    config: NetworkConfig,
    client: Client,
    datapath: Arc<dyn Datapath>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), NetworkError> {
    let attacher =
        Arc::new(Attacher::open(&config.state_dir.join("network"), &config.uplink, datapath.clone()).await?);
    configuration::install_plugin(&config.cni_bin_dir, &config.plugin)?;
    let listener = rpc::bind(&config.socket)?;
    let serve = rpc::serve(listener, attacher.clone(), shutdown.clone());
    let follow = follow_nodes(config, client, attacher, datapath, shutdown);
    tokio::try_join!(serve, follow).map(|_| ())
}

/// Makes this network namespace forward packets and answer for `addresses`.
///
/// # Errors
/// The kernel refuses, which a node cannot do without.
pub async fn prepare(addresses: &[IpAddr]) -> Result<(), NetworkError> {
    for file in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
        if Path::new(file).exists() {
            std::fs::write(file, "1").map_err(NetworkError::file("cannot set", file))?;
        }
    }
    let handle = links::connect()?;
    let loopback = links::find(&handle, "lo").await?;
    for address in addresses {
        links::add_address(&handle, &loopback, *address, AddressScope::Host).await?;
    }
    Ok(())
}

/// Follows the Node objects: this node's own ranges, and routes to those of the others.
async fn follow_nodes(
    config: NetworkConfig,
    client: Client,
    attacher: Arc<Attacher>,
    datapath: Arc<dyn Datapath>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), NetworkError> {
    let handle = links::connect()?;
    let watch_config = watcher::Config::default().streaming_lists();
    let mut events = watcher(Api::<Node>::all(client), watch_config).default_backoff().boxed();
    let mut nodes = BTreeMap::new();
    let mut fresh = BTreeMap::new();
    let mut complete = false;
    let mut configured = false;
    let mut behind = false;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = tokio::time::sleep(RETRY), if behind => None,
            _ = shutdown.wait_for(|ended| *ended) => return Ok(()),
        };
        match event {
            Some(Ok(event)) => complete |= observe(&mut nodes, &mut fresh, event),
            Some(Err(error)) => tracing::warn!(%error, "cannot watch nodes"),
            None => {}
        }
        if !complete {
            continue;
        }
        let own = nodes.get(&config.node_name).cloned().unwrap_or_default();
        if !own.ranges.is_empty() {
            attacher.set_ranges(&own.ranges).await;
            if !configured {
                configuration::write(&config.cni_conf_dir, &config.socket)?;
                configured = true;
            }
        }
        behind = match converge(&handle, &nodes, &config.node_name, &*datapath).await {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(%error, cause = ?std::error::Error::source(&error), "routes to pods are behind");
                true
            }
        };
    }
}

/// Takes one event of the watch in. Returns whether the view is complete with it.
fn observe(
    nodes: &mut BTreeMap<String, NodeNetwork>,
    fresh: &mut BTreeMap<String, NodeNetwork>,
    event: watcher::Event<Node>,
) -> bool {
    match event {
        watcher::Event::Init => fresh.clear(),
        watcher::Event::InitApply(node) => {
            fresh.insert(node.name_any(), NodeNetwork::of(&node));
        }
        watcher::Event::InitDone => {
            *nodes = std::mem::take(fresh);
            return true;
        }
        watcher::Event::Apply(node) => {
            nodes.insert(node.name_any(), NodeNetwork::of(&node));
        }
        watcher::Event::Delete(node) => {
            nodes.remove(&node.name_any());
        }
    }
    false
}

async fn converge(
    handle: &Handle,
    nodes: &BTreeMap<String, NodeNetwork>,
    own: &str,
    datapath: &dyn Datapath,
) -> Result<(), NetworkError> {
    let actions = routes::plan(&routes::present(handle).await?, &routes::desired(nodes, own));
    for action in &actions {
        routes::apply(handle, action).await?;
    }
    if !actions.is_empty() {
        let failed = |source| NetworkError::Datapath { link: "routes".into(), source };
        datapath.routes_changed().await.map_err(failed)?;
    }
    Ok(())
}

/// Names of the node's ends of all pod links.
async fn host_links(handle: &Handle) -> Result<Vec<String>, NetworkError> {
    Ok(links::named(handle, links::HOST_PREFIX).await?.into_iter().map(|link| link.name).collect())
}
