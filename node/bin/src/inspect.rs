//! `skep-node inspect`: the kernel's tables, decoded. Reads only; works with and without a running agent.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use skep_dataplane::inspect::Inspector;
use skep_maps::Frontend;
use skep_maps::rows::{self, Row};

use crate::flags::InspectArguments;
use crate::services::client;

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// Frontends and what they lead to.
    Services,
    /// Backends of every service, each with its share of new connections.
    Backends,
    /// Connections, the most recently used first.
    Flows,
    /// Clients of services with session affinity, and the backend that each keeps.
    Affinity,
    /// Counters by reason.
    Stats,
    /// Counters by program and verdict.
    Verdicts,
    /// Counters by service.
    Totals,
    /// How full each table is.
    Maps,
    /// Programs in the kernel.
    Programs,
    /// Where they are attached.
    Attachments,
}

/// Prints one subject.
pub(crate) fn run(arguments: &InspectArguments) -> Result<()> {
    let root = &arguments.pins.bpf_root;
    let inspector = Inspector::open(root)
        .with_context(|| format!("there is no datapath under {} (--bpf-root)", root.display()))?;
    let only = match &arguments.service {
        Some(service) => Some(ids(&inspector, service, arguments.kubeconfig.as_deref())?),
        None => None,
    };
    let printer = Printer { json: arguments.output == "json", only };
    match arguments.subject {
        Subject::Services => printer.print(inspector.services()?),
        Subject::Backends => printer.print(inspector.backends()?),
        Subject::Flows => printer.print(inspector.flows()?),
        Subject::Affinity => printer.print(inspector.affinity()?),
        Subject::Totals => printer.print(inspector.stats()?.services),
        other if printer.only.is_some() => {
            let name = other.to_possible_value().map(|value| value.get_name().to_owned());
            bail!("--service: {} are not about services", name.unwrap_or_default());
        }
        Subject::Stats => printer.print(inspector.stats()?.reasons),
        Subject::Verdicts => printer.print(inspector.stats()?.verdicts),
        Subject::Maps => printer.print(inspector.maps()?),
        Subject::Programs => printer.print(inspector.programs()?),
        Subject::Attachments => printer.print(inspector.attachments()?),
    }
    Ok(())
}

struct Printer {
    json: bool,
    // Numbers of the service ports to show; all if none.
    only: Option<BTreeSet<u32>>,
}

impl Printer {
    fn print<R: Row>(&self, mut all: Vec<R>) {
        if let Some(only) = &self.only {
            all.retain(|row| row.service().is_some_and(|id| only.contains(&id)));
        }
        if self.json {
            println!("{}", rows::json(&all));
        } else {
            print!("{}", rows::table(&all));
        }
    }
}

/// Numbers of the service ports that `service` names.
fn ids(inspector: &Inspector, service: &str, kubeconfig: Option<&Path>) -> Result<BTreeSet<u32>> {
    let wanted = match Wanted::parse(service)? {
        Wanted::Named { namespace, name } => {
            let path =
                kubeconfig.context("--service: to look a name up, give --kubeconfig, or an address")?;
            Wanted::At(addresses(path, &namespace, &name)?)
        }
        other => other,
    };
    let found = inspector.service_ids(|frontend| wanted.takes(frontend))?;
    if found.is_empty() {
        bail!("--service: nothing in the tables answers for {service}");
    }
    Ok(found)
}

/// Which services are meant.
#[derive(Debug, PartialEq)]
enum Wanted {
    /// Those at an address.
    Address(IpAddr),
    /// Those at one of these addresses and ports.
    At(Vec<SocketAddr>),
    /// The one of that name.
    Named { namespace: String, name: String },
}

impl Wanted {
    fn parse(text: &str) -> Result<Self> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        if let Ok(socket) = text.parse() {
            return Ok(Self::At(vec![socket]));
        }
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self::Named { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => bail!("--service: `{text}` is neither an address, an address and port, nor namespace/name"),
        }
    }

    fn takes(&self, frontend: &Frontend) -> bool {
        match self {
            Self::Address(address) => frontend.address == *address,
            Self::At(sockets) => sockets.contains(&SocketAddr::new(frontend.address, frontend.port)),
            Self::Named { .. } => false,
        }
    }
}

/// The ClusterIPs of a service with each of its ports: all its other frontends share their numbers.
fn addresses(kubeconfig: &Path, namespace: &str, name: &str) -> Result<Vec<SocketAddr>> {
    let service = crate::runtime()?.block_on(async {
        let services: Api<Service> = Api::namespaced(client(kubeconfig).await?, namespace);
        services.get(name).await.with_context(|| format!("--service {namespace}/{name}"))
    })?;
    let found = sockets(&service);
    if found.is_empty() {
        bail!("--service: {namespace}/{name} has no address");
    }
    Ok(found)
}

fn sockets(service: &Service) -> Vec<SocketAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let addresses = spec.cluster_ips.iter().flatten().filter_map(|text| text.parse::<IpAddr>().ok());
    let ports = spec.ports.as_deref().unwrap_or_default();
    addresses
        .flat_map(|address| {
            let numbers = ports.iter().filter_map(|port| u16::try_from(port.port).ok());
            numbers.map(move |number| SocketAddr::new(address, number))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_reads_addresses_and_names_and_refuses_the_rest() {
        let named = Wanted::Named { namespace: "a".into(), name: "b".into() };
        assert_eq!(Wanted::parse("a/b").unwrap(), named);
        assert_eq!(Wanted::parse("fd96::7").unwrap(), Wanted::Address("fd96::7".parse().unwrap()));
        let at = Wanted::parse("[fd96::7]:80").unwrap();
        assert_eq!(at, Wanted::At(vec!["[fd96::7]:80".parse().unwrap()]));
        let frontend = |port| Frontend {
            address: "fd96::7".parse().unwrap(),
            port,
            protocol: 6,
            scope: skep_maps::Scope::Internal,
        };
        assert!(at.takes(&frontend(80)) && !at.takes(&frontend(81)));
        for text in ["web", "/web", "a/", "10.0.0"] {
            assert!(Wanted::parse(text).unwrap_err().to_string().contains("neither"), "{text}");
        }
    }

    #[test]
    fn sockets_are_every_cluster_ip_with_every_port() {
        let service: Service = serde_json::from_value(serde_json::json!({ "metadata": {}, "spec": {
            "clusterIPs": ["10.96.0.7", "fd96::7"], "ports": [{ "port": 80 }, { "port": 443 }],
        } }))
        .unwrap();
        let expected = ["10.96.0.7:80", "10.96.0.7:443", "[fd96::7]:80", "[fd96::7]:443"];
        assert_eq!(sockets(&service), expected.map(|text| text.parse().unwrap()));
    }
}
