//! A dataplane in memory, for the tests of whatever plans or serves one.
//!
//! It keeps what the kernel's maps would keep, checks what the kernel would refuse, and can be told to fail. It has no
//! programs: links are only remembered.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use skep_abi::backend::{Backend, BackendState};
use skep_abi::counters::{COUNTERS_CAPACITY, Counter, ServiceStats, VERDICTS};
use skep_abi::fronts::Bit;
use skep_abi::local::{LOCAL_XDP_REDIRECT, LocalEndpoint};
use skep_abi::program::PROGRAMS;
use skep_abi::service::{SERVICES_V4, ServiceValue};

use crate::dataplane::{Dataplane, MovedSockets, PodLink, Totals};
use crate::difference::Difference;
use crate::error::MapsError;
use crate::extents::Extent;
use crate::frontend::Frontend;
use crate::prefix::Prefix;
use crate::room::Room;

/// What the fake's maps hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Service entries.
    pub services: BTreeMap<Frontend, ServiceValue>,
    /// Source ranges, by service id.
    pub source_ranges: BTreeSet<(u32, Prefix)>,
    /// The backend table.
    pub slots: Vec<Backend>,
    /// Backend states.
    pub states: Vec<BackendState>,
    /// Bits set in the uplink filter.
    pub bits: Vec<(u32, u64)>,
    /// Pods' places.
    pub local: BTreeMap<IpAddr, LocalEndpoint>,
    /// Interfaces with a program.
    pub links: BTreeMap<String, u32>,
    /// Next-hop epoch.
    pub epoch: u32,
    /// Counters of services that have any.
    pub counters: BTreeMap<u32, ServiceStats>,
    /// How often sockets were to be moved.
    pub sweeps: usize,
    /// Every difference applied so far.
    pub applied: Vec<Difference>,
    /// How many service entries fit; all when `None`.
    pub service_capacity: Option<usize>,
    /// How much room the fake says that there is.
    pub room: Room,
}

/// A dataplane in memory.
#[derive(Debug)]
pub struct FakeDataplane {
    state: Mutex<State>,
}

impl FakeDataplane {
    /// Empty maps with that many slots and backend ids.
    pub fn new(slots: usize, backend_ids: usize) -> Self {
        let state = State {
            slots: vec![Backend::default(); slots],
            states: vec![BackendState::default(); backend_ids],
            epoch: 1,
            ..State::default()
        };
        Self { state: Mutex::new(state) }
    }

    /// What the maps hold now, for tests to look at and to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The backends that a frontend leads to: what the programs would choose from.
    pub fn backends_of(&self, frontend: &Frontend) -> Option<Vec<Backend>> {
        let state = self.state();
        let value = state.services.get(frontend)?;
        let start = value.slice as usize;
        Some(state.slots[start..start + value.count as usize].to_vec())
    }
}

impl Dataplane for FakeDataplane {
    fn slot_capacity(&self) -> u32 {
        u32::try_from(self.state().slots.len()).expect("a fake is small")
    }

    fn room(&self) -> Room {
        self.state().room
    }

    fn services(&self) -> Result<Vec<(Frontend, ServiceValue)>, MapsError> {
        Ok(self.state().services.iter().map(|(frontend, value)| (*frontend, *value)).collect())
    }

    fn source_ranges(&self) -> Result<Vec<(u32, Prefix)>, MapsError> {
        Ok(self.state().source_ranges.iter().copied().collect())
    }

    fn slots(&self, extent: Extent) -> Vec<Backend> {
        let state = self.state();
        state.slots.iter().skip(extent.start as usize).take(extent.length as usize).copied().collect()
    }

    fn backend_states(&self) -> Vec<BackendState> {
        self.state().states.clone()
    }

    fn apply(&self, difference: &Difference) -> Result<(), MapsError> {
        let mut state = self.state();
        for id in &difference.counters {
            state.counters.remove(id);
        }
        for (id, backend) in &difference.states_before {
            state.states[*id as usize] = *backend;
        }
        for (start, slice) in &difference.slices {
            let start = *start as usize;
            state.slots[start..start + slice.len()].copy_from_slice(slice);
        }
        for Bit { word, mask } in &difference.bits {
            state.bits.push((*word, *mask));
        }
        state.source_ranges.extend(&difference.ranges_before);
        for (frontend, value) in &difference.services {
            match value {
                Some(value) => {
                    let full = state.service_capacity.is_some_and(|most| state.services.len() >= most);
                    if full && !state.services.contains_key(frontend) {
                        let source = io::Error::from(io::ErrorKind::StorageFull);
                        return Err(MapsError::Write { map: SERVICES_V4, source });
                    }
                    state.services.insert(*frontend, *value);
                }
                None => {
                    state.services.remove(frontend);
                }
            }
        }
        for range in &difference.ranges_after {
            state.source_ranges.remove(range);
        }
        for (id, backend) in &difference.states_after {
            state.states[*id as usize] = *backend;
        }
        state.applied.push(difference.clone());
        Ok(())
    }

    fn attach_pod(&self, link: &PodLink) -> Result<(), MapsError> {
        let mut state = self.state();
        let endpoint = LocalEndpoint {
            ifindex: link.ifindex,
            flags: if link.xdp_redirect { LOCAL_XDP_REDIRECT } else { 0 },
            pod_mac: link.pod_mac,
            host_mac: link.host_mac,
        };
        state.links.insert(link.interface.clone(), link.ifindex);
        for address in &link.addresses {
            state.local.insert(*address, endpoint);
        }
        state.epoch += 1;
        Ok(())
    }

    fn detach_pod(&self, addresses: &[IpAddr]) -> Result<(), MapsError> {
        let mut state = self.state();
        let gone: HashSet<u32> =
            addresses.iter().filter_map(|address| state.local.remove(address)).map(|e| e.ifindex).collect();
        state.links.retain(|_, ifindex| !gone.contains(ifindex));
        state.epoch += 1;
        Ok(())
    }

    fn local_endpoints(&self) -> Result<Vec<(IpAddr, LocalEndpoint)>, MapsError> {
        Ok(self.state().local.iter().map(|(address, endpoint)| (*address, *endpoint)).collect())
    }

    fn routes_changed(&self) -> Result<(), MapsError> {
        self.state().epoch += 1;
        Ok(())
    }

    fn move_sockets(&self) -> Result<MovedSockets, MapsError> {
        self.state().sweeps += 1;
        Ok(MovedSockets::default())
    }

    fn totals(&self) -> Result<Totals, MapsError> {
        Ok(Totals {
            reasons: vec![Counter::default(); COUNTERS_CAPACITY as usize],
            programs: vec![[0; VERDICTS as usize]; PROGRAMS.len()],
        })
    }

    fn service_totals(&self, id: u32) -> Result<Option<ServiceStats>, MapsError> {
        Ok(Some(self.state().counters.get(&id).copied().unwrap_or_default()))
    }
}
