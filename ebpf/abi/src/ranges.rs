//! `SOURCE_RANGES_V4`, `SOURCE_RANGES_V6`: which clients may open connections to a service's load-balancer addresses.
//!
//! Tries of prefixes, the service's number in front of the address, so that one trie holds every service's list and the
//! longest match is within one service. Writer: the agent, additions before the service values that need them, removals
//! after. Readers: the XDP and TC programs, for the first packet of a connection to a frontend with
//! [`crate::service::FLAG_SOURCE_RANGES`], and for no other. An entry lives as long as its service has the range; nothing
//! is evicted. When a trie is full the agent's write fails and the agent reports it; existing services are untouched.

use crate::{V4, V6, plain};

/// Name of the IPv4 trie: [`RangeKey<V4>`] -> `u32` ([`ALLOWED`]).
pub const SOURCE_RANGES_V4: &str = "SOURCE_RANGES_V4";
/// Name of the IPv6 trie: [`RangeKey<V6>`] -> `u32` ([`ALLOWED`]).
pub const SOURCE_RANGES_V6: &str = "SOURCE_RANGES_V6";
/// Default capacity of each; the loader may choose another.
pub const SOURCE_RANGES_CAPACITY: u32 = 1 << 16;

/// The one value of an entry: what matters is that there is one.
pub const ALLOWED: u32 = 1;

/// Bits of a prefix that are the service's number.
pub const SERVICE_BITS: u32 = 32;

/// A service's prefix, or an address that is looked for. `A` is [`V4`] or [`V6`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(C)]
pub struct RangeKey<A> {
    /// [`SERVICE_BITS`] and the length of the address prefix; all bits for a look-up.
    pub prefix_length: u32,
    /// [`crate::service::ServiceValue::id`].
    pub service: u32,
    /// The address; bits beyond the prefix are zero.
    pub address: A,
}

impl<A> RangeKey<A> {
    /// What to look for: a whole address.
    #[inline(always)]
    pub const fn whole(service: u32, address: A) -> Self {
        Self { prefix_length: SERVICE_BITS + size_of::<A>() as u32 * 8, service, address }
    }
}

plain!(RangeKey<V4>, RangeKey<V6>);

const _: () = {
    assert!(size_of::<RangeKey<V4>>() == 12 && align_of::<RangeKey<V4>>() == 4);
    assert!(size_of::<RangeKey<V6>>() == 24 && align_of::<RangeKey<V6>>() == 4);
};
