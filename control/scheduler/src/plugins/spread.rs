//! Pods of one controller go to different nodes where possible.

use super::{Candidate, Plugin, Scale};
use crate::nodes::{Nodes, Row};

/// How many pods of the same controller a node has.
pub(super) struct Spread;

impl Plugin for Spread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn weight(&self) -> i64 {
        2
    }

    fn scale(&self) -> Scale {
        Scale::LessIsBetter
    }

    fn score(&self, candidate: &Candidate<'_>, nodes: &Nodes, row: Row) -> i64 {
        candidate.shape.group.as_ref().map_or(0, |group| i64::from(nodes.group_size(row, group)))
    }
}
