//! The service datapath and what keeps it up to date; shared by `run` and `proxy`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use kube::Client;
use skep_dataplane::{DataplaneConfig, KernelDataplane, XdpState};
use skep_maps::Dataplane;
use skep_services::{Health, HostPods, NodePortAddresses, NodeSettings, Sources, serve};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::flags::DatapathArguments;

/// A client with the credentials of a kubeconfig.
pub(crate) async fn client(kubeconfig: &std::path::Path) -> Result<Client> {
    // A second installation is refused and means that there is one already.
    rustls::crypto::ring::default_provider().install_default().ok();
    skep_client::from_kubeconfig(kubeconfig).await.context("--kubeconfig")
}

/// Loads and attaches the datapath, or takes over what an earlier agent left.
pub(crate) async fn open(arguments: &DatapathArguments, node_ips: &[IpAddr]) -> Result<Arc<KernelDataplane>> {
    let path = &arguments.ebpf_object;
    let object = std::fs::read(path).with_context(|| format!("--ebpf-object {}", path.display()))?;
    let mut config = DataplaneConfig::new(object, &arguments.pins.bpf_root, rand::random());
    config.cgroup_root = Some(arguments.cgroup_root.clone());
    config.uplinks = uplinks(&arguments.uplinks, node_ips)?;
    config.node_v4 = node_ips.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    config.node_v6 = node_ips.iter().find_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    config.log_level = log_level(&arguments.datapath_log)?;
    config.attach = arguments.xdp.into();
    let dataplane = tokio::task::spawn_blocking(move || KernelDataplane::open(&config))
        .await?
        .context("the datapath cannot be loaded")?;
    for (uplink, state) in dataplane.uplinks() {
        match state {
            XdpState::Native => tracing::info!(uplink, "XDP runs in the driver"),
            XdpState::Generic => tracing::warn!(uplink, "XDP runs in the stack, slower than in a driver"),
            XdpState::Off => tracing::warn!(uplink, "no XDP: TC does everything"),
        }
    }
    Ok(Arc::new(dataplane))
}

/// The interfaces that are named, or else those that have the node's addresses.
pub(crate) fn uplinks(named: &[String], node_ips: &[IpAddr]) -> Result<Vec<String>> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let mut found: Vec<String> = Vec::new();
    for (interface, address) in skep_dataplane::addresses::local()? {
        if node_ips.contains(&address) && !found.contains(&interface) {
            found.push(interface);
        }
    }
    if found.is_empty() {
        bail!("no interface has any of the node's addresses {node_ips:?}: name one with --uplink");
    }
    tracing::info!(uplinks = ?found, "uplinks chosen by the node's addresses");
    Ok(found)
}

/// What the service part needs to know about its node.
pub(crate) fn node_settings(
    arguments: &DatapathArguments,
    name: &str,
    addresses: &[IpAddr],
) -> Result<NodeSettings> {
    let node_ports = NodePortAddresses::parse(&arguments.node_port_addresses)
        .map_err(anyhow::Error::msg)
        .context("--nodeport-addresses")?;
    Ok(NodeSettings {
        name: name.to_owned(),
        addresses: addresses.to_vec(),
        node_ports,
        reserved: Vec::new(),
        external_return: arguments.external_return.into(),
    })
}

/// What [`follow`] needs beside the API and the datapath.
pub(crate) struct Surroundings {
    /// What the agent was told about its node.
    pub(crate) node: NodeSettings,
    /// This node's pods with host ports; none where those are somebody else's.
    pub(crate) host_pods: Option<watch::Receiver<Option<HostPods>>>,
    /// Where probes ask.
    pub(crate) healthz: SocketAddr,
    /// Where metrics go.
    pub(crate) registry: prometheus::Registry,
    /// Turns true when it is to end.
    pub(crate) shutdown: watch::Receiver<bool>,
}

/// Follows Services and EndpointSlices, and answers for their health, until shutdown.
pub(crate) async fn follow(
    client: Client,
    dataplane: Arc<KernelDataplane>,
    surroundings: Surroundings,
) -> Result<()> {
    let Surroundings { node, host_pods, healthz, registry, shutdown } = surroundings;
    skep_dataplane::metrics::register(&registry, dataplane.clone())?;
    let dataplane: Arc<dyn Dataplane> = dataplane;
    let metrics = skep_services::Metrics::register(&registry, dataplane.clone())?;
    let health = Health::default();
    let listener =
        TcpListener::bind(healthz).await.with_context(|| format!("--healthz-bind-address {healthz}"))?;
    let probes = health.clone();
    let probes = serve::serve(listener, Arc::new(move |path| probes.answer_probe(path)), shutdown.clone());
    let checks = serve::serve_checks(health.clone(), Vec::new(), shutdown.clone());
    let machine = skep_dataplane::addresses::local()?.into_iter().map(|(_, address)| address).collect();
    let (addresses, machine) = watch::channel(machine);
    let sources = Sources { node, machine, host_pods, health, shutdown: shutdown.clone() };
    let services =
        async { skep_services::run(client, sources, dataplane.clone(), metrics).await.context("services") };
    let hops = async {
        skep_dataplane::follow_next_hops(dataplane.clone(), shutdown.clone())
            .await
            .context("routes and neighbours")
    };
    let addresses =
        async { skep_dataplane::addresses::follow(addresses, shutdown.clone()).await.context("addresses") };
    let servers = async { Ok(tokio::join!(probes, checks)) };
    tokio::try_join!(services, hops, addresses, servers).map(|_| ())
}

/// The number of a level of datapath messages.
fn log_level(name: &str) -> Result<u32> {
    match ["off", "error", "warn", "info", "debug", "trace"].iter().position(|level| *level == name) {
        Some(level) => Ok(u32::try_from(level)?),
        None => bail!("--datapath-log: `{name}` is not off, error, warn, info, debug or trace"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uplinks_not_named_are_those_with_the_nodes_addresses() {
        let loopback = [std::net::Ipv4Addr::LOCALHOST.into()];
        assert_eq!(uplinks(&[], &loopback).unwrap(), ["lo"]);
        assert_eq!(uplinks(&["eth7".to_owned()], &loopback).unwrap(), ["eth7"]);
        let nowhere = ["203.0.113.254".parse().unwrap()];
        assert!(uplinks(&[], &nowhere).unwrap_err().to_string().contains("--uplink"));
    }

    #[test]
    fn log_level_unknown_name_says_what_there_is() {
        assert_eq!(log_level("off").unwrap(), 0);
        assert_eq!(log_level("trace").unwrap(), 5);
        assert!(log_level("loud").unwrap_err().to_string().contains("warn"));
    }
}
