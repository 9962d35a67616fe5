//! `FLOW_ENTRIES_V4/6`: a packet that arrives with this tuple leaves with that one.
//!
//! Arrays of entries, which [`crate::sets`] says the owners of; together they are a table for each family. One entry per
//! direction: the forward one is found by what the client sends, the reply one by what the backend sends. Each entry's
//! partner has the key made of its own new addresses and ports, reversed. Writers and readers: the XDP and TC programs;
//! user space reads. An entry lives until another takes its place, or a new connection with the same tuple does;
//! `last_seen` and `state` tell which are idle or closed.
//!
//! # When it is full
//!
//! Whoever sends a SYN from a made-up address gets an entry as well as anybody. So a connection is **half-open** until the
//! client has answered the backend: by its first packet with ACK and without SYN, whose acknowledgment must be of the
//! backend's own sequence number. A new entry takes a free place, else one whose connection is closed, else the oldest that is half-open or of
//! UDP that was never answered, else one whose time is up (by the time-outs of `skep-logic`'s `lifetime`) or whose backend is
//! gone. A flood of SYNs so takes the places of other half-open ones and never that of a connection that was made. When all
//! sixteen places that it may have are in use, the new one is refused and counted (`flow_table_full`), and what is
//! established goes on.
//!
//! Why not the kernel's hash maps: the one that evicts takes whoever was silent longest, an idle connection before a new
//! one of a flood, and moving entries through its lists was most of what a new connection cost; the other needs somebody who
//! sweeps, and refuses everybody when the agent does not run.
//!
//! An IPv6 key holds a keyed hash of the two addresses instead of the addresses; the words of the sets have a hash of the
//! whole key. The entry has the tuple in full, and a mismatch is a counted drop (the chance is one in 2^54 per pair of
//! flows).

use crate::sets::{FLOW_SETS, FLOW_SETS_V4, FLOW_SETS_V6, WAYS};
use crate::{Be16, V4, V6, plain};

/// Name of the IPv4 array of [`Flow<V4>`].
pub const FLOW_ENTRIES_V4: &str = "FLOW_ENTRIES_V4";
/// Name of the IPv6 array of [`Flow<V6>`].
pub const FLOW_ENTRIES_V6: &str = "FLOW_ENTRIES_V6";
/// Default number of entries of each. A connection takes two.
pub const FLOW_ENTRIES: u32 = FLOW_SETS * WAYS;

/// Shift from nanoseconds of `CLOCK_MONOTONIC` to the ticks of `last_seen` and `checked`: 2^26 ns, some 67 ms.
pub const TICK_SHIFT: u32 = 26;

/// This entry is found by the backend's packets.
pub const FLOW_REPLY: u8 = 1 << 0;
/// The connection's source is translated to an allocated port, and to this node's address unless the client's may stay.
pub const FLOW_SNAT: u8 = 1 << 1;
/// It was made by packets of this node's pods or processes, not by packets from the uplink.
pub const FLOW_INTERNAL: u8 = 1 << 2;
/// The client has not answered the backend yet.
pub const FLOW_HALF_OPEN: u8 = 1 << 3;
/// The client is to keep this backend when the connection is made ([`crate::affinity`]).
pub const FLOW_REMEMBER: u8 = 1 << 4;
/// The backend is on this node.
pub const FLOW_LOCAL: u8 = 1 << 5;
/// The backend is elsewhere, and its replies do not come by here: in a forward entry, whose partner only holds the tuple.
/// In a reply entry with the backend [`ANNOUNCED`]: the client's packets came to another node.
pub const FLOW_DIRECT: u8 = 1 << 6;
/// The backend's first packet may not have come by: whatever the client answers will do.
pub const FLOW_TRUSTED: u8 = 1 << 7;

/// [`Flow::backend`] of a reply entry that was learned from another node's announcement. It has no partner, and
/// [`Flow::generation`] is the number of the pod's interface, 0 where the backend is this node itself: the entry counts as
/// long as the backend's address is there.
pub const ANNOUNCED: u32 = u32::MAX;

/// Next hop not known yet.
pub const EGRESS_UNRESOLVED: u8 = 0;
/// Hand the translated packet to the network stack.
pub const EGRESS_STACK: u8 = 1;
/// Send it out of `ifindex` with the two MAC addresses: another machine.
pub const EGRESS_REMOTE: u8 = 2;
/// Send it out of `ifindex` with the two MAC addresses: a pod here.
pub const EGRESS_POD: u8 = 3;
/// As [`EGRESS_POD`], but XDP must hand it to the stack (see [`crate::local::LOCAL_XDP_REDIRECT`]).
pub const EGRESS_POD_SKB: u8 = 4;
/// Another machine whose neighbour entry is not complete: XDP leaves the packet to TC, TC lets the kernel resolve it.
pub const EGRESS_NEIGHBOUR: u8 = 5;

