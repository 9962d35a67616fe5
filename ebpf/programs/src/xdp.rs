//! XDP entry points.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_xdp_adjust_tail};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use skep_abi::counters::{Reason, Verdict};
use skep_abi::flow::{EGRESS_NEIGHBOUR, EGRESS_POD, EGRESS_REMOTE, Flow};
use skep_abi::program::Program;
use skep_abi::{TCP, UDP};
use skep_logic::announce;
use skep_logic::checksum::Delta;
use skep_logic::decide::{Hook, Outcome, decide};
use skep_logic::parse::{self, ETHERNET, Network, Packet, Skip};
use skep_logic::reject::{self, Answer};
use skep_logic::{Family, Ipv4, Ipv6};

use crate::direct::Direct;
use crate::kernel::Kernel;
use crate::maps::{ANSWER, MapFamily};
use crate::{log, quote, stats};

/// NodePort, external and load-balancer addresses on the uplink.
#[xdp]
pub fn xdp_uplink(context: XdpContext) -> u32 {
    let direct = Direct::xdp(&context);
    let result = match parse::link(&direct) {
        Some(link) if link.ethertype == Ipv4::ETHERTYPE => match uplink::<Ipv4>(&context, link.offset) {
            ICMP => quote::xdp::<Ipv4>(&context, link.offset),
            end => end,
        },
        Some(link) if link.ethertype == Ipv6::ETHERTYPE => match uplink::<Ipv6>(&context, link.offset) {
            ICMP => quote::xdp::<Ipv6>(&context, link.offset),
            end => end,
        },
        _ => end(XDP_PASS, Verdict::Pass),
    };
    stats::verdict_number(Program::XdpUplink, result >> 8);
    result & 0xff
}

/// Passes everything: what the other end of a veth needs before it takes packets that are sent back natively.
#[xdp]
pub fn xdp_pass(_context: XdpContext) -> u32 {
    XDP_PASS
}

/// Not an end: the packet is of the family's ICMP. Called from here what deals with it has the stack to itself.
const ICMP: u32 = u32::MAX;

/// The action and, above its 8 bits, the verdict: a function of the kernel's virtual machine returns one register.
#[inline(always)]
pub const fn end(action: u32, verdict: Verdict) -> u32 {
    action | (verdict as u32) << 8
}

/// What [`parse_xdp_v4`] says; a reason to leave the packet alone lies above this.
const READ: u32 = 0;
const ERROR: u32 = 1;
const FOREIGN: u32 = 2;
const SKIPPED: u32 = 0x100;

/// Reads the packet into this processor's memory, as `tc` does; kept on the stack it took most of that.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn parse_xdp_v4(context: *mut xdp_md, l3: u32) -> u32 {
    read::<Ipv4>(&XdpContext::new(context), l3)
}

/// As [`parse_xdp_v4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn parse_xdp_v6(context: *mut xdp_md, l3: u32) -> u32 {
    read::<Ipv6>(&XdpContext::new(context), l3)
}

#[inline(always)]
fn read<F: MapFamily>(context: &XdpContext, l3: u32) -> u32 {
    let Some(slot) = F::piece().get_ptr_mut(0) else { return FOREIGN };
    // What the verifier knows of a global function's arguments: nothing.
    // SAFETY: the pointer is to this processor's live entry. XDP and TC programs run with bottom halves disabled, so that no
    // other one comes in between.
    let packet = unsafe { &mut (*slot).packet };
    match parse::plain::<F, _>(&Direct::xdp(context), (l3 & 0x1f) as usize, packet) {
        Ok(()) => READ,
        Err(Skip::Icmp) => ERROR,
        Err(skip) => skip.reason().map_or(FOREIGN, |reason| SKIPPED | reason.index()),
    }
}

/// One family's packet. A function of its own, so that the two families do not share one stack frame.
#[inline(never)]
fn uplink<F: MapFamily>(context: &XdpContext, l3: usize) -> u32 {
    match if F::IS_V4 { parse_xdp_v4(context.ctx, l3 as u32) } else { parse_xdp_v6(context.ctx, l3 as u32) } {
        READ => {}
        ERROR => return ICMP,
        skipped => {
            if skipped & SKIPPED != 0
                && let Some(reason) = Reason::from_index(skipped & 0xff)
            {
                stats::count(reason, Direct::xdp(context).len() as u32);
            }
            return end(XDP_PASS, Verdict::Pass);
        }
    }
    let Some(piece) = F::piece().get_ptr(0) else { return end(XDP_PASS, Verdict::Pass) };
    // SAFETY: as in `read`; nothing writes to it from here on.
    let packet = unsafe { &(*piece).packet };
    let kernel = Kernel::xdp(context.as_ptr(), context.ingress_ifindex() as u32);
    let outcome = decide::<F, _, _>(
        &kernel,
        packet,
        Hook::XdpUplink,
        true,
        #[inline(always)]
        |flow: &Flow<F::Address>| send::<F>(context, packet, flow),
    );
    match outcome {
        Outcome::Pass => end(XDP_PASS, Verdict::Pass),
        Outcome::Carried(end) => end,
        Outcome::Drop(reason) => {
            log::outcome::<F>(Program::XdpUplink, packet, reason);
            stats::count(reason, packet.network.length);
            end(XDP_DROP, Verdict::Dropped)
        }
        Outcome::Reject(reason) => {
            let answered = answer::<F>(context, packet);
            if answered == NO_ROOM {
                return end(XDP_PASS, Verdict::Pass);
            }
            log::outcome::<F>(Program::XdpUplink, packet, reason);
            stats::count(reason, packet.network.length);
            if answered == ANSWERED {
                end(XDP_TX, Verdict::Rejected)
            } else {
                end(XDP_DROP, Verdict::Dropped)
            }
        }
    }
}

