//! What a table's case starts from and what it is asked for: the object loaded once per test program, its maps emptied for
//! each case, and the whole difference that a packet made.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use skep_abi::affinity::AFFINITY;
use skep_abi::config::{CONFIG, Config};
use skep_abi::flow::{
    FLOW_HALF_OPEN, FLOWS_V4, FLOWS_V6, Flow, FlowKey, HALF_OPEN_V4, HALF_OPEN_V6, pair_v4, pair_v6,
};
use skep_abi::fragment::{FRAGMENTS_V4, FRAGMENTS_V6};
use skep_abi::local::{LOCAL_V4, LOCAL_V6};
use skep_abi::ranges::{SOURCE_RANGES_V4, SOURCE_RANGES_V6};
use skep_abi::service::{SERVICES_V4, SERVICES_V6};
use skep_abi::socket::{PEERS_V4, PEERS_V6, PICKS_V4, PICKS_V6};
use skep_abi::{Be16, Plain, V4, V6};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::object::{Loaded, Run};
use crate::packet::Packet;
use crate::world::{World, v4, v6};

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

/// The object and the surroundings of one case.
pub struct Fixture {
    loaded: MutexGuard<'static, Option<Loaded>>,
    /// The namespace.
    pub world: World,
}

/// A flow as a table has it: what arrives, what leaves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowRow {
    /// Source as it arrives.
    pub source: SocketAddr,
    /// Destination as it arrives.
    pub destination: SocketAddr,
    /// Source as it leaves.
    pub new_source: SocketAddr,
    /// Destination as it leaves.
    pub new_destination: SocketAddr,
    /// `FLOW_*`.
    pub flags: u8,
    /// `EGRESS_*`.
    pub egress: u8,
    /// `STATE_*`.
    pub state: u8,
    /// Packets in this direction.
    pub packets: u64,
}

/// Everything that one packet changed, but for the flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The program's return value.
    pub action: u32,
    /// The packet as it was left.
    pub frame: Vec<u8>,
    /// By how much each counter of reasons rose.
    pub counters: BTreeMap<&'static str, u64>,
}

