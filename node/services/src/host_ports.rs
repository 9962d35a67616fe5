//! `hostPort`: ports of this node that lead to one of its pods.
//!
//! Owns the reading of a Pod's host ports and their plan: each is a set of frontends at the node's addresses with the pod
//! as the only backend, in the same tables as services. The pod is on this node, so that the client's address stays as
//! it is. A pod on the node's own network needs nothing. Which pods there are is told to [`crate::Sources`]. Pure.
//!
//! A `hostIP` that this node does not have gives nothing: otherwise a pod could take over any address as far as this
//! node's other pods are concerned.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use kube::ResourceExt;
use skep_abi::service::KIND_HOST_PORT;
use skep_maps::{DesiredFrontend, DesiredPool, DesiredPort, Endpoint, Frontend, Owner, Scope};

use crate::model::Protocol;

/// The pods of a node that have host ports, by the name of their owner in the table.
pub type HostPods = Arc<BTreeMap<Arc<str>, HostPod>>;

/// One host port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Address of the node at which it answers; unspecified (`0.0.0.0`, `::`) for all of one family, nothing for all.
    pub address: Option<IpAddr>,
    /// Port of the node.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Port of the pod.
    pub container_port: u16,
}

/// A pod with host ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPod {
    /// Owner of its entries in the table.
    pub owner: Owner,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its host ports.
    pub ports: Vec<HostPort>,
}

impl HostPod {
    /// The host ports of `pod`; `None` when it has none to serve: it has no address yet, has ended, or is on the node's
    /// own network.
    pub fn from_api(pod: &core::Pod) -> Option<Self> {
        let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if spec.host_network == Some(true) || ended {
            return None;
        }
        // Containers that run beside the others from the start have ports too (KEP-753).
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let containers = spec.containers.iter().chain(sidecars);
        let ports: Vec<HostPort> =
            containers.flat_map(|container| container.ports.iter().flatten()).filter_map(port).collect();
        let listed = status.pod_ips.as_deref().unwrap_or_default().iter().map(|entry| entry.ip.as_str());
        let addresses: BTreeSet<IpAddr> =
            listed.chain(status.pod_ip.as_deref()).filter_map(|text| text.parse().ok()).collect();
        if ports.is_empty() || addresses.is_empty() {
            return None;
        }
        let name = format!(
            "hostport/{}/{}/{}",
            pod.namespace().unwrap_or_default(),
            pod.name_any(),
            pod.uid().unwrap_or_default()
        );
        let created = pod.creation_timestamp().and_then(|time| i64::try_from(time.0.as_nanosecond()).ok());
        Some(Self {
            owner: Owner { name: name.into(), created: created.unwrap_or(i64::MAX) },
            addresses: addresses.into_iter().collect(),
            ports,
        })
    }
}

/// Those of `pods` that have host ports to serve.
pub fn host_pods<'a>(pods: impl Iterator<Item = &'a core::Pod>) -> HostPods {
    Arc::new(pods.filter_map(HostPod::from_api).map(|pod| (pod.owner.name.clone(), pod)).collect())
}

fn port(port: &core::ContainerPort) -> Option<HostPort> {
    let number = |number: i32| u16::try_from(number).ok().filter(|number| *number != 0);
    let address = match port.host_ip.as_deref() {
        None | Some("") => None,
        Some(text) => Some(text.parse().ok()?),
    };
    Some(HostPort {
        address,
        port: number(port.host_port?)?,
        protocol: Protocol::parse(port.protocol.as_deref())?,
        container_port: number(port.container_port)?,
    })
}

/// The node's addresses at which host ports may answer, apart from loopback addresses.
pub fn host_addresses(node: &[IpAddr], machine: &[IpAddr], reserved: &[IpAddr]) -> BTreeSet<IpAddr> {
    let usable = |address: &&IpAddr| {
        let link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        !link_local && !address.is_loopback() && !address.is_unspecified() && !reserved.contains(address)
    };
    node.iter().chain(machine).filter(usable).copied().collect()
}

/// What `pod` shall have in the table of a node with these `addresses`.
pub fn plan(pod: &HostPod, addresses: &BTreeSet<IpAddr>) -> Vec<DesiredPort> {
    let mut planned: BTreeMap<Arc<str>, DesiredPort> = BTreeMap::new();
    for port in &pod.ports {
        for target in &pod.addresses {
            let frontends = frontends(port, target.is_ipv4(), addresses);
            if frontends.is_empty() {
                continue;
            }
            let at = port.address.map_or_else(|| "*".to_owned(), |address| address.to_string());
            let family = if target.is_ipv4() { "IPv4" } else { "IPv6" };
            let name: Arc<str> = format!("{at}:{}/{}/{family}", port.port, port.protocol.name()).into();
            let endpoint = Endpoint { address: *target, port: port.container_port, local: true };
            let desired = DesiredPort {
                name: name.clone(),
                affinity_seconds: 0,
                pools: vec![DesiredPool::each(vec![endpoint])],
                draining: Vec::new(),
                frontends,
                source_ranges: BTreeSet::new(),
            };
            // The same port twice in a pod: the first counts.
            planned.entry(name).or_insert(desired);
        }
    }
    planned.into_values().collect()
}

