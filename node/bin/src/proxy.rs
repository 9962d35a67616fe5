//! `skep-node proxy`: the service datapath alone, on any Kubernetes cluster.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use prometheus::{Encoder, Registry, TextEncoder};
use skep_dataplane::leftovers;
use skep_services::health::Answer;
use skep_services::serve;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::flags::ProxyArguments;
use crate::run::end_together;
use crate::{services, shutdown};

/// Pause before the Node object is asked for again.
const RETRY: Duration = Duration::from_secs(2);

/// Runs until a signal. The datapath goes on without it.
pub(crate) async fn run(arguments: ProxyArguments) -> Result<()> {
    let (stop, mut stopped) = shutdown::on_signal()?;
    let client = services::client(&arguments.kubeconfig).await?;
    let name = match &arguments.node_name {
        Some(name) => name.clone(),
        None => host_name()?,
    };
    let node_ips = if arguments.node_ips.is_empty() {
        tokio::select! {
            addresses = node_addresses(&client, &name) => addresses,
            _ = stopped.wait_for(|ended| *ended) => return Ok(()),
        }
    } else {
        arguments.node_ips
    };
    warn_of_kube_proxy().await?;
    let node = services::node_settings(&arguments.datapath, &name, &node_ips)?;
    let dataplane = services::open(&arguments.datapath, &node_ips).await?;
    let registry = Registry::new();
    let mut parts = JoinSet::new();
    let surroundings = services::Surroundings {
        node,
        // Another's pods: their network serves their host ports.
        host_pods: None,
        healthz: arguments.datapath.healthz_bind_address,
        registry: registry.clone(),
        shutdown: stopped.clone(),
    };
    parts.spawn(services::follow(client, dataplane, surroundings));
    parts.spawn(serve_metrics(arguments.metrics_listen, registry, stopped));
    end_together(parts, &stop).await
}

/// Says so when kube-proxy's rules are there. They are not removed: it may be running, and would write them again.
async fn warn_of_kube_proxy() -> Result<()> {
    match tokio::task::spawn_blocking(leftovers::of_kube_proxy).await? {
        Ok(chains) if chains.is_empty() => {}
        Ok(chains) => {
            let chains: Vec<String> = chains.iter().map(ToString::to_string).collect();
            tracing::warn!(
                chains = chains.join(", "),
                "kube-proxy's rules are on this node: they drop pods' answers to connections that were translated before \
                 conntrack saw them, and lead others to endpoints of their own; stop kube-proxy and run `kube-proxy --cleanup`"
            );
        }
        Err(error) => tracing::info!(%error, "whether kube-proxy's rules are here cannot be told"),
    }
    Ok(())
}

/// The machine's host name in the form that node names have.
fn host_name() -> Result<String> {
    let path = "/proc/sys/kernel/hostname";
    let name = std::fs::read_to_string(path).with_context(|| format!("{path}: give --node-name"))?;
    Ok(name.trim().to_lowercase())
}

/// The internal addresses of the Node object, asked for until it has some.
async fn node_addresses(client: &Client, name: &str) -> Vec<IpAddr> {
    let nodes: Api<Node> = Api::all(client.clone());
    loop {
        match nodes.get(name).await {
            Ok(node) => {
                let found = internal_addresses(&node);
                if !found.is_empty() {
                    return found;
                }
                tracing::warn!(
                    node = name,
                    "the Node object has no address yet; waiting (or give --node-ip)"
                );
            }
            Err(error) => {
                tracing::warn!(node = name, %error, "cannot read the Node object; waiting (or give --node-ip)")
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn internal_addresses(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok()).collect()
}

/// `/metrics` over plain HTTP.
async fn serve_metrics(listen: SocketAddr, registry: Registry, stopped: watch::Receiver<bool>) -> Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("--metrics-listen {listen}"))?;
    serve::serve(listener, Arc::new(move |path| answer(path, &registry)), stopped).await;
    Ok(())
}

fn answer(path: &str, registry: &Registry) -> Answer {
    match path {
        "/metrics" => {
            let mut body = Vec::new();
            let encoder = TextEncoder::new();
            match encoder.encode(&registry.gather(), &mut body) {
                Ok(()) => {
                    let headers = vec![("content-type", encoder.format_type().to_owned())];
                    Answer { status: 200, headers, body }
                }
                Err(error) => Answer::text(500, &error.to_string()),
            }
        }
        "/healthz" => Answer::text(200, "ok"),
        // Where kube-proxy says by what it works.
        "/proxyMode" => Answer::text(200, "ebpf"),
        _ => Answer::text(404, "there is /metrics, /healthz and /proxyMode\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_addresses_leave_host_names_and_external_ones_out() {
        let node: Node =
            serde_json::from_value(serde_json::json!({ "metadata": {}, "status": { "addresses": [
            { "type": "Hostname", "address": "n1" },
            { "type": "ExternalIP", "address": "203.0.113.1" },
            { "type": "InternalIP", "address": "192.0.2.1" },
            { "type": "InternalIP", "address": "2001:db8::1" },
        ] } }))
            .unwrap();
        let expected: Vec<IpAddr> = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(internal_addresses(&node), expected);
    }

    #[test]
    fn answer_metrics_have_prometheus_type_and_unknown_paths_are_not_found() {
        let registry = Registry::new();
        let answered = answer("/metrics", &registry);
        assert_eq!(answered.status, 200);
        assert!(answered.headers[0].1.starts_with("text/plain; version=0.0.4"));
        let status = |path| answer(path, &registry).status;
        assert_eq!((status("/healthz"), status("/proxyMode"), status("/x")), (200, 200, 404));
    }
}
