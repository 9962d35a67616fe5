//! `COUNTERS`, `PROGRAM_STATS`, `SERVICE_COUNTS`: what happened, per reason, per program and per service.
//!
//! Running totals of each CPU. Writers: every program, on its own CPU's copy. Reader: user space, which adds the CPUs up.
//! Nothing is ever reset, except that the agent zeroes a service's entries before it gives the id to another service.
//!
//! The counts of services are a plain array, mapped into memory, with a row for each CPU ([`place`]), and not a per-CPU one:
//! that has a pointer for each entry and CPU, and among many services the pointer is one more line of memory that no cache
//! has.

use crate::plain;
use crate::program::PROGRAMS;

/// Name of the per-CPU array of [`Counter`], indexed by [`Reason`].
pub const COUNTERS: &str = "COUNTERS";
/// Name of the per-CPU array of `u64`, indexed by program * [`VERDICTS`] + [`Verdict`].
pub const PROGRAM_STATS: &str = "PROGRAM_STATS";
/// Name of the array of [`ServiceStats`], indexed by [`place`].
pub const SERVICE_COUNTS: &str = "SERVICE_COUNTS";
/// Capacity for a loader that chooses none: a row for each CPU, of [`COUNTED_SERVICES`] entries, is best.
pub const SERVICE_COUNTS_CAPACITY: u32 = 1 << 16;
/// Default length of a row. Services with a greater id are not counted.
pub const COUNTED_SERVICES: u32 = 1 << 16;
/// Entries of [`PROGRAM_STATS`].
pub const PROGRAM_STATS_CAPACITY: u32 = PROGRAMS.len() as u32 * VERDICTS;
/// Entries of [`COUNTERS`]; more than there are reasons, so that adding one keeps the layout.
pub const COUNTERS_CAPACITY: u32 = 64;

/// Packets and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Counter {
    /// Packets (calls, for socket hooks).
    pub packets: u64,
    /// Bytes from the network header on; 0 for socket hooks.
    pub bytes: u64,
}

/// Traffic of one service port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct ServiceStats {
    /// Packets translated, both directions. Sockets translated at `connect` are counted by connections alone.
    pub packets: u64,
    /// Bytes of them, from the network header on.
    pub bytes: u64,
    /// New flows, and sockets given a backend.
    pub connections: u64,
    /// New connections rejected or dropped because there was no backend.
    pub refused: u64,
}

/// Where a CPU counts for the service with that [`crate::service::ServiceValue::id`]; `services` is the length of a row,
/// [`crate::config::Config::counted_services`], and greater than the id.
#[inline(always)]
pub const fn place(id: u32, cpu: u32, services: u32) -> u32 {
    cpu.wrapping_mul(services).wrapping_add(id)
}

/// How a program ended. Column of [`PROGRAM_STATS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Verdict {
    /// Left alone.
    Pass = 0,
    /// Translated and handed on to the stack (or, in a socket hook, translated).
    Translated = 1,
    /// Translated and sent out, to another machine or a pod.
    Redirected = 2,
    /// Answered with a TCP reset or an ICMP error.
    Rejected = 3,
    /// Dropped.
    Dropped = 4,
}

/// Number of columns per program in [`PROGRAM_STATS`]; more than there are verdicts.
pub const VERDICTS: u32 = 8;

