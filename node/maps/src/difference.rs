//! What has to be written to bring the kernel's service tables to the desired state, in the order in which it must be
//! written (see `skep_abi`'s documentation): a packet at any moment sees a complete old or a complete new service.
//!
//! Plain data. The table plans it, a dataplane applies it. Differences of several services merge phase by phase.

use std::collections::{BTreeMap, BTreeSet};

use skep_abi::backend::{Backend, BackendState};
use skep_abi::fronts::Bit;
use skep_abi::service::ServiceValue;

use crate::frontend::Frontend;
use crate::prefix::Prefix;

/// Writes to the service tables, one field per phase; phases in order, entries within one in any order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// Counters to zero, because the service id begins a new life.
    pub counters: Vec<u32>,
    /// States of backends that come into use, by backend id.
    pub states_before: BTreeMap<u32, BackendState>,
    /// Fresh slices: first slot and contents.
    pub slices: Vec<(u32, Vec<Backend>)>,
    /// Bits of the uplink filter to set.
    pub bits: Vec<Bit>,
    /// Source ranges to write, by service id.
    pub ranges_before: BTreeSet<(u32, Prefix)>,
    /// Service values to write, or (`None`) to delete.
    pub services: BTreeMap<Frontend, Option<ServiceValue>>,
    /// Source ranges to delete, by service id; never one that is to be written.
    pub ranges_after: BTreeSet<(u32, Prefix)>,
    /// States of backends that are no longer in a slice, by backend id.
    pub states_after: BTreeMap<u32, BackendState>,
}

impl Difference {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
            && self.states_before.is_empty()
            && self.slices.is_empty()
            && self.bits.is_empty()
            && self.ranges_before.is_empty()
            && self.services.is_empty()
            && self.ranges_after.is_empty()
            && self.states_after.is_empty()
    }

    /// How many entries it writes.
    pub fn len(&self) -> usize {
        self.counters.len()
            + self.states_before.len()
            + self.slices.iter().map(|(_, slice)| slice.len()).sum::<usize>()
            + self.bits.len()
            + self.ranges_before.len()
            + self.services.len()
            + self.ranges_after.len()
            + self.states_after.len()
    }
}
