//! The pinned maps, opened: typed access to what the agent writes and reads.
//!
//! Owns the descriptors and memory mappings, and how a difference becomes map writes. It loads and attaches nothing, so
//! that `inspect` uses it beside a running agent.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use aya::maps::MapInfo;
use skep_abi::affinity::{AFFINITY, Affinity, AffinityKey};
use skep_abi::backend::{BACKEND_STATES, BACKENDS, Backend, BackendState};
use skep_abi::config::{CONFIG, Config};
use skep_abi::counters::{COUNTERS, Counter, PROGRAM_STATS, ServiceStats, VERDICTS};
use skep_abi::earlier::{CONFIG_SIZE, SERVICE_STATS};
use skep_abi::flow::{FLOW_ENTRIES_V4, FLOW_ENTRIES_V6, Flow, FlowKey};
use skep_abi::fragment::{FRAGMENTS_V4, FRAGMENTS_V6};
use skep_abi::fronts::FRONTS;
use skep_abi::local::{LOCAL_V4, LOCAL_V6, LocalEndpoint};
use skep_abi::program::PROGRAMS;
use skep_abi::ranges::{ALLOWED, RangeKey, SOURCE_RANGES_V4, SOURCE_RANGES_V6};
use skep_abi::service::{SERVICES_V4, SERVICES_V6, ServiceKey, ServiceValue};
use skep_abi::socket::{CONNECTED_V4, CONNECTED_V6, PEERS_V4, PEERS_V6, PICKS_V4, PICKS_V6, Peer, SocketKey};
use skep_abi::{Be16, Plain, UDP, V4, V6};
use skep_maps::extents::Extent;
use skep_maps::prefix::PrefixKey;
use skep_maps::room::{PerFamily, Room};
use skep_maps::{Difference, Frontend, FrontendKey, MapsError, Prefix, Totals};

use crate::Error;
use crate::connected::ConnectedSockets;
use crate::counts::ServiceCounts;
use crate::fill::Counted;
use crate::flows::FlowTable;
use crate::layout;
use crate::memory::{MappedArray, publish};
use crate::pins::Pins;
use crate::plain::{bytes, owned, per_cpu, read};
use crate::sockets::Translated;
use crate::sys::{self, RawEntry, RawMap};

/// The maps that user space touches.
#[derive(Debug)]
pub(crate) struct Maps {
    config: RawMap,
    services_v4: RawMap,
    services_v6: RawMap,
    ranges_v4: RawMap,
    ranges_v6: RawMap,
    backends: MappedArray,
    states: MappedArray,
    fronts: MappedArray,
    local_v4: RawMap,
    local_v6: RawMap,
    flows_v4: FlowTable,
    flows_v6: FlowTable,
    connected_v4: ConnectedSockets<V4>,
    connected_v6: ConnectedSockets<V6>,
    affinity: RawMap,
    counted: Vec<Counted>,
    counters: RawMap,
    program_stats: RawMap,
    service_counts: ServiceCounts,
}

/// A pinned map's descriptor and sizes. `row` is what one look-up gives: for per-CPU maps all CPUs' values.
pub(crate) struct Opened {
    pub(crate) fd: OwnedFd,
    pub(crate) entries: u32,
    key: usize,
    pub(crate) value: usize,
    row: usize,
}

impl Opened {
    pub(crate) fn raw(self) -> RawMap {
        RawMap::new(self.fd, self.key, self.row)
    }
}

/// Opens a pin and checks its sizes against the ABI's.
pub(crate) fn open(pins: &Pins, name: &'static str) -> Result<Opened, Error> {
    let path = pins.map(name);
    let fd = sys::open_pin(&path).map_err(Error::map(name))?;
    let info =
        MapInfo::from_pin(&path).map_err(|error| Error::Map { map: name, source: layout::io(error) })?;
    let (key, value) = (info.key_size() as usize, info.value_size() as usize);
    let mut known = layout::MAPS.iter().chain(layout::EARLIER);
    let wanted = known.find(|(known, _, _)| *known == name).map(|(_, k, v)| (*k, *v));
    if wanted != Some((key, value)) {
        return Err(Error::LayoutDiffers {
            map: name.to_owned(),
            found: format!("{key}-byte keys and {value}-byte values"),
            wanted: format!("{wanted:?}"),
        });
    }
    let per_cpu = [COUNTERS, PROGRAM_STATS, SERVICE_STATS].contains(&name);
    let cpus = if per_cpu { possible_cpus().map_err(Error::map(name))? } else { 1 };
    let row = if per_cpu { value.next_multiple_of(8) * cpus } else { value };
    Ok(Opened { fd, entries: info.max_entries(), key, value, row })
}