/// Names of the verdicts in the order of [`Verdict`], as used in metrics.
pub const VERDICT_NAMES: [&str; 5] = ["pass", "translated", "redirected", "rejected", "dropped"];

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $value:literal, $name:literal, $class:ident;)+) => {
        /// Why something was counted. Index into [`COUNTERS`].
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u32)]
        pub enum Reason { $($(#[doc = $doc])+ $variant = $value,)+ }

        impl Reason {
            /// The reason with this index.
            #[inline(always)]
            pub const fn from_index(index: u32) -> Option<Self> {
                match index {
                    $($value => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        /// Every reason with its name, as used in metrics, and whether it means a drop.
        pub const REASONS: &[(Reason, &str, Class)] = &[$((Reason::$variant, $name, Class::$class),)+];
    };
}

/// What a [`Reason`] says about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// It was dropped.
    Drop,
    /// It was answered with a refusal.
    Reject,
    /// It was left to the next hook or the stack.
    Pass,
    /// An event, whatever became of the packet.
    Event,
}

reasons! {
    /// The packet ends within its headers, or a header's length field is impossible.
    Malformed = 0, "malformed", Pass;
    /// A fragment: left by XDP to TC, and by TC to the stack where it is of no flow that is known.
    Fragment = 1, "fragment", Pass;
    /// IPv6 extension headers beyond what is walked.
    ExtensionHeaders = 2, "extension_headers", Pass;
    /// New connection to a service without endpoints.
    NoEndpoints = 3, "no_endpoints", Reject;
    /// New connection to a service without endpoints on this node, where the policy is `Local`.
    NoLocalEndpoints = 4, "no_local_endpoints", Drop;
    /// A TCP packet that is not a SYN to a service, of a connection that is not known.
    NoFlow = 5, "no_flow", Reject;
    /// A TCP packet of a connection whose backend is gone.
    BackendGone = 6, "backend_gone", Reject;
    /// No free port for source translation towards that backend.
    SnatExhausted = 7, "snat_exhausted", Drop;
    /// No address is configured for source translation in this family.
    SnatUnconfigured = 8, "snat_unconfigured", Drop;
    /// A new connection found all places for it taken by connections that are in use, see [`crate::flow`].
    FlowTableFull = 9, "flow_table_full", Drop;
    /// Two flows with one hash: the newer one is refused.
    FlowCollision = 10, "flow_collision", Drop;
    /// The time to live, or hop limit, ran out.
    TtlExpired = 11, "ttl_expired", Drop;
    /// The routing table says unreachable, blackhole or prohibited.
    NoRoute = 12, "no_route", Drop;
    /// The neighbour is not resolved: left to the next hook, which lets the kernel resolve it.
    NoNeighbour = 13, "no_neighbour", Pass;
    /// The translated packet is longer than the way's MTU: left to the next hook.
    TooBig = 14, "too_big", Pass;
    /// The kernel refused to rewrite the packet.
    RewriteFailed = 15, "rewrite_failed", Drop;
    /// A new flow was made; one with a handshake is half-open.
    FlowCreated = 16, "flow_created", Event;
    /// A flow whose partner had given way got it back.
    FlowRepaired = 17, "flow_repaired", Event;
    /// A UDP flow or socket moved to another backend because its own left.
    FlowMoved = 18, "flow_moved", Event;
    /// A next hop was resolved.
    HopResolved = 19, "hop_resolved", Event;
    /// A socket was given a backend by a socket hook.
    SocketTranslated = 20, "socket_translated", Event;
    /// A socket asked for a service without endpoints: left alone, TC rejects its packets.
    SocketNoEndpoints = 21, "socket_no_endpoints", Event;
    /// A slot named by a service value is beyond the backend table, or its backend is gone.
    BadSlot = 22, "bad_slot", Drop;
    /// A new connection to a load balancer's address from outside the service's source ranges.
    SourceNotAllowed = 23, "source_not_allowed", Drop;
    /// An ICMP error about a flow was translated.
    ErrorTranslated = 24, "icmp_error_translated", Event;
    /// A later fragment to an address of services whose first one has not been seen, see [`crate::fragment`].
    FragmentBeforeFirst = 25, "fragment_before_first", Drop;
    /// A first fragment that ends within its transport header, or a later one that reaches into it.
    FragmentCut = 26, "fragment_cut_header", Drop;
    /// A client answered the backend: its connection is half-open no more, see [`crate::flow`].
    FlowOpened = 27, "flow_opened", Event;
    /// Another node told of a flow whose replies go from here straight to the client.
    FlowAnnounced = 28, "flow_announced", Event;
    /// An answer to a half-open connection's backend that acknowledges nothing the backend has sent: forged, or too old.
    WrongAnswer = 29, "wrong_answer", Drop;
}

impl Reason {
    /// Index into [`COUNTERS`].
    pub const fn index(self) -> u32 {
        self as u32
    }
}

plain!(Counter, ServiceStats);

const _: () = {
    assert!(size_of::<Counter>() == 16);
    assert!(size_of::<ServiceStats>() == 32);
    assert!(REASONS.len() <= COUNTERS_CAPACITY as usize);
    assert!(VERDICT_NAMES.len() <= VERDICTS as usize);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_indexes_are_their_places() {
        for (at, (reason, name, _)) in REASONS.iter().enumerate() {
            assert_eq!(reason.index() as usize, at, "{name}");
        }
    }
}