/// State of a connection as far as this node has seen it, in the forward entry. Transitions:
///
/// | from | on | to |
/// |---|---|---|
/// | (new) | UDP packet | `NEW` |
/// | (new) | SYN | `NEW` |
/// | `NEW` | TCP packet without SYN or RST, or a UDP reply (both directions) | `ESTABLISHED` |
/// | any | FIN in this direction | `CLOSING` |
/// | `CLOSING` | FIN in the other direction | both directions: `TIME_WAIT` if the backend's was first, else `CLOSED` |
/// | any | RST in either direction | `CLOSED`, both directions |
/// | `CLOSING`, `CLOSED`, `TIME_WAIT` | SYN | replaced by a new flow |
///
/// SCTP packets count by their first chunk: INIT as SYN, ABORT and SHUTDOWN COMPLETE as RST, SHUTDOWN and its ACK as FIN.
///
/// Each direction's entry follows what that direction sends, and is told how the connection ends; a connection is closing
/// when either entry is.
pub const STATE_NEW: u8 = 0;
/// See [`STATE_NEW`].
pub const STATE_ESTABLISHED: u8 = 1;
/// See [`STATE_NEW`].
pub const STATE_CLOSING: u8 = 2;
/// See [`STATE_NEW`].
pub const STATE_CLOSED: u8 = 3;
/// See [`STATE_NEW`]. The backend remembers the connection for a while (RFC 9293 section 3.3.2), and may refuse another one
/// with the same source.
pub const STATE_TIME_WAIT: u8 = 4;

/// What a packet arrives with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(C)]
pub struct FlowKey {
    /// The addresses: source then destination for IPv4, a keyed hash of them for IPv6 ([`pair_v4`], [`pair_v6`]).
    pub pair: [u32; 2],
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// [`crate::TCP`], [`crate::UDP`] or [`crate::SCTP`].
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

impl FlowKey {
    /// A key, its bytes put together as words: left to itself the compiler writes the last four bytes at odd places, which
    /// the verifier refuses on the stack ("misaligned stack access off 0+0+-43 size 2", Linux 6.18).
    #[inline(always)]
    pub const fn new(pair: [u32; 2], source_port: Be16, destination_port: Be16, protocol: u8) -> Self {
        let ports = [source_port.raw().to_ne_bytes(), destination_port.raw().to_ne_bytes()];
        let ports = u32::from_ne_bytes([ports[0][0], ports[0][1], ports[1][0], ports[1][1]]);
        let words = [pair[0], pair[1], ports, u32::from_ne_bytes([protocol, 0, 0, 0])];
        // SAFETY: both are 16 bytes without padding (asserted below), and every bit pattern is a valid key.
        #[allow(unsafe_code)]
        unsafe {
            core::mem::transmute::<[u32; 4], Self>(words)
        }
    }
}

/// How it leaves, and what is known about the connection. `A` is [`V4`] or [`V6`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Flow<A> {
    /// Source address as it arrives.
    pub source: A,
    /// Destination address as it arrives.
    pub destination: A,
    /// Source address as it leaves.
    pub new_source: A,
    /// Destination address as it leaves.
    pub new_destination: A,
    /// Source port as it arrives.
    pub source_port: Be16,
    /// Destination port as it arrives.
    pub destination_port: Be16,
    /// Source port as it leaves.
    pub new_source_port: Be16,
    /// Destination port as it leaves.
    pub new_destination_port: Be16,
    /// Output interface for [`EGRESS_REMOTE`] and [`EGRESS_POD`].
    pub ifindex: u32,
    /// Ethernet destination.
    pub destination_mac: [u8; 6],
    /// Ethernet source.
    pub source_mac: [u8; 6],
    /// [`crate::config::Config::epoch`] at which the next hop was resolved.
    pub epoch: u32,
    /// [`crate::backend::Backend::id`].
    pub backend: u32,
    /// Generation of that id when it was chosen.
    pub generation: u32,
    /// [`crate::service::ServiceValue::id`].
    pub service: u32,
    /// Tick of the last packet in this direction, or of one in the other, which tells it here about once a second.
    pub last_seen: u32,
    /// Tick at which the partner was last seen to be there.
    pub checked: u32,
    /// `STATE_*` of this direction.
    pub state: u8,
    /// `FLOW_*`.
    pub flags: u8,
    /// `EGRESS_*`.
    pub egress: u8,
    /// [`FlowKey::protocol`].
    pub protocol: u8,
    /// While half-open, in the machine's order: the acknowledgments that are taken for the client's answer, of the backend's
    /// last two sequence numbers; random before there is one.
    pub answers: [u32; 2],
    /// By what the transport checksum changes, as a one's complement sum of 32-bit words; 0 where that is not known yet and
    /// always for IPv4, which has half of it to sum up anyway for the header's checksum.
    pub change: u32,
    /// Packets translated in this direction.
    pub packets: u64,
    /// Bytes of them, from the network header on.
    pub bytes: u64,
}

