//! Two pods cannot take the same port of a node.

use super::{Candidate, Plugin, Reason};
use crate::nodes::{Nodes, Row};
use crate::queue::Event;

/// `hostPort` of containers.
pub(super) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, candidate: &Candidate<'_>, nodes: &Nodes, row: Row) -> Result<(), Vec<Reason>> {
        let taken = nodes.ports(row);
        if candidate.shape.ports.iter().any(|port| taken.iter().any(|other| port.clashes(other))) {
            return Err(vec!["node(s) didn't have free ports for the requested pod ports".into()]);
        }
        Ok(())
    }

    fn helped_by(&self, event: Event) -> bool {
        matches!(event, Event::NodeAdded | Event::PodGone)
    }
}
