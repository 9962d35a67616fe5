//! What a table's case starts from and what it is asked for: the object loaded once per test program, its maps emptied for
//! each case, and the whole difference that a packet made.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, ensure};
use skep_abi::affinity::AFFINITY;
use skep_abi::config::{CONFIG, Config};
use skep_abi::flow::{Flow, FlowAddress, FlowKey};
use skep_abi::fragment::{FRAGMENTS_V4, FRAGMENTS_V6};
use skep_abi::local::{LOCAL_V4, LOCAL_V6};
use skep_abi::ranges::{SOURCE_RANGES_V4, SOURCE_RANGES_V6};
use skep_abi::service::{SERVICES_V4, SERVICES_V6};
use skep_abi::socket::{PEERS_V4, PEERS_V6, PICKS_V4, PICKS_V6};
use skep_abi::{Be16, Plain, V4, V6};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::object::{Loaded, Run};
use crate::packet::{ACK, Packet, SYN};
use crate::world::{NODE_MAC, OTHER_MAC, World, v4, v6};

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
        fixture.loaded().clear_flows()?;
        world.configure(fixture.loaded())?;
        Ok(fixture)
    }

    /// Empties the tables of flows.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn forget_flows(&self) -> Result<()> {
        self.loaded().clear_flows()
    }

    /// Removes the flow that this packet would be of.
    ///
    /// # Errors
    ///
    /// The kernel's, and that there is none.
    pub fn forget(&self, packet: &Packet) -> Result<()> {
        let key = self.key(packet)?;
        let removed = match packet.source.ip() {
            IpAddr::V4(_) => self.loaded().remove_flow::<V4>(&key)?,
            IpAddr::V6(_) => self.loaded().remove_flow::<V6>(&key)?,
        };
        ensure!(removed, "no flow");
        Ok(())
    }

    /// Makes the flow that this packet would be of look as if its last packet had come `ticks` ticks earlier.
    ///
    /// # Errors
    ///
    /// The kernel's, and that there is none.
    pub fn age(&self, packet: &Packet, ticks: u32) -> Result<()> {
        let key = self.key(packet)?;
        match packet.source.ip() {
            IpAddr::V4(_) => age::<V4>(self, &key, ticks),
            IpAddr::V6(_) => age::<V6>(self, &key, ticks),
        }
    }

    /// What a packet is known by.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn key(&self, packet: &Packet) -> Result<FlowKey> {
        let config: Config = self.loaded().get(CONFIG, &0_u32)?.context("there are settings")?;
        let (source, destination) = (packet.source.ip(), packet.destination.ip());
        let pair = match source {
            IpAddr::V4(_) => V4::pair(config.seed, v4(source), v4(destination)),
            IpAddr::V6(_) => V6::pair(config.seed, v6(source), v6(destination)),
        };
        let [from, to] = [packet.source.port(), packet.destination.port()].map(Be16::new);
        Ok(FlowKey::new(pair, from, to, packet.protocol))
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

    /// Has a backend elsewhere answer the SYN that came to it as `out`.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn answer(&self, out: &Packet) -> Result<Change> {
        let (source, destination) = (out.destination, out.source);
        let macs = Packet { destination_mac: NODE_MAC, source_mac: OTHER_MAC, ..out.clone() };
        self.xdp(&Packet { source, destination, flags: SYN | ACK, ..macs }.build())
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

    /// All flows of both families, in order.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn flows(&self) -> Result<Vec<FlowRow>> {
        let mut rows = Vec::new();
        for (key, flow) in self.loaded().flows::<V4>()? {
            rows.push(row(&key, &flow, |address| Ipv4Addr::from(address).into()));
        }
        for (key, flow) in self.loaded().flows::<V6>()? {
            rows.push(row(&key, &flow, |address| Ipv6Addr::from(address).into()));
        }
        rows.sort();
        Ok(rows)
    }
}

fn age<A: FlowAddress>(fixture: &Fixture, key: &FlowKey, ticks: u32) -> Result<()>
where
    Flow<A>: Plain,
{
    let mut flow = fixture.loaded().flow::<A>(key)?.context("no flow")?;
    flow.last_seen = flow.last_seen.wrapping_sub(ticks);
    fixture.loaded().set_flow(&flow)
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
