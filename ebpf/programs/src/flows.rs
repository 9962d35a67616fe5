//! The tables of flows ([`skep_abi::flow`], [`skep_abi::sets`]) on the kernel's arrays: finding, entering, settling and
//! removing. Owns the order of the steps by which a place changes hands, and who gives way when the words of the sets name
//! nobody.
//!
//! Each is a global function for each family, which the verifier follows once (see `skep_logic::prepare`): they take and
//! return plain numbers, and what is to be entered lies in scratch memory. Inlined, each place of a set would be a way of
//! its own through everything that follows.

use core::arch::asm;

use skep_abi::backend::{BackendState, STATE_GONE};
use skep_abi::config::Config;
use skep_abi::flow::{ANNOUNCED, Flow};
use skep_abi::sets::{self, FREE, FlowSet, TAKEN, WAYS};
use skep_logic::checksum::Delta;
use skep_logic::lifetime::{self, Asker};
use skep_logic::tables::{Existing, Side};
use skep_logic::{Ipv4, Ipv6};

use crate::kernel::{config, now};
use crate::maps::{BACKEND_STATES, MapFamily};

/// What entering came to: the entry is there.
pub const ENTERED: u32 = 0;
/// The key has an entry.
pub const EXISTS: u32 = 1;
/// There is no place.
const NO_PLACE: u32 = 2;

/// No entry.
const NONE: u32 = u32::MAX;

const PARTNER: u32 = 1;
const KEEP: u32 = 2;

/// What is to be entered and how, as one number.
#[inline(always)]
pub const fn request(side: Side, existing: Existing) -> u32 {
    let side = match side {
        Side::Flow => 0,
        Side::Partner => PARTNER,
    };
    match existing {
        Existing::Replace => side,
        Existing::Keep => side | KEEP,
    }
}

/// Sets of IPv4's table.
#[inline(always)]
pub fn count_v4(config: &Config) -> u32 {
    config.flow_sets_v4
}

/// Sets of IPv6's table.
#[inline(always)]
pub fn count_v6(config: &Config) -> u32 {
    config.flow_sets_v6
}

/// One set of a family's.
#[inline(always)]
fn set<F: MapFamily>(index: u32) -> Option<*mut FlowSet> {
    F::flow_sets().get_ptr_mut(index)
}

/// The word of a place.
#[inline(always)]
fn place(set: *mut FlowSet, way: u32) -> *mut u64 {
    // SAFETY: the set is live as long as the map, and the place one of its.
    unsafe { (&raw mut (*set).words).cast::<u64>().add((way & (WAYS - 1)) as usize) }
}

#[inline(always)]
fn read(place: *mut u64) -> u64 {
    // SAFETY: the pointer is to a live, aligned word.
    unsafe { place.read_volatile() }
}

/// Writes `new` if the word is `old`; says whether it was.
#[inline(always)]
fn exchange(place: *mut u64, old: u64, new: u64) -> bool {
    let mut seen = old;
    // SAFETY: the pointer is to a live, aligned word. In assembly, since `core` has no such operation for this target.
    unsafe {
        asm!("r0 = cmpxchg_64({word} + 0, r0, {new})", word = in(reg) place, new = in(reg) new,
            inout("r0") seen, options(nostack));
    }
    seen == old
}

/// Writes `new` after everything that was written before.
#[inline(always)]
fn publish(place: *mut u64, new: u64) {
    // SAFETY: as in `exchange`.
    unsafe {
        asm!("{new} = xchg_64({word} + 0, {new})", word = in(reg) place, new = inout(reg) new => _, options(nostack));
    }
}

/// Where in a set `tag` lies; [`NONE`] if it does not.
#[inline(always)]
fn find_in(set: *mut FlowSet, tag: u64) -> u32 {
    let mut way = 0;
    while way < WAYS {
        if sets::is(read(place(set, way)), tag) {
            return way;
        }
        way += 1;
    }
    NONE
}

/// Of [`sweep`]: beside the place, that `tag` has it.
const FOUND: u32 = 2 * WAYS;

/// The place of two sets for `tag`, as the number of a way of 16: the one that it has ([`FOUND`]), else the one that is most
/// willing to be its, by [`sets::worth`]; [`NONE`] if none is. One pass over the two lines.
#[inline(always)]
fn sweep(one: *mut FlowSet, two: *mut FlowSet, tag: u64, now: u32) -> u32 {
    let mut best = pin(0);
    // Written out: as a loop each round had a handful of instructions to know which place it is at.
    macro_rules! look {
        ($set:ident, $before:expr, $($way:literal)*) => {$(
            let word = pin(read(place($set, $way)));
            if sets::is(word, tag) {
                return ($before + $way) | FOUND;
            }
            // The number in the low bits, so that one comparison decides; of those alike the first is taken.
            let number = u64::from(2 * WAYS - 1 - $before - $way);
            let free = hide(!hide(word | word.wrapping_neg()) >> 63);
            let candidate = hide(sets::worth(word, free, $way, now) << 4 | number);
            // The greater of the two.
            let less = hide(candidate.wrapping_sub(best));
            best = pin(best.wrapping_add(less & !hide((less as i64 >> 63) as u64)));
        )*};
    }
    look!(one, 0, 0 1 2 3 4 5 6 7);
    look!(two, WAYS, 0 1 2 3 4 5 6 7);
    if best < 0x10 { NONE } else { 2 * WAYS - 1 - (best as u32 & 0xf) }
}