fn possible_cpus() -> io::Result<usize> {
    aya::util::nr_cpus().map_err(|(_, error)| error)
}

fn raw(pins: &Pins, name: &'static str) -> Result<RawMap, Error> {
    open(pins, name).map(Opened::raw)
}

fn mapped(pins: &Pins, name: &'static str) -> Result<MappedArray, Error> {
    let opened = open(pins, name)?;
    MappedArray::new(&opened.fd, opened.value, opened.entries).map_err(Error::map(name))
}

/// The hash maps, whether they evict, for counting.
fn counted(pins: &Pins) -> Result<Vec<Counted>, Error> {
    let refusing = [SERVICES_V4, SERVICES_V6, SOURCE_RANGES_V4, SOURCE_RANGES_V6, LOCAL_V4, LOCAL_V6]
        .map(|name| (name, false));
    let evicting = [FRAGMENTS_V4, FRAGMENTS_V6, AFFINITY, PEERS_V4, PEERS_V6, PICKS_V4, PICKS_V6]
        .map(|name| (name, true));
    let one = |(map, evicts)| {
        let opened = open(pins, map)?;
        Ok(Counted { map, capacity: opened.entries, raw: opened.raw(), evicts })
    };
    refusing.into_iter().chain(evicting).map(one).collect()
}

fn write_error(map: &'static str) -> impl FnOnce(io::Error) -> MapsError {
    move |source| MapsError::Write { map, source }
}

fn read_error(map: &'static str) -> impl FnOnce(io::Error) -> MapsError {
    move |source| MapsError::Read { map, source }
}

impl Maps {
    /// Opens the maps pinned under `pins`.
    pub(crate) fn open(pins: &Pins) -> Result<Self, Error> {
        Ok(Self {
            config: raw(pins, CONFIG)?,
            services_v4: raw(pins, SERVICES_V4)?,
            services_v6: raw(pins, SERVICES_V6)?,
            ranges_v4: raw(pins, SOURCE_RANGES_V4)?,
            ranges_v6: raw(pins, SOURCE_RANGES_V6)?,
            backends: mapped(pins, BACKENDS)?,
            states: mapped(pins, BACKEND_STATES)?,
            fronts: mapped(pins, FRONTS)?,
            local_v4: raw(pins, LOCAL_V4)?,
            local_v6: raw(pins, LOCAL_V6)?,
            flows_v4: FlowTable::open::<V4>(pins)?,
            flows_v6: FlowTable::open::<V6>(pins)?,
            connected_v4: ConnectedSockets::new(mapped(pins, CONNECTED_V4)?),
            connected_v6: ConnectedSockets::new(mapped(pins, CONNECTED_V6)?),
            affinity: raw(pins, AFFINITY)?,
            counted: counted(pins)?,
            counters: raw(pins, COUNTERS)?,
            program_stats: raw(pins, PROGRAM_STATS)?,
            service_counts: ServiceCounts::open(pins)?,
        })
    }

    /// The settings pinned under `pins`, of whatever version, when nothing else is to be opened yet.
    pub(crate) fn pinned_config(pins: &Pins) -> Result<Config, Error> {
        let path = pins.map(CONFIG);
        let info = MapInfo::from_pin(&path)
            .map_err(|error| Error::Map { map: CONFIG, source: layout::io(error) })?;
        let size = info.value_size() as usize;
        let map = RawMap::new(sys::open_pin(&path).map_err(Error::map(CONFIG))?, 4, size);
        let mut value =
            map.get(&0u32.to_ne_bytes()).map_err(Error::map(CONFIG))?.unwrap_or_default().to_vec();
        // What an earlier version had lies in the same places; what it had not is zero.
        if value.len() >= CONFIG_SIZE {
            value.resize(size_of::<Config>().max(value.len()), 0);
        }
        Ok(read(&value).unwrap_or_default())
    }

    /// The node's settings.
    pub(crate) fn config(&self) -> Result<Config, MapsError> {
        let value = self.config.get(&0u32.to_ne_bytes()).map_err(read_error(CONFIG))?;
        Ok(value.and_then(|value| read(&value)).unwrap_or_default())
    }

    /// Writes the node's settings, all at once.
    pub(crate) fn set_config(&self, config: &Config) -> Result<(), MapsError> {
        self.config.put(&0u32.to_ne_bytes(), bytes(config)).map_err(write_error(CONFIG))
    }

