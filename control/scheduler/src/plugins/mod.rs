//! The rules by which nodes are refused and compared, one file each.
//!
//! Names, reasons and weights are upstream's: people search for them, and profiles name them.

mod least_allocated;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_unschedulable;
mod resources_fit;
mod spread;
mod taint_toleration;

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::nodes::{Nodes, Row};
use crate::queue::Event;
use crate::shape::Shape;

/// The pod that a node is sought for.
pub struct Candidate<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Its spec.
    pub spec: &'a PodSpec,
    /// What it takes up.
    pub shape: &'a Shape,
}

/// Why a node was refused, in the words of the `FailedScheduling` event.
pub type Reason = Cow<'static, str>;

/// How raw scores become points from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// They are points already.
    Points,
    /// The largest gets 100.
    MoreIsBetter,
    /// The largest gets 0.
    LessIsBetter,
}

/// One rule. Every method has a default, so that a rule says only what it is about.
pub trait Plugin: Sync {
    /// The plugin's name.
    fn name(&self) -> &'static str;

    /// Whether the node can take the pod; otherwise every reason why not.
    ///
    /// # Errors
    /// The reasons, when it cannot.
    fn filter(&self, candidate: &Candidate<'_>, nodes: &Nodes, row: Row) -> Result<(), Vec<Reason>> {
        let _ = (candidate, nodes, row);
        Ok(())
    }

    /// How much its score counts; 0 when it has none.
    fn weight(&self) -> i64 {
        0
    }

    /// How [`Plugin::score`] is to be read.
    fn scale(&self) -> Scale {
        Scale::Points
    }

    /// How good the node is for the pod.
    fn score(&self, candidate: &Candidate<'_>, nodes: &Nodes, row: Row) -> i64 {
        let _ = (candidate, nodes, row);
        0
    }

    /// Whether a pod that it refused may pass after such an event.
    fn helped_by(&self, event: Event) -> bool {
        let _ = event;
        false
    }
}

/// All rules, in the order in which they filter: the first that refuses a node gives the reasons.
pub static ALL: &[&dyn Plugin] = &[
    &node_unschedulable::NodeUnschedulable,
    &node_name::NodeName,
    &taint_toleration::TaintToleration,
    &node_affinity::NodeAffinity,
    &node_ports::NodePorts,
    &resources_fit::NodeResourcesFit,
    &least_allocated::LeastAllocated,
    &spread::Spread,
];

/// Whether a pod that the plugin of this name refused may pass after the event.
pub fn helps(plugin: &str, event: Event) -> bool {
    ALL.iter().filter(|known| known.name() == plugin).any(|known| known.helped_by(event))
}
