//! This node: what the agent was told about it, what its Node object says, and the view that the plan needs.
//!
//! Owns the reading of the Node object. Pure; [`crate::run`] watches it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::runtime::watcher::Event;

use crate::host_ports::host_addresses;
use crate::plan::NodeView;

/// The zone of a node.
const LABEL_ZONE: &str = "topology.kubernetes.io/zone";

/// An autoscaler puts it on a node before it removes the machine.
const TAINT_LEAVING: &str = "ToBeDeletedByClusterAutoscaler";

/// What the agent was told about its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSettings {
    /// Name of the Node object.
    pub name: String,
    /// Its addresses towards the others.
    pub addresses: Vec<IpAddr>,
    /// Where NodePorts answer.
    pub node_ports: NodePortAddresses,
    /// Addresses of the machine that are the agent's own to answer at: host ports do not.
    pub reserved: Vec<IpAddr>,
    /// How replies to clients outside travel.
    pub external_return: ExternalReturn,
}

/// How replies go back to clients outside from backends on other nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExternalReturn {
    /// By the node that took the packet, which puts its own address in place of the client's.
    #[default]
    SourceTranslation,
    /// Straight from the backend's node, which sees the client's address. All nodes must agree, and the network must carry
    /// packets from nodes with clients' and services' addresses as their sources.
    Direct,
}

/// Where NodePorts answer (kube-proxy's `--nodeport-addresses`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// At the node's addresses, and at loopback addresses for its own processes.
    #[default]
    Primary,
    /// At those of the machine's addresses that lie in one of these ranges: address and length of the prefix.
    Within(Vec<(IpAddr, u8)>),
}

impl NodePortAddresses {
    /// Reads `primary` or ranges such as `192.0.2.0/24`; nothing is `primary`.
    ///
    /// # Errors
    /// What is wrong with the first that is neither.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        match texts {
            [] => Ok(Self::Primary),
            [one] if one == "primary" => Ok(Self::Primary),
            _ => texts.iter().map(|text| range(text)).collect::<Result<_, _>>().map(Self::Within),
        }
    }

    /// The addresses, of the node's own and of all those that the machine has.
    fn resolve(&self, node: &[IpAddr], machine: &[IpAddr]) -> (Vec<IpAddr>, Vec<IpAddr>) {
        match self {
            Self::Primary => (node.to_vec(), vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]),
            Self::Within(ranges) => {
                let mut found: Vec<IpAddr> = machine
                    .iter()
                    .copied()
                    .filter(|address| ranges.iter().any(|range| contains(range, address)))
                    .collect();
                found.sort_unstable();
                found.dedup();
                let (loopback, outside) = found.into_iter().partition(IpAddr::is_loopback);
                (outside, loopback)
            }
        }
    }
}

fn range(text: &str) -> Result<(IpAddr, u8), String> {
    let wrong = || format!("`{text}` is neither `primary` alone nor a range such as 192.0.2.0/24");
    let (address, length) = text.split_once('/').ok_or_else(wrong)?;
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let length: u8 = length.parse().map_err(|_| wrong())?;
    if length > if address.is_ipv4() { 32 } else { 128 } {
        return Err(wrong());
    }
    Ok((address, length))
}

fn contains((range, length): &(IpAddr, u8), address: &IpAddr) -> bool {
    let differ = match (range, address) {
        (IpAddr::V4(range), IpAddr::V4(address)) => u128::from(range.to_bits() ^ address.to_bits()) << 96,
        (IpAddr::V6(range), IpAddr::V6(address)) => range.to_bits() ^ address.to_bits(),
        _ => return false,
    };
    differ.leading_zeros() >= u32::from(*length)
}

/// What is known about this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThisNode {
    settings: NodeSettings,
    listed: bool,
    zone: Option<String>,
    leaving: bool,
    machine: Vec<IpAddr>,
}

