//! ICMP errors about packets of known flows (RFC 792, RFC 4443): reading what they quote, finding the flow that they
//! travel with, and the checksums that follow from translating them. Owns the rule which way an error goes; writing it is
//! the programs' part.
//!
//! An error quotes a packet that its receiver is taken to have sent. Whoever complains about a packet that left here
//! translated quotes the translated one, and sends the error to the translated source: the error belongs to the opposite
//! direction of that flow. So the quoted tuple, turned round, is what a packet of that direction would arrive with, and the
//! flow found under it says how everything in the error is to be written:
//!
//! | | arrives | leaves |
//! |---|---|---|
//! | destination | quoted source | the flow's new destination |
//! | source | whoever complains | the flow's new source where the flow translates its source, else as it was |
//! | quoted source | | the flow's new destination |
//! | quoted destination | | the flow's new source |
//!
//! So a client sees errors from behind a service as the service's, a router's on the way to the backend too, and never an
//! address that it did not send to. An error that quotes nothing of ours, or whose quote is cut short, is not what its own
//! lengths say, or is itself a fragment, is left alone. An error never makes a flow, keeps one alive or changes its state.

use skep_abi::counters::Reason;
use skep_abi::flow::{EGRESS_UNRESOLVED, Flow};
use skep_abi::{Be16, SCTP, TCP, UDP};

use crate::bytes::Bytes;
use crate::checksum::Delta;
use crate::decide::{Hook, Outcome, Question, is_of, key};
use crate::family::Family;
use crate::maintain;
use crate::parse::{Network, Packet, Ports};
use crate::prepare::{Prepared, Task};
use crate::tables::Tables;

/// Length of an ICMP error's own header.
const ICMP: usize = 8;
/// Bytes of the quoted transport header that every error must have (RFC 792).
const QUOTED: u32 = 8;
/// Mask of the offsets in a [`Quote`]: what lies further into a packet is not read. A power of two less one, since a quote
/// is kept in memory that the kernel's verifier knows nothing about: masked where it is used, an offset has a bound again.
pub const WITHIN: usize = 0x3ff;

/// An ICMP error and the packet it quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Quote<A> {
    /// The quoted packet turned round, as a packet of the flow that the error travels with: its tuple, and the error's own
    /// length, hops and network header. `l4` is the ICMP header's offset.
    pub packet: Packet<A>,
    /// Who complains.
    pub sender: A,
    /// Offset of the quoted network header.
    pub inner: usize,
    /// Offset of the quoted transport header.
    pub inner_l4: usize,
    /// Offset of the quoted transport checksum; 0 when the quote ends before it.
    pub checksum: usize,
}

/// The checksums of a translated error, as they lie in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// Of the network header (IPv4).
    pub header: u16,
    /// Of the ICMP message.
    pub message: u16,
    /// Of the quoted network header (IPv4).
    pub inner_header: u16,
    /// Of the quoted transport header, where it is there.
    pub inner: u16,
}

/// Reads an ICMP error whose network header is at `l3`; nothing when it is none, or quotes nothing that can be told.
#[inline(always)]
pub fn read<F: Family, B: Bytes + ?Sized>(bytes: &B, l3: usize) -> Option<Quote<F::Address>> {
    if !F::IS_V4 {
        // Behind extension headers nothing is looked for: one walk through such headers, the quote's, is enough.
        let next: Be16 = bytes.load(l3 + 6)?;
        if next.get() >> 8 != u16::from(F::ICMP) {
            return None;
        }
    }
    let outer = F::network(bytes, l3).ok()?;
    let l4 = l3 + outer.header_length as usize;
    let kind: Be16 = bytes.load(l4)?;
    if outer.protocol != F::ICMP || !F::is_error((kind.get() >> 8) as u8) {
        return None;
    }
    let inner_l3 = l4 + ICMP;
    let inner = F::network(bytes, inner_l3).ok()?;
    if inner.source != outer.destination || !matches!(inner.protocol, TCP | UDP | SCTP) {
        return None;
    }
    let headers = outer.header_length + ICMP as u32 + inner.header_length;
    if headers + QUOTED > outer.length {
        return None;
    }
    let inner_l4 = inner_l3 + inner.header_length as usize;
    let ports: Ports = bytes.load(inner_l4)?;
    let within = if inner.protocol == TCP { 16 } else { 6 };
    // SCTP's sum is over the whole packet, which is not here; nobody checks what is quoted of it.
    let quoted = inner.protocol != SCTP && headers + within + 2 <= outer.length;
    let checksum = inner_l4 + within as usize;
    if checksum > WITHIN {
        return None;
    }
    let checksum = if quoted && bytes.load::<u16>(checksum).is_some() { checksum } else { 0 };
    let network =
        Network { source: inner.destination, destination: inner.source, protocol: inner.protocol, ..outer };
    let packet =
        Packet { network, source_port: ports.destination, destination_port: ports.source, flags: 0, l3, l4 };
    Some(Quote { packet, sender: outer.source, inner: inner_l3, inner_l4, checksum })
}

