//! `CONNECTED_V4/6`, `PEERS_V4/6` and `PICKS_V4/6`: what the socket hooks remember about a socket.
//!
//! Writers and readers: the socket hooks; user space only reads. A socket's cookie is never used again.
//!
//! - **connected**: what a socket was connected to, and the frontend that its program had asked for, so that `getpeername` and
//!   `recvmsg` show that, and so that the agent finds connected UDP sockets whose service has left their backend. Arrays,
//!   mapped into memory. A socket's place follows from its cookie ([`place`]); each protocol has its own half. The kernel
//!   counts cookies up, so that neighbours in time are neighbours in memory, and a place is taken by a socket some
//!   [`CONNECTED_SOCKETS`] younger: the older one then shows the backend as its peer and, over UDP, stays with it. What two
//!   sockets write at once is of neither, which the [`seal`] tells.
//! - **peers**: (socket, backend) -> frontend for UDP sockets that are not connected, which may have many of either. Up to
//!   version 6 also for those that are; what is found here is of no less worth than what is found there.
//! - **picks**: (socket, frontend) -> the backend chosen for an unconnected UDP socket, so that its datagrams stay together
//!   as they would with connection tracking. A pick counts only while its backend is active (see [`crate::backend`]).
//!
//! Peers and picks are least-recently-used hash maps: when one is full the least recently used go. An unconnected UDP socket
//! may then choose another backend for its next datagram, and its replies come from the backend's address.

use crate::flow::{FlowAddress, mix};
use crate::{Be16, UDP, V4, V6, plain};

/// Name of the IPv4 array of [`Connected<V4>`].
pub const CONNECTED_V4: &str = "CONNECTED_V4";
/// Name of the IPv6 array of [`Connected<V6>`].
pub const CONNECTED_V6: &str = "CONNECTED_V6";
/// Places for the sockets of one protocol; a power of two.
pub const CONNECTED_SOCKETS: u32 = 1 << 16;
/// Entries of each array: UDP's places, then TCP's.
pub const CONNECTED_CAPACITY: u32 = 2 * CONNECTED_SOCKETS;
/// Name of the IPv4 map: [`SocketKey<V4>`] -> [`Peer<V4>`].
pub const PEERS_V4: &str = "PEERS_V4";
/// Name of the IPv6 map: [`SocketKey<V6>`] -> [`Peer<V6>`].
pub const PEERS_V6: &str = "PEERS_V6";
/// Name of the IPv4 map: [`SocketKey<V4>`] -> [`Pick<V4>`].
pub const PICKS_V4: &str = "PICKS_V4";
/// Name of the IPv6 map: [`SocketKey<V6>`] -> [`Pick<V6>`].
pub const PICKS_V6: &str = "PICKS_V6";
/// Default capacity of each map of peers and of picks.
pub const SOCKETS_CAPACITY: u32 = 1 << 16;

/// Where the socket with that cookie has its place.
#[inline(always)]
pub const fn place(cookie: u64, protocol: u8) -> u32 {
    let first = if protocol == UDP { 0 } else { CONNECTED_SOCKETS };
    first | (cookie as u32 & (CONNECTED_SOCKETS - 1))
}

/// A connected socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct Connected<A> {
    /// The kernel's socket cookie; 0 in a place that no socket has had.
    pub cookie: u64,
    /// Address that it was connected to.
    pub backend: A,
    /// Address that the program asked for.
    pub frontend: A,
    /// Port that it was connected to.
    pub backend_port: Be16,
    /// Port that the program asked for.
    pub frontend_port: Be16,
    /// [`crate::TCP`] or [`crate::UDP`].
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// [`seal`] of it all.
    pub seal: u64,
}

/// What an entry's fields come to; `pair` is [`crate::flow::FlowKey::pair`] of backend and frontend with the cookie as the
/// seed. An entry that does not is of two sockets.
#[inline(always)]
pub const fn seal(cookie: u64, pair: [u32; 2], ports: [Be16; 2], protocol: u8) -> u64 {
    let addresses = pair[0] as u64 | (pair[1] as u64) << 32;
    let rest = ports[0].raw() as u64 | (ports[1].raw() as u64) << 16 | (protocol as u64) << 32;
    mix(mix(addresses, cookie, 0x9e37_79b9_7f4a_7c15), rest, 0xbf58_476d_1ce4_e5b9)
}

impl<A: FlowAddress> Connected<A> {
    /// Whether it is one socket's entry: there is one, and its fields belong together.
    pub fn is_whole(&self) -> bool {
        let pair = A::pair(self.cookie, self.backend, self.frontend);
        let ports = [self.backend_port, self.frontend_port];
        self.cookie != 0 && self.seal == seal(self.cookie, pair, ports, self.protocol)
    }
}

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

plain!(Connected<V4>, Connected<V6>, SocketKey<V4>, SocketKey<V6>, Peer<V4>, Peer<V6>, Pick<V4>, Pick<V6>);

const _: () = {
    assert!(CONNECTED_SOCKETS.is_power_of_two());
    // Two of IPv4's in a cache line.
    assert!(size_of::<Connected<V4>>() == 32 && core::mem::offset_of!(Connected<V4>, seal) == 24);
    assert!(size_of::<Connected<V6>>() == 56 && core::mem::offset_of!(Connected<V6>, seal) == 48);
    assert!(size_of::<SocketKey<V4>>() == 16 && size_of::<SocketKey<V6>>() == 28);
    assert!(size_of::<Peer<V4>>() == 8 && size_of::<Peer<V6>>() == 20);
    assert!(size_of::<Pick<V4>>() == 16 && size_of::<Pick<V6>>() == 28);
};

#[cfg(test)]
mod tests {
    use super::*;

    fn connected() -> Connected<V6> {
        let (backend, frontend) = (V6([1, 2, 3, 4]), V6([5, 6, 7, 8]));
        let ports = [Be16::new(8080), Be16::new(80)];
        let pair = V6::pair(99, backend, frontend);
        Connected {
            cookie: 99,
            backend,
            frontend,
            backend_port: ports[0],
            frontend_port: ports[1],
            protocol: UDP,
            reserved: [0; 3],
            seal: seal(99, pair, ports, UDP),
        }
    }

    #[test]
    fn entry_is_whole_only_with_all_of_its_own_fields() {
        let whole = connected();
        assert!(whole.is_whole());
        let others = [
            Connected { cookie: 99 + u64::from(CONNECTED_SOCKETS), ..whole },
            Connected { backend: V6([1, 2, 3, 5]), ..whole },
            Connected { frontend: whole.backend, ..whole },
            Connected { backend_port: whole.frontend_port, frontend_port: whole.backend_port, ..whole },
            Connected { frontend_port: Be16::new(81), ..whole },
            Connected { protocol: crate::TCP, ..whole },
            Connected { seal: 0, ..whole },
        ];
        for other in others {
            assert!(!other.is_whole(), "{other:?}");
        }
        let nothing = Connected { cookie: 0, seal: seal(0, [0; 2], [Be16::default(); 2], 0), ..whole };
        assert!(!nothing.is_whole());
    }

    #[test]
    fn place_of_each_protocol_is_in_its_own_half() {
        for cookie in [1, 65_535, 65_536, u64::MAX] {
            assert!(place(cookie, UDP) < CONNECTED_SOCKETS);
            assert_eq!(place(cookie, crate::TCP), place(cookie, UDP) + CONNECTED_SOCKETS);
        }
        assert_eq!(place(7, UDP), place(7 + u64::from(CONNECTED_SOCKETS), UDP));
    }
}
