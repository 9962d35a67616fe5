//! ICMP errors about flows, in XDP and in TC: the decision is `skep-logic`'s, the bytes are written here.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::programs::{TcContext, XdpContext};
use skep_abi::Be16;
use skep_abi::counters::Verdict;
use skep_abi::flow::Flow;
use skep_abi::program::Program;
use skep_logic::Family;
use skep_logic::decide::{Hook, Outcome};
use skep_logic::parse::ETHERNET;
use skep_logic::quote::{self, Quote, WITHIN};

use crate::direct::Direct;
use crate::kernel::Kernel;
use crate::maps::MapFamily;
use crate::{log, stats, tc, xdp as driver};

/// Offsets within the network header: the hop count, the source address, and the two addresses' distance.
#[inline(always)]
const fn offsets<F: Family>() -> (usize, usize, usize) {
    if F::IS_V4 { (8, 12, 4) } else { (7, 8, 16) }
}

/// The quoted ports after translation: the quote goes the opposite way of the flow.
#[inline(always)]
fn ports<A>(flow: &Flow<A>) -> [Be16; 2] {
    [flow.new_destination_port, flow.new_source_port]
}

/// Reads the error into this processor's memory. There the verifier forgets what it knows of each number, so that all ways
/// through the two headers go on as one: kept on the stack they were followed one by one ("BPF program is too large.
/// Processed 1000001 insn", Linux 6.18).
#[inline(always)]
fn read<F: MapFamily>(direct: Direct, l3: usize) -> Option<&'static Quote<F::Address>> {
    let slot = F::quote().get_ptr_mut(0)?;
    let quote = quote::read::<F, _>(&direct, l3)?;
    // SAFETY: the pointer is to this processor's live entry. XDP and TC programs run with bottom halves disabled, so that
    // no other one comes in between.
    unsafe {
        *slot = quote;
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
        Some(&*slot)
    }
}

/// An ICMP packet in XDP. A function of its own for the sake of the stack, and of the code that other packets run.
#[inline(never)]
pub fn xdp<F: MapFamily>(context: &XdpContext, l3: usize) -> u32 {
    let Some(quote) = read::<F>(Direct::xdp(context), l3) else {
        return driver::end(XDP_PASS, Verdict::Pass);
    };
    let kernel = Kernel::xdp(context.as_ptr(), context.ingress_ifindex() as u32);
    let outcome = quote::decide::<F, _, _>(
        &kernel,
        quote,
        Hook::XdpUplink,
        #[inline(always)]
        |flow: &Flow<F::Address>| {
            let packet = &quote.packet;
            driver::send_by::<F>(
                context,
                &packet.network,
                packet.l3,
                flow,
                #[inline(always)]
                |forwards| rewrite_xdp::<F>(context, quote, flow, forwards),
            )
        },
    );
    match outcome {
        Outcome::Carried(end) => end,
        Outcome::Drop(reason) => {
            log::outcome::<F>(Program::XdpUplink, &quote.packet, reason);
            stats::count(reason, quote.packet.network.length);
            driver::end(XDP_DROP, Verdict::Dropped)
        }
        Outcome::Pass | Outcome::Reject(_) => driver::end(XDP_PASS, Verdict::Pass),
    }
}

