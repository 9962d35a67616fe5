//! Makes a service table from what the kernel's maps hold, so that an agent that starts again repairs differences
//! only: services keep their ids and slices, flows their backends.
//!
//! Owns the reading of an earlier agent's assignments out of the maps. It trusts nothing in them: a slice that
//! overlaps another, lies outside the table, or names a backend that is not active is left alone and not reused, and
//! the service that has it gets a new one. The names of services are not in the maps: a service finds its own entries
//! by the frontends that it asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use litemap::LiteMap;
use skep_abi::backend::{Backend, BackendState, STATE_ACTIVE};
use skep_abi::service::ServiceValue;

use crate::claims::Rank;
use crate::extents::{Extent, Extents};
use crate::frontend::{Frontend, address_bit, from_shared};
use crate::numbers::{BackendIds, ServiceIds};
use crate::prefix::Prefix;
use crate::room::Room;
use crate::table::{Life, Lives, Pool, PortState, Table};

/// The service tables' contents.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Slots in the backend table.
    pub slots: u32,
    /// How many frontends and source ranges there is room for.
    pub room: Room,
    /// Every backend id's state; the length is the capacity.
    pub states: Vec<BackendState>,
    /// Every service entry.
    pub services: Vec<(Frontend, ServiceValue)>,
    /// Every service id's source ranges.
    pub source_ranges: Vec<(u32, Prefix)>,
}

/// The slices that the entries name, each reserved in the table unless it is in conflict with another.
struct Slices {
    slots: Extents,
    sound: BTreeSet<(u32, u32)>,
}

impl Table {
    /// A table that continues from `contents`. `read` gives the slots of an extent. The pending difference of the
    /// new table holds the filter bits of all external frontends, in case they were lost, and removes the source ranges
    /// that belong to no service.
    pub fn adopt(contents: &Contents, read: impl Fn(Extent) -> Vec<Backend>) -> Self {
        let slices = reserve(contents);
        let mut ports: BTreeMap<u32, PortState> = BTreeMap::new();
        let mut used = BTreeSet::new();
        let mut table = Self::new(0, 0);
        for (frontend, value) in &contents.services {
            let port = ports.entry(value.id).or_insert_with(|| empty(value.id));
            port.frontends.insert(*frontend, *value);
            table.claims.adopt(*frontend, port.rank.clone(), *value);
            table.pending.bits.extend(frontend.bit());
            table.pending.bits.extend(address_bit(frontend.address, value.kind));
            let extent = Extent { start: value.slice, length: value.count };
            let known = port.pools.iter().any(|pool| pool.extent == Some(extent));
            if value.count > 0 && !known && slices.sound.contains(&(extent.start, extent.length)) {
                let backends = read(extent);
                adopt_backends(port, &backends, frontend.address.is_ipv4(), &contents.states, &mut used);
                port.pools.push(Pool { extent: Some(extent), backends });
            }
        }
        table.room = contents.room;
        for (id, range) in &contents.source_ranges {
            table.ranges.add(range);
            match ports.get_mut(id) {
                Some(port) => port.source_ranges.insert(*range),
                None => table.pending.ranges_after.insert((*id, *range)),
            };
        }
        let capacity = u32::try_from(contents.states.len()).unwrap_or(u32::MAX);
        table.slots = slices.slots;
        table.backend_ids = BackendIds::adopt(capacity, &contents.states, &used);
        table.service_ids = ServiceIds::without(&ports.keys().copied().collect());
        table.adopted = ports.into_iter().collect();
        table
    }
}

fn empty(id: u32) -> PortState {
    // The worst standing that there is: every service that claims these frontends takes them over.
    let rank = Rank { created: i64::MAX, owner: "\u{10ffff}".into(), port: id.to_string().into() };
    PortState {
        id,
        rank,
        backends: Lives::new(),
        pools: Vec::new(),
        frontends: LiteMap::new(),
        source_ranges: BTreeSet::new(),
        cramped: false,
    }
}

fn reserve(contents: &Contents) -> Slices {
    let mut owners: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    let mut shared = BTreeSet::new();
    for (_, value) in contents.services.iter().filter(|(_, value)| value.count > 0) {
        let owner = *owners.entry((value.slice, value.count)).or_insert(value.id);
        if owner != value.id {
            shared.insert((value.slice, value.count));
        }
    }
    let mut slices = Slices { slots: Extents::new(contents.slots), sound: BTreeSet::new() };
    let mut end = 0;
    let mut last = None;
    for &(start, length) in owners.keys() {
        if slices.slots.reserve(Extent { start, length }) {
            slices.sound.insert((start, length));
        } else if start < end {
            // Overlaps the one before: neither is reused, and the part that sticks out stays reserved too.
            slices.sound.remove(&last.unwrap_or((start, length)));
            let stop = start.saturating_add(length).min(contents.slots);
            if stop > end {
                slices.slots.reserve(Extent { start: end, length: stop - end });
            }
        }
        end = end.max(start.saturating_add(length).min(contents.slots));
        last = Some((start, length));
    }
    slices.sound.retain(|slice| !shared.contains(slice));
    slices
}

/// Takes note of the backends in an adopted slice. One that is not active, or that another service port has too, is
/// not noted: its endpoint gets a new id.
fn adopt_backends(
    port: &mut PortState,
    backends: &[Backend],
    v4: bool,
    states: &[BackendState],
    used: &mut BTreeSet<u32>,
) {
    for backend in backends {
        let key: (IpAddr, u16) = (from_shared(backend.address, v4), backend.port.get());
        let state = states.get(backend.id as usize).filter(|state| state.state == STATE_ACTIVE);
        if let Some(state) = state.filter(|_| !port.backends.contains_key(&key))
            && used.insert(backend.id)
        {
            port.backends.insert(key, Life { id: backend.id, generation: state.generation, active: true });
        }
    }
}