    /// Slots in the backend table.
    pub(crate) fn slot_capacity(&self) -> u32 {
        u32::try_from(self.backends.len()).expect("an array map's length is 32 bits")
    }

    /// Slots of the backend table, cut at its end.
    pub(crate) fn slots(&self, extent: Extent) -> Vec<Backend> {
        let raw = self.backends.read(extent.start as usize, extent.length as usize);
        raw.chunks_exact(size_of::<Backend>()).filter_map(read).collect()
    }

    /// How many frontends and source ranges there is room for.
    pub(crate) fn room(&self) -> Room {
        Room {
            frontends: self.capacity(SERVICES_V4, SERVICES_V6),
            ranges: self.capacity(SOURCE_RANGES_V4, SOURCE_RANGES_V6),
        }
    }

    fn capacity(&self, v4: &str, v6: &str) -> PerFamily {
        let of = |name| self.counted_map(name).map_or(0, |counted| counted.capacity as usize);
        PerFamily { v4: of(v4), v6: of(v6) }
    }

    fn counted_map(&self, name: &str) -> Option<&Counted> {
        self.counted.iter().find(|counted| counted.map == name)
    }

    /// Every backend id's state.
    pub(crate) fn backend_states(&self) -> Vec<BackendState> {
        let word = |index| self.states.load(index).map(BackendState::from_word);
        (0..self.states.len()).map_while(word).collect()
    }

    /// Every service entry.
    pub(crate) fn services(&self) -> Result<Vec<(Frontend, ServiceValue)>, MapsError> {
        let mut found = entries::<ServiceKey<V4>, ServiceValue, _>(&self.services_v4, SERVICES_V4)?;
        found.extend(entries::<ServiceKey<V6>, ServiceValue, _>(&self.services_v6, SERVICES_V6)?);
        Ok(found)
    }

    /// What a frontend leads to.
    pub(crate) fn service(&self, frontend: &Frontend) -> Result<Option<ServiceValue>, MapsError> {
        let (map, name, key) = match frontend.key() {
            FrontendKey::V4(key) => (&self.services_v4, SERVICES_V4, owned(&key)),
            FrontendKey::V6(key) => (&self.services_v6, SERVICES_V6, owned(&key)),
        };
        Ok(map.get(&key).map_err(read_error(name))?.and_then(|value| read(&value)))
    }

    /// Gives `each` what the socket hooks remember of every UDP socket that was connected.
    pub(crate) fn walk_connected_udp(&self, mut each: impl FnMut(Translated)) {
        self.connected_v4.walk_udp(&mut each);
        self.connected_v6.walk_udp(&mut each);
    }

    /// Whether the socket was connected to that backend, and that is remembered.
    pub(crate) fn is_connected(&self, socket: &Translated) -> bool {
        let known = if socket.backend.is_ipv4() {
            self.connected_v4.udp(socket.cookie)
        } else {
            self.connected_v6.udp(socket.cookie)
        };
        known.is_some_and(|known| known.backend == socket.backend)
    }

    /// Gives `each` what the socket hooks remember of UDP sockets that are not connected, and of those that an earlier version
    /// has connected.
    pub(crate) fn walk_udp_peers(&self, mut each: impl FnMut(Translated)) -> Result<(), MapsError> {
        for (name, v4) in [(PEERS_V4, true), (PEERS_V6, false)] {
            let Some(map) = self.counted_map(name) else { continue };
            let walked = map.raw.walk(|key, value| {
                let socket = if v4 { translated::<V4>(key, value) } else { translated::<V6>(key, value) };
                socket.into_iter().for_each(&mut each);
            });
            walked.map_err(read_error(name))?;
        }
        Ok(())
    }

    /// Whether the socket has sent to its frontend without being connected.
    pub(crate) fn has_pick(&self, socket: &Translated) -> Result<bool, MapsError> {
        let port = Be16::new(socket.frontend.port());
        let cookie = [socket.cookie as u32, (socket.cookie >> 32) as u32];
        let (name, key) = match socket.frontend.ip() {
            IpAddr::V4(address) => (PICKS_V4, {
                owned(&SocketKey::<V4> { cookie, address: address.into(), port, protocol: UDP, reserved: 0 })
            }),
            IpAddr::V6(address) => (PICKS_V6, {
                owned(&SocketKey::<V6> { cookie, address: address.into(), port, protocol: UDP, reserved: 0 })
            }),
        };
        let Some(map) = self.counted_map(name) else { return Ok(false) };
        Ok(map.raw.get(&key).map_err(read_error(name))?.is_some())
    }

