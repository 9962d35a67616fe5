//! Where a flow lies: `FLOW_SETS_V4/6`, the index to the tables of flows ([`crate::flow`]).
//!
//! An array of sets of eight words, one cache line each. A word says whose the entry of the same number is: nothing
//! ([`FREE`]), being written ([`TAKEN`]), or 56 bits of the key's keyed hash with, in its low byte, what the entry is worth
//! to whoever needs its place: its class, and the tick in which that began. A key has two sets, by its hash, and lies in
//! any place of either; the first is filled first, but for a rest ([`EASY`]). So a look-up reads two lines at most and then the entry, an insertion
//! costs as much however full the table is, and who gives way to it is decided by those two lines as long as anybody does.
//! No entry is ever moved, and nothing has to run for places to become free again.
//!
//! Writers and readers: the XDP and TC programs. User space reads, and writes only what it takes over of an earlier
//! version's tables, by the same rules:
//!
//! - Who wants a place exchanges the word that it read for [`TAKEN`], atomically; writes the entry; then the new word. A reader
//!   finds an entry whole or not at all.
//! - Who then finds its own key a second time takes its entry out again: two processors that enter one key at once may both
//!   give way, but never both stay.
//!
//! The number of sets is in [`crate::config::Config`]: the programs do not know how large an array the agent has made.

use crate::flow::{FLOW_HALF_OPEN, Flow, FlowKey, STATE_CLOSED, STATE_NEW, STATE_TIME_WAIT};
use crate::{has_connections, plain};

/// Name of the IPv4 array of [`FlowSet`].
pub const FLOW_SETS_V4: &str = "FLOW_SETS_V4";
/// Name of the IPv6 array of [`FlowSet`].
pub const FLOW_SETS_V6: &str = "FLOW_SETS_V6";
/// Default number of sets of each; the loader may choose another, with [`WAYS`] times as many entries.
pub const FLOW_SETS: u32 = 1 << 15;
/// Places of a set.
pub const WAYS: u32 = 8;
/// Places of a key's first set that are filled before those of its second: most keys so lie in their first, and both are full
/// for one only when the table is for most.
pub const EASY: u32 = 6;

/// A place without an entry.
pub const FREE: u64 = 0;
/// A place that is being written.
pub const TAKEN: u64 = u64::MAX;

/// Half-open, or UDP that was never answered: anybody can make such a one.
pub const CLASS_UNPROVEN: u64 = 0;
/// In use: gives way only when nobody else does and its time is up, or its backend gone.
pub const CLASS_IN_USE: u64 = 1;
/// Reset, or closed by both sides.
pub const CLASS_CLOSED: u64 = 2;
/// Closed by both sides, and the backend remembers it for a while.
pub const CLASS_WAITING: u64 = 3;

/// Eight places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct FlowSet {
    /// Words, see the module's documentation.
    pub words: [u64; WAYS as usize],
}

impl FlowSet {
    /// Without an entry.
    pub const EMPTY: Self = Self { words: [FREE; WAYS as usize] };

    /// The place that `tag` has.
    pub fn find(&self, tag: u64) -> Option<u32> {
        (0..WAYS).zip(self.words).find(|(_, word)| is(*word, tag)).map(|(way, _)| way)
    }
}

/// A key as two numbers: the pair, then the ports and the protocol.
#[inline(always)]
pub const fn numbers(key: &FlowKey) -> [u64; 2] {
    let ports = [key.source_port.raw().to_ne_bytes(), key.destination_port.raw().to_ne_bytes()];
    let ports = u32::from_ne_bytes([ports[0][0], ports[0][1], ports[1][0], ports[1][1]]);
    [key.pair[0] as u64 | (key.pair[1] as u64) << 32, ports as u64 | (key.protocol as u64) << 32]
}

