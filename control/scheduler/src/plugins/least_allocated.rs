//! Rather the node with more left: the mean of the free shares of processor and memory.

use super::{Candidate, Plugin};
use crate::nodes::{Nodes, Row};

/// Load as it would be with the pod; pods that ask for nothing count as usual ones.
pub(super) struct LeastAllocated;

impl Plugin for LeastAllocated {
    fn name(&self) -> &'static str {
        "LeastAllocated"
    }

    fn weight(&self) -> i64 {
        1
    }

    fn score(&self, candidate: &Candidate<'_>, nodes: &Nodes, row: Row) -> i64 {
        let (has, (cpu, memory)) = (nodes.allocatable(row), nodes.usual_load(row));
        let free =
            |has: i64, used: i64| if has <= 0 { 0 } else { (has - used).max(0).saturating_mul(100) / has };
        let cpu = free(has.cpu, cpu.saturating_add(candidate.shape.usual_cpu));
        let memory = free(has.memory, memory.saturating_add(candidate.shape.usual_memory));
        (cpu + memory) / 2
    }
}
