//! From an Ethernet frame to the tuple that flows are known by. Owns Ethernet, one VLAN tag, TCP and UDP; what is
//! between belongs to [`crate::family`]. Anything else is skipped: it is not for the datapath, and never an error.

use skep_abi::counters::Reason;
use skep_abi::{Be16, Plain, SCTP, TCP, UDP};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// What the network header says beside the addresses; the fields are those of [`Network`] with the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// See [`Network::protocol`].
    pub protocol: u8,
    /// See [`Network::hops`].
    pub hops: u8,
    /// See [`Network::length`].
    pub length: u32,
    /// See [`Network::header_length`].
    pub header_length: u32,
}

/// A TCP, UDP or SCTP packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet<A> {
    /// Network header.
    pub network: Network<A>,
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// TCP flags, or what comes closest to an SCTP packet's first chunk ([`sctp_flags`]); 0 for UDP.
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
    /// SCTP: dealt with apart ([`crate::fragment`]).
    Sctp,
    /// The family's ICMP: an error may be about a flow ([`crate::quote`]).
    Icmp,
    /// See [`Reason::Malformed`].
    Malformed,
    /// See [`Reason::Fragment`].
    Fragment,
    /// See [`Reason::ExtensionHeaders`].
    ExtensionHeaders,
    /// IPv4 options or IPv6 extension headers, which are left to TC.
    Options,
}

impl Skip {
    /// What to count; nothing for other protocols.
    #[inline(always)]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Foreign | Self::Sctp | Self::Icmp | Self::Options => None,
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

/// The start of an SCTP packet's first chunk, behind the 12 bytes of the common header (RFC 9260 sections 3.1 and 3.2).
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Chunk {
    pub(crate) kind: u8,
    flags: u8,
    length: Be16,
}

/// Length of an SCTP packet with the shortest chunk.
pub const SCTP_LEAST: u32 = 16;
/// Offset of the SCTP checksum.
pub const SCTP_CHECKSUM: usize = 8;
/// SCTP chunk types (RFC 9260 section 3.2).
pub const CHUNK_INIT: u8 = 1;
const CHUNK_INIT_ACK: u8 = 2;
/// See [`CHUNK_INIT`].
pub const CHUNK_ABORT: u8 = 6;
const CHUNK_SHUTDOWN: u8 = 7;
const CHUNK_SHUTDOWN_ACK: u8 = 8;
const CHUNK_SHUTDOWN_COMPLETE: u8 = 14;

/// The TCP flags that mean for a connection what an SCTP packet means whose first chunk is `chunk`. Chunks that open or
/// abort come first in their packets (RFC 9260 section 6.10); a shutdown behind data is missed, and costs nothing but that
/// the entry is thought to be of an open connection until it is evicted.
#[inline(always)]
pub const fn sctp_flags(chunk: u8) -> u8 {
    match chunk {
        CHUNK_INIT => SYN,
        CHUNK_INIT_ACK => SYN | ACK,
        CHUNK_ABORT | CHUNK_SHUTDOWN_COMPLETE => RST,
        CHUNK_SHUTDOWN | CHUNK_SHUTDOWN_ACK => FIN | ACK,
        _ => ACK,
    }
}

// SAFETY: `repr(C)` over integers, without padding (sizes asserted below).
unsafe impl Plain for Chunk {}
// SAFETY: as above.
unsafe impl Plain for Ports {}
// SAFETY: as above.
unsafe impl Plain for TcpHeader {}
// SAFETY: as above.
unsafe impl Plain for UdpHeader {}
const _: () = {
    assert!(size_of::<Ports>() == 4);
    assert!(size_of::<TcpHeader>() == 20);
    assert!(size_of::<UdpHeader>() == 8);
    assert!(size_of::<Chunk>() + 12 == SCTP_LEAST as usize);
};

/// A TCP packet's sequence and acknowledgment numbers, in the machine's order.
#[inline(always)]
pub fn numbers<A, B: Bytes + ?Sized>(bytes: &B, packet: &Packet<A>) -> Option<[u32; 2]> {
    // Which it is: a number that comes from memory is to be bounded anew for the verifier.
    let tcp: TcpHeader = bytes.load(packet.l4 & 0x3ff)?;
    Some([u32::from_be(tcp.sequence), u32::from_be(tcp.acknowledgment)])
}

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
    let Network { protocol, hops, length, header_length, .. } = network;
    let (ports, flags) = transport::<F, B>(bytes, l3, Header { protocol, hops, length, header_length })?;
    let l4 = l3 + header_length as usize;
    Ok(Packet { network, source_port: ports.source, destination_port: ports.destination, flags, l3, l4 })
}

/// As [`packet`], for network headers without options or extension headers, and into memory that is no stack
/// ([`Family::plain`]): where that fails something may have been written.
///
/// # Errors
///
/// As there, and [`Skip::Options`].
#[inline(always)]
pub fn plain<F: Family, B: Bytes + ?Sized>(
    bytes: &B,
    l3: usize,
    packet: &mut Packet<F::Address>,
) -> Result<(), Skip> {
    let network = &mut packet.network;
    let header = F::plain(bytes, l3, &mut network.source, &mut network.destination)?;
    let (ports, flags) = transport::<F, B>(bytes, l3, header)?;
    network.protocol = header.protocol;
    network.hops = header.hops;
    network.length = header.length;
    network.header_length = header.header_length;
    packet.source_port = ports.source;
    packet.destination_port = ports.destination;
    packet.flags = flags;
    packet.l3 = l3;
    packet.l4 = l3 + header.header_length as usize;
    Ok(())
}

/// The ports and the flags.
#[inline(always)]
fn transport<F: Family, B: Bytes + ?Sized>(
    bytes: &B,
    l3: usize,
    network: Header,
) -> Result<(Ports, u8), Skip> {
    let l4 = l3 + network.header_length as usize;
    Ok(match network.protocol {
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
        SCTP => return Err(Skip::Sctp),
        protocol if protocol == F::ICMP => return Err(Skip::Icmp),
        _ => return Err(Skip::Foreign),
    })
}
