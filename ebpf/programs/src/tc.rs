//! TC entry points, and where a packet goes next. What is written into it is [`crate::rewrite`]'s, the answer to one that is refused
//! [`crate::refuse`]'s.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{__sk_buff, BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_redirect_neigh};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use skep_abi::counters::{Reason, Verdict};
use skep_abi::flow::{EGRESS_POD, EGRESS_POD_SKB, EGRESS_STACK, Flow};
use skep_abi::program::Program;
use skep_logic::announce::is_due;
use skep_logic::decide::{Hook, Outcome, decide};
use skep_logic::parse::{self, Network, Packet, Skip};
use skep_logic::{Family, Ipv4, Ipv6};

use crate::direct::Direct;
use crate::kernel::Kernel;
use crate::maps::MapFamily;
use crate::refuse::answer;
use crate::rewrite::rewrite;
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
#[derive(Clone, Copy, PartialEq, Eq, Default)]
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