impl ThisNode {
    /// A node whose object has not been seen.
    pub fn new(settings: NodeSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// True once it is known what the API has about it, if anything.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Takes in an event of the watch of its object. A Node object that goes leaves its last state.
    pub fn on_event(&mut self, event: Event<Node>) {
        match event {
            Event::Apply(node) | Event::InitApply(node) => self.read(&node),
            Event::InitDone => self.listed = true,
            Event::Init | Event::Delete(_) => {}
        }
    }

    /// Takes in all addresses that the machine has.
    pub fn set_machine_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.machine = addresses;
    }

    /// It is being deleted, or an autoscaler is about to: balancers should turn away (KEP-3836).
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    fn read(&mut self, node: &Node) {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        self.leaving = node.metadata.deletion_timestamp.is_some()
            || taints.iter().any(|taint| taint.key == TAINT_LEAVING);
        self.zone = node.labels().get(LABEL_ZONE).filter(|zone| !zone.is_empty()).cloned();
    }

    /// Where host ports answer, apart from loopback addresses.
    pub fn host_addresses(&self) -> BTreeSet<IpAddr> {
        host_addresses(&self.settings.addresses, &self.machine, &self.settings.reserved)
    }

    /// What the plan needs.
    pub fn view(&self) -> NodeView {
        let (outside, loopback) = self.settings.node_ports.resolve(&self.settings.addresses, &self.machine);
        NodeView {
            name: self.settings.name.clone(),
            zone: self.zone.clone(),
            node_port_addresses: outside,
            loopback_addresses: loopback,
            external_return: self.settings.external_return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn parse(texts: &[&str]) -> Result<NodePortAddresses, String> {
        NodePortAddresses::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn node_port_addresses_ranges_pick_from_the_machines_addresses() {
        let node = addresses(&["192.0.2.1"]);
        let machine = addresses(&["127.0.0.1", "::1", "192.0.2.1", "198.51.100.7", "2001:db8::7", "fe80::1"]);
        let check = |ranges: &[&str], outside: &[&str], loopback: &[&str]| {
            let found = parse(ranges).unwrap().resolve(&node, &machine);
            assert_eq!(found, (addresses(outside), addresses(loopback)), "{ranges:?}");
        };
        check(&[], &["192.0.2.1"], &["127.0.0.1", "::1"]);
        check(&["primary"], &["192.0.2.1"], &["127.0.0.1", "::1"]);
        check(&["198.51.100.0/24", "2001:db8::/32"], &["198.51.100.7", "2001:db8::7"], &[]);
        check(&["0.0.0.0/0"], &["192.0.2.1", "198.51.100.7"], &["127.0.0.1"]);
        check(&["203.0.113.0/24"], &[], &[]);
        check(&["192.0.2.1/32"], &["192.0.2.1"], &[]);
    }

    #[test]
    fn node_port_addresses_nonsense_says_what_is_wrong() {
        for texts in
            [&["x"] as &[&str], &["primary", "10.0.0.0/8"], &["10.0.0.0/33"], &["10.0.0.0"], &["::/129"]]
        {
            assert!(parse(texts).unwrap_err().contains("neither"), "{texts:?}");
        }
    }

    #[test]
    fn node_object_gives_zone_and_whether_it_is_leaving() {
        let mut node = ThisNode::new(NodeSettings::default());
        let mut see = |object: serde_json::Value| {
            node.on_event(Event::Apply(serde_json::from_value(object).unwrap()));
            (node.view().zone, node.is_leaving())
        };
        let labels = json!({ LABEL_ZONE: "east" });
        assert_eq!(see(json!({ "metadata": { "labels": labels } })), (Some("east".into()), false));
        let taints = json!([{ "key": TAINT_LEAVING, "effect": "NoSchedule" }]);
        assert_eq!(see(json!({ "metadata": {}, "spec": { "taints": taints } })), (None, true));
        assert_eq!(see(json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } })), (None, true));
    }
}
