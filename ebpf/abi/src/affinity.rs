//! `AFFINITY`: the backend that a client of a service with session affinity was given last.
//!
//! A least-recently-used hash map, shared by both families: a service port's number belongs to one of them. Writers and
//! readers: the XDP, TC and socket programs, and only when a new connection is made; user space only reads. What a SYN alone
//! leads to is not written down: a client without an entry that counts is given a backend by its address and the time of the
//! entry that counts no more, so that its connections meet the same one whether or not the first is made by then, and may
//! meet another after the next time-out. An entry counts while it is younger than the service's time-out, and every new
//! connection of the client renews it. One whose backend is not active any more, or lives another life, is not followed and
//! is written anew. When the map is full the least recently used entries go, whose clients then choose again.

use crate::backend::Backend;
use crate::flow::TICK_SHIFT;
use crate::{V6, plain};

/// Name of the map: [`AffinityKey`] -> [`Affinity`].
pub const AFFINITY: &str = "AFFINITY";
/// Default capacity; the loader may choose another.
pub const AFFINITY_CAPACITY: u32 = 1 << 16;

/// The client is an address, IPv4 in the first word ([`V6::from_first`]).
pub const CLIENT_ADDRESS: u32 = 0;
/// The client is a network namespace: its cookie's low and high word. A socket that connects has no address yet, and a
/// pod's sockets share its namespace.
pub const CLIENT_NAMESPACE: u32 = 1;

/// A client of a service port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct AffinityKey {
    /// Who it is.
    pub client: V6,
    /// [`crate::service::ServiceValue::id`].
    pub service: u32,
    /// `CLIENT_*`.
    pub kind: u32,
}

/// Its backend.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct Affinity {
    /// The backend, as it was in the slice.
    pub backend: Backend,
    /// Generation of the backend's id when it was chosen.
    pub generation: u32,
    /// Tick of the client's last new connection.
    pub last_used: u32,
}

/// A time-out in the ticks of [`Affinity::last_used`].
#[inline(always)]
pub const fn ticks(seconds: u32) -> u32 {
    ((seconds as u64 * 1_000_000_000) >> TICK_SHIFT) as u32
}

plain!(AffinityKey, Affinity);

const _: () = {
    assert!(size_of::<AffinityKey>() == 24 && align_of::<AffinityKey>() == 4);
    assert!(size_of::<Affinity>() == 32 && align_of::<Affinity>() == 4);
};
