//! TC entry points. Packets here are in the stack: their checksums may be left to the network card and one buffer may
//! hold many segments, so rewriting goes through the kernel's helpers, which know.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT,
    TC_ACT_UNSPEC,
};
use aya_ebpf::helpers::generated::{
    bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_neigh, bpf_skb_change_tail,
    bpf_skb_store_bytes,
};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use skep_abi::counters::{Reason, Verdict};
use skep_abi::flow::{EGRESS_POD, EGRESS_POD_SKB, EGRESS_STACK, Flow};
use skep_abi::program::Program;
use skep_abi::{Be16, SCTP, TCP, UDP};
use skep_logic::announce::is_due;
use skep_logic::checksum::Delta;
use skep_logic::decide::{Hook, Outcome, decide};
use skep_logic::parse::{self, ETHERNET, Network, Packet, SCTP_CHECKSUM, Skip};
use skep_logic::{Family, Ipv4, Ipv6};
use skep_logic::{reject, sctp};

use crate::direct::Direct;
use crate::kernel::Kernel;
use crate::maps::{ANSWER, MapFamily};
use crate::{announce, fragment, log, quote, stats};

/// Leave it to the next program, or to the stack.
pub const NEXT: i32 = TC_ACT_UNSPEC;
/// Drop it.
pub const DROP: i32 = TC_ACT_SHOT as i32;

/// Bytes that are made linear before parsing: Ethernet, IPv6 with some extension headers, TCP.
const HEADERS: u32 = 128;

/// What arrives on the uplink and XDP did not take.
#[classifier]
pub fn tc_uplink_in(context: TcContext) -> i32 {
    run(&context, Hook::TcUplinkIn)
}

/// What leaves by the uplink: replies of host-network backends, and refusals for this node's own processes.
#[classifier]
pub fn tc_uplink_out(context: TcContext) -> i32 {
    run(&context, Hook::TcUplinkOut)
}

/// What a pod sends.
#[classifier]
pub fn tc_from_pod(context: TcContext) -> i32 {
    run(&context, Hook::TcFromPod)
}

#[inline(always)]
fn run(context: &TcContext, hook: Hook) -> i32 {
    let mut direct = linear(context);
    if direct.len() < HEADERS as usize && context.len() as usize > direct.len() {
        let wanted = if context.len() < HEADERS { context.len() } else { HEADERS };
        // What cannot be pulled stays short, and is then passed as malformed.
        let _ = context.pull_data(wanted);
        direct = linear(context);
    }
    let end = match parse::link(&direct) {
        Some(link) if link.ethertype == Ipv4::ETHERTYPE => either::<Ipv4>(context, link.offset, hook),
        Some(link) if link.ethertype == Ipv6::ETHERTYPE => either::<Ipv6>(context, link.offset, hook),
        _ => End::new(NEXT, Verdict::Pass),
    };
    stats::verdict_number(program(hook), end.verdict());
    end.action()
}

/// One family's packet. Called from here, each way has the stack to itself.
#[inline(always)]
fn either<F: MapFamily>(context: &TcContext, l3: usize, hook: Hook) -> End {
    match carry::<F>(context, l3, hook) {
        End::ICMP => quote::tc::<F>(context, l3, hook),
        End::LONG => announce::receive::<F>(context, l3),
        End::APART => {
            let step = fragment::look::<F>(context, l3);
            match fragment::carry::<F>(context, hook, step) {
                End::REFUSED => fragment::refuse::<F>(context, hook),
                end => end,
            }
        }
        end => end,
    }
}

/// A program's action and how to count it, as one number: a function of the kernel's virtual machine returns one
/// register.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct End(u32);

impl End {
    /// Not an end: the packet is of the family's ICMP.
    const ICMP: Self = Self(u32::MAX);
    /// Not an end: the packet is a fragment, or of SCTP.
    const APART: Self = Self(u32::MAX - 1);
    /// Not an end: the packet came in on the uplink, is of no flow, and its network header has more than it must have.
    const LONG: Self = Self(u32::MAX - 3);
    /// Not an end: the SCTP packet is to be refused.
    pub const REFUSED: Self = Self(u32::MAX - 2);

    /// `action`, counted as `verdict`.
    #[inline(always)]
    pub const fn new(action: i32, verdict: Verdict) -> Self {
        Self((action as u8) as u32 | (verdict as u32) << 8)
    }

    #[inline(always)]
    const fn action(self) -> i32 {
        (self.0 as u8 as i8) as i32
    }

    #[inline(always)]
    const fn verdict(self) -> u32 {
        self.0 >> 8
    }
}

#[inline(always)]
pub const fn program(hook: Hook) -> Program {
    match hook {
        Hook::XdpUplink => Program::XdpUplink,
        Hook::TcUplinkIn => Program::TcUplinkIn,
        Hook::TcUplinkOut => Program::TcUplinkOut,
        Hook::TcFromPod => Program::TcFromPod,
    }
}

#[inline(always)]
pub fn linear(context: &TcContext) -> Direct {
    Direct::skb(context)
}

