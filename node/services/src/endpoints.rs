//! Which endpoints of a service port take traffic: readiness, the fall-back to terminating endpoints, and the
//! node-local subset. Pure.
//!
//! The rules are upstream's (`pkg/proxy/topology.go`, KEP-1669): ready endpoints are used; when there is none,
//! those that still serve while they terminate. Under a Local traffic policy the same two steps run over the
//! endpoints of this node only, so that a node with nothing but terminating endpoints keeps serving although
//! other nodes have ready ones. This module does not know about addresses of services or map entries.

use std::net::IpAddr;

use crate::model::{Endpoint, ServicePort, Slice};

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

/// The endpoints that `port` uses among `slices`, seen from `node`, in the family that `v4` names. Sorted by
/// address and port and free of duplicates, so that the same endpoints give the same table whatever the order
/// in which slices were seen.
pub fn select<'a>(
    port: &ServicePort,
    slices: impl Iterator<Item = &'a Slice>,
    node: &str,
    v4: bool,
) -> Targets {
    let mut ready = Vec::new();
    let mut draining = Vec::new();
    for slice in slices {
        let Some(number) = slice.port(port) else { continue };
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.address.is_ipv4() == v4) {
            if endpoint.ready {
                ready.push(target(endpoint, number, node, false));
            } else if endpoint.serving && endpoint.terminating {
                draining.push(target(endpoint, number, node, true));
            }
        }
    }
    Targets { cluster: prefer(&ready, &draining, |_| true), local: prefer(&ready, &draining, |t| t.local) }
}

fn target(endpoint: &Endpoint, port: u16, node: &str, terminating: bool) -> Target {
    Target { address: endpoint.address, port, local: endpoint.node.as_deref() == Some(node), terminating }
}

/// The endpoints of `first` that `wanted` lets through, or, when there is none, those of `second`. An endpoint
/// may stand in two slices while it moves between them, perhaps with different conditions: it counts once.
fn prefer(first: &[Target], second: &[Target], wanted: impl Fn(&Target) -> bool) -> Vec<Target> {
    let pick = |from: &[Target]| {
        let mut picked: Vec<Target> = from.iter().filter(|target| wanted(target)).cloned().collect();
        picked.sort_unstable();
        picked.dedup_by(|a, b| (a.address, a.port) == (b.address, b.port));
        picked
    };
    let picked = pick(first);
    if picked.is_empty() { pick(second) } else { picked }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Protocol, ServiceName, SlicePort};

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
            node: Some(node.to_owned()),
        }
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
        let found = select(&port, [&slice, &slice].into_iter(), "n1", true);
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
        assert_eq!(select(&port, [&slice].into_iter(), "n1", true), Targets::default());
    }
}
