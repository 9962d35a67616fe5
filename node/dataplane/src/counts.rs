//! What the programs count of every service ([`skep_abi::counters`]), read beside them.
//!
//! Owns the adding up: over the processors' rows, and over the map in which an earlier version counted.

use std::{fs, io};

use skep_abi::counters::{SERVICE_COUNTS, ServiceStats, place};
use skep_abi::earlier::SERVICE_STATS;
use skep_maps::MapsError;

use crate::Error;
use crate::maps::{self, Opened};
use crate::memory::MappedArray;
use crate::pins::Pins;
use crate::plain::per_cpu;
use crate::sys::RawMap;

const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
/// 64-bit words of a [`ServiceStats`].
const WORDS: usize = size_of::<ServiceStats>() / size_of::<u64>();

/// The counts of all services.
#[derive(Debug)]
pub(crate) struct ServiceCounts {
    rows: MappedArray,
    processors: u32,
    services: u32,
    /// Those of an earlier version, which stay where they are: while its programs are replaced both count.
    earlier: Option<(RawMap, u32)>,
}

impl ServiceCounts {
    /// Opens what is pinned under `pins`.
    pub(crate) fn open(pins: &Pins) -> Result<Self, Error> {
        let Opened { fd, entries, value, .. } = maps::open(pins, SERVICE_COUNTS)?;
        let rows = MappedArray::new(&fd, value, entries).map_err(Error::map(SERVICE_COUNTS))?;
        let processors = processors().map_err(Error::map(SERVICE_COUNTS))?;
        let earlier = if pins.map(SERVICE_STATS).exists() {
            let opened = maps::open(pins, SERVICE_STATS)?;
            let entries = opened.entries;
            Some((opened.raw(), entries))
        } else {
            None
        };
        Ok(Self { rows, processors, services: entries / processors, earlier })
    }

    /// How many services are counted: the length of a row.
    pub(crate) fn services(&self) -> u32 {
        self.services
    }

    /// What was counted for a service; nothing when its number is beyond those that are counted.
    pub(crate) fn get(&self, id: u32) -> Result<Option<ServiceStats>, MapsError> {
        if id >= self.services {
            return Ok(None);
        }
        let mut sum = self.earlier(id)?;
        for processor in 0..self.processors {
            let at = place(id, processor, self.services) as usize;
            let word = |word| self.rows.load_word(at, word).unwrap_or_default();
            let [packets, bytes, connections, refused] = std::array::from_fn::<_, WORDS, _>(word);
            add(&mut sum, &ServiceStats { packets, bytes, connections, refused });
        }
        Ok(Some(sum))
    }

    fn earlier(&self, id: u32) -> Result<ServiceStats, MapsError> {
        let mut sum = ServiceStats::default();
        if let Some((map, entries)) = &self.earlier
            && id < *entries
        {
            let failed = |source| MapsError::Read { map: SERVICE_STATS, source };
            let values = map.get(&id.to_ne_bytes()).map_err(failed)?.unwrap_or_default();
            per_cpu::<ServiceStats>(&values).for_each(|one| add(&mut sum, &one));
        }
        Ok(sum)
    }

    /// Sets what was counted for a number to nothing, before it is another service's.
    pub(crate) fn clear(&self, id: u32) -> Result<(), MapsError> {
        if id < self.services {
            for processor in 0..self.processors {
                let at = place(id, processor, self.services) as usize;
                let written = self.rows.write(at, &[0; size_of::<ServiceStats>()]);
                written.map_err(|source| MapsError::Write { map: SERVICE_COUNTS, source })?;
            }
        }
        if let Some((map, entries)) = &self.earlier
            && id < *entries
        {
            let written = map.put(&id.to_ne_bytes(), &vec![0; map.value_size()]);
            written.map_err(|source| MapsError::Write { map: SERVICE_STATS, source })?;
        }
        Ok(())
    }
}

fn add(sum: &mut ServiceStats, one: &ServiceStats) {
    sum.packets = sum.packets.wrapping_add(one.packets);
    sum.bytes = sum.bytes.wrapping_add(one.bytes);
    sum.connections = sum.connections.wrapping_add(one.connections);
    sum.refused = sum.refused.wrapping_add(one.refused);
}

/// How many numbers of processors there may be.
pub(crate) fn processors() -> io::Result<u32> {
    last(&fs::read_to_string(POSSIBLE)?)
        .ok_or_else(|| io::Error::other(format!("{POSSIBLE} has no last number")))
}

/// One more than the greatest of a list such as `0-3` or `0,2-5`.
fn last(list: &str) -> Option<u32> {
    list.trim().rsplit([',', '-']).next()?.parse::<u32>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_of_a_list_of_processors_is_its_greatest() {
        assert_eq!(
            ["0\n", "0-3", "0,2-5", "0-1,8", ""].map(last),
            [Some(1), Some(4), Some(6), Some(9), None]
        );
    }
}