#[inline(always)]
pub fn ifindex(context: &TcContext) -> u32 {
    // SAFETY: the context is this program's own.
    unsafe { (*context.skb.skb).ifindex }
}

/// What [`parse_tc_v4`] says; a reason to leave the packet alone lies above this.
const READ: u32 = 0;
const ICMP: u32 = 1;
const APART: u32 = 2;
const FOREIGN: u32 = 3;
const SKIPPED: u32 = 0x100;

/// Reads the packet into this processor's memory. Global, and so followed by the verifier once; what it reads is then in
/// memory, where all ways through the headers go on as one: see `skep_logic::prepare`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn parse_tc_v4(context: *mut __sk_buff, l3: u32) -> u32 {
    read::<Ipv4>(&TcContext::new(context), l3)
}

/// As [`parse_tc_v4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn parse_tc_v6(context: *mut __sk_buff, l3: u32) -> u32 {
    read::<Ipv6>(&TcContext::new(context), l3)
}

#[inline(always)]
fn read<F: MapFamily>(context: &TcContext, l3: u32) -> u32 {
    let Some(slot) = F::piece().get_ptr_mut(0) else { return FOREIGN };
    // What the verifier knows of a global function's arguments: nothing. Behind Ethernet and one tag it is 18 at most.
    match parse::packet::<F, _>(&linear(context), (l3 & 0x1f) as usize) {
        Ok(packet) => {
            // SAFETY: the pointer is to this processor's live entry. XDP and TC programs run with bottom halves disabled,
            // so that no other one comes in between.
            unsafe { (*slot).packet = packet };
            READ
        }
        Err(Skip::Icmp) => ICMP,
        Err(Skip::Fragment | Skip::Sctp) => APART,
        Err(skip) => skip.reason().map_or(FOREIGN, |reason| SKIPPED | reason.index()),
    }
}

/// One family's packet. A function of its own, so that the two families do not share one stack frame.
#[inline(never)]
fn carry<F: MapFamily>(context: &TcContext, l3: usize, hook: Hook) -> End {
    let skb = context.skb.skb;
    match if F::IS_V4 { parse_tc_v4(skb, l3 as u32) } else { parse_tc_v6(skb, l3 as u32) } {
        READ => {}
        ICMP => return End::ICMP,
        APART => return End::APART,
        skipped => {
            if skipped & SKIPPED != 0
                && let Some(reason) = Reason::from_index(skipped & 0xff)
            {
                stats::count(reason, context.len());
            }
            return End::new(NEXT, Verdict::Pass);
        }
    }
    let Some(piece) = F::piece().get_ptr(0) else { return End::new(NEXT, Verdict::Pass) };
    // SAFETY: as in `read`; nothing writes to it from here on.
    let packet = unsafe { &(*piece).packet };
    let kernel = Kernel::tc(context.as_ptr(), ifindex(context));
    let outcome = decide::<F, _, _>(
        &kernel,
        packet,
        hook,
        true,
        #[inline(always)]
        |flow: &Flow<F::Address>| send::<F>(context, packet, flow, hook),
    );
    match outcome {
        // What is behind the network header may be an announcement of another node's.
        Outcome::Pass
            if matches!(hook, Hook::TcUplinkIn) && packet.network.header_length as usize != F::HEADER =>
        {
            End::LONG
        }
        Outcome::Pass => End::new(NEXT, Verdict::Pass),
        Outcome::Carried(end) => end,
        Outcome::Drop(reason) => {
            log::outcome::<F>(program(hook), packet, reason);
            stats::count(reason, packet.network.length);
            End::new(DROP, Verdict::Dropped)
        }
        Outcome::Reject(reason) => {
            log::outcome::<F>(program(hook), packet, reason);
            stats::count(reason, packet.network.length);
            refused(context, hook, answer::<F>(context, packet))
        }
    }
}

/// How a refusal ends, `answered` if the answer to it is in the packet's place: that goes back to where the packet came
/// from, out of this interface again or up into the stack.
#[inline(always)]
fn refused(context: &TcContext, hook: Hook, answered: bool) -> End {
    if !answered {
        return End::new(DROP, Verdict::Dropped);
    }
    let flags = if matches!(hook, Hook::TcUplinkOut) { BPF_F_INGRESS } else { 0 };
    // SAFETY: the helper takes plain numbers.
    End::new(unsafe { bpf_redirect(ifindex(context), u64::from(flags)) } as i32, Verdict::Rejected)
}

/// Refuses an SCTP packet.
#[inline(always)]
pub fn refuse_sctp<F: MapFamily>(context: &TcContext, packet: &Packet<F::Address>, hook: Hook) -> End {
    refused(context, hook, answer::<F>(context, packet))
}

/// Rewrites the packet and sends it where the translation says.
#[inline(always)]
fn send<F: MapFamily>(
    context: &TcContext,
    packet: &Packet<F::Address>,
    flow: &Flow<F::Address>,
    hook: Hook,
) -> End {
    send_by::<F>(
        context,
        &packet.network,
        flow,
        hook,
        #[inline(always)]
        |forwards| {
            rewrite::<F>(context, packet, flow, forwards).is_ok()
                && (!is_due::<F>(flow, packet, true) || announce::insert::<F>(context, packet))
        },
    )
}

