//! Where the tables are: the kernel's maps in the programs, ordinary collections in tests. Owns the names of the
//! operations that decisions need, and nothing else.

use skep_abi::affinity::{Affinity, AffinityKey};
use skep_abi::backend::{Backend, BackendState};
use skep_abi::config::Config;
use skep_abi::counters::Reason;
use skep_abi::flow::{Flow, FlowKey};
use skep_abi::fragment::{FragmentKey, FragmentPorts};
use skep_abi::fronts::Bit;
use skep_abi::local::LocalEndpoint;
use skep_abi::service::{ServiceKey, ServiceValue};

use crate::decide::Question;
use crate::family::Family;
use crate::parse::Packet;
use crate::prepare::{Prepared, Task};

/// What the routing table says about the way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// It is one of this node's own addresses.
    Local,
    /// Another machine, reached through this interface with these MAC addresses.
    Remote {
        /// Output interface.
        ifindex: u32,
        /// Ethernet destination.
        destination_mac: [u8; 6],
        /// Ethernet source.
        source_mac: [u8; 6],
    },
    /// Another machine through this interface (0: not known), with the neighbour to be resolved by the kernel.
    Neighbour {
        /// Output interface.
        ifindex: u32,
    },
    /// Unreachable, blackhole, prohibited or no route.
    None,
}

/// Which of the two flows in scratch memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// [`Scratch::flow`].
    Flow,
    /// [`Scratch::partner`].
    Partner,
}

/// Whether an insertion may replace what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Replace it.
    Replace,
    /// Keep it and report [`InsertError::Exists`].
    Keep,
}

/// Why an insertion failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// The key is taken.
    Exists,
    /// There is no place for it.
    Failed,
}

/// What is counted for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceEvent {
    /// A translated packet of this many bytes.
    Packet(u32),
    /// A new connection.
    Connection,
    /// A connection refused for want of a backend.
    Refused,
}

/// Scratch memory: what is being made of a connection's two directions.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Scratch<A> {
    /// The direction that the packet goes.
    pub flow: Flow<A>,
    /// The other.
    pub partner: Flow<A>,
    /// The service.
    pub service: ServiceValue,
    /// Whether a flow of the same tuple, which is over, is to be replaced.
    pub replaces: u32,
    /// Where a number is put of which the kernel's verifier is to forget what it knows.
    pub forgotten: u32,
    /// Zero.
    pub reserved: u32,
}

/// The tables of one address family, and what else a decision needs from outside.
pub trait Tables<F: Family> {
    /// This node's settings; nothing when there are none of this ABI version.
    fn config(&self) -> Option<&Config>;
    /// Now, in ticks ([`skep_abi::flow::TICK_SHIFT`]).
    fn now(&self) -> u32;
    /// The sequence and acknowledgment numbers of the TCP packet at hand, in the machine's order.
    fn numbers(&self, packet: &Packet<F::Address>) -> Option<[u32; 2]>;
    /// Fresh random bits.
    fn random(&self) -> u32;
    /// The filter's word for external frontends.
    fn front(&self, bit: Bit) -> bool;
    /// A frontend.
    fn service(&self, key: &ServiceKey<F::Address>) -> Option<ServiceValue>;
    /// Whether the client lies within the service's source ranges.
    fn in_source_ranges(&self, service: u32, client: &F::Address) -> bool;
    /// A slot of the backend table.
    fn backend(&self, slot: u32) -> Option<Backend>;
    /// The state of a backend id.
    fn backend_state(&self, id: u32) -> Option<BackendState>;
    /// Works in place on what a client of a service with affinity was given last.
    fn affinity<R>(&self, key: &AffinityKey, work: impl FnOnce(&mut Affinity) -> R) -> Option<R>;
    /// Writes down what a client was given. That may fail: the client then chooses again.
    fn insert_affinity(&self, key: &AffinityKey, affinity: &Affinity);
    /// The ports of a datagram whose first fragment was seen.
    fn fragment(&self, key: &FragmentKey<F::Address>) -> Option<FragmentPorts>;
    /// Notes the ports of a datagram. That may fail: its other fragments are then taken for strays.
    fn insert_fragment(&self, key: &FragmentKey<F::Address>, ports: &FragmentPorts);
    /// A pod on this node.
    fn local(&self, address: &F::Address) -> Option<LocalEndpoint>;
    /// Works in place on a flow.
    fn flow<R>(&self, key: &FlowKey, work: impl FnOnce(&mut Flow<F::Address>) -> R) -> Option<R>;
    /// Has the index know of what class a flow is by now.
    fn settle(&self, key: &FlowKey, flow: &Flow<F::Address>);
    /// Works in two flows' worth of scratch memory, which a stack of the kernel's virtual machine is too small for. Not
    /// to be nested.
    fn scratch<R>(&self, work: impl FnOnce(&mut Scratch<F::Address>) -> R) -> Option<R>;
    /// Adds `flow`, which is the one of that side of scratch memory.
    ///
    /// # Errors
    ///
    /// The key is taken, or there is no place.
    fn insert_flow(
        &self,
        key: &FlowKey,
        side: Side,
        flow: &Flow<F::Address>,
        existing: Existing,
    ) -> Result<(), InsertError>;
    /// Removes a flow if it is there.
    fn remove_flow(&self, key: &FlowKey);
    /// Gives `flow`, whose epoch says how new it must be, the way that [`Tables::remember`] was told a moment ago for the same
    /// addresses and a packet of at least this length. Says whether there was one.
    fn recall(&self, flow: &mut Flow<F::Address>, length: u32) -> bool;
    /// Notes the way of `flow` to another machine.
    fn remember(&self, flow: &Flow<F::Address>, length: u32);
    /// The way from `source` to `destination` for a packet of `length` bytes.
    fn route(&self, source: &F::Address, destination: &F::Address, length: u32) -> Route;
    /// Does what is to be done before the packet can be carried: [`crate::prepare`].
    fn prepare(&self, question: &Question<'_, F::Address>, task: Task) -> Prepared;
    /// Counts an event of a packet of `bytes` bytes.
    fn count(&self, reason: Reason, bytes: u32);
    /// Counts for a service.
    fn count_service(&self, service: u32, event: ServiceEvent);
}
