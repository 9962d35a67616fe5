//! From one service and its slices to the frontends and endpoints that the tables shall hold. Pure.
//!
//! The rules are the Service API's and upstream kube-proxy's:
//!
//! | frontend | external scope (from the uplink) | internal scope (pods and processes here) |
//! |---|---|---|
//! | ClusterIP | - | `internalTrafficPolicy` decides: all endpoints, or those here |
//! | NodePort on each node address, external IP, load-balancer IP | `externalTrafficPolicy` decides | all endpoints |
//!
//! What comes from outside chooses by hash from a Maglev table, so that every node sends a connection to the same
//! endpoint; pods and processes here choose at random.
//!
//! Under a Local policy without an endpoint here, traffic is dropped if there are endpoints elsewhere (the balancer in
//! front is expected to notice), and rejected if there are none at all. Endpoints that exist but are not used are
//! handed on as draining.
//!
//! `loadBalancerSourceRanges` holds for the load balancer's addresses, whoever asks there, and for nothing else. A family
//! of which no range is listed is open, as with upstream's proxies.

use std::collections::BTreeSet;
use std::net::IpAddr;

use skep_abi::service::{
    FLAG_AFFINITY, FLAG_DIRECT, FLAG_DROP_WHEN_EMPTY, FLAG_HASHED, FLAG_SOURCE_RANGES, KIND_CLUSTER_IP,
    KIND_EXTERNAL_IP, KIND_LOAD_BALANCER, KIND_NODE_PORT,
};
use skep_maps::{
    DesiredFrontend, DesiredPool, DesiredPort, Endpoint, Frontend, Owner, Prefix, Scope, Spread,
};

use crate::endpoints::{Target, Targets, select};
use crate::model::{Protocol, Service, ServicePort, Slice};
use crate::node::ExternalReturn;

/// What the plan needs to know about this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Name of the Node object.
    pub name: String,
    /// Its zone (label `topology.kubernetes.io/zone`).
    pub zone: Option<String>,
    /// Addresses at which NodePorts answer traffic from outside and from here.
    pub node_port_addresses: Vec<IpAddr>,
    /// Addresses at which NodePorts answer this node's own processes only: loopback addresses.
    pub loopback_addresses: Vec<IpAddr>,
    /// How replies to clients outside travel.
    pub external_return: ExternalReturn,
}

/// Index of the pool of all endpoints.
const CLUSTER: usize = 0;
/// Index of the pool that traffic from outside draws from.
const OUTSIDE: usize = 1;
/// Index of the pool of the endpoints on this node, for the ClusterIP.
const LOCAL: usize = 2;

/// The owner under which the service's ports stand in the table.
pub fn owner(service: &Service) -> Owner {
    Owner { name: service.name.to_string().into(), created: service.created }
}

/// The service's ports in each of its address families.
pub fn plan<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a Slice> + Clone,
    node: &NodeView,
) -> Vec<DesiredPort> {
    let mut ports = Vec::new();
    for v4 in [true, false] {
        if !service.cluster_ips.iter().any(|address| address.is_ipv4() == v4) {
            continue;
        }
        for port in &service.ports {
            ports.push(plan_port(service, port, slices.clone(), node, v4));
        }
    }
    ports
}

fn plan_port<'a>(
    service: &Service,
    port: &ServicePort,
    slices: impl Iterator<Item = &'a Slice> + Clone,
    node: &NodeView,
    v4: bool,
) -> DesiredPort {
    let targets = select(port, slices.clone(), node, v4);
    let draining = draining(port, slices, &targets, v4);
    let outside = if service.external_local { &targets.local } else { &targets.cluster };
    let frontends = frontends(service, port, node, v4, !targets.cluster.is_empty());
    // A set that no frontend draws from would pin endpoints for nothing.
    let drawn = |index: usize| frontends.iter().any(|frontend| frontend.pool == index);
    let pools = vec![
        DesiredPool::each(endpoints(&targets.cluster)),
        DesiredPool {
            endpoints: if drawn(OUTSIDE) { endpoints(outside) } else { Vec::new() },
            spread: Spread::Maglev,
        },
        DesiredPool::each(if drawn(LOCAL) { endpoints(&targets.local) } else { Vec::new() }),
    ];
    let restricted = frontends.iter().any(|frontend| frontend.flags & FLAG_SOURCE_RANGES != 0);
    DesiredPort {
        name: format!("{}/{}/{}", port.name, port.protocol.name(), if v4 { "IPv4" } else { "IPv6" }).into(),
        affinity_seconds: service.affinity_seconds.unwrap_or(0),
        frontends,
        pools,
        source_ranges: if restricted { source_ranges(service, v4) } else { BTreeSet::new() },
        draining,
    }
}