/// As [`send`] for whatever `rewrite` writes; it is told whether the packet is forwarded, and says whether it could.
#[inline(always)]
pub fn send_by<F: Family>(
    context: &TcContext,
    network: &Network<F::Address>,
    flow: &Flow<F::Address>,
    hook: Hook,
    rewrite: impl FnOnce(bool) -> bool,
) -> End {
    let out = matches!(hook, Hook::TcUplinkOut);
    // A reply that leaves anyway needs no other way; nor does what the stack is to deliver.
    let stays = if out { flow.new_destination == network.destination } else { flow.egress == EGRESS_STACK };
    if out && flow.egress == EGRESS_STACK && !stays {
        stats::count(Reason::NoRoute, network.length);
        return End::new(DROP, Verdict::Dropped);
    }
    let forwards = !stays && !out;
    if forwards && network.hops <= 1 {
        stats::count(Reason::TtlExpired, network.length);
        return End::new(DROP, Verdict::Dropped);
    }
    if !rewrite(forwards) {
        stats::count(Reason::RewriteFailed, network.length);
        return End::new(DROP, Verdict::Dropped);
    }
    if stays {
        return End::new(NEXT, Verdict::Translated);
    }
    if flow.egress == EGRESS_POD || flow.egress == EGRESS_POD_SKB {
        let destination = context.store(0, &flow.destination_mac, 0);
        let source = context.store(6, &flow.source_mac, 0);
        if destination.is_err() || source.is_err() {
            stats::count(Reason::RewriteFailed, network.length);
            return End::new(DROP, Verdict::Dropped);
        }
        // SAFETY: the helper takes plain numbers.
        return End::new(unsafe { bpf_redirect(flow.ifindex, 0) } as i32, Verdict::Redirected);
    }
    // The kernel looks the neighbour up, and resolves it if it must.
    // SAFETY: without parameters the helper asks the routing table for the packet's own destination.
    End::new(
        unsafe { bpf_redirect_neigh(flow.ifindex, core::ptr::null_mut(), 0, 0) } as i32,
        Verdict::Redirected,
    )
}

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

/// Replaces the packet by the answer to it.
#[inline(always)]
fn answer<F: MapFamily>(context: &TcContext, packet: &Packet<F::Address>) -> bool {
    let Some(case) = F::case().get_ptr_mut(0) else { return false };
    // SAFETY: the pointer is to this processor's live entry, and what was asked in it is answered by now.
    unsafe { (*case).packet = *packet };
    if packet.l3 != ETHERNET || packet.network.header_length as usize != F::HEADER {
        return false;
    }
    let (skb, protocol) = (context.skb.skb, u32::from(packet.network.protocol));
    (if F::IS_V4 { answer_tc_v4(skb, protocol) } else { answer_tc_v6(skb, protocol) }) == 0
}

/// Global, and so followed by the verifier once: see `skep_logic::prepare`. Returns 0 if there is an answer.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn answer_tc_v4(context: *mut __sk_buff, protocol: u32) -> u32 {
    answer_with::<Ipv4>(&TcContext::new(context), protocol)
}

/// As [`answer_tc_v4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn answer_tc_v6(context: *mut __sk_buff, protocol: u32) -> u32 {
    answer_with::<Ipv6>(&TcContext::new(context), protocol)
}

#[inline(always)]
fn answer_with<F: MapFamily>(context: &TcContext, protocol: u32) -> u32 {
    let Some(case) = F::case().get_ptr(0) else { return 1 };
    // SAFETY: as in `answer`.
    let packet = unsafe { &(*case).packet };
    const TCP_NUMBER: u32 = TCP as u32;
    const SCTP_NUMBER: u32 = SCTP as u32;
    let answered = match protocol {
        TCP_NUMBER => answer_as::<F>(context, packet, TCP),
        SCTP_NUMBER => answer_as::<F>(context, packet, SCTP),
        _ => answer_as::<F>(context, packet, UDP),
    };
    u32::from(!answered)
}

/// See [`answer`]; `protocol` is a constant.
#[inline(always)]
fn answer_as<F: Family>(context: &TcContext, packet: &Packet<F::Address>, protocol: u8) -> bool {
    let direct = linear(context);
    let Some(answer) = ANSWER.get_ptr_mut(0) else { return false };
    // SAFETY: the pointer is to this processor's live scratch entry. A program that runs in between, in an interrupt,
    // could spoil an answer to a refused packet, and nothing else.
    let answer = unsafe { &mut *answer };
    if !reject::build::<F, _>(&direct, packet, protocol, answer) {
        return false;
    }
    let length = reject::words::<F>(protocol) as u32 * 2;
    let skb = context.skb.skb;
    // SAFETY: the context is this program's own; the answer has at least `length` bytes.
    unsafe {
        bpf_skb_change_tail(skb, length, 0) == 0
            && bpf_skb_store_bytes(skb.cast(), 0, answer.words.as_ptr().cast(), length, 0) == 0
    }
}