    /// Every service id's source ranges. An entry that no agent writes is left out.
    pub(crate) fn source_ranges(&self) -> Result<Vec<(u32, Prefix)>, MapsError> {
        let v4 = self.ranges_v4.entries().map_err(read_error(SOURCE_RANGES_V4))?;
        let v6 = self.ranges_v6.entries().map_err(read_error(SOURCE_RANGES_V6))?;
        let v4 =
            v4.iter().filter_map(|(key, _)| Prefix::from_key(&PrefixKey::V4(read::<RangeKey<V4>>(key)?)));
        let v6 =
            v6.iter().filter_map(|(key, _)| Prefix::from_key(&PrefixKey::V6(read::<RangeKey<V6>>(key)?)));
        Ok(v4.chain(v6).collect())
    }

    /// Writes one of a service id's source ranges, or removes it.
    fn set_range(&self, id: u32, range: &Prefix, present: bool) -> Result<(), MapsError> {
        let (map, name, key) = match range.key(id) {
            PrefixKey::V4(key) => (&self.ranges_v4, SOURCE_RANGES_V4, owned(&key)),
            PrefixKey::V6(key) => (&self.ranges_v6, SOURCE_RANGES_V6, owned(&key)),
        };
        let done = if present { map.put(&key, bytes(&ALLOWED)) } else { map.remove(&key).map(drop) };
        done.map_err(write_error(name))
    }