/// `ports` without their backends: what a pod that is gone leaves for a moment, so that its flows end at once and none
/// of them reaches the next pod that is given its address.
pub fn emptied(mut ports: Vec<DesiredPort>) -> Vec<DesiredPort> {
    for pool in ports.iter_mut().flat_map(|port| &mut port.pools) {
        pool.endpoints.clear();
    }
    ports
}

fn frontends(port: &HostPort, v4: bool, addresses: &BTreeSet<IpAddr>) -> Vec<DesiredFrontend> {
    let loopback: IpAddr = if v4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let of_family = |address: &IpAddr| address.is_ipv4() == v4;
    let at: Vec<IpAddr> = match port.address {
        Some(address) if !of_family(&address) => Vec::new(),
        Some(address) if !address.is_unspecified() => {
            (address.is_loopback() || addresses.contains(&address)).then_some(address).into_iter().collect()
        }
        _ => addresses.iter().filter(|address| of_family(address)).copied().chain([loopback]).collect(),
    };
    let entry = |address: IpAddr, scope: Scope| DesiredFrontend {
        frontend: Frontend { address, port: port.port, protocol: port.protocol.number(), scope },
        kind: KIND_HOST_PORT,
        flags: 0,
        pool: 0,
    };
    at.into_iter()
        .flat_map(|address| {
            let outside = (!address.is_loopback()).then(|| entry(address, Scope::External));
            outside.into_iter().chain([entry(address, Scope::Internal)])
        })
        .collect()
}

/// The host ports as they are and as they shall be: which pods have to be planned again.
#[derive(Debug, Default)]
pub(crate) struct HostPorts {
    pods: HostPods,
    addresses: BTreeSet<IpAddr>,
    awaited: bool,
    // With what a pod had that is gone, or is another now.
    dirty: BTreeMap<Arc<str>, Option<(Owner, Vec<DesiredPort>)>>,
}

impl HostPorts {
    /// Nothing may be written before pods have been told.
    pub(crate) fn awaited() -> Self {
        Self { awaited: true, ..Self::default() }
    }

    /// Whether it is known which pods there are.
    pub(crate) fn is_complete(&self) -> bool {
        !self.awaited
    }

    /// Takes in all pods that there are.
    pub(crate) fn set_pods(&mut self, pods: HostPods) {
        self.awaited = false;
        let before = std::mem::replace(&mut self.pods, pods);
        for (name, pod) in before.iter().filter(|(name, pod)| self.pods.get(*name) != Some(*pod)) {
            let had = self.dirty.entry(name.clone()).or_default();
            // What it had first is what the tables may still hold.
            had.get_or_insert_with(|| (pod.owner.clone(), plan(pod, &self.addresses)));
        }
        for name in self.pods.keys().filter(|name| !before.contains_key(*name)) {
            self.dirty.entry(name.clone()).or_default();
        }
    }

    /// Takes in the node's addresses.
    pub(crate) fn set_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        if self.addresses != addresses {
            self.addresses = addresses;
            self.touch_all();
        }
    }

    /// Every pod is to be planned again.
    pub(crate) fn touch_all(&mut self) {
        for name in self.pods.keys() {
            self.dirty.entry(name.clone()).or_default();
        }
    }

    /// The owners to plan: what they shall have, and of those that are gone what they had.
    pub(crate) fn take_plans(&mut self) -> Vec<(Owner, Wanted)> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty
            .into_iter()
            .filter_map(|(name, before)| match self.pods.get(&name) {
                Some(pod) => Some((pod.owner.clone(), Wanted::There(plan(pod, &self.addresses)))),
                None => before.map(|(owner, ports)| (owner, Wanted::Gone(emptied(ports)))),
            })
            .collect()
    }

    /// That owner's plan did not fit: it is tried again.
    pub(crate) fn postpone(&mut self, name: Arc<str>) {
        self.dirty.entry(name).or_default();
    }
}

/// What a pod's host ports shall be.
#[derive(Debug, PartialEq)]
pub(crate) enum Wanted {
    /// These.
    There(Vec<DesiredPort>),
    /// None; these first, see [`emptied`].
    Gone(Vec<DesiredPort>),
}
