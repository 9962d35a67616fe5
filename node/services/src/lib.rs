//! Services and EndpointSlices to desired map contents: a pure plan.
//!
//! Observes both kinds ([`state`]), chooses endpoints ([`endpoints`]), plans each touched service alone ([`plan`]) and the
//! host ports of the node's own pods beside them ([`host_ports`]), and hands the difference to a [`skep_maps::Dataplane`] ([`engine`]). Which ids and slots a service gets is decided in
//! `skep-maps`; how they get into the kernel in `skep-dataplane`. A change of one EndpointSlice costs one service's
//! entries, whatever the number of services.

pub mod endpoints;
pub mod engine;
mod error;
pub mod health;
pub mod host_ports;
mod kubeproxy;
mod metrics;
pub mod model;
mod names;
pub mod node;
pub mod plan;
mod run;
pub mod serve;
pub mod state;
#[cfg(test)]
mod tests;

pub use error::ServicesError;
pub use health::Health;
pub use host_ports::{HostPods, host_pods};
pub use metrics::Metrics;
pub use node::{ExternalReturn, NodePortAddresses, NodeSettings};
pub use plan::NodeView;
pub use run::{Sources, run};
