//! How TC changes a packet. Packets here are in the stack: their checksums may be left to the network card and one buffer may
//! hold many segments, so rewriting goes through the kernel's helpers, which know. Owns the fields of each header and the
//! order in which they are written; what they become is the flow's.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM};
use aya_ebpf::helpers::generated::{bpf_l3_csum_replace, bpf_l4_csum_replace};
use aya_ebpf::programs::TcContext;
use skep_abi::flow::Flow;
use skep_abi::{Be16, TCP};
use skep_logic::checksum::Delta;
use skep_logic::parse::{Packet, SCTP_CHECKSUM};
use skep_logic::{Family, sctp};

/// Writes the new addresses and ports, the checksums that follow from them, and the hop count of what is forwarded.
#[inline(always)]
pub fn rewrite<F: Family>(
    context: &TcContext,
    packet: &Packet<F::Address>,
    flow: &Flow<F::Address>,
    forwards: bool,
) -> Result<(), i64> {
    let network = &packet.network;
    let tcp = network.protocol == TCP;
    let old = F::sum(&network.source) + F::sum(&network.destination);
    let new = F::sum(&flow.new_source) + F::sum(&flow.new_destination);
    let addresses = Delta::NONE.words(old, new, if F::IS_V4 { 2 } else { 8 });
    let checksum = packet.l4 + if tcp { 16 } else { 6 };
    // A UDP checksum of 0 means "none" and stays.
    let udp = if tcp { 0 } else { u64::from(BPF_F_MARK_MANGLED_0) };
    let pseudo = u64::from(BPF_F_PSEUDO_HDR) | udp;
    transport_addresses::<F>(context, checksum, addresses, pseudo)?;
    port(context, checksum, packet.source_port, flow.new_source_port, udp)?;
    port(context, checksum, packet.destination_port, flow.new_destination_port, udp)?;
    context.store(packet.l4, &[flow.new_source_port.raw(), flow.new_destination_port.raw()], 0)?;
    rewrite_network::<F>(context, packet, flow, forwards, addresses, 0)
}

/// The ports of an SCTP packet and its checksum. Where that is left to the network card it is not there yet, and what is
/// written in its place is overwritten.
#[inline(always)]
pub fn rewrite_sctp<F: Family>(
    context: &TcContext,
    packet: &Packet<F::Address>,
    flow: &Flow<F::Address>,
) -> Result<(), i64> {
    let new = [flow.new_source_port.raw(), flow.new_destination_port.raw()];
    let bits = u32::from(packet.source_port.raw() ^ new[0])
        | u32::from(packet.destination_port.raw() ^ new[1]) << 16;
    if bits == 0 {
        return Ok(());
    }
    let sum: u32 = context.load(packet.l4 + SCTP_CHECKSUM)?;
    let length = packet.network.length - packet.network.header_length;
    let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
    context.store(packet.l4, &new, flags)?;
    context.store(packet.l4 + SCTP_CHECKSUM, &(sum ^ sctp::change(bits, length)), flags)
}

/// The identification of a fragment.
#[inline(always)]
pub fn rewrite_id<F: Family>(
    context: &TcContext,
    packet: &Packet<F::Address>,
    old: u32,
    new: u32,
) -> Result<(), i64> {
    if F::IS_V4 {
        let at = (packet.l3 + 10) as u32;
        // SAFETY: the context is this program's own.
        check(unsafe { bpf_l3_csum_replace(context.skb.skb, at, u64::from(old), u64::from(new), 2) })?;
        return context.store(packet.l3 + 4, &(new as u16), 0);
    }
    // The end of the fragment header, which is the last one before the transport's.
    context.store(packet.l4 - 4, &new, u64::from(BPF_F_RECOMPUTE_CSUM))
}

/// The network header of a later fragment, which has no transport header, or of a packet whose transport header is written
/// apart.
#[inline(always)]
pub fn rewrite_addresses<F: Family>(
    context: &TcContext,
    packet: &Packet<F::Address>,
    flow: &Flow<F::Address>,
    forwards: bool,
) -> Result<(), i64> {
    let old = F::sum(&packet.network.source) + F::sum(&packet.network.destination);
    let new = F::sum(&flow.new_source) + F::sum(&flow.new_destination);
    let addresses = Delta::NONE.words(old, new, if F::IS_V4 { 2 } else { 8 });
    // Nothing in this packet makes up for a change of IPv6 addresses: the card's sum must follow it.
    let flags = if F::IS_V4 { 0 } else { u64::from(BPF_F_RECOMPUTE_CSUM) };
    rewrite_network::<F>(context, packet, flow, forwards, addresses, flags)
}

/// The network header's part of [`rewrite`].
#[inline(always)]
fn rewrite_network<F: Family>(
    context: &TcContext,
    packet: &Packet<F::Address>,
    flow: &Flow<F::Address>,
    forwards: bool,
    addresses: Delta,
    flags: u64,
) -> Result<(), i64> {
    let network = &packet.network;
    let (source, hops, step) = if F::IS_V4 { (12, 8, 4) } else { (8, 7, 16) };
    if F::IS_V4 {
        let mut header = addresses;
        if forwards {
            let before = u16::from_ne_bytes([network.hops, network.protocol]);
            let after = u16::from_ne_bytes([network.hops - 1, network.protocol]);
            header = Delta(header.0 + u64::from(!before) + u64::from(after));
        }
        let to = u64::from(header.fold32());
        // SAFETY: the context is this program's own.
        check(unsafe { bpf_l3_csum_replace(context.skb.skb, (packet.l3 + 10) as u32, 0, to, 0) })?;
    }
    if forwards {
        context.store(packet.l3 + hops, &(network.hops - 1), 0)?;
    }
    context.store(packet.l3 + source, &flow.new_source, flags)?;
    context.store(packet.l3 + source + step, &flow.new_destination, flags)
}

/// The transport checksum for changed addresses.
#[inline(always)]
fn transport_addresses<F: Family>(
    context: &TcContext,
    offset: usize,
    delta: Delta,
    flags: u64,
) -> Result<(), i64> {
    /// `BPF_F_IPV6`: the IPv6 header has no checksum that would cancel the change in a whole-packet sum of the card's.
    /// Since Linux 6.16; older kernels refuse the flag, and then get the call without it.
    const IPV6: u64 = 1 << 7;
    let to = u64::from(delta.fold32());
    let skb = context.skb.skb;
    if !F::IS_V4 {
        // SAFETY: the context is this program's own.
        if unsafe { bpf_l4_csum_replace(skb, offset as u32, 0, to, flags | IPV6) } == 0 {
            return Ok(());
        }
    }
    // SAFETY: the context is this program's own.
    check(unsafe { bpf_l4_csum_replace(skb, offset as u32, 0, to, flags) })
}

/// The transport checksum for one changed port.
#[inline(always)]
fn port(context: &TcContext, offset: usize, old: Be16, new: Be16, flags: u64) -> Result<(), i64> {
    let (from, to) = (u64::from(old.raw()), u64::from(new.raw()));
    // SAFETY: the context is this program's own.
    check(unsafe { bpf_l4_csum_replace(context.skb.skb, offset as u32, from, to, flags | 2) })
}

#[inline(always)]
const fn check(result: i64) -> Result<(), i64> {
    if result == 0 { Ok(()) } else { Err(result) }
}
