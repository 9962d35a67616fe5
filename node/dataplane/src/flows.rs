//! The tables of flows: reading them, counting them, and entering what an earlier version's tables held.
//!
//! Owns this side of the rules of [`skep_abi::sets`]. The programs read and write the same memory at any time; every word is
//! whole, and a place is taken by an atomic exchange before its entry is written.

use std::io;

use skep_abi::Plain;
use skep_abi::flow::{Flow, FlowAddress, FlowKey};
use skep_abi::sets::{self, CLASS_IN_USE, FREE, TAKEN, WAYS};

use crate::Error;
use crate::maps::{self, Opened};
use crate::memory::MappedArray;
use crate::pins::Pins;
use crate::plain::{bytes, read};
use crate::sys::RawMap;

/// One family's table.
#[derive(Debug)]
pub(crate) struct FlowTable {
    sets: MappedArray,
    entries: RawMap,
    count: u32,
}

impl FlowTable {
    /// Opens the pins of the family of `A`.
    pub(crate) fn open<A: FlowAddress>(pins: &Pins) -> Result<Self, Error> {
        let Opened { fd, entries: sets, value, .. } = maps::open(pins, A::SETS)?;
        let mapped = MappedArray::new(&fd, value, sets).map_err(Error::map(A::SETS))?;
        let entries = maps::open(pins, A::ENTRIES)?;
        // Whichever of the two is smaller: the other's rest is left alone.
        let count = sets.min(entries.entries / WAYS);
        Ok(Self { sets: mapped, entries: entries.raw(), count })
    }

    /// Sets that there are entries for.
    pub(crate) fn set_count(&self) -> u32 {
        self.count
    }

    /// Flows that there is room for.
    pub(crate) fn capacity(&self) -> usize {
        (self.count * WAYS) as usize
    }

    /// How many flows are in use: they alone keep their places from others.
    pub(crate) fn in_use(&self) -> usize {
        let words = (0..self.count).flat_map(|set| (0..WAYS).filter_map(move |way| self.word(set, way)));
        words.filter(|word| *word != FREE && *word != TAKEN && sets::class(*word) == CLASS_IN_USE).count()
    }

    fn word(&self, set: u32, way: u32) -> Option<u64> {
        self.sets.load_word(set as usize, way as usize)
    }

    /// Every flow.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn all<A: FlowAddress>(&self, seed: u64) -> io::Result<Vec<(FlowKey, Flow<A>)>>
    where
        Flow<A>: Plain,
    {
        let mut found = Vec::new();
        self.entries.walk(|index, value| {
            let owned = index.try_into().map(u32::from_ne_bytes).is_ok_and(|index| {
                let word = self.word(index / WAYS, index % WAYS);
                word.is_some_and(|word| word != FREE && word != TAKEN)
            });
            if owned && let Some(flow) = read::<Flow<A>>(value) {
                found.push((flow.key(seed), flow));
            }
        })?;
        Ok(found)
    }

    /// Enters a flow into a free place, unless its key has one. Says whether the key has an entry now.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn enter<A: FlowAddress>(&self, flow: &Flow<A>, seed: u64) -> io::Result<bool>
    where
        Flow<A>: Plain,
    {
        let [pair, rest] = sets::numbers(&flow.key(seed));
        let tag = sets::tag(seed, pair, rest);
        let places = sets::places(tag, self.count);
        let has = |(set, way): (u32, u32)| self.word(set, way).is_some_and(|word| sets::is(word, tag));
        if places.clone().any(has) {
            return Ok(true);
        }
        for (set, way) in places.clone() {
            if !self.sets.exchange_word(set as usize, way as usize, FREE, TAKEN) {
                continue;
            }
            let written = self.entries.put(&sets::entry(set, way).to_ne_bytes(), bytes(flow));
            let entered = sets::word(tag, sets::class_of(flow), flow.last_seen);
            let word = if written.is_ok() { entered } else { FREE };
            self.sets.exchange_word(set as usize, way as usize, TAKEN, word);
            written?;
            // A program may have entered it at the same time: then that one stays.
            if places.clone().any(|place| place != (set, way) && has(place)) {
                self.sets.exchange_word(set as usize, way as usize, word, FREE);
            }
            return Ok(true);
        }
        Ok(false)
    }
}
