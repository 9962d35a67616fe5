//! The tables as something that can be read and written: the boundary between what is planned and the kernel.
//!
//! Owns the trait and its plain types. `skep-dataplane` implements it with the kernel's maps, [`crate::fake`] in
//! memory; [`crate::suite`] is what both must do. All calls are short and may block for system calls; what writes many
//! entries belongs on a thread that may block.

use std::net::IpAddr;

use skep_abi::backend::{Backend, BackendState};
use skep_abi::counters::{Counter, ServiceStats, VERDICTS};
use skep_abi::local::LocalEndpoint;
use skep_abi::service::ServiceValue;

use crate::adopt::Contents;
use crate::difference::Difference;
use crate::error::MapsError;
use crate::extents::Extent;
use crate::frontend::Frontend;
use crate::prefix::Prefix;
use crate::room::Room;
use crate::table::Table;

/// A pod's link, as the network made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLink {
    /// Name of the node's end.
    pub interface: String,
    /// Index of the node's end.
    pub ifindex: u32,
    /// MAC address of the node's end.
    pub host_mac: [u8; 6],
    /// MAC address of the pod's end.
    pub pod_mac: [u8; 6],
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// The pod's end takes redirected XDP frames (it has GRO or an XDP program).
    pub xdp_redirect: bool,
}

/// Running totals of all CPUs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// By `skep_abi::counters::Reason`.
    pub reasons: Vec<Counter>,
    /// By program (`skep_abi::program::PROGRAMS`) and verdict.
    pub programs: Vec<[u64; VERDICTS as usize]>,
}

/// Connected sockets that were not where their service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MovedSockets {
    /// Connected anew, to another backend of the service.
    pub reconnected: usize,
    /// Ended, with an error for their programs.
    pub ended: usize,
}

/// The tables of one node's dataplane.
pub trait Dataplane: Send + Sync + 'static {
    /// Slots in the backend table.
    fn slot_capacity(&self) -> u32;

    /// How many frontends and source ranges there is room for, beside which [`Table`] plans.
    fn room(&self) -> Room;

    /// Every service entry, in any order.
    ///
    /// # Errors
    /// [`MapsError::Read`].
    fn services(&self) -> Result<Vec<(Frontend, ServiceValue)>, MapsError>;

    /// Every service id's source ranges, in any order.
    ///
    /// # Errors
    /// [`MapsError::Read`].
    fn source_ranges(&self) -> Result<Vec<(u32, Prefix)>, MapsError>;

    /// The slots of `extent`; shorter when it reaches beyond the table.
    fn slots(&self, extent: Extent) -> Vec<Backend>;

    /// Every backend id's state.
    fn backend_states(&self) -> Vec<BackendState>;

    /// Writes `difference`, phase by phase.
    ///
    /// # Errors
    /// [`MapsError::Write`], after which part of it is written.
    fn apply(&self, difference: &Difference) -> Result<(), MapsError>;

    /// Attaches the pod's programs and tells the programs where the pod is. Safe to repeat.
    ///
    /// # Errors
    /// [`MapsError::Link`] or [`MapsError::Write`].
    fn attach_pod(&self, link: &PodLink) -> Result<(), MapsError>;

    /// Forgets the pod with these addresses, and takes its programs off. Safe to repeat.
    ///
    /// # Errors
    /// [`MapsError::Link`] or [`MapsError::Write`].
    fn detach_pod(&self, addresses: &[IpAddr]) -> Result<(), MapsError>;

    /// The pods that the programs know.
    ///
    /// # Errors
    /// [`MapsError::Read`].
    fn local_endpoints(&self) -> Result<Vec<(IpAddr, LocalEndpoint)>, MapsError>;

    /// Routes, neighbours or interfaces changed: flows resolve their next hop again.
    ///
    /// # Errors
    /// [`MapsError::Write`].
    fn routes_changed(&self) -> Result<(), MapsError>;

    /// Moves connected UDP sockets whose service has other backends than theirs by now, and ends those whose service is
    /// gone. May take long: it looks through every network namespace when there is one to move.
    ///
    /// # Errors
    /// [`MapsError::Read`].
    fn move_sockets(&self) -> Result<MovedSockets, MapsError>;

    /// Totals by reason and by program.
    ///
    /// # Errors
    /// [`MapsError::Read`].
    fn totals(&self) -> Result<Totals, MapsError>;

    /// Totals of one service id; `None` when it is beyond what is counted.
    ///
    /// # Errors
    /// [`MapsError::Read`].
    fn service_totals(&self, id: u32) -> Result<Option<ServiceStats>, MapsError>;
}

/// A table that continues from what `dataplane` holds.
///
/// # Errors
/// [`MapsError::Read`].
pub fn adopt(dataplane: &dyn Dataplane) -> Result<Table, MapsError> {
    let contents = Contents {
        slots: dataplane.slot_capacity(),
        room: dataplane.room(),
        states: dataplane.backend_states(),
        services: dataplane.services()?,
        source_ranges: dataplane.source_ranges()?,
    };
    Ok(Table::adopt(&contents, |extent| dataplane.slots(extent)))
}
