//! The service table as it is and as it shall be: gives out ids and slots, and plans differences.
//!
//! Owns: the assignment of service ids, backend ids, generations and slices, and the quarantine that keeps what was
//! just replaced from being reused while a program may still read it. Pure: it reads no clock and writes no map. The
//! contents of the kernel's maps before the first plan come in through [`crate::adopt`].
//!
//! How it is driven: [`Table::replace`] for each service that changed, [`Table::take_difference`], apply it, then
//! [`Table::applied`] with the time; [`Table::expire`] from time to time makes quarantined slots and ids free again.
//! If applying fails, the kernel's contents are unknown: make a new table by adopting them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;
use skep_abi::Be16;
use skep_abi::backend::{
    BACKEND_LOCAL, Backend, BackendState, QUARANTINE_MILLIS, STATE_ACTIVE, STATE_DRAINING,
};
use skep_abi::service::{KIND_HOST_PORT, ServiceValue};

use crate::claims::{Claims, Rank};
use crate::desired::{DesiredPool, DesiredPort, Endpoint, Owner, Spread};
use crate::difference::Difference;
use crate::error::MapsError;
use crate::extents::{Extent, Extents};
use crate::frontend::{Frontend, to_shared};
use crate::maglev;
use crate::numbers::{BackendIds, ServiceIds, gone};
use crate::prefix::Prefix;
use crate::room::{PerFamily, RangeCount, Room};

/// How long replaced slots and ids stay untouched.
pub const QUARANTINE: Duration = Duration::from_millis(QUARANTINE_MILLIS);

/// One life of a backend id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) id: u32,
    pub(crate) generation: u32,
    pub(crate) active: bool,
}

/// A set of endpoints in the table; no slice when it is empty.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pool {
    pub(crate) extent: Option<Extent>,
    pub(crate) backends: Vec<Backend>,
}

/// The backends of a service port by address and port.
pub(crate) type Lives = LiteMap<(IpAddr, u16), Life>;

/// One service port as it stands in the kernel, or will once the pending difference is applied. Most have one or two
/// frontends and few backends, so sorted vectors take a fraction of the memory of trees.
#[derive(Clone, Debug)]
pub(crate) struct PortState {
    pub(crate) id: u32,
    pub(crate) rank: Rank,
    pub(crate) backends: Lives,
    pub(crate) pools: Vec<Pool>,
    pub(crate) frontends: LiteMap<Frontend, ServiceValue>,
    pub(crate) source_ranges: BTreeSet<Prefix>,
    // A pool that should be spread has no room for it.
    pub(crate) cramped: bool,
}

/// Something that may be reused only after the quarantine.
#[derive(Clone, Copy, Debug)]
enum Retired {
    Slots(Extent),
    Service(u32),
    Backend(u32),
    Orphan(u32),
}

/// What one [`Table::replace`] has taken so far, to be given back if it fails.
#[derive(Default)]
struct Taken {
    slots: Vec<Extent>,
    services: Vec<u32>,
    backends: Vec<u32>,
}

/// How full the table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Slots in use or in quarantine, and all slots.
    pub slots: (u32, u32),
    /// Backend ids in use, and all.
    pub backends: (u32, u32),
    /// Installed frontends.
    pub frontends: usize,
    /// Services that should have a Maglev table and have one slot for each endpoint, for want of room.
    pub cramped: usize,
}

/// The service table of one node.
#[derive(Debug)]
pub struct Table {
    pub(crate) slots: Extents,
    pub(crate) service_ids: ServiceIds,
    pub(crate) backend_ids: BackendIds,
    pub(crate) claims: Claims,
    pub(crate) room: Room,
    pub(crate) ranges: RangeCount,
    owners: HashMap<Arc<str>, LiteMap<Arc<str>, PortState>>,
    // The owners with a port that is cramped.
    cramped: HashSet<Arc<str>>,
    pub(crate) adopted: HashMap<u32, PortState>,
    pub(crate) pending: Difference,
    // Replaced by the pending difference; by the one that was taken last; by one that was applied.
    retiring: Vec<Retired>,
    in_flight: Vec<Retired>,
    quarantine: VecDeque<(Duration, Retired)>,
}

