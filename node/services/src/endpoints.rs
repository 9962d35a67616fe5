//! Which endpoints of a service port take traffic: readiness, the fall-back to terminating endpoints, hints about
//! nodes and zones, and the node-local subset. Pure.
//!
//! The rules are upstream's (`pkg/proxy/topology.go`, KEP-1669, KEP-2433, KEP-3015):
//!
//! - Policy Cluster: the ready endpoints that are near; when there is none, those that still serve while they terminate,
//!   wherever they are.
//! - Near means: hinted for this node, if every ready endpoint has a hint about nodes and one of them is for this node;
//!   otherwise hinted for this node's zone under the same condition; otherwise every endpoint. The decision is made
//!   before anything is left out, so that hints never lead to no endpoint.
//! - Policy Local: ready endpoints of this node, or else those that serve while they terminate here, although other
//!   nodes have ready ones. Hints do not count.
//!
//! This module does not know about addresses of services or map entries.

use std::net::IpAddr;

use crate::model::{Endpoint, ServicePort, Slice};
use crate::plan::NodeView;

/// One usable endpoint, resolved for one service port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its address.
    pub address: IpAddr,
    /// Port on it, host byte order.
    pub port: u16,
    /// It runs on this node.
    pub local: bool,
    /// It is shutting down and used only because nothing better is there.
    pub terminating: bool,
}

/// The endpoints of one service port in one address family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// For traffic policy Cluster.
    pub cluster: Vec<Target>,
    /// For traffic policy Local: the ones on this node.
    pub local: Vec<Target>,
}

/// Which ready endpoints are near enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Near<'a> {
    /// All of them.
    Everywhere,
    /// Those hinted for this node.
    Node(&'a str),
    /// Those hinted for this zone.
    Zone(&'a str),
}

impl Near<'_> {
    fn takes(self, endpoint: &Endpoint) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Node(name) => endpoint.for_nodes().iter().any(|hint| hint == name),
            Self::Zone(name) => endpoint.for_zones().iter().any(|hint| hint == name),
        }
    }
}

/// What the hints of the ready endpoints say to this node.
fn near<'a, 'b>(ready: impl Iterator<Item = &'b Endpoint>, node: &'a NodeView) -> Near<'a> {
    let by_node = Near::Node(&node.name);
    let by_zone = node.zone.as_deref().map(Near::Zone);
    let (mut all_nodes, mut all_zones) = (true, by_zone.is_some());
    let (mut for_node, mut for_zone) = (false, false);
    for endpoint in ready {
        all_nodes &= !endpoint.for_nodes().is_empty();
        all_zones &= !endpoint.for_zones().is_empty();
        for_node |= by_node.takes(endpoint);
        for_zone |= by_zone.is_some_and(|zone| zone.takes(endpoint));
    }
    match by_zone {
        _ if all_nodes && for_node => by_node,
        Some(zone) if all_zones && for_zone => zone,
        _ => Near::Everywhere,
    }
}

/// The endpoints that `port` uses among `slices`, seen from `node`, in the family that `v4` names. Sorted by
/// address and port and free of duplicates, so that the same endpoints give the same table whatever the order
/// in which slices were seen.
pub fn select<'a>(
    port: &ServicePort,
    slices: impl Iterator<Item = &'a Slice>,
    node: &NodeView,
    v4: bool,
) -> Targets {
    let mut ready: Vec<(&Endpoint, u16)> = Vec::new();
    let mut draining = Vec::new();
    for slice in slices {
        let Some(number) = slice.port(port) else { continue };
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.address.is_ipv4() == v4) {
            if endpoint.ready {
                ready.push((endpoint, number));
            } else if endpoint.serving && endpoint.terminating {
                draining.push(target(endpoint, number, &node.name, true));
            }
        }
    }
    let near = near(ready.iter().map(|(endpoint, _)| *endpoint), node);
    let targets = |wanted: &dyn Fn(&Endpoint) -> bool| -> Vec<Target> {
        let chosen = ready.iter().filter(|(endpoint, _)| wanted(endpoint));
        chosen.map(|(endpoint, number)| target(endpoint, *number, &node.name, false)).collect()
    };
    Targets {
        cluster: prefer(targets(&|endpoint| near.takes(endpoint)), &draining, |_| true),
        local: prefer(targets(&|endpoint| is_on(endpoint, &node.name)), &draining, |t| t.local),
    }
}

