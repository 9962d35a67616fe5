//! `FRAGMENTS_V4`, `FRAGMENTS_V6`: the ports of datagrams whose first fragment was seen.
//!
//! Only a datagram's first fragment carries ports. It leaves an entry here, by which the others are found to be of the same
//! flow. Least-recently-used hash maps. Writers and readers: the TC programs; XDP leaves fragments to them. An entry counts
//! for [`LIFE_TICKS`], the time that a receiver waits for missing fragments (RFC 791, Linux' `ipfrag_time`). When a map is
//! full the least recently used entries go, and with them the rest of datagrams that few fragments were seen of lately. Who
//! sends first fragments with made-up sources can do that on purpose, as with any reassembly: it takes the whole capacity
//! within the time that one datagram's fragments take to come in.
//!
//! A later fragment without an entry is dropped where its destination is an address that services alone have
//! ([`crate::fronts::address_bit_v4`]): nothing there could use it, and kept until the first one comes it would be memory
//! that anybody may fill. To other addresses, a node's own above all, it passes: it may be of a datagram that is no
//! service's. So that this can be told, a first fragment to an address of services leaves an entry whether it is of a flow
//! or not.

use crate::{Be16, V4, V6, plain};

/// Name of the IPv4 map: [`FragmentKey<V4>`] -> [`FragmentPorts`].
pub const FRAGMENTS_V4: &str = "FRAGMENTS_V4";
/// Name of the IPv6 map: [`FragmentKey<V6>`] -> [`FragmentPorts`].
pub const FRAGMENTS_V6: &str = "FRAGMENTS_V6";
/// Default capacity of each; the loader may choose another.
pub const FRAGMENTS_CAPACITY: u32 = 1 << 15;
/// Ticks for which an entry counts: some 30 s.
pub const LIFE_TICKS: u32 = 450;

/// What fragments of one datagram have in common (RFC 791, RFC 8200 section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(C)]
pub struct FragmentKey<A> {
    /// Source as it arrives.
    pub source: A,
    /// Destination as it arrives.
    pub destination: A,
    /// The identification, as it lies in the packet.
    pub id: u32,
    /// [`crate::TCP`] or [`crate::UDP`], as a word.
    pub protocol: u32,
}

/// What only the first fragment says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct FragmentPorts {
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// Tick at which the first fragment was seen.
    pub seen: u32,
}

plain!(FragmentKey<V4>, FragmentKey<V6>, FragmentPorts);

const _: () = {
    assert!(size_of::<FragmentKey<V4>>() == 16 && align_of::<FragmentKey<V4>>() == 4);
    assert!(size_of::<FragmentKey<V6>>() == 40 && align_of::<FragmentKey<V6>>() == 4);
    assert!(size_of::<FragmentPorts>() == 8 && align_of::<FragmentPorts>() == 4);
};