/// Rewrites the packet and sends it where the translation says, or leaves it untouched to TC.
#[inline(always)]
fn send<F: Family>(context: &XdpContext, packet: &Packet<F::Address>, flow: &Flow<F::Address>) -> u32 {
    if announce::is_due::<F>(flow, packet, false) {
        return end(XDP_PASS, Verdict::Pass);
    }
    let (network, l3) = (&packet.network, packet.l3);
    send_by::<F>(
        context,
        network,
        l3,
        flow,
        #[inline(always)]
        |forwards| {
            if F::IS_V4 {
                rewrite::<F>(Direct::xdp(context), packet, flow, forwards)
            } else {
                rewrite_apart::<F>(context, packet, flow, forwards)
            }
        },
    )
}

/// As [`send`] for whatever `rewrite` writes; it is told whether the packet is forwarded, and says whether it could.
#[inline(always)]
pub fn send_by<F: Family>(
    context: &XdpContext,
    network: &Network<F::Address>,
    l3: usize,
    flow: &Flow<F::Address>,
    rewrite: impl FnOnce(bool) -> bool,
) -> u32 {
    let remote = flow.egress == EGRESS_REMOTE;
    let forwards = remote || flow.egress == EGRESS_POD;
    let elsewhere = remote && flow.ifindex != context.ingress_ifindex() as u32;
    if flow.egress == EGRESS_NEIGHBOUR || elsewhere || (forwards && l3 != ETHERNET) {
        return end(XDP_PASS, Verdict::Pass);
    }
    if forwards && network.hops <= 1 {
        stats::count(Reason::TtlExpired, network.length);
        return end(XDP_DROP, Verdict::Dropped);
    }
    if !rewrite(forwards) {
        stats::count(Reason::RewriteFailed, network.length);
        return end(XDP_DROP, Verdict::Dropped);
    }
    if remote {
        return end(XDP_TX, Verdict::Redirected);
    }
    if forwards {
        // SAFETY: the helper takes plain numbers.
        let action = unsafe { bpf_redirect(flow.ifindex, 0) } as u32;
        let verdict = if action == XDP_REDIRECT { Verdict::Redirected } else { Verdict::Dropped };
        return end(action, verdict);
    }
    end(XDP_PASS, Verdict::Translated)
}

/// [`rewrite`] as a function of its own, for the family whose addresses would otherwise fill the caller's stack.
#[inline(never)]
fn rewrite_apart<F: Family>(
    context: &XdpContext,
    packet: &Packet<F::Address>,
    flow: &Flow<F::Address>,
    forwards: bool,
) -> bool {
    rewrite::<F>(Direct::xdp(context), packet, flow, forwards)
}

/// Writes the new addresses and ports, the checksums that follow from them and, for a packet that is forwarded, the
/// Ethernet addresses and the hop count. Nothing is written unless all of it can be.
#[inline(always)]
fn rewrite<F: Family>(
    direct: Direct,
    packet: &Packet<F::Address>,
    flow: &Flow<F::Address>,
    forwards: bool,
) -> bool {
    let tcp = packet.network.protocol == TCP;
    let network = &packet.network;
    let Some(ethernet) = direct.window(0, ETHERNET) else { return false };
    // Behind Ethernet and one tag it is 18 at most; XDP takes no headers with options.
    let l3 = packet.l3 & 0x1f;
    let l4 = l3 + F::HEADER;
    let Some(l3) = direct.window(l3, F::HEADER) else { return false };
    // A window of its own: the verifier does not remember what a longer one for TCP alone had proved.
    let Some(checksum) = direct.window(l4 + if tcp { 16 } else { 6 }, 2) else { return false };
    let Some(l4) = direct.window(l4, 8) else { return false };
    let addresses = Delta::addresses::<F>(flow);
    let delta =
        if !F::IS_V4 && flow.change != 0 { Delta(u64::from(flow.change)) } else { addresses.ports(flow) };
    // SAFETY: every offset lies within its window: Ethernet's 14, the network header's fixed part, the ports and the
    // checksum of the transport header.
    unsafe {
        l4.store(0, flow.new_source_port.raw());
        l4.store(2, flow.new_destination_port.raw());
        if tcp {
            checksum.store(0, delta.apply(checksum.load(0)));
        } else {
            checksum.store(0, delta.apply_udp(checksum.load(0)));
        }
        if F::IS_V4 {
            let mut header = addresses;
            if forwards {
                let before = u16::from_ne_bytes([network.hops, network.protocol]);
                let after = u16::from_ne_bytes([network.hops - 1, network.protocol]);
                header = Delta(header.0 + u64::from(!before) + u64::from(after));
                l3.store(8, network.hops - 1);
            }
            l3.store(10, header.apply(l3.load(10)));
            l3.store(12, flow.new_source);
            l3.store(16, flow.new_destination);
        } else {
            if forwards {
                l3.store(7, network.hops - 1);
            }
            l3.store(8, F::halves(&flow.new_source));
            l3.store(24, F::halves(&flow.new_destination));
        }
        if forwards {
            ethernet.store(0, mac(&flow.destination_mac));
            ethernet.store(6, mac(&flow.source_mac));
        }
    }
    true
}

