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
//!
//! Whole SCTP packets are dealt with here too, apart from the code and the stack of what there is more of. Fragments of SCTP
//! are left alone: its checksum goes over the whole packet, and a first fragment does not say how long that
//! is. SCTP cuts its messages itself, so that there are none where the path's MTU is known.
//!
//! A translated fragment leaves with another identification ([`leaving_id`]). Receivers put together what has the same two
//! addresses and identification; translated, packets of several clients or services have the same two addresses, and their
//! senders, who do not know of each other, may well use the same identification.

use skep_abi::counters::Reason;
use skep_abi::fragment::{FragmentKey, FragmentPorts, LIFE_TICKS};
use skep_abi::{Be16, SCTP, TCP, UDP};

use crate::bytes::Bytes;
use crate::choose;
use crate::family::Family;
use crate::parse::{Chunk, Network, Packet, Ports, SCTP_LEAST, TcpHeader, UdpHeader, sctp_flags};
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
/// No fragment: a whole SCTP packet.
pub const WHOLE: u32 = 4;

/// A fragment of TCP or UDP, or an SCTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Piece<A> {
    /// As a packet. Only a first fragment has ports, and flags, before [`prepare`].
    pub packet: Packet<A>,
    /// What it shares with the datagram's other fragments.
    pub key: FragmentKey<A>,
    /// [`FIRST`], [`CUT`], [`LATER`], [`OVER`] or [`WHOLE`].
    pub place: u32,
    /// The identification with which it leaves if it is translated; known after [`prepare`].
    pub new_id: u32,
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
    Some(Piece { packet, key, place, new_id: id })
}

/// Reads a whole SCTP packet whose network header is at `l3` into `piece`, and says whether it is one. Straight into memory,
/// since the stack of the kernel's virtual machine has no room for it ("combined stack size of 3 calls is 528. Too large",
/// Linux 6.18).
#[inline(always)]
pub fn read_whole<F: Family, B: Bytes + ?Sized>(bytes: &B, l3: usize, piece: &mut Piece<F::Address>) -> bool {
    let Ok(network) = F::network(bytes, l3) else { return false };
    let l4 = l3 + network.header_length as usize;
    let Some(ports) = bytes.load::<Ports>(l4) else { return false };
    let Some(chunk) = bytes.load::<Chunk>(l4 + 12) else { return false };
    if network.protocol != SCTP || network.header_length + SCTP_LEAST > network.length {
        return false;
    }
    piece.place = WHOLE;
    let packet = &mut piece.packet;
    packet.network = network;
    packet.source_port = ports.source;
    packet.destination_port = ports.destination;
    packet.flags = sctp_flags(chunk.kind);
    packet.l3 = l3;
    packet.l4 = l4;
    true
}

/// The identification with which fragments leave that arrive with that of `piece`: moved by a distance that the whole tuple
/// decides. Equal for all fragments of a datagram without a word being kept about it, different for different datagrams of
/// one flow, and for datagrams of different flows equal by chance alone, as it is for any two of a busy sender's.
#[inline(always)]
fn leaving_id<F: Family>(piece: &Piece<F::Address>) -> u32 {
    let packet = &piece.packet;
    let [one, other] = F::pair(0, &packet.network.source, &packet.network.destination);
    let ports = u32::from(packet.source_port.raw()) | u32::from(packet.destination_port.raw()) << 16;
    let distance = choose::scramble(choose::scramble(one ^ ports) ^ other);
    if F::IS_V4 {
        let id = Be16::from_raw(piece.key.id as u16).get();
        u32::from(Be16::new(id.wrapping_add(distance as u16)).raw())
    } else {
        piece.key.id ^ distance
    }
}

/// Finds out what is to be done with `piece`; gives a later fragment the ports of its datagram.
#[inline(always)]
pub fn prepare<F: Family, T: Tables<F>>(tables: &T, piece: &mut Piece<F::Address>) -> Step {
    let service = tables.front(F::front(&piece.key.destination, Be16::new(0), 0));
    if piece.place == FIRST {
        piece.new_id = leaving_id::<F>(piece);
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
            piece.new_id = leaving_id::<F>(piece);
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
