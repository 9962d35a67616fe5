//! `SERVICES_V4`, `SERVICES_V6`: frontend -> service value.
//!
//! Hash maps without preallocation. Writer: the agent (see the order in the crate's documentation). Readers: every
//! program. An entry lives from the service's creation to its deletion; nothing is evicted. When a map is full the
//! agent's write fails and the agent reports it; existing services are untouched.

use crate::{Be16, V4, V6, plain};

/// Name of the IPv4 map: [`ServiceKey<V4>`] -> [`ServiceValue`].
pub const SERVICES_V4: &str = "SERVICES_V4";
/// Name of the IPv6 map: [`ServiceKey<V6>`] -> [`ServiceValue`].
pub const SERVICES_V6: &str = "SERVICES_V6";
/// Default capacity of each; the loader may choose another.
pub const SERVICES_CAPACITY: u32 = 1 << 18;

/// For packets that arrive on the uplink.
pub const SCOPE_EXTERNAL: u8 = 0;
/// For packets and sockets of this node's pods and of the node itself.
pub const SCOPE_INTERNAL: u8 = 1;

/// A client keeps its backend for [`ServiceValue::affinity_seconds`] after its last new connection, see
/// [`crate::affinity`]. Its backend is chosen by a hash of its address, and after a time-out of when it last connected too
/// (at random where a socket connects, which has no address yet).
pub const FLAG_AFFINITY: u16 = 1 << 0;
/// Choose by a hash of addresses and ports instead of at random. With a Maglev table as the slice this is Maglev.
pub const FLAG_HASHED: u16 = 1 << 1;
/// With an empty slice drop silently instead of rejecting (Service API: `Local` traffic policy without an endpoint on
/// this node).
pub const FLAG_DROP_WHEN_EMPTY: u16 = 1 << 2;
/// Translate the source to this node's address even when the backend is on this node.
pub const FLAG_ALWAYS_SNAT: u16 = 1 << 3;

/// Only clients in [`crate::ranges`] may open connections; others are dropped. The socket hooks leave such a frontend to
/// TC, which sees the client's address.
pub const FLAG_SOURCE_RANGES: u16 = 1 << 4;

/// Connections to backends elsewhere keep their source, and replies go straight to the client from the backend's node,
/// which is told of the frontend in the packets themselves. For frontends with [`SCOPE_EXTERNAL`], and TCP and UDP.
pub const FLAG_DIRECT: u16 = 1 << 5;

/// What kind of frontend it is. For display and metrics; the programs do not read it.
pub const KIND_CLUSTER_IP: u8 = 0;
/// See [`KIND_CLUSTER_IP`].
pub const KIND_NODE_PORT: u8 = 1;
/// See [`KIND_CLUSTER_IP`].
pub const KIND_EXTERNAL_IP: u8 = 2;
/// See [`KIND_CLUSTER_IP`].
pub const KIND_LOAD_BALANCER: u8 = 3;
/// See [`KIND_CLUSTER_IP`]. A pod's `hostPort`.
pub const KIND_HOST_PORT: u8 = 4;

/// A frontend. `A` is [`V4`] or [`V6`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(C)]
pub struct ServiceKey<A> {
    /// Address that clients use.
    pub address: A,
    /// Port that clients use.
    pub port: Be16,
    /// [`crate::TCP`], [`crate::UDP`] or [`crate::SCTP`].
    pub protocol: u8,
    /// [`SCOPE_EXTERNAL`] or [`SCOPE_INTERNAL`].
    pub scope: u8,
}

impl<A: Copy> ServiceKey<A> {
    /// A key whose last four bytes are put together as one word: written one by one, the kernel's hash would have to wait for
    /// them when it reads that word.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub const fn new(address: A, port: Be16, protocol: u8, scope: u8) -> Self {
        #[derive(Clone, Copy)]
        #[repr(C)]
        struct Words<A> {
            address: A,
            rest: u32,
        }
        union Either<A: Copy> {
            words: Words<A>,
            key: ServiceKey<A>,
        }
        let [high, low] = port.raw().to_ne_bytes();
        let words = Words { address, rest: u32::from_ne_bytes([high, low, protocol, scope]) };
        // SAFETY: both are an address and four bytes of which every pattern is a value, without padding (asserted below).
        unsafe { Either { words }.key }
    }
}

/// What to do with traffic to a frontend.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct ServiceValue {
    /// Number of the service port, from 1, shared by its frontends; index into a row of
    /// [`crate::counters::SERVICE_COUNTS`]. Dense numbers are best: services with an id beyond a row's length work, but
    /// are not counted.
    pub id: u32,
    /// First slot of the slice in [`crate::backend::BACKENDS`].
    pub slice: u32,
    /// Slots in the slice; 0 when there is no endpoint.
    pub count: u32,
    /// `FLAG_*`.
    pub flags: u16,
    /// `KIND_*`.
    pub kind: u8,
    /// Zero.
    pub reserved: u8,
    /// The Service's affinity time-out in seconds, 0 without affinity.
    pub affinity_seconds: u32,
}

plain!(ServiceKey<V4>, ServiceKey<V6>, ServiceValue);

const _: () = {
    assert!(size_of::<ServiceKey<V4>>() == 8 && align_of::<ServiceKey<V4>>() == 4);
    assert!(size_of::<ServiceKey<V6>>() == 20 && align_of::<ServiceKey<V6>>() == 4);
    assert!(size_of::<ServiceValue>() == 20 && align_of::<ServiceValue>() == 4);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_key_has_each_field_in_its_place() {
        let (v4, v6) = (V4::from_octets([10, 96, 0, 1]), V6([1, 2, 3, 4]));
        let port = Be16::new(443);
        let expected = ServiceKey { address: v4, port, protocol: crate::TCP, scope: SCOPE_INTERNAL };
        assert_eq!(ServiceKey::new(v4, port, crate::TCP, SCOPE_INTERNAL), expected);
        let expected = ServiceKey { address: v6, port, protocol: crate::UDP, scope: SCOPE_EXTERNAL };
        assert_eq!(ServiceKey::new(v6, port, crate::UDP, SCOPE_EXTERNAL), expected);
    }
}
