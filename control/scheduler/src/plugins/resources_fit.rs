//! A node must have what the pod asks for, beside what its pods have asked for already.

use super::{Candidate, Plugin, Reason};
use crate::nodes::{Nodes, Row};
use crate::queue::Event;

/// Requests against what nodes can allocate.
pub(super) struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self, candidate: &Candidate<'_>, nodes: &Nodes, row: Row) -> Result<(), Vec<Reason>> {
        let (wanted, has, used) = (&candidate.shape.requests, nodes.allocatable(row), nodes.requested(row));
        let lacks = |wanted: i64, has: i64, used: i64| wanted > 0 && wanted > has.saturating_sub(used);
        let mut reasons: Vec<Reason> = Vec::new();
        let (pods, most) = nodes.pod_count(row);
        if pods >= most {
            reasons.push("Too many pods".into());
        }
        if lacks(wanted.cpu, has.cpu, used.cpu) {
            reasons.push("Insufficient cpu".into());
        }
        if lacks(wanted.memory, has.memory, used.memory) {
            reasons.push("Insufficient memory".into());
        }
        if lacks(wanted.storage, has.storage, used.storage) {
            reasons.push("Insufficient ephemeral-storage".into());
        }
        for (name, amount) in &wanted.others {
            let of = |resources: &crate::shape::Resources| resources.others.get(name).copied().unwrap_or(0);
            if lacks(*amount, of(has), of(used)) {
                reasons.push(format!("Insufficient {name}").into());
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    fn helped_by(&self, event: Event) -> bool {
        matches!(event, Event::NodeAdded | Event::NodeCapacity | Event::PodGone)
    }
}
