//! Announcements of direct replies, in TC: written into packets that go to a backend's node, taken out there. What they
//! say and when is `skep-logic`'s. XDP leaves packets that carry one, or are to, to TC: they are the first ones of a flow.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM, bpf_adj_room_mode::BPF_ADJ_ROOM_NET};
use aya_ebpf::helpers::generated::bpf_skb_adjust_room;
use aya_ebpf::programs::TcContext;
use skep_abi::Be16;
use skep_abi::counters::{Reason, Verdict};
use skep_logic::announce::{self, Announcement, HEADER_V6, LENGTH_V6, Learned, OPTION_V4, OPTION_V6};
use skep_logic::checksum::Delta;
use skep_logic::parse::Packet;
use skep_logic::{Family, Ipv4, Ipv6};

use crate::kernel::Kernel;
use crate::maps::MapFamily;
use crate::stats;
use crate::tc::{self, DROP, End, NEXT};

/// What is written: the card's sum over the packet, where there is one, must follow.
const FLAGS: u64 = BPF_F_RECOMPUTE_CSUM as u64;

/// Puts the announcement of the frontend that `packet` was sent to behind the network header. The packet has no options
/// and no extension headers.
#[inline(always)]
pub fn insert<F: MapFamily>(context: &TcContext, packet: &Packet<F::Address>) -> bool {
    let Some(told) = F::told().get_ptr_mut(0) else { return false };
    // SAFETY: as in `receive`.
    let told = unsafe { &mut *told };
    told.frontend = packet.network.destination;
    told.port = packet.destination_port;
    told.protocol = packet.network.protocol;
    told.length = packet.network.length;
    let (skb, l3) = (context.skb.skb, packet.l3 as u32);
    (if F::IS_V4 { announce_v4(skb, l3) } else { announce_v6(skb, l3) }) == 0
}

/// Global, and so followed by the verifier once: see `skep_logic::prepare`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn announce_v4(context: *mut __sk_buff, l3: u32) -> u32 {
    write::<Ipv4>(&TcContext::new(context), l3 as usize)
}

/// As [`announce_v4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn announce_v6(context: *mut __sk_buff, l3: u32) -> u32 {
    write::<Ipv6>(&TcContext::new(context), l3 as usize)
}

/// Writes the announcement that this processor's memory has. Returns 0 if it could.
#[inline(always)]
fn write<F: MapFamily>(context: &TcContext, l3: usize) -> u32 {
    let Some(told) = F::told().get_ptr(0) else { return 1 };
    // SAFETY: as in `receive`.
    let Announcement { frontend, port, protocol, length: total, .. } = unsafe { *told };
    let write = || -> Result<(), i64> {
        let length = announce::length::<F>();
        room(context, length as i32)?;
        let at = l3 + F::HEADER;
        let total = total as u16;
        if F::IS_V4 {
            let first: u16 = context.load(l3)?;
            let header = Header { first, length: Be16::new(total) };
            let grown = Header { first: add(first, 2), length: Be16::new(total + length as u16) };
            let option = F::sum(&frontend) + u64::from(u16::from_ne_bytes(OPTION_V4)) + u64::from(port.raw());
            resize(context, l3, header, grown, Delta(option))?;
            context.store(at, &OPTION_V4, FLAGS)?;
            context.store(at + 2, &port.raw(), FLAGS)?;
            return context.store(at + 4, &frontend, FLAGS);
        }
        let next = protocol;
        context.store(l3 + 4, &Be16::new(total - F::HEADER as u16 + length as u16).raw(), FLAGS)?;
        context.store(l3 + 6, &HEADER_V6, FLAGS)?;
        context.store(at, &[next, LENGTH_V6, OPTION_V6[0], OPTION_V6[1]], FLAGS)?;
        context.store(at + 4, &[port.raw(), 0], FLAGS)?;
        context.store(at + 8, &frontend, FLAGS)
    };
    u32::from(write().is_err())
}

/// A packet from the uplink whose network header is longer than it must be: learns from its announcement, if it has one,
/// and takes that out.
#[inline(never)]
pub fn receive<F: MapFamily>(context: &TcContext, l3: usize) -> End {
    let pass = End::new(NEXT, Verdict::Pass);
    let Some(slot) = F::told().get_ptr_mut(0) else { return pass };
    let Some(told) = announce::read::<F, _>(&tc::linear(context), l3) else { return pass };
    // SAFETY: the pointer is to this processor's live entry. XDP and TC programs run with bottom halves disabled, so that
    // no other one comes in between.
    let told = unsafe {
        *slot = told;
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
        &*slot
    };
    let kernel = Kernel::tc(context.as_ptr(), tc::ifindex(context));
    match announce::learn::<F, _>(&kernel, told) {
        Learned::Foreign => pass,
        Learned::Collision => dropped(Reason::FlowCollision, told.length),
        Learned::Known if remove::<F>(context, l3, told).is_ok() => End::new(NEXT, Verdict::Translated),
        Learned::Known => dropped(Reason::RewriteFailed, told.length),
    }
}

#[inline(always)]
fn dropped(reason: Reason, length: u32) -> End {
    stats::count(reason, length);
    End::new(DROP, Verdict::Dropped)
}

/// Takes the announcement out.
#[inline(always)]
fn remove<F: Family>(context: &TcContext, l3: usize, told: &Announcement<F::Address>) -> Result<(), i64> {
    let length = announce::length::<F>();
    let total = told.length as u16;
    let first: u16 = context.load(l3)?;
    room(context, -(length as i32))?;
    if F::IS_V4 {
        let header = Header { first, length: Be16::new(total) };
        let shrunk = Header { first: add(first, -2), length: Be16::new(total - length as u16) };
        let option =
            F::sum(&told.frontend) + u64::from(u16::from_ne_bytes(OPTION_V4)) + u64::from(told.port.raw());
        // The complement of each of its four words, summed (RFC 1624).
        return resize(context, l3, header, shrunk, Delta::NONE.words(option, 0, 2));
    }
    context.store(l3 + 4, &Be16::new(total - F::HEADER as u16 - length as u16).raw(), FLAGS)?;
    context.store(l3 + 6, &told.protocol, FLAGS)
}

/// The words of an IPv4 header that say how long it and the packet are.
#[derive(Clone, Copy)]
struct Header {
    /// The first two bytes, as they lie in the packet.
    first: u16,
    length: Be16,
}

/// The first word of an IPv4 header that is so many words longer.
#[inline(always)]
fn add(first: u16, words: i8) -> u16 {
    let [version, service] = first.to_ne_bytes();
    u16::from_ne_bytes([version.wrapping_add(words as u8), service])
}

/// Writes the words that say how long header and packet are, and the header's checksum, of which `change` is what the
/// header gained or lost.
#[inline(always)]
fn resize(context: &TcContext, l3: usize, old: Header, new: Header, change: Delta) -> Result<(), i64> {
    let change =
        change.port(Be16::from_raw(old.first), Be16::from_raw(new.first)).port(old.length, new.length);
    let sum: u16 = context.load(l3 + 10)?;
    context.store(l3, &new.first, FLAGS)?;
    context.store(l3 + 2, &new.length.raw(), FLAGS)?;
    context.store(l3 + 10, &change.apply(sum), FLAGS)
}

/// Makes so much room behind the network header, or closes it.
#[inline(always)]
fn room(context: &TcContext, length: i32) -> Result<(), i64> {
    // SAFETY: the context is this program's own.
    let result = unsafe { bpf_skb_adjust_room(context.skb.skb, length, BPF_ADJ_ROOM_NET, 0) };
    if result == 0 { Ok(()) } else { Err(result) }
}
