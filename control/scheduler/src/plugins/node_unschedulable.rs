//! Cordoned nodes take only pods that tolerate it.

use super::taint_toleration::tolerates;
use super::{Candidate, Plugin, Reason};
use crate::nodes::{Nodes, Row};
use crate::queue::Event;

/// `spec.unschedulable` of nodes.
pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter(&self, candidate: &Candidate<'_>, nodes: &Nodes, row: Row) -> Result<(), Vec<Reason>> {
        let tolerated = || {
            let tolerations = candidate.spec.tolerations.as_deref().unwrap_or_default();
            tolerations.iter().any(|t| tolerates(t, "node.kubernetes.io/unschedulable", "", "NoSchedule"))
        };
        if nodes.is_unschedulable(row) && !tolerated() {
            return Err(vec!["node(s) were unschedulable".into()]);
        }
        Ok(())
    }

    fn helped_by(&self, event: Event) -> bool {
        matches!(event, Event::NodeAdded | Event::NodeTaints)
    }
}
