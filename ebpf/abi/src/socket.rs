//! `PEERS_V4/6` and `PICKS_V4/6`: what the socket hooks remember about a socket.
//!
//! Least-recently-used hash maps. Writers and readers: the socket hooks; user space only reads. Entries live until
//! evicted: a socket's cookie is never used again. When a map is full the least recently used go: a connected socket then
//! shows the backend as its peer, an unconnected UDP socket may choose another backend for its next datagram, and its
//! replies come from the backend's address.
//!
//! - **peers**: (socket, backend) -> the frontend that the program asked for, so that `getpeername` and `recvmsg` show it,
//!   and so that the agent finds connected UDP sockets whose service has left their backend.
//! - **picks**: (socket, frontend) -> the backend chosen for an unconnected UDP socket, so that its datagrams stay together
//!   as they would with connection tracking. A pick counts only while its backend is active (see [`crate::backend`]).

use crate::{Be16, V4, V6, plain};

/// Name of the IPv4 map: [`SocketKey<V4>`] -> [`Peer<V4>`].
pub const PEERS_V4: &str = "PEERS_V4";
/// Name of the IPv6 map: [`SocketKey<V6>`] -> [`Peer<V6>`].
pub const PEERS_V6: &str = "PEERS_V6";
/// Name of the IPv4 map: [`SocketKey<V4>`] -> [`Pick<V4>`].
pub const PICKS_V4: &str = "PICKS_V4";
/// Name of the IPv6 map: [`SocketKey<V6>`] -> [`Pick<V6>`].
pub const PICKS_V6: &str = "PICKS_V6";
/// Default capacity of each.
pub const SOCKETS_CAPACITY: u32 = 1 << 16;

/// A socket and one address: the backend's in peers, the frontend's in picks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct SocketKey<A> {
    /// The kernel's socket cookie: low word, high word.
    pub cookie: [u32; 2],
    /// Address.
    pub address: A,
    /// Port.
    pub port: Be16,
    /// [`crate::TCP`] or [`crate::UDP`].
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
}

/// The frontend behind a socket's backend.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct Peer<A> {
    /// Address that the program asked for.
    pub address: A,
    /// Port that the program asked for.
    pub port: Be16,
    /// Zero.
    pub reserved: u16,
}

/// The backend behind a socket's frontend.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct Pick<A> {
    /// Backend's address.
    pub address: A,
    /// Backend's port.
    pub port: Be16,
    /// Zero.
    pub reserved: u16,
    /// [`crate::backend::Backend::id`].
    pub backend: u32,
    /// Generation of that id when it was chosen.
    pub generation: u32,
}

plain!(SocketKey<V4>, SocketKey<V6>, Peer<V4>, Peer<V6>, Pick<V4>, Pick<V6>);

const _: () = {
    assert!(size_of::<SocketKey<V4>>() == 16 && size_of::<SocketKey<V6>>() == 28);
    assert!(size_of::<Peer<V4>>() == 8 && size_of::<Peer<V6>>() == 20);
    assert!(size_of::<Pick<V4>>() == 16 && size_of::<Pick<V6>>() == 28);
};
