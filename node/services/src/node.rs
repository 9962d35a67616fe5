//! This node: what the agent was told about it, what its Node object says, and the view that the plan needs.
//!
//! Owns the reading of the Node object. Pure; [`crate::run`] watches it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::runtime::watcher::Event;

use crate::plan::NodeView;

/// The zone of a node.
const LABEL_ZONE: &str = "topology.kubernetes.io/zone";

/// What the agent was told about its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSettings {
    /// Name of the Node object.
    pub name: String,
    /// Addresses at which NodePorts answer.
    pub addresses: Vec<IpAddr>,
}

/// What is known about this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThisNode {
    settings: NodeSettings,
    listed: bool,
    zone: Option<String>,
}

impl ThisNode {
    /// A node whose object has not been seen.
    pub fn new(settings: NodeSettings) -> Self {
        Self { settings, listed: false, zone: None }
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

    fn read(&mut self, node: &Node) {
        self.zone = node.labels().get(LABEL_ZONE).filter(|zone| !zone.is_empty()).cloned();
    }

    /// What the plan needs.
    pub fn view(&self) -> NodeView {
        NodeView {
            name: self.settings.name.clone(),
            zone: self.zone.clone(),
            node_port_addresses: self.settings.addresses.clone(),
            loopback_addresses: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        }
    }
}
