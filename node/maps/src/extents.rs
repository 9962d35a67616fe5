//! Which slots of the backend table are free: a best-fit allocator over ranges of one array.
//!
//! Best fit with immediate merging keeps fragmentation low for the sizes that services have, and an allocation or
//! release costs a logarithm of the number of free ranges. When slots may be released (only some time after no
//! service value names them) is decided by [`crate::table`].

use std::collections::{BTreeMap, BTreeSet};

/// A range of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extent {
    /// First slot.
    pub start: u32,
    /// Number of slots; never 0.
    pub length: u32,
}

impl Extent {
    fn end(self) -> u32 {
        self.start + self.length
    }
}

/// The free ranges of a table.
#[derive(Clone, Debug)]
pub struct Extents {
    capacity: u32,
    free: u32,
    // Invariant: both hold the same ranges; no two of them overlap or touch.
    by_start: BTreeMap<u32, u32>,
    by_length: BTreeSet<(u32, u32)>,
}

impl Extents {
    /// A table of `capacity` free slots.
    pub fn new(capacity: u32) -> Self {
        let mut extents = Self { capacity, free: 0, by_start: BTreeMap::new(), by_length: BTreeSet::new() };
        if capacity > 0 {
            extents.insert(Extent { start: 0, length: capacity });
        }
        extents
    }

    /// Slots in the table.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Slots that are free.
    pub fn free(&self) -> u32 {
        self.free
    }

    /// The longest slice that could be allocated now.
    pub fn longest(&self) -> u32 {
        self.by_length.last().map_or(0, |(length, _)| *length)
    }

    /// Takes `length` slots in a row from the smallest range that has them; `None` when no range does, or when
    /// `length` is 0.
    pub fn allocate(&mut self, length: u32) -> Option<Extent> {
        if length == 0 {
            return None;
        }
        let (found, start) = *self.by_length.range((length, 0)..).next()?;
        self.remove(Extent { start, length: found });
        if found > length {
            self.insert(Extent { start: start + length, length: found - length });
        }
        Some(Extent { start, length })
    }

    /// Takes exactly `wanted`; false, and nothing happens, when it is not entirely free.
    pub fn reserve(&mut self, wanted: Extent) -> bool {
        let Some(end) = wanted.start.checked_add(wanted.length).filter(|_| wanted.length > 0) else {
            return false;
        };
        let Some((&start, &length)) = self.by_start.range(..=wanted.start).next_back() else { return false };
        let around = Extent { start, length };
        if end > around.end() {
            return false;
        }
        self.remove(around);
        if start < wanted.start {
            self.insert(Extent { start, length: wanted.start - start });
        }
        if end < around.end() {
            self.insert(Extent { start: end, length: around.end() - end });
        }
        true
    }

    /// Gives back what [`Extents::allocate`] or [`Extents::reserve`] took.
    pub fn release(&mut self, extent: Extent) {
        let mut merged = extent;
        if let Some((&start, &length)) = self.by_start.range(..extent.start).next_back() {
            let before = Extent { start, length };
            debug_assert!(before.end() <= extent.start, "slots released twice");
            if before.end() == extent.start {
                self.remove(before);
                merged = Extent { start, length: length + merged.length };
            }
        }
        if let Some((&start, &length)) = self.by_start.range(extent.start..).next() {
            debug_assert!(extent.end() <= start, "slots released twice");
            if extent.end() == start {
                self.remove(Extent { start, length });
                merged.length += length;
            }
        }
        self.insert(merged);
    }

    fn insert(&mut self, extent: Extent) {
        self.by_start.insert(extent.start, extent.length);
        self.by_length.insert((extent.length, extent.start));
        self.free += extent.length;
    }

    fn remove(&mut self, extent: Extent) {
        self.by_start.remove(&extent.start);
        self.by_length.remove(&(extent.length, extent.start));
        self.free -= extent.length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn allocate_several_holes_takes_the_smallest_that_fits() {
        let mut extents = Extents::new(100);
        let taken: Vec<Extent> = (0..10).map(|_| extents.allocate(10).unwrap()).collect();
        assert_eq!(extents.allocate(1), None);
        extents.release(taken[2]);
        extents.release(taken[5]);
        extents.release(taken[6]);
        assert_eq!((extents.free(), extents.longest()), (30, 20));
        assert_eq!(extents.allocate(10), Some(taken[2]));
        assert_eq!(extents.allocate(20), Some(Extent { start: 50, length: 20 }));
    }

    #[test]
    fn release_neighbours_merge_to_the_whole_table() {
        let mut extents = Extents::new(30);
        let taken: Vec<Extent> = (0..3).map(|_| extents.allocate(10).unwrap()).collect();
        for at in [0, 2, 1] {
            extents.release(taken[at]);
        }
        assert_eq!(extents.longest(), 30);
    }

    #[test]
    fn reserve_outside_or_taken_is_refused() {
        let mut extents = Extents::new(30);
        assert!(extents.reserve(Extent { start: 10, length: 10 }));
        for (start, length) in [(10, 1), (19, 2), (5, 6), (25, 6), (30, 1), (u32::MAX, 2), (0, 0)] {
            assert!(!extents.reserve(Extent { start, length }), "{start}+{length}");
        }
        assert_eq!(extents.free(), 20);
    }

    proptest! {
        /// Whatever happens, no slot is given out twice, and what is free adds up.
        #[test]
        fn extents_random_operations_keep_slots_disjoint(
            steps in proptest::collection::vec((any::<bool>(), 1u32..40, any::<usize>()), 1..200)
        ) {
            let mut extents = Extents::new(256);
            let mut held: Vec<Extent> = Vec::new();
            for (take, length, pick) in steps {
                if take || held.is_empty() {
                    let longest = extents.longest();
                    match extents.allocate(length) {
                        Some(extent) => {
                            prop_assert!(extent.end() <= 256 && extent.length == length);
                            prop_assert!(held.iter().all(|h| h.end() <= extent.start || extent.end() <= h.start));
                            held.push(extent);
                        }
                        None => prop_assert!(longest < length),
                    }
                } else {
                    extents.release(held.swap_remove(pick % held.len()));
                }
                prop_assert_eq!(extents.free() + held.iter().map(|h| h.length).sum::<u32>(), 256);
            }
            for extent in held {
                extents.release(extent);
            }
            prop_assert_eq!(extents.longest(), 256);
        }
    }
}