/// A MAC address in words, as which it can be copied without going byte by byte.
#[inline(always)]
pub fn mac(address: &[u8; 6]) -> [u16; 3] {
    // SAFETY: the two MAC addresses of a flow lie at even offsets (asserted in `skep-abi` by the flow's size and order).
    unsafe { *core::ptr::from_ref(address).cast() }
}

/// The answer is in the packet's place.
const ANSWERED: u32 = 0;
/// There is none.
const NO_ANSWER: u32 = 1;
/// It is longer than the packet and the driver left no room behind that. TC, to whom the packet is left as it was, can make
/// it longer.
const NO_ROOM: u32 = 2;

/// Replaces the packet by the answer to it, and says what came of it.
#[inline(always)]
fn answer<F: MapFamily>(context: &XdpContext, packet: &Packet<F::Address>) -> u32 {
    let Some(case) = F::case().get_ptr_mut(0) else { return NO_ANSWER };
    // SAFETY: the pointer is to this processor's live entry, and what was asked in it is answered by now.
    unsafe { (*case).packet = *packet };
    if packet.l3 != ETHERNET || packet.network.header_length as usize != F::HEADER {
        return NO_ANSWER;
    }
    let protocol = u32::from(packet.network.protocol);
    if F::IS_V4 { answer_xdp_v4(context.ctx, protocol) } else { answer_xdp_v6(context.ctx, protocol) }
}

/// Global, and so followed by the verifier once: see `skep_logic::prepare`. Returns what [`answer`] does.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn answer_xdp_v4(context: *mut xdp_md, protocol: u32) -> u32 {
    let context = &XdpContext::new(context);
    if protocol == u32::from(TCP) {
        answer_as::<Ipv4, { reject::words::<Ipv4>(TCP) }>(context, TCP)
    } else {
        answer_as::<Ipv4, { reject::words::<Ipv4>(UDP) }>(context, UDP)
    }
}

/// As [`answer_xdp_v4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn answer_xdp_v6(context: *mut xdp_md, protocol: u32) -> u32 {
    let context = &XdpContext::new(context);
    if protocol == u32::from(TCP) {
        answer_as::<Ipv6, { reject::words::<Ipv6>(TCP) }>(context, TCP)
    } else {
        answer_as::<Ipv6, { reject::words::<Ipv6>(UDP) }>(context, UDP)
    }
}

/// See [`answer`]; the answer has `N` words.
#[inline(always)]
fn answer_as<F: MapFamily, const N: usize>(context: &XdpContext, protocol: u8) -> u32 {
    let Some(case) = F::case().get_ptr(0) else { return NO_ANSWER };
    // SAFETY: as in `answer`.
    let packet = unsafe { &(*case).packet };
    let direct = Direct::xdp(context);
    let Some(answer) = ANSWER.get_ptr_mut(0) else { return NO_ANSWER };
    // SAFETY: the pointer is to this processor's live scratch entry, and XDP does not interrupt itself.
    let answer = unsafe { &mut *answer };
    if !reject::build::<F, _>(&direct, packet, protocol, answer) {
        return NO_ANSWER;
    }
    let delta = N as i32 * 2 - direct.len() as i32;
    // SAFETY: the context is this program's own.
    if unsafe { bpf_xdp_adjust_tail(context.ctx, delta) } != 0 {
        return NO_ROOM;
    }
    if paste::<N>(context, answer) { ANSWERED } else { NO_ANSWER }
}

/// Writes an answer of `N` words over the packet.
#[inline(always)]
fn paste<const N: usize>(context: &XdpContext, answer: &Answer) -> bool {
    let direct = Direct::xdp(context);
    let Some(window) = direct.window(0, N * 2) else { return false };
    for (at, word) in answer.words.iter().take(N).enumerate() {
        // SAFETY: the window holds `N` words.
        unsafe { window.store_in_order(at * 2, *word) };
    }
    true
}
