//! What happens when there is no more of something: ports for source translation, entries for connections. The new is
//! refused and counted by name, and what is in use goes on.
#![allow(clippy::unwrap_used)] // a test

use std::collections::BTreeMap;
use std::net::SocketAddr;

use skep_abi::backend::STATE_GONE;
use skep_abi::config::{CONFIG, Config};
use skep_abi::flow::{FLOW_ENTRIES_V4, FLOW_ENTRIES_V6, Flow, FlowAddress, TICK_SHIFT};
use skep_abi::sets::{FLOW_SETS_V4, FLOW_SETS_V6, WAYS};
use skep_abi::{Be16, Plain, V4, V6};
use skep_datapath_tests::fixture::{Fixture, packet};
use skep_datapath_tests::object::{Loaded, Run};
use skep_datapath_tests::packet::{ACK, Packet, RST, SYN, TCP, UDP};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{Family, Service, World, set_state};

const DROP: u32 = 1;
const TX: u32 = 3;

fn front(family: Family) -> SocketAddr {
    SocketAddr::new(family.node(), 30080)
}

fn client(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.client(), port)
}

fn first(family: Family, protocol: u8, port: u16) -> Packet {
    match protocol {
        TCP => Packet::tcp(client(family, port), front(family), SYN),
        _ => Packet::udp(client(family, port), front(family)),
    }
}

#[test]
fn ports_that_run_out_towards_one_backend_refuse_the_new_and_keep_the_others() {
    if !tier_enabled() {
        return;
    }
    const PORTS: u16 = 4;
    for (family, protocol) in Family::ALL.into_iter().flat_map(|family| [TCP, UDP].map(|p| (family, p))) {
        let fixture = Fixture::new().unwrap();
        let config: Config = fixture.loaded().get(CONFIG, &0_u32).unwrap().unwrap();
        let snat_last = Be16::new(config.snat_first.get() + PORTS - 1);
        fixture.loaded().set(CONFIG, &0_u32, &Config { snat_last, ..config }).unwrap();
        let [one, other] = [8080, 8081].map(|port| SocketAddr::new(family.remote_pod(), port));
        Service::external(front(family), protocol, &[one]).write(fixture.loaded()).unwrap();
        let mut made: Vec<(Packet, Packet)> = Vec::new();
        // Ports are drawn: it may take some more connections until the last one is found.
        for port in 40000..41000 {
            let sent = first(family, protocol, port);
            let change = fixture.xdp(&sent.build()).unwrap();
            if change.action == TX {
                let out = packet(&change);
                let next = Packet { flags: if protocol == TCP { ACK } else { 0 }, ..sent };
                if protocol == TCP {
                    fixture.answer(&out).unwrap();
                }
                fixture.xdp(&next.build()).unwrap();
                made.push((next, out));
            } else {
                assert_eq!(
                    (change.action, change.counters),
                    (DROP, BTreeMap::from([("snat_exhausted", 1)])),
                    "{family:?} {protocol}"
                );
            }
        }
        assert_eq!(made.len(), usize::from(PORTS), "{family:?} {protocol}");
        for (next, out) in &made {
            let change = fixture.xdp(&next.build()).unwrap();
            assert_eq!((change.action, packet(&change).source), (TX, out.source));
        }
        // Another backend has all ports to itself.
        let service = Service::external(front(family), protocol, &[other]);
        Service { id: 2, slice: 2000, ..service }.write(fixture.loaded()).unwrap();
        let change = fixture.xdp(&first(family, protocol, 42000).build()).unwrap();
        assert_eq!((change.action, packet(&change).destination), (TX, other));
    }
}

/// A table small enough to be filled.
struct Small {
    loaded: Loaded,
    world: World,
    family: Family,
}

impl Small {
    const SETS: u32 = 64;
    const ENTRIES: usize = (Self::SETS * WAYS) as usize;

    fn new(family: Family) -> Self {
        let sets = [FLOW_SETS_V4, FLOW_SETS_V6].map(|map| (map, Self::SETS));
        let entries = [FLOW_ENTRIES_V4, FLOW_ENTRIES_V6].map(|map| (map, Self::SETS * WAYS));
        let loaded = Loaded::load(&["xdp_uplink"], &[sets, entries].concat()).unwrap();
        let world = World::enter().unwrap();
        world.configure(&loaded).unwrap();
        for (id, protocol) in [(1, TCP), (2, UDP)] {
            let backends: Vec<SocketAddr> =
                (0..50).map(|at| SocketAddr::new(family.remote_pod(), 9000 + at)).collect();
            let service = Service::external(front(family), protocol, &backends);
            Service { id, slice: id * 1000, ..service }.write(&loaded).unwrap();
        }
        Self { loaded, world, family }
    }

    fn send(&self, packet: &Packet) -> Run {
        self.loaded.run_xdp("xdp_uplink", self.world.uplink, &packet.build()).unwrap()
    }

    fn full(&self) -> u64 {
        self.loaded.counters().unwrap().get("flow_table_full").copied().unwrap_or(0)
    }

