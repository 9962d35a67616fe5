//! `skep-node run`: a whole node, its parts started in order and ended together.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use skep_dns::{DnsConfig, DnsMetrics};
use skep_endpoint::EndpointConfig;
use skep_network::NetworkConfig;
use skep_pods::{Agent, PodsConfig};
use skep_runtime::{CriRuntime, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::flags::RunArguments;
use crate::pod_links::PodLinks;
use crate::{host_ports, services, shutdown};

/// Port of DNS.
const DNS: u16 = 53;

/// Runs the node until a signal, or until one of its parts fails.
pub(crate) async fn run(arguments: Box<RunArguments>) -> Result<()> {
    let (stop, stopped) = shutdown::on_signal()?;
    let client = services::client(&arguments.kubeconfig).await?;
    skep_network::prepare(&[arguments.cluster_dns]).await.context("the node's network")?;
    let dataplane = services::open(&arguments.datapath, &arguments.node_ips).await?;
    let runtime: Arc<dyn Runtime> = Arc::new(CriRuntime::connect(&arguments.containerd).await?);
    let registry = prometheus::Registry::new();
    let pods_config = pods_config(&arguments);
    let agent = Agent::new(pods_config.clone(), client.clone(), runtime.clone(), &registry).await?;
    let pods = agent.pods();

    let mut parts = JoinSet::new();
    let mut node = services::node_settings(&arguments.datapath, &arguments.node_name, &arguments.node_ips)?;
    // DNS is answered there.
    node.reserved = vec![arguments.cluster_dns];
    let surroundings = services::Surroundings {
        node,
        host_pods: Some(host_ports::follow(pods.clone())),
        healthz: arguments.datapath.healthz_bind_address,
        registry: registry.clone(),
        shutdown: stopped.clone(),
    };
    parts.spawn(services::follow(client.clone(), dataplane.clone(), surroundings));
    let network = skep_network::run(
        network_config(&arguments)?,
        client.clone(),
        Arc::new(PodLinks(dataplane)),
        stopped.clone(),
    );
    parts.spawn(async { network.await.context("pod network") });
    let dns = DnsConfig {
        listen: vec![SocketAddr::new(arguments.cluster_dns, DNS)],
        domain: arguments.cluster_domain.clone(),
        upstreams: upstreams(&arguments.resolv_conf, arguments.cluster_dns),
    };
    let dns = skep_dns::serve(dns, client, DnsMetrics::register(&registry)?, stopped.clone());
    parts.spawn(async { dns.await.context("DNS") });
    let endpoint = EndpointConfig {
        listen: SocketAddr::new(unspecified(arguments.node_ips[0]), arguments.port),
        serving_cert: arguments.serving_cert.clone(),
        serving_key: arguments.serving_key.clone(),
        client_ca: arguments.client_ca.clone(),
        metrics: registry,
        log_dir: pods_config.log_dir.clone(),
    };
    let endpoint = skep_endpoint::serve(endpoint, runtime, Arc::new(PodList(pods)), stopped.clone());
    parts.spawn(async { endpoint.await.context("HTTPS endpoint") });
    parts.spawn(run_agent(agent, stopped));
    end_together(parts, &stop).await
}

/// The pods have a switch of another kind.
async fn run_agent(agent: Agent, mut stopped: watch::Receiver<bool>) -> Result<()> {
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        stopped.wait_for(|ended| *ended).await.ok();
        cancel.cancel();
    });
    agent.run(token).await;
    Ok(())
}

/// Waits for every part. The first that fails stops the others.
pub(crate) async fn end_together(mut parts: JoinSet<Result<()>>, stop: &watch::Sender<bool>) -> Result<()> {
    let mut result = Ok(());
    while let Some(ended) = parts.join_next().await {
        let ended = ended.context("a part of the node panicked").and_then(|ended| ended);
        if let Err(error) = ended {
            tracing::error!(error = format!("{error:#}"), "a part of the node failed");
            stop.send_replace(true);
            if result.is_ok() {
                result = Err(error);
            }
        }
    }
    result
}

/// The agent's pods, as the endpoint shows them.
struct PodList(skep_pods::Pods);

impl skep_endpoint::PodSource for PodList {
    fn pods(&self) -> Vec<Arc<k8s_openapi::api::core::v1::Pod>> {
        self.0.list()
    }
}

fn pods_config(arguments: &RunArguments) -> PodsConfig {
    PodsConfig {
        cluster_dns: vec![arguments.cluster_dns.to_string()],
        cluster_domain: arguments.cluster_domain.clone(),
        resolv_conf: arguments.resolv_conf.clone(),
        state_dir: arguments.state_dir.clone(),
        cgroup_parent: arguments.cgroup_parent.clone(),
        thresholds: arguments.eviction_hard,
        endpoint_port: arguments.port,
        ..PodsConfig::new(&arguments.node_name, arguments.node_ips.clone())
    }
}

fn network_config(arguments: &RunArguments) -> Result<NetworkConfig> {
    Ok(NetworkConfig {
        node_name: arguments.node_name.clone(),
        uplink: services::uplinks(&arguments.datapath.uplinks, &arguments.node_ips)?[0].clone(),
        state_dir: arguments.state_dir.clone(),
        socket: arguments.run_dir.join("cni.sock"),
        cni_conf_dir: arguments.cni_conf_dir.clone(),
        cni_bin_dir: arguments.cni_bin_dir.clone(),
        plugin: std::env::current_exe().context("this program's own path")?,
    })
}

/// Any address of the family.
fn unspecified(address: IpAddr) -> IpAddr {
    if address.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    }
}

/// The name servers of a resolver configuration, without the cluster's own.
fn upstreams(path: &Path, own: IpAddr) -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "no name servers for names outside the cluster");
        String::new()
    });
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|address| address.trim().parse().ok())
        .filter(|address| *address != own)
        .map(|address| SocketAddr::new(address, DNS))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_leave_the_cluster_and_comments_out() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# x\nnameserver 10.96.0.10\nnameserver 192.0.2.1\nsearch a.b\n")
            .unwrap();
        let found = upstreams(file.path(), "10.96.0.10".parse().unwrap());
        assert_eq!(found, ["192.0.2.1:53".parse().unwrap()]);
    }
}
