//! How TC refuses a packet: the answer to it is put in its place. Owns the answer's way into the packet's buffer; what it says
//! is `skep_logic::reject`'s, where it goes the caller's.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_skb_change_tail, bpf_skb_store_bytes};
use aya_ebpf::programs::TcContext;
use skep_abi::{SCTP, TCP, UDP};
use skep_logic::parse::{ETHERNET, Packet};
use skep_logic::{Family, Ipv4, Ipv6, reject};

use crate::maps::{ANSWER, MapFamily};
use crate::tc::linear;

/// Replaces the packet by the answer to it.
#[inline(always)]
pub fn answer<F: MapFamily>(context: &TcContext, packet: &Packet<F::Address>) -> bool {
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
