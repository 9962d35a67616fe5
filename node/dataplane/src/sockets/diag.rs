//! The kernel's socket diagnosis for UDP: which sockets are connected, and the end of one.
//!
//! Owns the netlink conversation (`sock_diag(7)`; `SOCK_DESTROY` needs `CONFIG_INET_DIAG_DESTROY`). It speaks of the
//! network namespace of the thread that opened it.

use std::io;
use std::net::SocketAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagDestroy, SockDiagMessage};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};

/// A connected UDP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connected {
    /// The kernel's cookie of it, as programs see it.
    pub(super) cookie: u64,
    /// Number of its file.
    pub(super) inode: u32,
    /// What it is connected to; an IPv4-mapped address as IPv4.
    pub(super) remote: SocketAddr,
    family: u8,
    id: SocketId,
}

impl Connected {
    fn from_header(header: InetResponseHeader) -> Self {
        let id = header.socket_id;
        let ([a, b, c, d, e, f, g, h], address) = (id.cookie, id.destination_address.to_canonical());
        Self {
            // Two words, the low one first, each in the machine's order.
            cookie: u64::from(u32::from_ne_bytes([a, b, c, d]))
                | u64::from(u32::from_ne_bytes([e, f, g, h])) << 32,
            inode: header.inode,
            remote: SocketAddr::new(address, id.destination_port),
            family: header.family,
            id,
        }
    }
}

/// A conversation with the kernel about the sockets of one network namespace.
pub(super) struct Diag {
    socket: Socket,
}

impl Diag {
    /// For this thread's namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&NetlinkAddress::new(0, 0))?;
        Ok(Self { socket })
    }

    /// Every connected UDP socket, of both families.
    pub(super) fn connected_udp(&self) -> io::Result<Vec<Connected>> {
        let mut found = Vec::new();
        for (family, id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
            let request = SockDiagMessage::InetRequest(request(family, id));
            self.send(NLM_F_REQUEST | NLM_F_DUMP, request)?;
            self.receive::<SockDiagMessage>(|message| {
                if let SockDiagMessage::InetResponse(response) = message {
                    found.push(Connected::from_header(response.header));
                }
            })?;
        }
        Ok(found)
    }

    /// Ends a socket: whoever has it gets `ECONNABORTED`. One that is gone already is no error.
    pub(super) fn destroy(&self, socket: &Connected) -> io::Result<()> {
        let request = SockDiagMessage::InetRequest(request(socket.family, socket.id.clone()));
        self.send(NLM_F_REQUEST | NLM_F_ACK, SockDiagDestroy::new(request))?;
        match self.receive::<SockDiagMessage>(|_| {}) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn send<M>(&self, flags: u16, message: M) -> io::Result<()>
    where
        M: NetlinkSerializable + Into<NetlinkPayload<M>>,
    {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut packet = NetlinkMessage::new(header, message.into());
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// Takes messages until the kernel says that it was the last one, or what went wrong.
    fn receive<M: NetlinkDeserializable>(&self, mut each: impl FnMut(M)) -> io::Result<()> {
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<M>::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => each(inner),
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
                rest = rest.get(length.max(1).next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

fn request(family: u8, socket_id: SocketId) -> InetRequest {
    InetRequest {
        family,
        protocol: IPPROTO_UDP,
        extensions: ExtensionFlags::empty(),
        // What the kernel calls a UDP socket that is connected.
        states: StateFlags::ESTABLISHED,
        socket_id,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn connected_udp_lists_connected_sockets_of_both_families_with_cookie_and_inode() {
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = other.local_addr().unwrap();
        let v4 = UdpSocket::bind("127.0.0.1:0").unwrap();
        v4.connect(target).unwrap();
        let mapped = UdpSocket::bind("[::ffff:127.0.0.1]:0").unwrap();
        mapped.connect(format!("[::ffff:127.0.0.1]:{}", target.port())).unwrap();
        let found = Diag::open().unwrap().connected_udp().unwrap();
        for socket in [&v4, &mapped] {
            let cookie = rustix::net::sockopt::socket_cookie(socket).unwrap();
            let one = found.iter().find(|one| one.cookie == cookie).expect("it is listed");
            assert_eq!(one.remote, target);
            let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
            assert_eq!(link.to_str().unwrap(), format!("socket:[{}]", one.inode));
        }
        let unconnected = rustix::net::sockopt::socket_cookie(&other).unwrap();
        assert!(found.iter().all(|one| one.cookie != unconnected));
    }
}
