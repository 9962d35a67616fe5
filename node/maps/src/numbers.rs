//! The two kinds of numbers that the service table gives out: service ids and backend ids.
//!
//! Service ids are dense, since they index counters: the smallest free one is next. Backend ids are reused as late as
//! possible, since flows remember them: fresh ones first, then those freed longest ago, and only then those of
//! backends that may still drain after their service was deleted. Each life of a backend id has its own generation.

use std::collections::{BTreeSet, VecDeque};

use skep_abi::backend::{BackendState, STATE_DRAINING, STATE_GONE};

/// Service ids, from 1. There is no upper limit but the number type's: ids beyond the counters' capacity work.
#[derive(Clone, Debug, Default)]
pub struct ServiceIds {
    greatest: u32,
    free: BTreeSet<u32>,
}

impl ServiceIds {
    /// The ids that are not in `used`.
    pub fn without(used: &BTreeSet<u32>) -> Self {
        let greatest = used.last().copied().unwrap_or(0);
        // A table is never larger than its map, so that this is at most some hundred thousand numbers, unless the
        // adopted ids are nonsense: then the holes are given up.
        let free = if greatest as usize <= 2 * used.len() + (1 << 20) {
            (1..greatest).filter(|id| !used.contains(id)).collect()
        } else {
            BTreeSet::new()
        };
        Self { greatest, free }
    }

    /// The smallest free id; `None` when all of 2^32 are in use.
    pub fn allocate(&mut self) -> Option<u32> {
        if let Some(id) = self.free.pop_first() {
            return Some(id);
        }
        self.greatest = self.greatest.checked_add(1)?;
        Some(self.greatest)
    }

    /// Gives an id back.
    pub fn release(&mut self, id: u32) {
        self.free.insert(id);
    }
}

/// Backend ids below a capacity, with the generation of each one's present or last life.
#[derive(Clone, Debug)]
pub struct BackendIds {
    capacity: u32,
    generations: Vec<u32>,
    free: VecDeque<u32>,
    orphans: VecDeque<u32>,
}

impl BackendIds {
    /// None used yet.
    pub fn new(capacity: u32) -> Self {
        Self { capacity, generations: Vec::new(), free: VecDeque::new(), orphans: VecDeque::new() }
    }

    /// The ids as `states` tell them, without those in `used`: what is draining may go on doing so, and what is gone
    /// or claims to be active without being in a slice is free.
    pub fn adopt(capacity: u32, states: &[BackendState], used: &BTreeSet<u32>) -> Self {
        let mut ids = Self::new(capacity);
        let seen =
            states.iter().rposition(|state| *state != BackendState::default()).map_or(0, |last| last + 1);
        ids.generations.extend(states.iter().take(seen.min(capacity as usize)).map(|state| state.generation));
        for (id, state) in (0u32..).zip(&states[..ids.generations.len()]) {
            if !used.contains(&id) {
                let queue = if state.state == STATE_DRAINING { &mut ids.orphans } else { &mut ids.free };
                queue.push_back(id);
            }
        }
        ids
    }

    /// An id in a new life.
    pub fn allocate(&mut self) -> Option<(u32, u32)> {
        let fresh = u32::try_from(self.generations.len()).ok().filter(|id| *id < self.capacity);
        let id = match fresh {
            Some(id) => {
                self.generations.push(0);
                id
            }
            None => self.free.pop_front().or_else(|| self.orphans.pop_front())?,
        };
        let generation = self.generations[id as usize].wrapping_add(1);
        self.generations[id as usize] = generation;
        Some((id, generation))
    }

    /// Gives back an id whose backend is gone.
    pub fn release(&mut self, id: u32) {
        self.free.push_back(id);
    }

    /// Gives back an id whose backend may still drain.
    pub fn orphan(&mut self, id: u32) {
        self.orphans.push_back(id);
    }

    /// How many ids are in use.
    pub fn used(&self) -> u32 {
        u32::try_from(self.generations.len() - self.free.len() - self.orphans.len())
            .expect("there are at most `capacity` ids")
    }

    /// How many ids there are.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }
}

/// The state word of a backend that is no more.
pub fn gone(generation: u32) -> BackendState {
    BackendState { state: STATE_GONE, generation }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_abi::backend::STATE_ACTIVE;

    #[test]
    fn service_ids_released_are_reused_smallest_first() {
        let mut ids = ServiceIds::without(&BTreeSet::from([2, 5]));
        let given: Vec<u32> = (0..4).map_while(|_| ids.allocate()).collect();
        assert_eq!(given, [1, 3, 4, 6]);
        ids.release(4);
        ids.release(1);
        assert_eq!((ids.allocate(), ids.allocate(), ids.allocate()), (Some(1), Some(4), Some(7)));
    }

    #[test]
    fn service_ids_adopted_nonsense_costs_no_memory() {
        let mut ids = ServiceIds::without(&BTreeSet::from([4_000_000_000]));
        assert_eq!(ids.allocate(), Some(4_000_000_001));
    }

    #[test]
    fn backend_ids_reuse_goes_fresh_then_gone_then_draining() {
        let states = [
            BackendState { state: STATE_DRAINING, generation: 3 },
            BackendState { state: STATE_GONE, generation: 7 },
            BackendState { state: STATE_ACTIVE, generation: 1 },
        ];
        let mut ids = BackendIds::adopt(4, &states, &BTreeSet::from([2]));
        assert_eq!(ids.used(), 1);
        assert_eq!(ids.allocate(), Some((3, 1)));
        assert_eq!(ids.allocate(), Some((1, 8)));
        assert_eq!(ids.allocate(), Some((0, 4)));
        assert_eq!(ids.allocate(), None);
        ids.release(2);
        assert_eq!(ids.allocate(), Some((2, 2)));
    }
}
