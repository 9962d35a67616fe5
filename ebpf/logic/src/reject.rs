//! The answer to a refused packet: a TCP reset (RFC 9293), an SCTP ABORT (RFC 9260 section 8.4; an ICMP error that quotes an
//! INIT as briefly as ours would not be believed) or an ICMP "port unreachable" (RFC 792, RFC 4443), as a whole Ethernet frame. Owns the bytes of the answer; sending it is the programs' part. Packets with IP options or extension
//! headers, or a VLAN tag, get no answer.
//!
//! The frame is made of 16-bit words as they lie in memory, which is the alignment that the headers have behind an
//! Ethernet header, and the unit of the checksums.

use skep_abi::{Be16, SCTP, TCP};

use crate::bytes::Bytes;
use crate::checksum::fold16;
use crate::family::Family;
use crate::parse::{ACK, CHUNK_ABORT, ETHERNET, FIN, Packet, RST, SCTP_CHECKSUM, SYN};
use crate::sctp;

/// Words of the longest answer: Ethernet, IPv6, ICMPv6, and the refused packet's IPv6 header and 8 bytes.
pub const MAX_WORDS: usize = 55;
/// First word of the network header.
const L3: usize = ETHERNET / 2;
/// Hop count of answers.
const HOPS: u8 = 64;

/// An answer.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Answer {
    /// The frame; words beyond its length are zero.
    pub words: [u16; MAX_WORDS],
    /// Words in use.
    pub length: u16,
}

impl Answer {
    /// No answer yet.
    pub const EMPTY: Self = Self { words: [0; MAX_WORDS], length: 0 };
}

/// Words of the answer to a packet of this protocol: known at compile time for either.
#[inline(always)]
pub const fn words<F: Family>(protocol: u8) -> usize {
    let transport = match protocol {
        TCP => 20,
        SCTP => 16,
        _ => 8 + F::HEADER + 8,
    };
    (ETHERNET + F::HEADER + transport) / 2
}

/// Writes the answer to `packet`, which is of `protocol`: a constant in each call, so that the kernel's verifier follows one
/// way through all that is done for an answer. Returns whether there is one.
#[inline(always)]
pub fn build<F: Family, B: Bytes + ?Sized>(
    bytes: &B,
    packet: &Packet<F::Address>,
    protocol: u8,
    answer: &mut Answer,
) -> bool {
    // So the transport header is at a place that is known, and not only in memory.
    if packet.l3 != ETHERNET || packet.network.header_length as usize != F::HEADER {
        return false;
    }
    let written = match protocol {
        TCP => reset::<F, B>(bytes, packet, answer),
        SCTP => abort::<F, B>(bytes, packet, answer),
        _ => unreachable::<F, B>(bytes, packet, answer),
    };
    written.is_some()
}

/// Swapped Ethernet addresses, and the network header with swapped addresses.
#[inline(always)]
fn headers<F: Family, B: Bytes + ?Sized>(
    bytes: &B,
    packet: &Packet<F::Address>,
    protocol: u8,
    payload: u16,
    words: &mut [u16; MAX_WORDS],
) -> Option<u64> {
    bytes.copy::<3>(6, words)?;
    bytes.copy::<3>(0, &mut words[3..])?;
    words[6] = Be16::new(F::ETHERTYPE).raw();
    let source = F::words(&packet.network.destination);
    let destination = F::words(&packet.network.source);
    if F::IS_V4 {
        words[L3] = Be16::new(0x4500).raw();
        words[L3 + 1] = Be16::new(20 + payload).raw();
        words[L3 + 2] = 0;
        words[L3 + 3] = Be16::new(0x4000).raw();
        words[L3 + 4] = u16::from_ne_bytes([HOPS, protocol]);
        words[L3 + 5] = 0;
        words[L3 + 6] = source[0];
        words[L3 + 7] = source[1];
        words[L3 + 8] = destination[0];
        words[L3 + 9] = destination[1];
        words[L3 + 5] = !fold16(sum::<10>(words, L3));
    } else {
        words[L3] = Be16::new(0x6000).raw();
        words[L3 + 1] = 0;
        words[L3 + 2] = Be16::new(payload).raw();
        words[L3 + 3] = u16::from_ne_bytes([protocol, HOPS]);
        let mut at = 0;
        while at < 8 {
            words[L3 + 4 + at] = source[at];
            words[L3 + 12 + at] = destination[at];
            at += 1;
        }
    }
    // The pseudo-header's sum.
    let addresses = F::sum(&packet.network.source) + F::sum(&packet.network.destination);
    Some(addresses + u64::from(Be16::new(payload).raw()) + u64::from(Be16::new(u16::from(protocol)).raw()))
}

#[inline(always)]
fn sum<const COUNT: usize>(words: &[u16; MAX_WORDS], start: usize) -> u64 {
    let mut total = 0;
    let mut at = 0;
    while at < COUNT {
        total += u64::from(words[start + at]);
        at += 1;
    }
    total
}