impl Table {
    /// An empty table of that many slots and backend ids, for maps that are empty.
    pub fn new(slots: u32, backend_ids: u32) -> Self {
        Self {
            slots: Extents::new(slots),
            service_ids: ServiceIds::default(),
            backend_ids: BackendIds::new(backend_ids),
            claims: Claims::default(),
            room: Room::ENDLESS,
            ranges: RangeCount::default(),
            owners: HashMap::new(),
            cramped: HashSet::new(),
            adopted: HashMap::new(),
            pending: Difference::default(),
            retiring: Vec::new(),
            in_flight: Vec::new(),
            quarantine: VecDeque::new(),
        }
    }

    /// Makes `ports` all that `owner` has; no ports removes it. Returns the frontends that it asked for and that
    /// an older service holds.
    ///
    /// # Errors
    /// [`MapsError::TableFull`] when slots, ids, frontends or source ranges run out; then everything stays as it was.
    pub fn replace(&mut self, owner: &Owner, ports: &[DesiredPort]) -> Result<Vec<Frontend>, MapsError> {
        let mut before = self.owners.remove(&owner.name).unwrap_or_default();
        for port in ports.iter().filter(|port| !before.contains_key(&port.name)).collect::<Vec<_>>() {
            if let Some(state) = self.take_adopted(port) {
                before.insert(port.name.clone(), state);
            }
        }
        let mut taken = Taken::default();
        let mut after: LiteMap<Arc<str>, PortState> = LiteMap::with_capacity(ports.len());
        let built = ports.iter().try_for_each(|port| {
            let state = self.build(owner, before.get(&port.name), port, &mut taken)?;
            after.insert(port.name.clone(), state);
            Ok(())
        });
        if let Err(error) = built.and_then(|()| self.check_room(&before, &after)) {
            self.give_back(taken);
            if !before.is_empty() {
                self.owners.insert(owner.name.clone(), before);
            }
            return Err(error);
        }
        self.pending.counters.extend(&taken.services);
        // Those that go let go first: a port of another name may have taken over what one of them had.
        for (_, state) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
            self.delete(state, false);
        }
        let mut refused = Vec::new();
        for (name, state) in &after {
            self.switch(before.remove(name), state, &mut refused);
        }
        if after.values().any(|state| state.cramped) {
            self.cramped.insert(owner.name.clone());
        } else {
            self.cramped.remove(&owner.name);
        }
        if !after.is_empty() {
            self.owners.insert(owner.name.clone(), after);
        }
        Ok(refused)
    }

    /// Removes what was adopted from the kernel and has been claimed by no service since. To be called once every
    /// service that exists has been through [`Table::replace`].
    pub fn finish_adoption(&mut self) {
        for (_, state) in std::mem::take(&mut self.adopted) {
            // A host port that nobody asks for was a pod's that went meanwhile, and its address may be another's by now.
            let ends = state.frontends.values().all(|value| value.kind == KIND_HOST_PORT);
            if ends {
                self.end(&state);
            }
            self.delete(&state, ends);
        }
    }

    /// What the calls since the last one have to write.
    pub fn take_difference(&mut self) -> Difference {
        self.in_flight.append(&mut self.retiring);
        self.ranges.leave(&self.pending.ranges_after);
        std::mem::take(&mut self.pending)
    }

    /// The last difference has been applied at `now` (any monotonic clock): starts the quarantine of what it
    /// replaced.
    pub fn applied(&mut self, now: Duration) {
        self.quarantine.extend(self.in_flight.drain(..).map(|retired| (now, retired)));
        self.ranges.left();
    }

    /// Frees what has been in quarantine long enough at `now`. Returns when to call again, if anything is left.
    pub fn expire(&mut self, now: Duration) -> Option<Duration> {
        while let Some((since, retired)) = self.quarantine.front().copied() {
            if now < since + QUARANTINE {
                return Some(since + QUARANTINE);
            }
            self.quarantine.pop_front();
            match retired {
                Retired::Slots(extent) => self.slots.release(extent),
                Retired::Service(id) => self.service_ids.release(id),
                Retired::Backend(id) => self.backend_ids.release(id),
                Retired::Orphan(id) => self.backend_ids.orphan(id),
            }
        }
        None
    }

    /// How full it is.
    pub fn fill(&self) -> Fill {
        Fill {
            slots: (self.slots.capacity() - self.slots.free(), self.slots.capacity()),
            backends: (self.backend_ids.used(), self.backend_ids.capacity()),
            frontends: self.claims.len(),
            cramped: self.cramped.len(),
        }
    }

    /// The service ports of `owner`: name and service id.
    pub fn ports_of(&self, owner: &str) -> Vec<(Arc<str>, u32)> {
        let ports = self.owners.get(owner).into_iter().flatten();
        ports.map(|(name, state)| (name.clone(), state.id)).collect()
    }

    /// Whether `owner` has a frontend that `wanted` takes.
    pub fn has_frontend(&self, owner: &str, wanted: impl Fn(&Frontend) -> bool) -> bool {
        let ports = self.owners.get(owner).into_iter().flat_map(LiteMap::values);
        ports.flat_map(|state| state.frontends.keys()).any(wanted)
    }

    /// Whether `owner` asks for `frontend` in vain: another holds it.
    pub fn waits_for(&self, owner: &str, frontend: &Frontend) -> bool {
        let held = self.claims.held(frontend).is_some_and(|(rank, _)| *rank.owner == *owner);
        !held && self.has_frontend(owner, |wanted| wanted == frontend)
    }

    /// The adopted service port that answers at one of `port`'s frontends, if no other has taken it.
    fn take_adopted(&mut self, port: &DesiredPort) -> Option<PortState> {
        if self.adopted.is_empty() {
            return None;
        }
        port.frontends.iter().find_map(|wanted| {
            let (_, value) = self.claims.held(&wanted.frontend)?;
            let id = value.id;
            let known = self.adopted.get(&id)?;
            known.frontends.contains_key(&wanted.frontend).then(|| self.adopted.remove(&id)).flatten()
        })
    }

    /// The state that `port` shall have, given the one it has; takes ids and slots, changes nothing else.
    fn build(
        &mut self,
        owner: &Owner,
        before: Option<&PortState>,
        port: &DesiredPort,
        taken: &mut Taken,
    ) -> Result<PortState, MapsError> {
        let id = match before {
            Some(state) => state.id,
            None => {
                let id = self.service_ids.allocate().ok_or(MapsError::TableFull { what: "service ids" })?;
                taken.services.push(id);
                id
            }
        };
        let backends = self.lives(before, port, taken)?;
        let mut pools: Vec<Pool> = Vec::with_capacity(port.pools.len());
        let mut cramped = false;
        for wanted in &port.pools {
            let contents: Vec<Backend> = wanted.endpoints.iter().map(|e| slot(e, &backends)).collect();
            let pool = match spread(wanted, &contents) {
                Some(table) => match self.spread_pool(table, contents.len(), &pools, before, taken) {
                    Some(pool) => pool,
                    None => {
                        cramped = true;
                        self.pool(contents, &pools, before, taken)?
                    }
                },
                None => self.pool(contents, &pools, before, taken)?,
            };
            pools.push(pool);
        }
        let frontends = port
            .frontends
            .iter()
            .filter_map(|wanted| {
                let pool = pools.get(wanted.pool)?;
                let value = ServiceValue {
                    id,
                    slice: pool.extent.map_or(0, |extent| extent.start),
                    count: pool.extent.map_or(0, |extent| extent.length),
                    flags: wanted.flags,
                    kind: wanted.kind,
                    reserved: 0,
                    affinity_seconds: port.affinity_seconds,
                };
                Some((wanted.frontend, value))
            })
            .collect();
        let rank = Rank { created: owner.created, owner: owner.name.clone(), port: port.name.clone() };
        let source_ranges = port.source_ranges.clone();
        Ok(PortState { id, rank, backends, pools, frontends, source_ranges, cramped })
    }

    /// Backend ids for the endpoints that are in a pool, and those of draining endpoints that had one.
    fn lives(
        &mut self,
        before: Option<&PortState>,
        port: &DesiredPort,
        taken: &mut Taken,
    ) -> Result<Lives, MapsError> {
        let mut lives: BTreeMap<(IpAddr, u16), Life> = BTreeMap::new();
        let known = |key: &(IpAddr, u16)| before.and_then(|state| state.backends.get(key)).copied();
        for key in port.draining.iter() {
            if let Some(life) = known(key) {
                lives.insert(*key, Life { active: false, ..life });
            }
        }
        for endpoint in port.pools.iter().flat_map(|pool| &pool.endpoints) {
            let key = (endpoint.address, endpoint.port);
            if lives.get(&key).is_some_and(|life| life.active) {
                continue;
            }
            let life = match known(&key) {
                Some(life) => Life { active: true, ..life },
                None => {
                    let (id, generation) =
                        self.backend_ids.allocate().ok_or(MapsError::TableFull { what: "backend ids" })?;
                    taken.backends.push(id);
                    Life { id, generation, active: true }
                }
            };
            lives.insert(key, life);
        }
        Ok(lives.into_iter().collect())
    }

    /// A slice with these contents: one that is there, or a fresh one.
    fn pool(
        &mut self,
        backends: Vec<Backend>,
        made: &[Pool],
        before: Option<&PortState>,
        taken: &mut Taken,
    ) -> Result<Pool, MapsError> {
        if backends.is_empty() {
            return Ok(Pool { extent: None, backends });
        }
        if let Some(pool) = same(&backends, made, before) {
            return Ok(pool);
        }
        let length = u32::try_from(backends.len()).map_err(|_| MapsError::TableFull { what: "slots" })?;
        let extent = self.slots.allocate(length).ok_or(MapsError::TableFull { what: "slots" })?;
        taken.slots.push(extent);
        Ok(Pool { extent: Some(extent), backends })
    }

    /// A slice with the contents of a spread pool over `endpoints` endpoints; `None` when there is no room. New ones
    /// leave half of the table to the slices that cannot do without, and those of services that have one already leave
    /// a quarter, so that they do not fall back first.
    fn spread_pool(
        &mut self,
        table: Vec<Backend>,
        endpoints: usize,
        made: &[Pool],
        before: Option<&PortState>,
        taken: &mut Taken,
    ) -> Option<Pool> {
        if let Some(pool) = same(&table, made, before) {
            return Some(pool);
        }
        let length = u32::try_from(table.len()).ok()?;
        let has = before.is_some_and(|state| state.pools.iter().any(|pool| pool.backends.len() > endpoints));
        let reserve = self.slots.capacity() / if has { 4 } else { 2 };
        if table.len() > endpoints && self.slots.free() < reserve.saturating_add(length) {
            return None;
        }
        let extent = self.slots.allocate(length)?;
        taken.slots.push(extent);
        Some(Pool { extent: Some(extent), backends: table })
    }

    fn give_back(&mut self, taken: Taken) {
        taken.slots.into_iter().for_each(|extent| self.slots.release(extent));
        taken.services.into_iter().for_each(|id| self.service_ids.release(id));
        taken.backends.into_iter().for_each(|id| self.backend_ids.release(id));
    }

    /// Plans the writes that lead from `before` to `after`, and retires what `after` no longer has.
    fn switch(&mut self, before: Option<PortState>, after: &PortState, refused: &mut Vec<Frontend>) {
        let Some(before) = before else {
            self.switch_states(&Lives::new(), &after.backends);
            self.write_slices(&[], &after.pools);
            self.switch_ranges(after.id, &BTreeSet::new(), &after.source_ranges);
            self.claim(after, refused);
            return;
        };
        self.switch_states(&before.backends, &after.backends);
        self.write_slices(&before.pools, &after.pools);
        self.switch_ranges(after.id, &before.source_ranges, &after.source_ranges);
        // A port whose standing falls lets go first, or it would stand in its own way.
        let falls = before.rank < after.rank;
        if falls {
            self.let_go(&before, None);
        }
        self.claim(after, refused);
        if !falls {
            self.let_go(&before, Some(after));
        }
        self.retire_slices(&before.pools, &after.pools);
    }

    fn switch_states(&mut self, before: &Lives, after: &Lives) {
        for (key, life) in after {
            let was_active = before.get(key).is_some_and(|old| old.active);
            if life.active && !was_active {
                let active = BackendState { state: STATE_ACTIVE, generation: life.generation };
                self.pending.states_before.insert(life.id, active);
                self.pending.states_after.remove(&life.id);
            } else if !life.active && was_active {
                let draining = BackendState { state: STATE_DRAINING, generation: life.generation };
                self.pending.states_after.insert(life.id, draining);
            }
        }
        for (_, life) in before.iter().filter(|(key, _)| !after.contains_key(*key)) {
            self.pending.states_after.insert(life.id, gone(life.generation));
            self.retiring.push(Retired::Backend(life.id));
        }
    }

    fn write_slices(&mut self, before: &[Pool], after: &[Pool]) {
        let mut there: Vec<Extent> = before.iter().filter_map(|pool| pool.extent).collect();
        for pool in after {
            if let Some(extent) = pool.extent.filter(|extent| !there.contains(extent)) {
                there.push(extent);
                self.pending.slices.push((extent.start, pool.backends.clone()));
            }
        }
    }

    fn switch_ranges(&mut self, id: u32, before: &BTreeSet<Prefix>, after: &BTreeSet<Prefix>) {
        for range in after.difference(before).map(|range| (id, *range)) {
            // One that was to go is still there.
            if !self.pending.ranges_after.remove(&range) {
                self.pending.ranges_before.insert(range);
                self.ranges.add(&range.1);
            }
        }
        for range in before.difference(after).map(|range| (id, *range)) {
            // One that was to come is not there yet.
            if self.pending.ranges_before.remove(&range) {
                self.ranges.take_back(&range.1);
            } else {
                self.pending.ranges_after.insert(range);
            }
        }
    }

    /// Whether the maps that refuse what is new when they are full have room for what `after` has and `before` has not.
    fn check_room(
        &self,
        before: &LiteMap<Arc<str>, PortState>,
        after: &LiteMap<Arc<str>, PortState>,
    ) -> Result<(), MapsError> {
        let frontends = |ports: &LiteMap<Arc<str>, PortState>| -> BTreeSet<Frontend> {
            ports.values().flat_map(|state| state.frontends.keys()).copied().collect()
        };
        let (had, wants) = (frontends(before), frontends(after));
        let more = wants.difference(&had).filter(|frontend| self.claims.held(frontend).is_none());
        let less = had.difference(&wants).filter(|frontend| self.claims.goes_with_its_holder(frontend));
        let more = PerFamily::count(more.map(|frontend| frontend.address.is_ipv4()));
        let less = PerFamily::count(less.map(|frontend| frontend.address.is_ipv4()));
        if !self.claims.counts().fits(more, less, self.room.frontends) {
            return Err(MapsError::TableFull { what: "frontends" });
        }
        let none = BTreeSet::new();
        let new = after.iter().flat_map(|(name, state)| {
            let had = before.get(name).map_or(&none, |state| &state.source_ranges);
            state.source_ranges.difference(had).map(move |range| (state.id, *range))
        });
        let new = new.filter(|range| !self.pending.ranges_after.contains(range));
        let more = PerFamily::count(new.map(|(_, range)| range.is_ipv4()));
        if !self.ranges.there.fits(more, PerFamily::default(), self.room.ranges) {
            return Err(MapsError::TableFull { what: "source ranges" });
        }
        Ok(())
    }

    fn claim(&mut self, state: &PortState, refused: &mut Vec<Frontend>) {
        for (frontend, value) in &state.frontends {
            if !self.claims.set(*frontend, &state.rank, *value, &mut self.pending) {
                refused.push(*frontend);
            }
        }
    }

    /// Lets go of the frontends of `before` that `after` does not hold under the same rank.
    fn let_go(&mut self, before: &PortState, after: Option<&PortState>) {
        for frontend in before.frontends.keys() {
            let kept = after.is_some_and(|s| s.rank == before.rank && s.frontends.contains_key(frontend));
            if !kept {
                self.claims.release(*frontend, &before.rank, &mut self.pending);
            }
        }
    }

    /// Ends what flows have with the backends of a service port.
    fn end(&mut self, state: &PortState) {
        for life in state.backends.values() {
            self.pending.states_after.insert(life.id, gone(life.generation));
        }
    }

    /// Plans the removal of a service port. Its backends may drain, unless they have `ended`: nothing says that its endpoints
    /// are gone.
    fn delete(&mut self, state: &PortState, ended: bool) {
        self.let_go(state, None);
        self.switch_ranges(state.id, &state.source_ranges, &BTreeSet::new());
        for life in state.backends.values() {
            if ended {
                self.retiring.push(Retired::Backend(life.id));
                continue;
            }
            if life.active {
                let draining = BackendState { state: STATE_DRAINING, generation: life.generation };
                self.pending.states_after.insert(life.id, draining);
            }
            self.retiring.push(Retired::Orphan(life.id));
        }
        self.retire_slices(&state.pools, &[]);
        self.retiring.push(Retired::Service(state.id));
    }

    fn retire_slices(&mut self, before: &[Pool], after: &[Pool]) {
        let mut done: Vec<Extent> = after.iter().filter_map(|pool| pool.extent).collect();
        for extent in before.iter().filter_map(|pool| pool.extent) {
            if !done.contains(&extent) {
                done.push(extent);
                self.retiring.push(Retired::Slots(extent));
            }
        }
    }
}

