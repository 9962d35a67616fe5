//! From an Ethernet frame to the tuple that flows are known by. Owns Ethernet, one VLAN tag, TCP and UDP; what is
//! between belongs to [`crate::family`]. Anything else is skipped: it is not for the datapath, and never an error.

use skep_abi::counters::Reason;
use skep_abi::{Be16, Plain, TCP, UDP};

use crate::bytes::Bytes;
use crate::family::Family;

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Length of a VLAN tag.
pub const VLAN: usize = 4;

/// TCP flag bits (RFC 9293), as they lie in the flags octet.
pub const FIN: u8 = 0x01;
/// See [`FIN`].
pub const SYN: u8 = 0x02;
/// See [`FIN`].
pub const RST: u8 = 0x04;
/// See [`FIN`].
pub const ACK: u8 = 0x10;

/// What the network header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Transport protocol.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub hops: u8,
    /// Length from the network header on, by the header's own account.
    pub length: u32,
    /// Length of the network header with options or extension headers.
    pub header_length: u32,
}

/// A TCP or UDP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<A> {
    /// Network header.
    pub network: Network<A>,
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// TCP flags; 0 for UDP.
    pub flags: u8,
    /// Offset of the network header.
    pub l3: usize,
    /// Offset of the transport header.
    pub l4: usize,
}

/// Why a packet is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Another protocol.
    Foreign,
    /// The family's ICMP: an error may be about a flow ([`crate::quote`]).
    Icmp,
    /// See [`Reason::Malformed`].
    Malformed,
    /// See [`Reason::Fragment`].
    Fragment,
    /// See [`Reason::ExtensionHeaders`].
    ExtensionHeaders,
}

impl Skip {
    /// What to count; nothing for other protocols.
    #[inline(always)]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Foreign | Self::Icmp => None,
            Self::Malformed => Some(Reason::Malformed),
            Self::Fragment => Some(Reason::Fragment),
            Self::ExtensionHeaders => Some(Reason::ExtensionHeaders),
        }
    }
}

/// What the Ethernet header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// EtherType of what follows, in the machine's order.
    pub ethertype: u16,
    /// Offset of what follows.
    pub offset: usize,
}

/// The four bytes that every transport here starts with.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ports {
    /// Source port.
    pub source: Be16,
    /// Destination port.
    pub destination: Be16,
}

/// TCP header without options (RFC 9293).
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct TcpHeader {
    pub(crate) ports: Ports,
    sequence: u32,
    acknowledgment: u32,
    pub(crate) offset: u8,
    pub(crate) flags: u8,
    window: Be16,
    checksum: Be16,
    urgent: Be16,
}

/// UDP header (RFC 768).
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct UdpHeader {
    pub(crate) ports: Ports,
    length: Be16,
    checksum: Be16,
}

// SAFETY: `repr(C)` over integers, without padding (sizes asserted below).
unsafe impl Plain for Ports {}
// SAFETY: as above.
unsafe impl Plain for TcpHeader {}
// SAFETY: as above.
unsafe impl Plain for UdpHeader {}
const _: () = {
    assert!(size_of::<Ports>() == 4);
    assert!(size_of::<TcpHeader>() == 20);
    assert!(size_of::<UdpHeader>() == 8);
};

/// Reads the Ethernet header and at most one VLAN tag (802.1Q or 802.1ad).
#[inline(always)]
pub fn link<B: Bytes + ?Sized>(bytes: &B) -> Option<Link> {
    let ethertype: Be16 = bytes.load(12)?;
    match ethertype.get() {
        0x8100 | 0x88a8 => {
            let inner: Be16 = bytes.load(16)?;
            Some(Link { ethertype: inner.get(), offset: ETHERNET + VLAN })
        }
        plain => Some(Link { ethertype: plain, offset: ETHERNET }),
    }
}

/// Reads the network and transport headers, the network header being at `l3`.
///
/// # Errors
///
/// Why the packet is left alone.
#[inline(always)]
pub fn packet<F: Family, B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Result<Packet<F::Address>, Skip> {
    let network = F::network(bytes, l3)?;
    let l4 = l3 + network.header_length as usize;
    let (ports, flags) = match network.protocol {
        TCP => {
            let tcp: TcpHeader = bytes.load(l4).ok_or(Skip::Malformed)?;
            let offset = u32::from(tcp.offset >> 4) * 4;
            if offset < 20 || network.header_length + offset > network.length {
                return Err(Skip::Malformed);
            }
            (tcp.ports, tcp.flags)
        }
        UDP => {
            let udp: UdpHeader = bytes.load(l4).ok_or(Skip::Malformed)?;
            if udp.length.get() < 8 || network.header_length + u32::from(udp.length.get()) > network.length {
                return Err(Skip::Malformed);
            }
            (udp.ports, 0)
        }
        protocol if protocol == F::ICMP => return Err(Skip::Icmp),
        _ => return Err(Skip::Foreign),
    };
    Ok(Packet { network, source_port: ports.source, destination_port: ports.destination, flags, l3, l4 })
}
