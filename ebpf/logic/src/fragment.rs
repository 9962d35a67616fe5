//! Fragments of packets to and from services. Owns which datagram a fragment belongs to and what happens to those that
//! belong to none that is known; what becomes of the rest is [`crate::decide`]'s, with the first fragment's ports.
//!
//! | fragment | to an address that services alone have | to any other |
//! |---|---|---|
//! | first, with a whole transport header | noted, then as any packet | as any packet, noted if that is of a flow |
//! | first, without one | dropped | passed |
//! | later, of a datagram that was noted | goes the way of its flow | goes the way of its flow |
//! | later, over the transport header, of a datagram that was noted | dropped | dropped |
//! | later, of any other | dropped | passed |
//!
//! Why a later fragment that comes before the first is dropped: [`skep_abi::fragment`]. Why one that reaches into the
//! transport header is: it would replace what was translated (RFC 1858, RFC 3128).

use skep_abi::counters::Reason;
use skep_abi::fragment::{FragmentKey, FragmentPorts, LIFE_TICKS};
use skep_abi::{Be16, TCP, UDP};

use crate::bytes::Bytes;
use crate::family::Family;
use crate::parse::{Network, Packet, TcpHeader, UdpHeader};
use crate::tables::Tables;

/// Bytes of the transport header that translation may change, at most.
const TRANSLATED: u32 = 20;

/// What the network header says of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<A> {
    /// The header; its protocol is the transport's.
    pub network: Network<A>,
    /// The identification, as it lies in the packet.
    pub id: u32,
    /// Where in the datagram its bytes belong.
    pub offset: u32,
}

/// The first fragment, its transport header whole.
pub const FIRST: u32 = 0;
/// The first fragment, its transport header cut.
pub const CUT: u32 = 1;
/// A later one.
pub const LATER: u32 = 2;
/// A later one that reaches into the transport header.
pub const OVER: u32 = 3;

/// A fragment of TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Piece<A> {
    /// As a packet. Only a first fragment has ports, and flags, before [`prepare`].
    pub packet: Packet<A>,
    /// What it shares with the datagram's other fragments.
    pub key: FragmentKey<A>,
    /// [`FIRST`], [`CUT`], [`LATER`] or [`OVER`].
    pub place: u32,
}

/// What is to be done with a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Decide about it as about a packet; note it if that finds a flow.
    Note,
    /// Decide about it as about a packet.
    Go,
    /// Leave it alone.
    Pass,
    /// Drop it.
    Drop(Reason),
}

/// Reads a fragment whose network header is at `l3`; nothing when it is none, or not of TCP or UDP.
#[inline(always)]
pub fn read<F: Family, B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Piece<F::Address>> {
    let Part { network, id, offset } = F::part(bytes, l3)?;
    let Network { source, destination, protocol, header_length, length, .. } = network;
    if !matches!(protocol, TCP | UDP) {
        return None;
    }
    let l4 = l3 + header_length as usize;
    let none = Be16::new(0);
    let mut packet = Packet { network, source_port: none, destination_port: none, flags: 0, l3, l4 };
    let place = if offset != 0 {
        if protocol == TCP && offset < TRANSLATED { OVER } else { LATER }
    } else if protocol == TCP {
        match bytes.load::<TcpHeader>(l4) {
            Some(tcp) if tcp.offset >> 4 >= 5 && header_length + u32::from(tcp.offset >> 4) * 4 <= length => {
                packet.source_port = tcp.ports.source;
                packet.destination_port = tcp.ports.destination;
                packet.flags = tcp.flags;
                FIRST
            }
            _ => CUT,
        }
    } else {
        match bytes.load::<UdpHeader>(l4) {
            Some(udp) if header_length + 8 <= length => {
                packet.source_port = udp.ports.source;
                packet.destination_port = udp.ports.destination;
                FIRST
            }
            _ => CUT,
        }
    };
    let key = FragmentKey { source, destination, id, protocol: u32::from(protocol) };
    Some(Piece { packet, key, place })
}

/// Finds out what is to be done with `piece`; gives a later fragment the ports of its datagram.
#[inline(always)]
pub fn prepare<F: Family, T: Tables<F>>(tables: &T, piece: &mut Piece<F::Address>) -> Step {
    let service = tables.front(F::front(&piece.key.destination, Be16::new(0), 0));
    if piece.place == FIRST {
        if service {
            note(tables, piece);
            return Step::Go;
        }
        return Step::Note;
    }
    if piece.place == CUT {
        return if service { Step::Drop(Reason::FragmentCut) } else { Step::Pass };
    }
    match tables.fragment(&piece.key) {
        Some(ports) if tables.now().wrapping_sub(ports.seen) <= LIFE_TICKS => {
            if piece.place == OVER {
                return Step::Drop(Reason::FragmentCut);
            }
            piece.packet.source_port = ports.source_port;
            piece.packet.destination_port = ports.destination_port;
            Step::Go
        }
        _ if service => Step::Drop(Reason::FragmentBeforeFirst),
        _ => Step::Pass,
    }
}

/// Notes the ports of a first fragment. That may fail: the others are then taken for strays.
#[inline(always)]
pub fn note<F: Family, T: Tables<F>>(tables: &T, piece: &Piece<F::Address>) {
    let Packet { source_port, destination_port, .. } = piece.packet;
    tables.insert_fragment(&piece.key, &FragmentPorts { source_port, destination_port, seen: tables.now() });
}