/// A pool of these contents among those made and those that were there.
fn same(backends: &[Backend], made: &[Pool], before: Option<&PortState>) -> Option<Pool> {
    let mut there = made.iter().chain(before.into_iter().flat_map(|state| &state.pools));
    there.find(|pool| pool.backends == backends).cloned()
}

/// The table of a pool that is to be spread and can be; `contents` are its endpoints' slots.
fn spread(wanted: &DesiredPool, contents: &[Backend]) -> Option<Vec<Backend>> {
    if wanted.spread == Spread::Each {
        return None;
    }
    let slots = maglev::slots(contents.len())?;
    let keys: Vec<(IpAddr, u16)> = wanted.endpoints.iter().map(|e| (e.address, e.port)).collect();
    Some(maglev::fill(&keys, slots).into_iter().map(|index| contents[index as usize]).collect())
}

/// The slot of an endpoint whose backend id has been decided.
fn slot(endpoint: &Endpoint, lives: &Lives) -> Backend {
    let life = lives.get(&(endpoint.address, endpoint.port)).expect("every endpoint of a pool has a life");
    Backend {
        address: to_shared(endpoint.address),
        port: Be16::new(endpoint.port),
        flags: if endpoint.local { BACKEND_LOCAL } else { 0 },
        id: life.id,
    }
}