/// Writes the translated error. Nothing is written unless all of it can be.
#[inline(never)]
fn rewrite_xdp<F: Family>(
    context: &XdpContext,
    quote: &Quote<F::Address>,
    flow: &Flow<F::Address>,
    forwards: bool,
) -> bool {
    let direct = Direct::xdp(context);
    let packet = &quote.packet;
    let Some(sums) = quote::checksums::<F, _>(&direct, quote, flow, forwards) else { return false };
    let (hops, source, step) = offsets::<F>();
    let Some(ethernet) = direct.window(0, ETHERNET) else { return false };
    let Some(l3) = direct.window(packet.l3 & WITHIN, F::HEADER) else { return false };
    let Some(message) = direct.window(packet.l4 & WITHIN, 4) else { return false };
    let Some(inner) = direct.window(quote.inner & WITHIN, F::HEADER) else { return false };
    let Some(inner_l4) = direct.window(quote.inner_l4 & WITHIN, 4) else { return false };
    if quote.checksum != 0 {
        let Some(checksum) = direct.window(quote.checksum & WITHIN, 2) else { return false };
        // SAFETY: the window holds the quoted checksum.
        unsafe { checksum.store(0, sums.inner) };
    }
    // SAFETY: every offset lies within its window: Ethernet's 14, the fixed parts of both network headers, the ICMP
    // header's first four bytes, the quoted ports.
    unsafe {
        if F::IS_V4 {
            l3.store(10, sums.header);
            inner.store(10, sums.inner_header);
        }
        if forwards {
            l3.store(hops, packet.network.hops - 1);
            ethernet.store(0, driver::mac(&flow.destination_mac));
            ethernet.store(6, driver::mac(&flow.source_mac));
        }
        l3.store(source, quote::sender::<F>(quote, flow));
        l3.store(source + step, flow.new_destination);
        message.store(2, sums.message);
        inner.store(source, flow.new_destination);
        inner.store(source + step, flow.new_source);
        inner_l4.store(0, ports(flow));
    }
    true
}

/// An ICMP packet in TC. See [`xdp`].
#[inline(never)]
pub fn tc<F: MapFamily>(context: &TcContext, l3: usize, hook: Hook) -> tc::End {
    let Some(quote) = read::<F>(tc::linear(context), l3) else {
        return tc::End::new(tc::NEXT, Verdict::Pass);
    };
    let kernel = Kernel::tc(context.as_ptr(), tc::ifindex(context));
    let outcome = quote::decide::<F, _, _>(
        &kernel,
        quote,
        hook,
        #[inline(always)]
        |flow: &Flow<F::Address>| {
            tc::send_by::<F>(
                context,
                &quote.packet.network,
                flow,
                hook,
                #[inline(always)]
                |forwards| rewrite_tc::<F>(context, quote, flow, forwards),
            )
        },
    );
    match outcome {
        Outcome::Carried(end) => end,
        Outcome::Drop(reason) => {
            log::outcome::<F>(tc::program(hook), &quote.packet, reason);
            stats::count(reason, quote.packet.network.length);
            tc::End::new(tc::DROP, Verdict::Dropped)
        }
        Outcome::Pass | Outcome::Reject(_) => tc::End::new(tc::NEXT, Verdict::Pass),
    }
}

/// Writes the translated error. The card's sum over the whole packet, where there is one, stays right without help: every
/// change is made up for by a checksum that lies in the packet too.
#[inline(never)]
fn rewrite_tc<F: Family>(
    context: &TcContext,
    quote: &Quote<F::Address>,
    flow: &Flow<F::Address>,
    forwards: bool,
) -> bool {
    let packet = &quote.packet;
    let direct = tc::linear(context);
    let Some(sums) = quote::checksums::<F, _>(&direct, quote, flow, forwards) else { return false };
    let write = || -> Result<(), i64> {
        let (hops, source, step) = offsets::<F>();
        if F::IS_V4 {
            context.store(packet.l3 + 10, &sums.header, 0)?;
            context.store(quote.inner + 10, &sums.inner_header, 0)?;
        }
        if forwards {
            context.store(packet.l3 + hops, &(packet.network.hops - 1), 0)?;
        }
        context.store(packet.l3 + source, &quote::sender::<F>(quote, flow), 0)?;
        context.store(packet.l3 + source + step, &flow.new_destination, 0)?;
        context.store(packet.l4 + 2, &sums.message, 0)?;
        context.store(quote.inner + source, &flow.new_destination, 0)?;
        context.store(quote.inner + source + step, &flow.new_source, 0)?;
        context.store(quote.inner_l4, &ports(flow), 0)?;
        if quote.checksum != 0 {
            context.store(quote.checksum, &sums.inner, 0)?;
        }
        Ok(())
    };
    write().is_ok()
}