/// The number of the entry with `tag`, in a table of `count` sets.
#[inline(always)]
fn find<F: MapFamily>(tag: u64, count: u32) -> u32 {
    let [first, second] = sets::sets(tag, count);
    let Some(one) = set::<F>(first) else { return NONE };
    let way = find_in(one, tag);
    if way != NONE {
        return sets::entry(first, way);
    }
    let Some(two) = set::<F>(second) else { return NONE };
    let way = find_in(two, tag);
    if way != NONE { sets::entry(second, way) } else { NONE }
}

/// The word of the entry with that number.
#[inline(always)]
fn word_of<F: MapFamily>(entry: u32) -> Option<*mut u64> {
    Some(place(set::<F>(entry / WAYS)?, entry % WAYS))
}

/// Has the word say what class the entry is of.
#[inline(always)]
fn settle<F: MapFamily>(tag: u64, class: u64, count: u32) {
    let entry = find::<F>(tag, count);
    if entry == NONE {
        return;
    }
    let Some(word) = word_of::<F>(entry) else { return };
    let old = read(word);
    if sets::is(old, tag) && sets::class(old) != class {
        // Whoever comes in between gives the place to another, or says the same.
        exchange(word, old, sets::word(tag, class & 3, now()));
    }
}

/// Takes out the entry with `tag`, if there is one.
#[inline(always)]
fn remove<F: MapFamily>(tag: u64, count: u32) {
    let entry = find::<F>(tag, count);
    if entry == NONE {
        return;
    }
    let Some(word) = word_of::<F>(entry) else { return };
    let old = read(word);
    if sets::is(old, tag) {
        // That it is another's by now is as good.
        exchange(word, old, FREE);
    }
}

/// The next place. The compiler does not know that it is: unrolled, these loops would need more of the stack than their
/// callers have left ("combined stack size of 5 calls is 560. Too large", Linux 6.18).
#[inline(always)]
fn next(way: u32) -> u32 {
    hide(u64::from(way + 1)) as u32
}

/// The same number, which the compiler knows nothing of: otherwise it makes branches of what is to be arithmetic, and the
/// verifier follows each for every place ("BPF program is too large. Processed 1000001 insn", Linux 6.18).
#[inline(always)]
fn hide(number: u64) -> u64 {
    let mut hidden = number;
    // SAFETY: it moves a register to itself.
    unsafe { asm!("{0} = {0}", inout(reg) hidden, options(pure, nomem, nostack, preserves_flags)) };
    hidden
}

/// As [`hide`], and done where it stands: what is written out one after the other is not to be gathered, which the stack would
/// be too small for.
#[inline(always)]
fn pin(number: u64) -> u64 {
    let mut pinned = number;
    // SAFETY: it moves a register to itself.
    unsafe { asm!("{0} = {0}", inout(reg) pinned, options(nomem, nostack, preserves_flags)) };
    pinned
}

/// Whether the entry of that number is of a flow whose time is up, or whose backend is gone.
#[inline(always)]
fn is_over<F: MapFamily>(entry: u32, now: u32) -> bool {
    let Some(flow) = F::flow_entries().get_ptr(entry) else { return false };
    // SAFETY: the pointer is to a live entry of plain integers.
    let flow = unsafe { &*flow };
    lifetime::is_over(flow, flow.protocol, Asker::Other, now) || is_orphan(flow)
}

#[inline(always)]
fn is_orphan<A>(flow: &Flow<A>) -> bool {
    if flow.backend == ANNOUNCED {
        return false;
    }
    let Some(word) = BACKEND_STATES.get(flow.backend) else { return true };
    let state = BackendState::from_word(*word);
    state.generation != flow.generation || state.state == STATE_GONE
}

/// The first place of two sets whose entry is over, as [`sweep`] gives it.
#[inline(always)]
fn first_over<F: MapFamily>(first: u32, second: u32, now: u32) -> u32 {
    let mut way = 0;
    while way < 2 * WAYS {
        let set = if way < WAYS { first } else { second };
        if is_over::<F>(sets::entry(set, way % WAYS), now) {
            return way;
        }
        way = next(way);
    }
    NONE
}

