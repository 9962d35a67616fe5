//! A pod that names its node goes there or nowhere.

use super::{Candidate, Plugin, Reason};
use crate::nodes::{Nodes, Row};
use crate::queue::Event;

/// `spec.nodeName` of pods.
pub(super) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter(&self, candidate: &Candidate<'_>, nodes: &Nodes, row: Row) -> Result<(), Vec<Reason>> {
        match candidate.spec.node_name.as_deref() {
            None | Some("") => Ok(()),
            Some(name) if name == nodes.name(row) => Ok(()),
            Some(_) => Err(vec!["node(s) didn't match the requested node name".into()]),
        }
    }

    fn helped_by(&self, event: Event) -> bool {
        event == Event::NodeAdded
    }
}
