//! Fragments, and SCTP packets, in TC. XDP leaves them here, since they are rare and XDP's own way is to stay short.

use aya_ebpf::EbpfContext;
use aya_ebpf::programs::TcContext;
use skep_abi::counters::{Reason, Verdict};
use skep_abi::flow::Flow;
use skep_logic::decide::{Hook, Outcome, decide};
use skep_logic::fragment::{self, FIRST, Step, WHOLE};
use skep_logic::parse::Packet;

use crate::kernel::Kernel;
use crate::maps::MapFamily;
use crate::tc::{self, DROP, End, NEXT};
use crate::{log, rewrite, stats};

/// What [`examine`] says, as one number: a drop's reason lies above this.
const DROPPED: u32 = 0x100;
const PASSED: u32 = 0;
const NOTED: u32 = 1;
const GOES: u32 = 2;
const FOREIGN: u32 = 3;

/// Reads the fragment into this processor's memory, for the reason that is given where an ICMP error's quote is, and says
/// what is to be done with it. A function of its own: the stack of what follows has no room for it ("combined stack size of
/// 3 calls is 592. Too large", Linux 6.18).
#[inline(never)]
fn examine<F: MapFamily>(context: &TcContext, l3: usize) -> u32 {
    let Some(slot) = F::piece().get_ptr_mut(0) else { return PASSED };
    let Some(piece) = fragment::read::<F, _>(&tc::linear(context), l3) else { return FOREIGN };
    // SAFETY: the pointer is to this processor's live entry. XDP and TC programs run with bottom halves disabled, so that
    // no other one comes in between.
    let piece = unsafe {
        *slot = piece;
        &mut *slot
    };
    let kernel = Kernel::tc(context.as_ptr(), tc::ifindex(context));
    match fragment::prepare::<F, _>(&kernel, piece) {
        Step::Pass => PASSED,
        Step::Note => NOTED,
        Step::Go => GOES,
        Step::Drop(reason) => DROPPED | reason.index(),
    }
}

/// As [`examine`] for a whole SCTP packet.
#[inline(never)]
fn examine_whole<F: MapFamily>(context: &TcContext, l3: usize) -> u32 {
    let Some(slot) = F::piece().get_ptr_mut(0) else { return FOREIGN };
    // SAFETY: as in `examine`.
    let slot = unsafe { &mut *slot };
    if fragment::read_whole::<F, _>(&tc::linear(context), l3, slot) { GOES } else { FOREIGN }
}

/// Reads the packet and says what is to be done with it, for [`carry`].
#[inline(always)]
pub fn look<F: MapFamily>(context: &TcContext, l3: usize) -> u32 {
    match examine::<F>(context, l3) {
        FOREIGN => examine_whole::<F>(context, l3),
        step => step,
    }
}

/// A fragment, or an SCTP packet. A function of its own for the sake of the stack, and of the code that other packets run.
#[inline(never)]
pub fn carry<F: MapFamily>(context: &TcContext, hook: Hook, step: u32) -> End {
    let Some(piece) = F::piece().get_ptr_mut(0) else { return pass(context) };
    // SAFETY: as in `examine`; nothing writes to it from here on.
    let piece = unsafe { &*piece };
    if step & DROPPED != 0 {
        return match Reason::from_index(step & 0xff) {
            Some(reason) => dropped::<F>(context, &piece.packet, hook, reason),
            None => pass(context),
        };
    }
    if step == PASSED {
        return pass(context);
    }
    if step == FOREIGN {
        return End::new(NEXT, Verdict::Pass);
    }
    let kernel = Kernel::tc(context.as_ptr(), tc::ifindex(context));
    let packet = &piece.packet;
    let outcome = decide::<F, _, _>(
        &kernel,
        packet,
        hook,
        piece.place == WHOLE,
        #[inline(always)]
        |flow: &Flow<F::Address>| {
            tc::send_by::<F>(
                context,
                &packet.network,
                flow,
                hook,
                #[inline(always)]
                |forwards| {
                    if piece.place == WHOLE {
                        return rewrite::rewrite_sctp::<F>(context, packet, flow).is_ok()
                            && rewrite::rewrite_addresses::<F>(context, packet, flow, forwards).is_ok();
                    }
                    let rewritten = if piece.place == FIRST {
                        rewrite::rewrite::<F>(context, packet, flow, forwards)
                    } else {
                        rewrite::rewrite_addresses::<F>(context, packet, flow, forwards)
                    };
                    rewritten.is_ok()
                        && rewrite::rewrite_id::<F>(context, packet, piece.key.id, piece.new_id).is_ok()
                },
            )
        },
    );
    match outcome {
        Outcome::Pass if piece.place == WHOLE => End::new(NEXT, Verdict::Pass),
        Outcome::Pass => pass(context),
        Outcome::Carried(end) => {
            if step == NOTED {
                fragment::note::<F, _>(&kernel, piece);
            }
            end
        }
        Outcome::Reject(reason) if piece.place == WHOLE => {
            log::outcome::<F>(tc::program(hook), packet, reason);
            stats::count(reason, packet.network.length);
            // By the caller, for the sake of the stack.
            End::REFUSED
        }
        // A refusal quotes or answers a whole packet: none is here.
        Outcome::Drop(reason) | Outcome::Reject(reason) => dropped::<F>(context, packet, hook, reason),
    }
}

/// Refuses the SCTP packet that [`carry`] has just had.
#[inline(always)]
pub fn refuse<F: MapFamily>(context: &TcContext, hook: Hook) -> End {
    let Some(piece) = F::piece().get_ptr_mut(0) else { return End::new(DROP, Verdict::Dropped) };
    // SAFETY: as in `examine`; nothing writes to it from here on.
    tc::refuse_sctp::<F>(context, unsafe { &(*piece).packet }, hook)
}

#[inline(always)]
fn dropped<F: MapFamily>(
    context: &TcContext,
    packet: &Packet<F::Address>,
    hook: Hook,
    reason: Reason,
) -> End {
    log::outcome::<F>(tc::program(hook), packet, reason);
    stats::count(reason, context.len());
    End::new(DROP, Verdict::Dropped)
}

#[inline(always)]
fn pass(context: &TcContext) -> End {
    stats::count(Reason::Fragment, context.len());
    End::new(NEXT, Verdict::Pass)
}
