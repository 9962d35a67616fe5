//! Native routes to the pods of other nodes: Node objects in, a plan, routes in the kernel.
//!
//! Only routes with [`crate::links::ROUTE_PROTOCOL`] and a gateway are ours; others are never touched.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Node;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::error::NetworkError;
use crate::links::ROUTE_PROTOCOL;
use crate::range::Range;

/// What a node says about its pods' addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeNetwork {
    /// Its ranges of pod addresses, at most one of each family.
    pub ranges: Vec<Range>,
    /// Its own addresses (`InternalIP`).
    pub addresses: Vec<IpAddr>,
}

impl NodeNetwork {
    /// Reads a Node object. Ranges and addresses that are none are left out.
    pub fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let mut ranges: Vec<Range> = spec
            .and_then(|spec| spec.pod_cidrs.as_ref())
            .into_iter()
            .flatten()
            .filter_map(|text| Range::parse(text).ok())
            .collect();
        if ranges.is_empty() {
            ranges.extend(
                spec.and_then(|spec| spec.pod_cidr.as_deref()).and_then(|text| Range::parse(text).ok()),
            );
        }
        let addresses = node
            .status
            .iter()
            .flat_map(|status| status.addresses.iter().flatten())
            .filter(|address| address.type_ == "InternalIP")
            .filter_map(|address| address.address.parse().ok())
            .collect();
        Self { ranges, addresses }
    }
}

/// Routes by their destination: the gateway.
pub type Routes = BTreeMap<Range, IpAddr>;

/// One change of the routing table, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Add or replace.
    Set(Range, IpAddr, &'static str),
    /// Remove.
    Remove(Range, IpAddr, &'static str),
}

/// The routes that should be there: each range of every other node through that node's address of the same family.
pub fn desired<'a>(nodes: impl IntoIterator<Item = (&'a String, &'a NodeNetwork)>, own: &str) -> Routes {
    let mut routes = Routes::new();
    for (_, node) in nodes.into_iter().filter(|(name, _)| *name != own) {
        for range in &node.ranges {
            let gateway = node.addresses.iter().find(|address| address.is_ipv4() == range.base().is_ipv4());
            if let Some(gateway) = gateway {
                routes.insert(*range, *gateway);
            }
        }
    }
    routes
}

/// What leads from the routes that are there to those that should be.
pub fn plan(present: &Routes, desired: &Routes) -> Vec<Action> {
    let mut actions = Vec::new();
    for (range, gateway) in present {
        if !desired.contains_key(range) {
            actions.push(Action::Remove(*range, *gateway, "no node has this range"));
        }
    }
    for (range, gateway) in desired {
        match present.get(range) {
            None => actions.push(Action::Set(*range, *gateway, "a node has this range")),
            Some(old) if old != gateway => {
                actions.push(Action::Set(*range, *gateway, "the node's address changed"))
            }
            Some(_) => {}
        }
    }
    actions
}

/// Our routes in the kernel.
pub(crate) async fn present(handle: &Handle) -> Result<Routes, NetworkError> {
    let mut routes = Routes::new();
    for v4 in [true, false] {
        let family = if v4 {
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build()
        } else {
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build()
        };
        let messages: Vec<RouteMessage> = handle
            .route()
            .get(family)
            .execute()
            .try_collect()
            .await
            .map_err(NetworkError::netlink("list routes"))?;
        routes.extend(
            messages.iter().filter(|message| message.header.protocol == ROUTE_PROTOCOL).filter_map(ours),
        );
    }
    Ok(routes)
}

fn ours(message: &RouteMessage) -> Option<(Range, IpAddr)> {
    let address = |address: &RouteAddress| match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    };
    let (mut destination, mut gateway) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(found) => destination = address(found),
            RouteAttribute::Gateway(found) => gateway = address(found),
            _ => {}
        }
    }
    let range = format!("{}/{}", destination?, message.header.destination_prefix_length);
    Some((Range::parse(&range).ok()?, gateway?))
}

/// Carries out one action.
pub(crate) async fn apply(handle: &Handle, action: &Action) -> Result<(), NetworkError> {
    let (Action::Set(range, gateway, reason) | Action::Remove(range, gateway, reason)) = action;
    let operation = format!("route {range} through {gateway}");
    let wrong = || NetworkError::BadRequest { field: "route", problem: operation.clone() };
    let message = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(range.base(), range.prefix())
        .and_then(|message| message.gateway(*gateway))
        .map_err(|_| wrong())?
        .protocol(ROUTE_PROTOCOL)
        .build();
    tracing::info!(%range, %gateway, reason, "changing a route to pods");
    match action {
        Action::Set(..) => handle.route().add(message).replace().execute().await,
        Action::Remove(..) => handle.route().del(message).execute().await,
    }
    .map_err(NetworkError::netlink(operation))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(ranges: &[&str], addresses: &[&str]) -> NodeNetwork {
        NodeNetwork {
            ranges: ranges.iter().map(|range| Range::parse(range).unwrap()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }

    fn routes(pairs: &[(&str, &str)]) -> Routes {
        pairs
            .iter()
            .map(|(range, gateway)| (Range::parse(range).unwrap(), gateway.parse().unwrap()))
            .collect()
    }

    #[test]
    fn desired_leaves_own_node_out_and_pairs_families() {
        let nodes = BTreeMap::from([
            ("n1".to_owned(), network(&["10.244.1.0/24"], &["172.30.0.11"])),
            ("n2".to_owned(), network(&["10.244.2.0/24", "fd44:0:0:2::/64"], &["172.30.0.12", "fd30::12"])),
            ("n3".to_owned(), network(&["fd44:0:0:3::/64"], &["172.30.0.13"])),
        ]);
        let expected = routes(&[("10.244.2.0/24", "172.30.0.12"), ("fd44:0:0:2::/64", "fd30::12")]);
        assert_eq!(desired(&nodes, "n1"), expected);
    }

    #[test]
    fn plan_touches_only_what_differs() {
        let present = routes(&[("10.244.1.0/24", "172.30.0.11"), ("10.244.2.0/24", "172.30.0.12")]);
        let desired = routes(&[("10.244.2.0/24", "172.30.0.22"), ("10.244.3.0/24", "172.30.0.13")]);
        let actions: Vec<String> = plan(&present, &desired)
            .iter()
            .map(|action| match action {
                Action::Set(range, gateway, _) => format!("set {range} {gateway}"),
                Action::Remove(range, gateway, _) => format!("remove {range} {gateway}"),
            })
            .collect();
        assert_eq!(
            actions,
            [
                "remove 10.244.1.0/24 172.30.0.11",
                "set 10.244.2.0/24 172.30.0.22",
                "set 10.244.3.0/24 172.30.0.13"
            ]
        );
        assert_eq!(plan(&desired, &desired), []);
    }
}