/// Addresses of a family that flows are of.
pub trait FlowAddress: crate::Plain {
    /// Name of the family's array of sets.
    const SETS: &str;
    /// Name of the family's array of entries.
    const ENTRIES: &str;

    /// [`FlowKey::pair`] of a tuple.
    fn pair(seed: u64, source: Self, destination: Self) -> [u32; 2];
}

impl FlowAddress for V4 {
    const SETS: &str = FLOW_SETS_V4;
    const ENTRIES: &str = FLOW_ENTRIES_V4;

    fn pair(_seed: u64, source: Self, destination: Self) -> [u32; 2] {
        pair_v4(source, destination)
    }
}

impl FlowAddress for V6 {
    const SETS: &str = FLOW_SETS_V6;
    const ENTRIES: &str = FLOW_ENTRIES_V6;

    fn pair(seed: u64, source: Self, destination: Self) -> [u32; 2] {
        pair_v6(seed, source, destination)
    }
}

impl<A: FlowAddress> Flow<A> {
    /// What the packets are known by that arrive with this entry's tuple.
    pub fn key(&self, seed: u64) -> FlowKey {
        let pair = A::pair(seed, self.source, self.destination);
        FlowKey::new(pair, self.source_port, self.destination_port, self.protocol)
    }
}

/// [`FlowKey::pair`] of an IPv4 tuple.
#[inline(always)]
pub const fn pair_v4(source: V4, destination: V4) -> [u32; 2] {
    [source.0, destination.0]
}

/// [`FlowKey::pair`] of an IPv6 tuple. A multiply-and-fold hash with [`crate::config::Config::seed`] as its key.
#[inline(always)]
pub const fn pair_v6(seed: u64, source: V6, destination: V6) -> [u32; 2] {
    pair_of_halves(seed, join(source), join(destination))
}

/// As [`pair_v6`], of addresses' [`V6::halves`].
#[inline(always)]
pub const fn pair_of_halves(seed: u64, source: [u64; 2], destination: [u64; 2]) -> [u32; 2] {
    let mut hash = seed;
    hash = mix(hash, source[0], 0x9e37_79b9_7f4a_7c15);
    hash = mix(hash, source[1], 0xbf58_476d_1ce4_e5b9);
    hash = mix(hash, destination[0], 0x94d0_49bb_1331_11eb);
    hash = mix(hash, destination[1], 0xd6e8_feb8_6659_fd93);
    [hash as u32, (hash >> 32) as u32]
}

/// [`V6::halves`] of an address that may lie anywhere.
#[inline(always)]
const fn join(address: V6) -> [u64; 2] {
    let [a, b, c, d] = address.0;
    [a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32]
}

/// One step of a multiply-and-fold hash.
#[inline(always)]
pub const fn mix(hash: u64, word: u64, multiplier: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(multiplier);
    product ^ (product >> 32)
}

plain!(FlowKey, Flow<V4>, Flow<V6>);

const _: () = {
    assert!(size_of::<FlowKey>() == 16 && align_of::<FlowKey>() == 4);
    assert!(size_of::<Flow<V4>>() == 96 && align_of::<Flow<V4>>() == 8);
    assert!(size_of::<Flow<V6>>() == 144 && align_of::<Flow<V6>>() == 8);
    assert!(core::mem::offset_of!(Flow<V4>, packets) == 80);
    assert!(core::mem::offset_of!(Flow<V6>, packets) == 128);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pair_v6_direction_seed_and_each_word_matter() {
        let a = V6([1, 2, 3, 4]);
        let b = V6([5, 6, 7, 8]);
        let base = pair_v6(9, a, b);
        assert_ne!(base, pair_v6(9, b, a));
        assert_ne!(base, pair_v6(10, a, b));
        for word in 0..4 {
            let mut other = a;
            other.0[word] ^= 0x100;
            assert_ne!(base, pair_v6(9, other, b));
            let mut other = b;
            other.0[word] ^= 0x100;
            assert_ne!(base, pair_v6(9, a, other));
        }
    }
}