    /// A client's next packet, and what its backend sees of it; nothing when it was refused, by name.
    fn connect(&self, protocol: u8, port: u16, answered: bool) -> Option<(Packet, Packet)> {
        let (sent, full) = (first(self.family, protocol, port), self.full());
        let begun = self.send(&sent);
        if begun.action == DROP {
            assert_eq!(self.full(), full + 1, "{:?}", self.loaded.counters());
            return None;
        }
        let out = Packet::read(&begun.frame).unwrap();
        if answered {
            let flags = if protocol == TCP { SYN | ACK } else { 0 };
            assert_eq!(self.send(&back(&out, flags)).action, TX);
        }
        let next = Packet { flags: if protocol == TCP { ACK } else { 0 }, ..sent };
        if protocol == TCP && answered {
            assert_eq!(self.send(&next).action, TX);
        }
        Some((next, out))
    }

    /// Connects from these ports on until twenty in a row are refused.
    fn fill(&self, protocol: u8, ports: u16) -> Vec<(Packet, Packet)> {
        let (mut made, mut refused) = (Vec::new(), 0);
        for port in ports..ports + 3000 {
            match self.connect(protocol, port, true) {
                Some(connection) => (refused, _) = (0, made.push(connection)),
                None => refused += 1,
            }
            if refused == 20 {
                return made;
            }
        }
        panic!("{} connections, and still there is room", made.len());
    }

    fn check(&self, made: &[(Packet, Packet)]) {
        for (next, out) in made {
            let run = self.send(next);
            let now = Packet::read(&run.frame).unwrap();
            assert_eq!((run.action, now.source, now.destination), (TX, out.source, out.destination));
            let run = self.send(&back(out, next.flags));
            assert_eq!((run.action, Packet::read(&run.frame).unwrap().destination), (TX, next.source));
        }
    }

    /// Makes every flow look as if its last packet had come so long ago.
    fn age<A: FlowAddress>(&self, seconds: u64)
    where
        Flow<A>: Plain,
    {
        for (_, mut flow) in self.loaded.flows::<A>().unwrap() {
            flow.last_seen = flow.last_seen.wrapping_sub(((seconds * 1_000_000_000) >> TICK_SHIFT) as u32);
            self.loaded.set_flow(&flow).unwrap();
        }
    }

    fn age_all(&self, seconds: u64) {
        self.age::<V4>(seconds);
        self.age::<V6>(seconds);
    }

    /// How many of a hundred new clients are served.
    fn served(&self, protocol: u8, ports: u16) -> usize {
        (ports..ports + 100).filter(|port| self.connect(protocol, *port, true).is_some()).count()
    }
}

/// What the backend sends back to a packet that came to it.
fn back(out: &Packet, flags: u8) -> Packet {
    let (source, destination) = (out.destination, out.source);
    Packet { source, destination, flags, ..out.clone() }
}

#[test]
fn full_table_refuses_the_new_by_name_and_keeps_every_connection_however_idle() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let small = Small::new(family);
        let made = small.fill(TCP, 14_000);
        assert!(made.len() * 2 > Small::ENTRIES * 9 / 10, "{family:?}: {} connections", made.len());
        small.age_all(23 * 3600);
        for port in 40_000..42_000 {
            small.connect(TCP, port, false);
            small.connect(UDP, port, false);
        }
        small.check(&made);
    }
}

#[test]
fn full_table_takes_the_places_of_what_is_over_without_an_agent() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        // Reset by their clients.
        let small = Small::new(family);
        for (next, _) in small.fill(TCP, 18_000) {
            small.send(&Packet { flags: RST, ..next });
        }
        assert!(small.served(TCP, 40_000) > 80, "{family:?}: closed");
        // Idle for longer than anybody's patience.
        small.fill(TCP, 22_000);
        small.age_all(25 * 3600);
        assert!(small.served(TCP, 41_000) > 80, "{family:?}: idle");
        // Their backends are gone.
        small.fill(TCP, 26_000);
        (1000..1050).for_each(|id| set_state(&small.loaded, id, STATE_GONE, 1).unwrap());
        assert!(small.served(UDP, 42_000) > 80, "{family:?}: without a backend");

        let small = Small::new(family);
        small.fill(UDP, 10_000);
        small.age_all(119);
        assert!(small.served(UDP, 40_000) < 20, "{family:?}: answered datagrams");
        small.age_all(3);
        assert!(small.served(UDP, 41_000) > 80, "{family:?}: datagrams");
    }
}

#[test]
fn full_table_of_unanswered_datagrams_has_room_for_connections_and_not_the_other_way() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let small = Small::new(family);
        // In a table this small the two directions of one may be after the same place.
        let made = (30_000..32_000).filter(|port| small.connect(UDP, *port, false).is_some()).count();
        assert!(made > 1900, "{family:?}: {made}");
        let made = small.fill(TCP, 14_000);
        assert!(made.len() * 2 > Small::ENTRIES * 9 / 10, "{family:?}: {} connections", made.len());
        small.check(&made);
    }
}