impl Fixture {
    /// A fresh case.
    ///
    /// # Errors
    ///
    /// Not root, or the kernel's.
    pub fn new() -> Result<Self> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.is_none() {
            *loaded = Some(Loaded::load(&[], &[])?);
        }
        let world = World::enter()?;
        let fixture = Self { loaded, world };
        for map in [
            SERVICES_V4,
            SERVICES_V6,
            FLOWS_V4,
            FLOWS_V6,
            HALF_OPEN_V4,
            HALF_OPEN_V6,
            LOCAL_V4,
            LOCAL_V6,
            PEERS_V4,
            PEERS_V6,
            PICKS_V4,
            PICKS_V6,
            AFFINITY,
            SOURCE_RANGES_V4,
            SOURCE_RANGES_V6,
            FRAGMENTS_V4,
            FRAGMENTS_V6,
        ] {
            fixture.loaded().clear(map)?;
        }
        world.configure(fixture.loaded())?;
        Ok(fixture)
    }

    /// Empties the tables of flows.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn forget_flows(&self) -> Result<()> {
        [FLOWS_V4, FLOWS_V6, HALF_OPEN_V4, HALF_OPEN_V6].iter().try_for_each(|map| self.loaded().clear(map))
    }

    /// Removes the flow that this packet would be of.
    ///
    /// # Errors
    ///
    /// The kernel's, and that there is none.
    pub fn forget(&self, packet: &Packet) -> Result<()> {
        let (key, maps) = self.key(packet)?;
        let removed = maps.iter().filter(|map| self.loaded().remove(map, &key).is_ok()).count();
        ensure!(removed == 1, "{removed} flows");
        Ok(())
    }

    /// Makes the flow that this packet would be of look as if its last packet had come `ticks` ticks earlier.
    ///
    /// # Errors
    ///
    /// The kernel's, and that there is none.
    pub fn age(&self, packet: &Packet, ticks: u32) -> Result<()> {
        let (key, maps) = self.key(packet)?;
        let v4 = packet.source.is_ipv4();
        let aged = maps.iter().filter(|map| {
            if v4 { age::<V4>(self, map, &key, ticks) } else { age::<V6>(self, map, &key, ticks) }
        });
        let aged = aged.count();
        ensure!(aged == 1, "{aged} flows");
        Ok(())
    }

    /// What a packet is known by, and the maps that may know it.
    fn key(&self, packet: &Packet) -> Result<(FlowKey, [&'static str; 2])> {
        let config: Config = self.loaded().get(CONFIG, &0_u32)?.context("there are settings")?;
        let (source, destination) = (packet.source.ip(), packet.destination.ip());
        let (pair, maps) = if source.is_ipv4() {
            (pair_v4(v4(source), v4(destination)), [FLOWS_V4, HALF_OPEN_V4])
        } else {
            (pair_v6(config.seed, v6(source), v6(destination)), [FLOWS_V6, HALF_OPEN_V6])
        };
        let [from, to] = [packet.source.port(), packet.destination.port()].map(Be16::new);
        Ok((FlowKey::new(pair, from, to, packet.protocol), maps))
    }

    /// The object.
    pub fn loaded(&self) -> &Loaded {
        self.loaded.as_ref().expect("it was loaded when the fixture was made")
    }

    /// Puts a packet from the uplink through XDP.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn xdp(&self, frame: &[u8]) -> Result<Change> {
        self.observe(|loaded| loaded.run_xdp("xdp_uplink", self.world.uplink, frame))
    }

    /// Puts a packet through a TC program on the uplink.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn tc_uplink(&self, program: &str, frame: &[u8]) -> Result<Change> {
        self.observe(|loaded| loaded.run_tc(program, self.world.uplink, frame))
    }

    /// Puts a packet that the pod sent through TC.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn from_pod(&self, frame: &[u8]) -> Result<Change> {
        self.observe(|loaded| loaded.run_tc("tc_from_pod", self.world.pod, frame))
    }

    fn observe(&self, run: impl FnOnce(&Loaded) -> Result<Run>) -> Result<Change> {
        let before = self.loaded().counters()?;
        let Run { action, frame } = run(self.loaded())?;
        let mut counters = self.loaded().counters()?;
        counters.retain(|name, count| {
            *count -= before.get(name).copied().unwrap_or(0);
            *count > 0
        });
        Ok(Change { action, frame, counters })
    }

    /// All flows of both families and stages, in order.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn flows(&self) -> Result<Vec<FlowRow>> {
        let mut rows = Vec::new();
        for map in [FLOWS_V4, HALF_OPEN_V4] {
            for (key, flow) in self.loaded().entries::<FlowKey, Flow<V4>>(map)? {
                assert_eq!(map == HALF_OPEN_V4, flow.flags & FLOW_HALF_OPEN != 0, "{key:?}");
                rows.push(row(&key, &flow, |address| Ipv4Addr::from(address).into()));
            }
        }
        for map in [FLOWS_V6, HALF_OPEN_V6] {
            for (key, flow) in self.loaded().entries::<FlowKey, Flow<V6>>(map)? {
                assert_eq!(map == HALF_OPEN_V6, flow.flags & FLOW_HALF_OPEN != 0, "{key:?}");
                rows.push(row(&key, &flow, |address| Ipv6Addr::from(address).into()));
            }
        }
        rows.sort();
        Ok(rows)
    }
}

fn age<A: Plain>(fixture: &Fixture, map: &str, key: &FlowKey, ticks: u32) -> bool
where
    Flow<A>: Plain,
{
    let Ok(Some(mut flow)) = fixture.loaded().get::<_, Flow<A>>(map, key) else { return false };
    flow.last_seen = flow.last_seen.wrapping_sub(ticks);
    fixture.loaded().set(map, key, &flow).is_ok()
}

fn row<A: Plain>(key: &FlowKey, flow: &Flow<A>, address: impl Fn(A) -> IpAddr) -> FlowRow {
    FlowRow {
        source: SocketAddr::new(address(flow.source), key.source_port.get()),
        destination: SocketAddr::new(address(flow.destination), key.destination_port.get()),
        new_source: SocketAddr::new(address(flow.new_source), flow.new_source_port.get()),
        new_destination: SocketAddr::new(address(flow.new_destination), flow.new_destination_port.get()),
        flags: flow.flags,
        egress: flow.egress,
        state: flow.state,
        packets: flow.packets,
    }
}

/// The packet that `change` left, its checksums checked.
///
/// # Panics
///
/// It is not a right packet.
pub fn packet(change: &Change) -> Packet {
    match Packet::read(&change.frame) {
        Ok(packet) => packet,
        Err(error) => panic!("{error}: {:02x?}", change.frame),
    }
}