/// A reset, numbered as RFC 9293 section 3.10.7.1 says.
#[inline(always)]
fn reset<F: Family, B: Bytes + ?Sized>(
    bytes: &B,
    packet: &Packet<F::Address>,
    answer: &mut Answer,
) -> Option<()> {
    let words = &mut answer.words;
    let pseudo = headers::<F, B>(bytes, packet, TCP, 20, words)?;
    let l4 = L3 + F::HEADER / 2;
    let offset: Be16 = bytes.load(ETHERNET + F::HEADER + 12)?;
    let header_length = u32::from(offset.get() >> 12) * 4;
    let (sequence, acknowledgment, flags) = if packet.flags & ACK != 0 {
        (bytes.load(ETHERNET + F::HEADER + 8)?, 0, RST)
    } else {
        let sequence: u32 = bytes.load(ETHERNET + F::HEADER + 4)?;
        let data =
            packet.network.length.wrapping_sub(packet.network.header_length).wrapping_sub(header_length);
        let control = u32::from(packet.flags & SYN != 0) + u32::from(packet.flags & FIN != 0);
        (0_u32, u32::from_be(sequence).wrapping_add(data).wrapping_add(control).to_be(), RST | ACK)
    };
    words[l4] = packet.destination_port.raw();
    words[l4 + 1] = packet.source_port.raw();
    words[l4 + 2] = sequence as u16;
    words[l4 + 3] = (sequence >> 16) as u16;
    words[l4 + 4] = acknowledgment as u16;
    words[l4 + 5] = (acknowledgment >> 16) as u16;
    words[l4 + 6] = u16::from_ne_bytes([5 << 4, flags]);
    words[l4 + 7] = 0;
    words[l4 + 8] = 0;
    words[l4 + 9] = 0;
    words[l4 + 8] = !fold16(pseudo + sum::<10>(words, l4));
    answer.length = words_u16::<F>(TCP);
    Some(())
}

/// An ABORT. To an INIT it carries the tag that the INIT asks for; to anything else the packet's own, and says so (T bit).
#[inline(always)]
fn abort<F: Family, B: Bytes + ?Sized>(
    bytes: &B,
    packet: &Packet<F::Address>,
    answer: &mut Answer,
) -> Option<()> {
    let words = &mut answer.words;
    headers::<F, B>(bytes, packet, SCTP, 16, words)?;
    let l4 = L3 + F::HEADER / 2;
    let opens = packet.flags & (SYN | ACK) == SYN;
    // The initiate tag is the INIT chunk's first field. The offset as a constant, which `build` has seen to: SCTP packets are
    // kept in memory that the kernel's verifier knows nothing about.
    let at = ETHERNET + F::HEADER;
    let tag: u32 = if opens { bytes.load(at + 16)? } else { bytes.load(at + 4)? };
    words[l4] = packet.destination_port.raw();
    words[l4 + 1] = packet.source_port.raw();
    words[l4 + 2] = tag as u16;
    words[l4 + 3] = (tag >> 16) as u16;
    words[l4 + SCTP_CHECKSUM / 2] = 0;
    words[l4 + SCTP_CHECKSUM / 2 + 1] = 0;
    words[l4 + 6] = u16::from_ne_bytes([CHUNK_ABORT, u8::from(!opens)]);
    words[l4 + 7] = Be16::new(4).raw();
    let sum = sctp::checksum::<8>(words, l4).to_le();
    words[l4 + SCTP_CHECKSUM / 2] = sum as u16;
    words[l4 + SCTP_CHECKSUM / 2 + 1] = (sum >> 16) as u16;
    answer.length = words_u16::<F>(SCTP);
    Some(())
}

/// A "port unreachable" that quotes the network header and 8 bytes, enough for the sender to find its socket.
#[inline(always)]
fn unreachable<F: Family, B: Bytes + ?Sized>(
    bytes: &B,
    packet: &Packet<F::Address>,
    answer: &mut Answer,
) -> Option<()> {
    let words = &mut answer.words;
    let payload = (8 + F::HEADER + 8) as u16;
    let pseudo = headers::<F, B>(bytes, packet, F::ICMP, payload, words)?;
    let l4 = L3 + F::HEADER / 2;
    words[l4] = if F::IS_V4 { u16::from_ne_bytes([3, 3]) } else { u16::from_ne_bytes([1, 4]) };
    words[l4 + 1] = 0;
    words[l4 + 2] = 0;
    words[l4 + 3] = 0;
    if F::IS_V4 {
        bytes.copy::<14>(ETHERNET, &mut words[l4 + 4..])?;
    } else {
        bytes.copy::<24>(ETHERNET, &mut words[l4 + 4..])?;
    }
    words[l4 + 1] =
        if F::IS_V4 { !fold16(sum::<18>(words, l4)) } else { !fold16(pseudo + sum::<28>(words, l4)) };
    answer.length = words_u16::<F>(packet.network.protocol);
    Some(())
}

#[inline(always)]
const fn words_u16<F: Family>(protocol: u8) -> u16 {
    words::<F>(protocol) as u16
}