/// The error's source after translation.
#[inline(always)]
pub fn sender<F: Family>(quote: &Quote<F::Address>, flow: &Flow<F::Address>) -> F::Address {
    if flow.new_source == flow.source { quote.sender } else { flow.new_source }
}

/// The checksums of the error as it leaves, with a hop less where it is forwarded.
#[inline(always)]
pub fn checksums<F: Family, B: Bytes + ?Sized>(
    bytes: &B,
    quote: &Quote<F::Address>,
    flow: &Flow<F::Address>,
    forwards: bool,
) -> Option<Checksums> {
    let packet = &quote.packet;
    let network = &packet.network;
    let words = if F::IS_V4 { 2 } else { 8 };
    let (old_sender, new_sender) = (F::sum(&quote.sender), F::sum(&sender::<F>(quote, flow)));
    let old_target = F::sum(&network.destination);
    let new_target = F::sum(&flow.new_destination);
    let outer = Delta::NONE.words(old_sender + old_target, new_sender + new_target, words);
    let old = F::sum(&network.source) + old_target;
    let addresses = Delta::NONE.words(old, F::sum(&flow.new_source) + new_target, words);
    let quoted = addresses
        .port(packet.source_port, flow.new_source_port)
        .port(packet.destination_port, flow.new_destination_port);
    let mut message = quoted;
    let (mut header, mut inner_header, mut inner) = (0, 0, 0);
    if F::IS_V4 {
        let old: u16 = bytes.load((quote.inner & WITHIN) + 10)?;
        inner_header = addresses.apply(old);
        message = message.port(Be16::from_raw(old), Be16::from_raw(inner_header));
        let mut change = outer;
        if forwards {
            let before = u16::from_ne_bytes([network.hops, F::ICMP]);
            let after = u16::from_ne_bytes([network.hops - 1, F::ICMP]);
            change = change.port(Be16::from_raw(before), Be16::from_raw(after));
        }
        header = change.apply(bytes.load((packet.l3 & WITHIN) + 10)?);
    } else {
        // The pseudo-header (RFC 4443 section 2.3).
        message = Delta(message.0 + outer.0);
    }
    if quote.checksum != 0 {
        let old: u16 = bytes.load(quote.checksum & WITHIN)?;
        inner = if network.protocol == TCP { quoted.apply(old) } else { quoted.apply_udp(old) };
        message = message.port(Be16::from_raw(old), Be16::from_raw(inner));
    }
    let message = message.apply(bytes.load((packet.l4 & WITHIN) + 2)?);
    Some(Checksums { header, message, inner_header, inner })
}

/// What a look-up of the flow came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Carried,
    /// Its next hop must be found first.
    Due,
    /// Its backend is gone, or another flow has its key.
    Foreign,
}

/// Decides about an error, as [`crate::decide::decide`] does about a packet.
#[inline(always)]
pub fn decide<F: Family, T: Tables<F>, R: Default>(
    tables: &T,
    quote: &Quote<F::Address>,
    hook: Hook,
    carry: impl Fn(&Flow<F::Address>) -> R,
) -> Outcome<R> {
    let Some(config) = tables.config() else { return Outcome::Pass };
    let packet = &quote.packet;
    let network = &packet.network;
    let question = Question {
        config,
        key: key::<F>(config, packet),
        packet,
        scope: hook.scope(),
        whole: true,
        now: tables.now(),
    };
    let mut prepared = false;
    // Defined from the start, as in `crate::decide`.
    let mut result = R::default();
    loop {
        let known = tables.flow(
            &question.key,
            #[inline(always)]
            |flow| {
                if !is_of::<F>(flow, packet) || !maintain::is_alive::<F, T>(tables, flow) {
                    return Known::Foreign;
                }
                if flow.epoch != config.epoch || flow.egress == EGRESS_UNRESOLVED {
                    return Known::Due;
                }
                result = carry(flow);
                Known::Carried
            },
        );
        match known {
            Some(Known::Carried) => {
                tables.count(Reason::ErrorTranslated, network.length);
                return Outcome::Carried(result);
            }
            Some(Known::Due) if !prepared => {}
            _ => return Outcome::Pass,
        }
        prepared = true;
        match tables.prepare(&question, Task::Maintain) {
            Prepared::DONE => {}
            other if other.is_refusal() => return Outcome::Pass,
            other => return Outcome::Drop(other.reason()),
        }
    }
}