    /// The tables of flows of IPv4 and of IPv6.
    pub(crate) fn flow_tables(&self) -> [(&'static str, &FlowTable); 2] {
        [(FLOW_ENTRIES_V4, &self.flows_v4), (FLOW_ENTRIES_V6, &self.flows_v6)]
    }

    /// Every flow of IPv4, then of IPv6.
    #[allow(clippy::type_complexity)] // two lists of what the tables hold
    pub(crate) fn flows(&self) -> Result<(Vec<(FlowKey, Flow<V4>)>, Vec<(FlowKey, Flow<V6>)>), MapsError> {
        let seed = self.config()?.seed;
        let v4 = self.flows_v4.all(seed).map_err(read_error(FLOW_ENTRIES_V4))?;
        Ok((v4, self.flows_v6.all(seed).map_err(read_error(FLOW_ENTRIES_V6))?))
    }

    /// Every client's backend.
    pub(crate) fn affinity(&self) -> Result<Vec<(AffinityKey, Affinity)>, MapsError> {
        entries::<AffinityKey, Affinity, AffinityKey>(&self.affinity, AFFINITY)
    }

    /// The maps that are counted by walking them.
    pub(crate) fn counted(&self) -> &[Counted] {
        &self.counted
    }

    /// Every pod's place.
    pub(crate) fn local_endpoints(&self) -> Result<Vec<(IpAddr, LocalEndpoint)>, MapsError> {
        let mut found = entries::<V4, LocalEndpoint, IpAddr>(&self.local_v4, LOCAL_V4)?;
        found.extend(entries::<V6, LocalEndpoint, IpAddr>(&self.local_v6, LOCAL_V6)?);
        Ok(found)
    }

    fn local(&self, address: IpAddr) -> (&RawMap, &'static str, Box<[u8]>) {
        match address {
            IpAddr::V4(address) => (&self.local_v4, LOCAL_V4, owned(&V4::from(address))),
            IpAddr::V6(address) => (&self.local_v6, LOCAL_V6, owned(&V6::from(address))),
        }
    }

    /// Writes one pod's place.
    pub(crate) fn set_local(&self, address: IpAddr, endpoint: &LocalEndpoint) -> Result<(), MapsError> {
        let (map, name, key) = self.local(address);
        map.put(&key, bytes(endpoint)).map_err(write_error(name))
    }

    /// Removes one pod's place and says what it was.
    pub(crate) fn remove_local(&self, address: IpAddr) -> Result<Option<LocalEndpoint>, MapsError> {
        let (map, name, key) = self.local(address);
        let known = map.get(&key).map_err(read_error(name))?;
        map.remove(&key).map_err(write_error(name))?;
        Ok(known.and_then(|value| read(&value)))
    }

    /// Writes a difference, phase by phase.
    pub(crate) fn apply(&self, difference: &Difference) -> Result<(), MapsError> {
        for id in &difference.counters {
            self.service_counts.clear(*id)?;
        }
        for (id, state) in &difference.states_before {
            self.states.store(*id as usize, state.word()).map_err(write_error(BACKEND_STATES))?;
        }
        for (start, slice) in &difference.slices {
            let raw: Vec<u8> = slice.iter().flat_map(bytes).copied().collect();
            self.backends.write(*start as usize, &raw).map_err(write_error(BACKENDS))?;
        }
        for bit in &difference.bits {
            self.fronts.set_bits(bit.word as usize, bit.mask).map_err(write_error(FRONTS))?;
        }
        publish();
        for (id, range) in &difference.ranges_before {
            self.set_range(*id, range, true)?;
        }
        self.apply_services(difference)?;
        for (id, range) in &difference.ranges_after {
            self.set_range(*id, range, false)?;
        }
        for (id, state) in &difference.states_after {
            self.states.store(*id as usize, state.word()).map_err(write_error(BACKEND_STATES))?;
        }
        Ok(())
    }

    fn apply_services(&self, difference: &Difference) -> Result<(), MapsError> {
        let (mut put_v4, mut put_v6) = (Vec::<RawEntry>::new(), Vec::<RawEntry>::new());
        let (mut gone_v4, mut gone_v6) = (Vec::new(), Vec::new());
        for (frontend, value) in &difference.services {
            let (key, put, gone) = match frontend.key() {
                FrontendKey::V4(key) => (owned(&key), &mut put_v4, &mut gone_v4),
                FrontendKey::V6(key) => (owned(&key), &mut put_v6, &mut gone_v6),
            };
            match value {
                Some(value) => put.push((key, owned(value))),
                None => gone.push(key),
            }
        }
        // Deletions first: they make room, and no frontend is both deleted and written.
        self.services_v4.remove_all(&gone_v4).map_err(write_error(SERVICES_V4))?;
        self.services_v6.remove_all(&gone_v6).map_err(write_error(SERVICES_V6))?;
        self.services_v4.put_all(&put_v4).map_err(write_error(SERVICES_V4))?;
        self.services_v6.put_all(&put_v6).map_err(write_error(SERVICES_V6))
    }

    /// Totals by reason and by program, over all CPUs.
    pub(crate) fn totals(&self) -> Result<Totals, MapsError> {
        let mut reasons = Vec::new();
        for (_, values) in self.counters.entries().map_err(read_error(COUNTERS))? {
            reasons.push(per_cpu::<Counter>(&values).fold(Counter::default(), |sum, one| Counter {
                packets: sum.packets.wrapping_add(one.packets),
                bytes: sum.bytes.wrapping_add(one.bytes),
            }));
        }
        let mut programs = vec![[0u64; VERDICTS as usize]; PROGRAMS.len()];
        let cells = programs.iter_mut().flatten();
        let rows = self.program_stats.entries().map_err(read_error(PROGRAM_STATS))?;
        for (cell, (_, values)) in cells.zip(rows) {
            *cell = per_cpu::<u64>(&values).fold(0, u64::wrapping_add);
        }
        Ok(Totals { reasons, programs })
    }

    /// Totals of one service id, over all CPUs.
    pub(crate) fn service_totals(&self, id: u32) -> Result<Option<ServiceStats>, MapsError> {
        self.service_counts.get(id)
    }

    /// How many services are counted.
    pub(crate) fn counted_services(&self) -> u32 {
        self.service_counts.services()
    }
}

/// One entry of what the socket hooks remember, if it is a UDP socket's.
fn translated<A>(key: &[u8], value: &[u8]) -> Option<Translated>
where
    SocketKey<A>: Plain,
    Peer<A>: Plain,
    IpAddr: From<A>,
{
    let (key, peer) = (read::<SocketKey<A>>(key)?, read::<Peer<A>>(value)?);
    let [low, high] = key.cookie;
    (key.protocol == UDP).then(|| Translated {
        cookie: u64::from(low) | u64::from(high) << 32,
        backend: SocketAddr::new(key.address.into(), key.port.get()),
        frontend: SocketAddr::new(peer.address.into(), peer.port.get()),
    })
}

/// Every entry of a map, as the types that it holds.
fn entries<K: Plain, V: Plain, T: From<K>>(
    map: &RawMap,
    name: &'static str,
) -> Result<Vec<(T, V)>, MapsError> {
    let raw = map.entries().map_err(read_error(name))?;
    Ok(raw.iter().filter_map(|(key, value)| Some((T::from(read(key)?), read(value)?))).collect())
}
