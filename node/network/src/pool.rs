//! The addresses that this node may give to pods. Pure: what is taken is told at start and kept in memory.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::error::NetworkError;
use crate::range::Range;

/// One range and the offsets that are taken from it.
#[derive(Clone, Debug)]
struct Share {
    range: Range,
    taken: BTreeSet<u64>,
    /// Where to look next. It runs ahead of what was given before, so that an address rests as long as it can.
    next: u64,
}

/// The ranges of one node, one for each address family it has.
#[derive(Clone, Debug)]
pub struct Pool {
    shares: Vec<Share>,
}

impl Pool {
    /// A pool over these ranges in which `taken` is taken. Taken addresses outside the ranges are ignored.
    pub fn new(ranges: &[Range], taken: impl IntoIterator<Item = IpAddr>) -> Self {
        let share =
            |range: &Range| Share { range: *range, taken: BTreeSet::new(), next: range.hosts().start };
        let mut pool = Self { shares: ranges.iter().map(share).collect() };
        for address in taken {
            pool.take(address);
        }
        pool
    }

    /// The ranges.
    pub fn ranges(&self) -> Vec<Range> {
        self.shares.iter().map(|share| share.range).collect()
    }

    /// One free address of every family.
    ///
    /// # Errors
    /// A range has none left; then nothing is taken from any.
    pub fn allocate(&mut self) -> Result<Vec<IpAddr>, NetworkError> {
        let mut found = Vec::new();
        for share in &self.shares {
            let offset =
                share.find().ok_or_else(|| NetworkError::Exhausted { range: share.range.to_string() })?;
            found.push((offset, share.range.at(offset)));
        }
        for (share, (offset, _)) in self.shares.iter_mut().zip(&found) {
            share.taken.insert(*offset);
            share.next = offset + 1;
        }
        Ok(found.into_iter().map(|(_, address)| address).collect())
    }

    /// Gives addresses back. Those that are not taken are ignored.
    pub fn release(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            for share in &mut self.shares {
                if let Some(offset) = share.range.offset_of(*address) {
                    share.taken.remove(&offset);
                }
            }
        }
    }

    fn take(&mut self, address: IpAddr) {
        for share in &mut self.shares {
            if let Some(offset) = share.range.offset_of(address) {
                share.taken.insert(offset);
                share.next = share.next.max(offset + 1);
            }
        }
    }
}

impl Share {
    /// The first free offset from `next` on, then from the start.
    fn find(&self) -> Option<u64> {
        let hosts = self.range.hosts();
        let free = |offset: &u64| !self.taken.contains(offset);
        (self.next..hosts.end).find(free).or_else(|| (hosts.start..self.next.min(hosts.end)).find(free))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(taken: &[&str]) -> Pool {
        let ranges = [Range::parse("10.244.1.0/29").unwrap(), Range::parse("fd44:0:0:1::/64").unwrap()];
        Pool::new(&ranges, taken.iter().map(|address| address.parse().unwrap()))
    }

    fn text(addresses: &[IpAddr]) -> Vec<String> {
        addresses.iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn allocate_gives_one_address_of_each_family() {
        assert_eq!(text(&pool(&[]).allocate().unwrap()), ["10.244.1.1", "fd44:0:0:1::1"]);
    }

    #[test]
    fn allocate_after_restart_goes_on_behind_what_is_taken() {
        assert_eq!(text(&pool(&["10.244.1.3"]).allocate().unwrap()), ["10.244.1.4", "fd44:0:0:1::1"]);
    }

    #[test]
    fn release_address_rests_before_it_is_given_again() {
        let mut pool = pool(&[]);
        let first = pool.allocate().unwrap();
        pool.release(&first);
        assert_ne!(pool.allocate().unwrap(), first);
    }

    #[test]
    fn allocate_from_full_range_takes_nothing_from_the_other() {
        let mut pool = pool(&[]);
        for _ in 0..6 {
            pool.allocate().unwrap();
        }
        let error = pool.allocate().unwrap_err().to_string();
        assert_eq!(error, "no address is free in 10.244.1.0/29");
        assert_eq!(pool.shares[1].taken.len(), 6);
    }

    proptest! {
        #[test]
        fn allocate_never_gives_an_address_twice(releases in prop::collection::vec(0_usize..6, 0..40)) {
            let mut pool = pool(&[]);
            let mut held: Vec<Vec<IpAddr>> = Vec::new();
            for release in releases {
                if held.len() > release {
                    let back = held.remove(release);
                    pool.release(&back);
                } else if let Ok(fresh) = pool.allocate() {
                    prop_assert!(!held.contains(&fresh));
                    held.push(fresh);
                }
            }
        }
    }
}
