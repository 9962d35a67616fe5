//! How full each map is: entries beside capacity.
//!
//! Owns the counting. Maps that evict are changed by the programs alone, so that nobody knows their entries without
//! walking them; a walk copies the whole map out of the kernel. [`Sampled`] therefore counts at most once in
//! [`Sampled::INTERVAL`], and only when somebody asks.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use skep_abi::backend::{BACKEND_STATES, BACKENDS, STATE_GONE};
use skep_abi::service::{SERVICES_V4, SERVICES_V6, ServiceValue};
use skep_maps::MapsError;

use crate::maps::Maps;
use crate::plain::read;
use crate::sys::RawMap;

/// One map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    /// Its name.
    pub(crate) map: &'static str,
    /// Entries in use; in a table of flows those that do not give way to others.
    pub(crate) entries: usize,
    /// Entries that there is room for.
    pub(crate) capacity: usize,
    /// When it is full the least recently used entries go; the others refuse what is new.
    pub(crate) evicts: bool,
}

/// A map whose entries are counted by walking it.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(crate) map: &'static str,
    pub(crate) raw: RawMap,
    pub(crate) capacity: u32,
    pub(crate) evicts: bool,
}

/// Counts every map now.
pub(crate) fn count(maps: &Maps) -> Result<Vec<Fill>, MapsError> {
    let mut found = Vec::new();
    let mut slices: BTreeSet<(u32, u32)> = BTreeSet::new();
    for Counted { map, raw, capacity, evicts } in maps.counted() {
        let mut entries = 0;
        let services = [SERVICES_V4, SERVICES_V6].contains(map);
        let walked = raw.walk(|_, value| {
            entries += 1;
            if services && let Some(value) = read::<ServiceValue>(value) {
                slices.insert((value.slice, value.count));
            }
        });
        walked.map_err(|source| MapsError::Read { map, source })?;
        found.push(Fill { map, entries, capacity: *capacity as usize, evicts: *evicts });
    }
    for (map, table) in maps.flow_tables() {
        found.push(Fill { map, entries: table.in_use(), capacity: table.capacity(), evicts: false });
    }
    let slots: usize = slices.iter().map(|(_, count)| *count as usize).sum();
    let states = maps.backend_states();
    let used = states.iter().filter(|state| state.state != STATE_GONE).count();
    let capacity = maps.slot_capacity() as usize;
    found.push(Fill { map: BACKENDS, entries: slots, capacity, evicts: false });
    found.push(Fill { map: BACKEND_STATES, entries: used, capacity: states.len(), evicts: false });
    Ok(found)
}

/// The last count.
#[derive(Debug, Default)]
pub(crate) struct Sampled {
    last: Mutex<Option<(Instant, Vec<Fill>)>>,
}

impl Sampled {
    /// How old a count may be.
    const INTERVAL: Duration = Duration::from_secs(60);

    /// The last count, or a new one when that is too old at `now`.
    pub(crate) fn get(
        &self,
        now: Instant,
        count: impl FnOnce() -> Result<Vec<Fill>, MapsError>,
    ) -> Result<Vec<Fill>, MapsError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((taken, fills)) = &*last
            && now.duration_since(*taken) < Self::INTERVAL
        {
            return Ok(fills.clone());
        }
        let fills = count()?;
        *last = Some((now, fills.clone()));
        Ok(fills)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_is_taken_anew_after_a_minute_and_not_before() {
        let sampled = Sampled::default();
        let start = Instant::now();
        let at = |seconds: u64, entries: usize| {
            let fill = Fill { map: BACKENDS, entries, capacity: 9, evicts: false };
            sampled.get(start + Duration::from_secs(seconds), || Ok(vec![fill])).unwrap()[0].entries
        };
        assert_eq!([at(0, 1), at(59, 2), at(60, 3), at(100, 4)], [1, 1, 3, 3]);
        let failed =
            sampled.get(start + Duration::from_secs(500), || Err(MapsError::TableFull { what: "nothing" }));
        assert!(failed.is_err());
        assert_eq!(at(501, 5), 5);
    }
}
