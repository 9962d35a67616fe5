//! The service datapath and what keeps it up to date; shared by `run` and `proxy`.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use skep_dataplane::{DataplaneConfig, KernelDataplane, XdpState};
use skep_maps::Dataplane;
use skep_services::NodeSettings;

use crate::flags::DatapathArguments;

/// A client with the credentials of a kubeconfig.
pub(crate) async fn client(kubeconfig: &std::path::Path) -> Result<Client> {
    // A second installation is refused and means that there is one already.
    rustls::crypto::ring::default_provider().install_default().ok();
    let file = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("--kubeconfig {}", kubeconfig.display()))?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(|| format!("--kubeconfig {}", kubeconfig.display()))?;
    Ok(Client::try_from(config)?)
}

/// Loads and attaches the datapath, or takes over what an earlier agent left.
pub(crate) async fn open(arguments: &DatapathArguments, node_ips: &[IpAddr]) -> Result<Arc<KernelDataplane>> {
    let path = &arguments.ebpf_object;
    let object = std::fs::read(path).with_context(|| format!("--ebpf-object {}", path.display()))?;
    let mut config = DataplaneConfig::new(object, &arguments.pins.bpf_root, rand::random());
    config.cgroup_root = Some(arguments.cgroup_root.clone());
    config.uplinks.clone_from(&arguments.uplinks);
    config.node_v4 = node_ips.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    config.node_v6 = node_ips.iter().find_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    config.log_level = log_level(&arguments.datapath_log)?;
    let dataplane = tokio::task::spawn_blocking(move || KernelDataplane::open(&config))
        .await?
        .context("the datapath cannot be loaded")?;
    for (uplink, state) in dataplane.uplinks() {
        match state {
            XdpState::Native => tracing::info!(uplink, "XDP runs in the driver"),
            XdpState::Generic => {
                tracing::warn!(uplink, "the driver takes no XDP: it runs in the stack, slower")
            }
            XdpState::Off => tracing::warn!(uplink, "no XDP: TC does everything"),
        }
    }
    Ok(Arc::new(dataplane))
}

/// Follows Services and EndpointSlices until shutdown.
pub(crate) async fn follow(
    client: Client,
    node_name: String,
    node_ips: Vec<IpAddr>,
    dataplane: Arc<KernelDataplane>,
    registry: prometheus::Registry,
    shutdown: tokio::sync::watch::Receiver<bool>,
) -> Result<()> {
    let node = NodeSettings { name: node_name, addresses: node_ips };
    skep_dataplane::metrics::register(&registry, dataplane.clone())?;
    let dataplane: Arc<dyn Dataplane> = dataplane;
    let metrics = skep_services::Metrics::register(&registry, dataplane.clone())?;
    let services = async {
        skep_services::run(client, node, dataplane.clone(), metrics, shutdown.clone())
            .await
            .context("services")
    };
    let hops = async {
        skep_dataplane::follow_next_hops(dataplane.clone(), shutdown.clone())
            .await
            .context("routes and neighbours")
    };
    tokio::try_join!(services, hops).map(|_| ())
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
    fn log_level_unknown_name_says_what_there_is() {
        assert_eq!(log_level("off").unwrap(), 0);
        assert_eq!(log_level("trace").unwrap(), 5);
        assert!(log_level("loud").unwrap_err().to_string().contains("warn"));
    }
}