/// 1 if a word is that of `tag`, else 0: [`sets::is`] without a branch.
#[inline(always)]
fn has(word: u64, tag: u64) -> u64 {
    hide((word ^ tag) >> 8).wrapping_sub(1) >> 63
}

/// How many places of a set have `tag`. Without a branch, which the processor would foretell wrong wherever the place is.
#[inline(always)]
fn matches(set: *mut FlowSet, tag: u64) -> u64 {
    let mut count = 0;
    let mut way = 0;
    while way < WAYS {
        count = pin(count + has(read(place(set, way)), tag));
        way += 1;
    }
    count
}

/// Writes an entry word by word: at once it would go by the stack.
///
/// # Safety
///
/// `from` is live, and `to` is the caller's.
#[inline(always)]
unsafe fn copy<A>(from: *const Flow<A>, to: *mut Flow<A>) {
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    let mut at = 0;
    while at < size_of::<Flow<A>>() / size_of::<u64>() {
        // SAFETY: within the two, which are aligned to 8 bytes and a multiple of that long.
        unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
        at += 1;
    }
}

/// Enters what is in scratch memory under `tag`.
#[inline(always)]
fn enter<F: MapFamily>(tag: u64, request: u32, count: u32) -> u32 {
    let Some(scratch) = F::scratch().get_ptr_mut(0) else { return NO_PLACE };
    // SAFETY: the pointer is to this processor's live entry; XDP and TC programs run with bottom halves disabled, so that no
    // other one comes in between.
    let new = unsafe {
        if request & PARTNER != 0 { &raw mut (*scratch).partner } else { &raw mut (*scratch).flow }
    };
    if !F::IS_V4 {
        // SAFETY: as above.
        unsafe { (*new).change = Delta::addresses::<F>(&*new).ports(&*new).fold32() };
    }
    let [first, second] = sets::sets(tag, count);
    let Some(one) = set::<F>(first) else { return NO_PLACE };
    let Some(two) = set::<F>(second) else { return NO_PLACE };
    let now = now();
    let mut way = sweep(one, two, tag, now);
    if way == NONE {
        way = first_over::<F>(first, second, now);
        if way == NONE {
            return NO_PLACE;
        }
    } else if way & FOUND != 0 && request & KEEP != 0 {
        return EXISTS;
    }
    // Each place would be a way of its own from here on ("BPF program is too large. Processed 1000001 insn", Linux 6.18).
    // SAFETY: as above.
    way = unsafe {
        (&raw mut (*scratch).forgotten).write_volatile(way);
        (&raw const (*scratch).forgotten).read_volatile() & (2 * WAYS - 1)
    };
    // By arithmetic: which of the two it is nothing foretells.
    let index = first ^ ((first ^ second) & (way / WAYS).wrapping_neg());
    let number = sets::entry(index, way % WAYS);
    let Some(word) = word_of::<F>(number) else { return NO_PLACE };
    let before = read(word);
    if before == TAKEN || !exchange(word, before, TAKEN) {
        return NO_PLACE;
    }
    let Some(entry) = F::flow_entries().get_ptr_mut(number) else { return NO_PLACE };
    // SAFETY: the place is this processor's from here until its word is written.
    let class = unsafe {
        copy(new, entry);
        sets::class_of(&*new)
    };
    publish(word, sets::word(tag, class, now));
    // Its own is no other, unless it is another's by now.
    if matches(one, tag) + matches(two, tag) != has(read(word), tag) {
        publish(word, FREE);
        return EXISTS;
    }
    ENTERED
}

macro_rules! entries {
    ($find:ident, $settle:ident, $remove:ident, $enter:ident, $family:ty, $count:ident) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $find(pair: u64, rest: u64) -> u32 {
            let Some(config) = config() else { return NONE };
            find::<$family>(sets::tag(config.seed, pair, rest), $count(config))
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $settle(pair: u64, rest: u64, class: u64) -> u32 {
            let Some(config) = config() else { return 0 };
            settle::<$family>(sets::tag(config.seed, pair, rest), class, $count(config));
            0
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $remove(pair: u64, rest: u64) -> u32 {
            let Some(config) = config() else { return 0 };
            remove::<$family>(sets::tag(config.seed, pair, rest), $count(config));
            0
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        pub extern "C" fn $enter(pair: u64, rest: u64, request: u32) -> u32 {
            let Some(config) = config() else { return NO_PLACE };
            enter::<$family>(sets::tag(config.seed, pair, rest), request, $count(config))
        }
    };
}

entries!(find_flow_v4, settle_flow_v4, remove_flow_v4, enter_flow_v4, Ipv4, count_v4);
entries!(find_flow_v6, settle_flow_v6, remove_flow_v6, enter_flow_v6, Ipv6, count_v6);