/// The source ranges of one family.
fn source_ranges(service: &Service, v4: bool) -> BTreeSet<Prefix> {
    service.source_ranges.iter().copied().filter(|range| range.is_ipv4() == v4).collect()
}

fn endpoints(targets: &[Target]) -> Vec<Endpoint> {
    targets.iter().map(|t| Endpoint { address: t.address, port: t.port, local: t.local }).collect()
}

/// Endpoints of the port that exist and are in no pool.
fn draining<'a>(
    port: &ServicePort,
    slices: impl Iterator<Item = &'a Slice>,
    targets: &Targets,
    v4: bool,
) -> Vec<(IpAddr, u16)> {
    let used: BTreeSet<(IpAddr, u16)> =
        targets.cluster.iter().chain(&targets.local).map(|target| (target.address, target.port)).collect();
    let mut found = BTreeSet::new();
    for slice in slices {
        let Some(number) = slice.port(port) else { continue };
        found.extend(slice.endpoints.iter().map(|endpoint| (endpoint.address, number)));
    }
    found.into_iter().filter(|key| key.0.is_ipv4() == v4 && !used.contains(key)).collect()
}

fn frontends(
    service: &Service,
    port: &ServicePort,
    node: &NodeView,
    v4: bool,
    any_endpoint: bool,
) -> Vec<DesiredFrontend> {
    let ranges = if source_ranges(service, v4).is_empty() { 0 } else { FLAG_SOURCE_RANGES };
    let affinity = if service.affinity_seconds.is_some() { FLAG_AFFINITY } else { 0 };
    let mut made: Vec<DesiredFrontend> = Vec::new();
    let mut add = |address: &IpAddr, number: u16, scope: Scope, kind: u8, local: bool| {
        let frontend = Frontend { address: *address, port: number, protocol: port.protocol.number(), scope };
        // An address may be listed as several kinds (a load balancer's as an external IP): the first one counts.
        if address.is_ipv4() == v4 && !made.iter().any(|known| known.frontend == frontend) {
            let drop = if local && any_endpoint { FLAG_DROP_WHEN_EMPTY } else { 0 };
            let (pool, hashed) = match (scope, local) {
                (Scope::External, _) => (OUTSIDE, FLAG_HASHED),
                (Scope::Internal, true) => (LOCAL, 0),
                (Scope::Internal, false) => (CLUSTER, 0),
            };
            let ranges = if kind == KIND_LOAD_BALANCER { ranges } else { 0 };
            let outside = scope == Scope::External && !local && port.protocol != Protocol::Sctp;
            let direct =
                if outside && node.external_return == ExternalReturn::Direct { FLAG_DIRECT } else { 0 };
            let flags = affinity | drop | hashed | ranges | direct;
            made.push(DesiredFrontend { frontend, kind, flags, pool });
        }
    };
    for address in &service.cluster_ips {
        add(address, port.port, Scope::Internal, KIND_CLUSTER_IP, service.internal_local);
    }
    let mut public = |addresses: &[IpAddr], number: u16, kind: u8| {
        for address in addresses {
            add(address, number, Scope::External, kind, service.external_local);
            add(address, number, Scope::Internal, kind, false);
        }
    };
    public(&service.load_balancer_ips, port.port, KIND_LOAD_BALANCER);
    public(&service.external_ips, port.port, KIND_EXTERNAL_IP);
    if let Some(number) = port.node_port {
        public(&node.node_port_addresses, number, KIND_NODE_PORT);
        for address in &node.loopback_addresses {
            add(address, number, Scope::Internal, KIND_NODE_PORT, false);
        }
    }
    made
}