/// The key of these [`numbers`] as the words have it: its low byte is 0, and neither [`FREE`] nor [`TAKEN`] is like it.
/// `seed` is [`crate::config::Config::seed`].
#[inline(always)]
pub const fn tag(seed: u64, pair: u64, rest: u64) -> u64 {
    let mut hash = (pair ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 32) ^ rest ^ seed.rotate_left(29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // A bit that is always set and one that never is.
    ((hash ^ (hash >> 32)) & (u64::MAX >> 1) & !0xff) | 0x100
}

/// The two sets, of `count`, in which a tag may lie.
#[inline(always)]
pub const fn sets(tag: u64, count: u32) -> [u32; 2] {
    let first = scale((tag >> 31) as u32, count);
    let second = scale((tag as u32).wrapping_mul(0x9e37_79b1), count);
    let next = if first + 1 < count { first + 1 } else { 0 };
    [first, if second == first { next } else { second }]
}

/// Maps a uniform number to `0..count`.
#[inline(always)]
const fn scale(number: u32, count: u32) -> u32 {
    ((number as u64 * count as u64) >> 32) as u32
}

/// The places, set and way, that a tag may have, in the order in which free ones are taken.
pub fn places(tag: u64, count: u32) -> impl Iterator<Item = (u32, u32)> + Clone {
    let [one, two] = sets(tag, count);
    let parts = [(one, 0..EASY), (two, 0..EASY), (one, EASY..WAYS), (two, EASY..WAYS)];
    parts.into_iter().flat_map(|(set, ways)| ways.map(move |way| (set, way)))
}

/// The word of an entry with `tag`, of a class since `tick`.
#[inline(always)]
pub const fn word(tag: u64, class: u64, tick: u32) -> u64 {
    tag | class << 6 | (tick & 0x3f) as u64
}

/// Whether a word is that of `tag`.
#[inline(always)]
pub const fn is(word: u64, tag: u64) -> bool {
    (word ^ tag) < 0x100
}

/// The class in a word.
#[inline(always)]
pub const fn class(word: u64) -> u64 {
    word >> 6 & 3
}

/// What the place of a flow's entry is worth.
#[inline(always)]
pub const fn class_of<A>(flow: &Flow<A>) -> u64 {
    match flow.state {
        STATE_CLOSED => CLASS_CLOSED,
        STATE_TIME_WAIT => CLASS_WAITING,
        _ if flow.flags & FLOW_HALF_OPEN != 0 => CLASS_UNPROVEN,
        STATE_NEW if !has_connections(flow.protocol) => CLASS_UNPROVEN,
        _ => CLASS_IN_USE,
    }
}

/// How willing the entry of a word, which is not [`FREE`], is to give way at `tick`: 0 not at all. What is over comes before
/// what nobody has shown to need, the older before the younger; ages are told apart up to four seconds. Without branches,
/// each of which the verifier would follow for every place of a set.
#[inline(always)]
pub const fn willing(word: u64, tick: u32) -> u64 {
    /// By class: what it counts, and whether its age does.
    const BASE: u64 =
        0x0100 << (CLASS_WAITING * 16) | 0x0400 << (CLASS_CLOSED * 16) | 0x0200 << (CLASS_UNPROVEN * 16);
    const AGES: u64 =
        0x3f << (CLASS_WAITING * 16) | 0x3f << (CLASS_CLOSED * 16) | 0x3f << (CLASS_UNPROVEN * 16);
    let shift = (word >> 6 & 3) * 16;
    let age = (tick as u64).wrapping_sub(word) & 0x3f;
    (BASE >> shift & 0xffff) | (AGES >> shift & age)
}

/// How willing a place is to be another's, the place of this number in its set, whose word this is: before any whose entry
/// is to give way ([`willing`]) come free ones, and of those first the [`EASY`] ones. `free` is 1 for [`FREE`], else 0: the
/// compiler is not to see that it is a comparison.
#[inline(always)]
pub const fn worth(word: u64, free: u64, way: u32, tick: u32) -> u64 {
    willing(word, tick) | free << if way < EASY { 12 } else { 11 }
}

/// The number of the entry at a place.
#[inline(always)]
pub const fn entry(set: u32, way: u32) -> u32 {
    set.wrapping_mul(WAYS) | way
}

plain!(FlowSet);

const _: () = assert!(size_of::<FlowSet>() == 64 && align_of::<FlowSet>() == 8);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{STATE_CLOSING, STATE_ESTABLISHED};
    use crate::{Be16, SCTP, TCP, UDP};

    fn key(number: u32) -> FlowKey {
        FlowKey::new([number, 7], Be16::new(number as u16), Be16::new(80), TCP)
    }

    fn tag(seed: u64, key: &FlowKey) -> u64 {
        let [pair, rest] = numbers(key);
        super::tag(seed, pair, rest)
    }

    #[test]
    fn tag_depends_on_every_part_of_the_key_and_on_the_seed() {
        let base = FlowKey::new([1, 2], Be16::new(3), Be16::new(4), TCP);
        let others = [
            FlowKey { pair: [9, 2], ..base },
            FlowKey { pair: [1, 9], ..base },
            FlowKey { source_port: Be16::new(9), ..base },
            FlowKey { destination_port: Be16::new(9), ..base },
            FlowKey { protocol: UDP, ..base },
            FlowKey { protocol: SCTP, ..base },
            FlowKey { pair: [2, 1], source_port: Be16::new(4), destination_port: Be16::new(3), ..base },
        ];
        for other in others {
            assert_ne!(tag(5, &base), tag(5, &other), "{other:?}");
        }
        assert_ne!(tag(5, &base), tag(6, &base));
    }

    #[test]
    fn word_keeps_its_tag_and_class_and_is_no_free_or_taken_one() {
        for number in 0..10_000 {
            let (tag, other) = (tag(1, &key(number)), tag(1, &key(number + 1)));
            for class in [CLASS_UNPROVEN, CLASS_IN_USE, CLASS_CLOSED, CLASS_WAITING] {
                let word = word(tag, class, 0xffff_ffff);
                assert!(is(word, tag) && super::class(word) == class && word != FREE && word != TAKEN);
                assert!(!is(word, other));
            }
            assert!(!is(FREE, tag) && !is(TAKEN, tag));
        }
    }

    #[test]
    fn class_of_a_flow_is_unproven_until_the_other_side_has_answered() {
        let of = |protocol, state, flags| {
            class_of(&Flow::<crate::V4> { protocol, state, flags, ..Flow::default() })
        };
        for protocol in [TCP, SCTP] {
            assert_eq!(of(protocol, STATE_NEW, FLOW_HALF_OPEN), CLASS_UNPROVEN);
            assert_eq!(of(protocol, STATE_CLOSING, FLOW_HALF_OPEN), CLASS_UNPROVEN);
            assert_eq!(of(protocol, STATE_CLOSED, FLOW_HALF_OPEN), CLASS_CLOSED);
            assert_eq!(of(protocol, STATE_NEW, 0), CLASS_IN_USE);
            assert_eq!(of(protocol, STATE_CLOSING, 0), CLASS_IN_USE);
            assert_eq!(of(protocol, STATE_TIME_WAIT, 0), CLASS_WAITING);
        }
        assert_eq!(of(UDP, STATE_NEW, 0), CLASS_UNPROVEN);
        assert_eq!(of(UDP, STATE_ESTABLISHED, 0), CLASS_IN_USE);
    }

    #[test]
    fn willing_takes_the_free_then_the_closed_then_the_oldest_unproven_and_never_those_in_use() {
        let tag = tag(1, &key(1));
        let of = |class, age: u32| willing(word(tag, class, 1000 - age), 1000);
        let order = [
            of(CLASS_CLOSED, 9),
            of(CLASS_CLOSED, 0),
            of(CLASS_UNPROVEN, 60),
            of(CLASS_UNPROVEN, 3),
            of(CLASS_UNPROVEN, 0),
            of(CLASS_WAITING, 5),
            of(CLASS_WAITING, 0),
            of(CLASS_IN_USE, 63),
        ];
        assert!(order.is_sorted_by(|one, other| one > other), "{order:x?}");
        assert_eq!([of(CLASS_IN_USE, 0), of(CLASS_IN_USE, 63)], [0, 0]);
    }

    #[test]
    fn worth_is_most_for_free_places_and_of_those_for_the_easy_ones() {
        let closed = word(tag(1, &key(1)), CLASS_CLOSED, 1000 - 63);
        for tick in [0, 1, 63, 1000] {
            let of = |way| worth(FREE, 1, way, tick);
            assert!(of(EASY) > worth(closed, 0, 0, 1000));
            assert!(of(EASY - 1) > of(EASY));
            assert!((0..EASY).all(|way| of(way) == of(0)) && (EASY..WAYS).all(|way| of(way) == of(EASY)));
        }
        assert_eq!(worth(closed, 0, 0, 1000), willing(closed, 1000));
    }

    #[test]
    fn table_that_is_four_fifths_full_has_had_a_place_for_nearly_every_key() {
        const SETS: u32 = 1 << 12;
        const KEYS: u32 = SETS * WAYS / 5 * 4;
        for seed in [1, 2, 0x1234_5678_9abc_def0] {
            let (mut used, mut in_first, mut refused) = (vec![false; (SETS * WAYS) as usize], 0, 0);
            for number in 0..KEYS {
                let tag = tag(seed, &key(number));
                let [one, two] = sets(tag, SETS);
                assert_ne!(one, two);
                match places(tag, SETS).find(|(set, way)| !used[entry(*set, *way) as usize]) {
                    Some((set, way)) => {
                        used[entry(set, way) as usize] = true;
                        in_first += u32::from(set == one);
                    }
                    None => refused += 1,
                }
            }
            assert!(refused < KEYS / 200, "seed {seed:x}: {refused} of {KEYS} keys");
            assert!(in_first > KEYS / 4 * 3, "seed {seed:x}: {in_first} of {KEYS} in their first set");
        }
    }
}