fn is_on(endpoint: &Endpoint, node: &str) -> bool {
    endpoint.node.as_deref() == Some(node)
}

fn target(endpoint: &Endpoint, port: u16, node: &str, terminating: bool) -> Target {
    Target { address: endpoint.address, port, local: is_on(endpoint, node), terminating }
}

/// The targets of `first`, or, when there is none, those of `second` that `wanted` lets through. An endpoint may stand
/// in two slices while it moves between them, perhaps with different conditions: it counts once.
fn prefer(first: Vec<Target>, second: &[Target], wanted: impl Fn(&Target) -> bool) -> Vec<Target> {
    let mut picked =
        if first.is_empty() { second.iter().filter(|t| wanted(t)).cloned().collect() } else { first };
    picked.sort_unstable();
    picked.dedup_by(|a, b| (a.address, a.port) == (b.address, b.port));
    picked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Hints, Protocol, ServiceName, SlicePort};

    fn endpoint(address: &str, state: &str, node: &str) -> Endpoint {
        let (ready, serving, terminating) = match state {
            "ready" => (true, true, false),
            "unready" => (false, false, false),
            "draining" => (false, true, true),
            "dead" => (false, false, true),
            other => panic!("unknown state {other}"),
        };
        Endpoint {
            address: address.parse().unwrap(),
            ready,
            serving,
            terminating,
            node: Some(node.into()),
            hints: None,
        }
    }

    /// An endpoint with hints "node zone", each of which may be "-".
    fn hinted(address: &str, state: &str, hints: &str) -> Endpoint {
        let mut endpoint = endpoint(address, state, "n2");
        let (node, zone) = hints.split_once(' ').unwrap();
        let hint = |name: &str| if name == "-" { vec![] } else { vec![name.to_owned()] };
        endpoint.hints = Some(Box::new(Hints { nodes: hint(node), zones: hint(zone) }));
        endpoint
    }

    /// This node: n1 in zone z1.
    fn node() -> NodeView {
        NodeView { name: "n1".into(), zone: Some("z1".into()), ..NodeView::default() }
    }

    /// Selects from one slice and gives "address local terminating" for each policy.
    fn check(endpoints: Vec<Endpoint>, cluster: &[&str], local: &[&str]) {
        let slice = Slice {
            service: ServiceName::new("default", "web"),
            name: "web-1".into(),
            ports: vec![SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 }],
            endpoints,
        };
        let port = ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
        let found = select(&port, [&slice, &slice].into_iter(), &node(), true);
        let show = |targets: &[Target]| -> Vec<String> {
            targets
                .iter()
                .map(|t| {
                    assert_eq!(t.port, 8080);
                    format!(
                        "{}{}{}",
                        t.address,
                        if t.local { " local" } else { "" },
                        if t.terminating { " terminating" } else { "" }
                    )
                })
                .collect()
        };
        assert_eq!(show(&found.cluster), cluster);
        assert_eq!(show(&found.local), local);
    }

    #[test]
    fn endpoints_ready_and_not_only_ready_count_once() {
        check(
            vec![
                endpoint("10.0.0.2", "ready", "n2"),
                endpoint("10.0.0.1", "ready", "n1"),
                endpoint("10.0.0.3", "unready", "n1"),
                endpoint("10.0.0.4", "draining", "n1"),
                endpoint("fd00::1", "ready", "n1"),
            ],
            &["10.0.0.1 local", "10.0.0.2"],
            &["10.0.0.1 local"],
        );
    }

    #[test]
    fn endpoints_all_terminating_serving_ones_count() {
        check(
            vec![
                endpoint("10.0.0.1", "draining", "n1"),
                endpoint("10.0.0.2", "dead", "n1"),
                endpoint("10.0.0.3", "draining", "n2"),
            ],
            &["10.0.0.1 local terminating", "10.0.0.3 terminating"],
            &["10.0.0.1 local terminating"],
        );
    }

    #[test]
    fn endpoints_local_terminating_others_ready_each_policy_decides_alone() {
        check(
            vec![endpoint("10.0.0.1", "draining", "n1"), endpoint("10.0.0.3", "ready", "n2")],
            &["10.0.0.3"],
            &["10.0.0.1 local terminating"],
        );
    }

    #[test]
    fn hints_for_this_node_win_over_those_for_its_zone() {
        check(
            vec![
                hinted("10.0.0.1", "ready", "n1 z1"),
                hinted("10.0.0.2", "ready", "n2 z1"),
                hinted("10.0.0.3", "ready", "n3 z2"),
            ],
            &["10.0.0.1"],
            &[],
        );
    }

    #[test]
    fn hints_none_for_this_node_the_zone_decides() {
        check(
            vec![
                hinted("10.0.0.2", "ready", "n2 z1"),
                hinted("10.0.0.3", "ready", "n3 z2"),
                hinted("10.0.0.4", "unready", "n1 z1"),
            ],
            &["10.0.0.2"],
            &[],
        );
    }

    #[test]
    fn hints_missing_on_one_ready_endpoint_or_for_other_zones_are_ignored() {
        check(
            vec![hinted("10.0.0.1", "ready", "- z1"), hinted("10.0.0.2", "ready", "- -")],
            &["10.0.0.1", "10.0.0.2"],
            &[],
        );
        check(
            vec![hinted("10.0.0.1", "ready", "n1 z1"), hinted("10.0.0.2", "ready", "- z2")],
            &["10.0.0.1"],
            &[],
        );
        check(
            vec![hinted("10.0.0.1", "ready", "n2 z2"), hinted("10.0.0.2", "ready", "n3 z3")],
            &["10.0.0.1", "10.0.0.2"],
            &[],
        );
    }

    #[test]
    fn hints_do_not_count_for_terminating_endpoints_nor_for_the_local_policy() {
        check(
            vec![hinted("10.0.0.1", "draining", "n1 z1"), hinted("10.0.0.2", "draining", "n2 z2")],
            &["10.0.0.1 terminating", "10.0.0.2 terminating"],
            &[],
        );
        let mut here = hinted("10.0.0.1", "ready", "n2 z2");
        here.node = Some("n1".into());
        check(vec![here, hinted("10.0.0.2", "ready", "n1 z1")], &["10.0.0.2"], &["10.0.0.1 local"]);
    }

    #[test]
    fn hints_about_zones_on_a_node_without_a_zone_are_ignored() {
        let node = NodeView { zone: None, ..node() };
        let ready = [hinted("10.0.0.1", "ready", "- z1"), hinted("10.0.0.2", "ready", "- z2")];
        assert_eq!(near(ready.iter(), &node), Near::Everywhere);
    }

    #[test]
    fn endpoints_none_usable_gives_nothing() {
        check(vec![endpoint("10.0.0.1", "unready", "n1"), endpoint("10.0.0.2", "dead", "n2")], &[], &[]);
    }

    #[test]
    fn endpoints_slice_without_the_port_is_skipped() {
        let slice = Slice {
            service: ServiceName::new("default", "web"),
            name: "web-1".into(),
            ports: vec![SlicePort { name: "http".into(), protocol: Protocol::Udp, port: 8080 }],
            endpoints: vec![endpoint("10.0.0.1", "ready", "n1")],
        };
        let port = ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
        assert_eq!(select(&port, [&slice].into_iter(), &node(), true), Targets::default());
    }
}
