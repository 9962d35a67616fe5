//! What happens when there is no more of something: ports for source translation, entries for connections. The new is
//! refused and counted by name, and what is in use goes on.
#![allow(clippy::unwrap_used)] // a test

use std::collections::BTreeMap;
use std::net::SocketAddr;

use skep_abi::Be16;
use skep_abi::config::{CONFIG, Config};
use skep_abi::flow::{FLOWS_V4, FLOWS_V6, HALF_OPEN_V4, HALF_OPEN_V6};
use skep_datapath_tests::fixture::{Fixture, packet};
use skep_datapath_tests::object::{Loaded, Run};
use skep_datapath_tests::packet::{ACK, Packet, RST, SYN, TCP, UDP};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{Family, Service, World};

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

#[test]
fn full_table_of_connections_keeps_those_in_use_and_resets_an_idle_one_by_name() {
    if !tier_enabled() {
        return;
    }
    const ENTRIES: u32 = 4096;
    const USED: u16 = 200;
    for family in Family::ALL {
        let sizes = [FLOWS_V4, FLOWS_V6, HALF_OPEN_V4, HALF_OPEN_V6].map(|map| (map, ENTRIES));
        let loaded = Loaded::load(&["xdp_uplink"], &sizes).unwrap();
        let world = World::enter().unwrap();
        world.configure(&loaded).unwrap();
        let backends: Vec<SocketAddr> =
            (0..50).map(|at| SocketAddr::new(family.remote_pod(), 9000 + at)).collect();
        Service::external(front(family), TCP, &backends).write(&loaded).unwrap();
        let send =
            |packet: &Packet| -> Run { loaded.run_xdp("xdp_uplink", world.uplink, &packet.build()).unwrap() };
        let connect = |port: u16| {
            let syn = first(family, TCP, port);
            assert_eq!(send(&syn).action, TX);
            let ack = Packet { flags: ACK, ..syn };
            let run = send(&ack);
            assert_eq!(run.action, TX);
            (ack, Packet::read(&run.frame).unwrap())
        };
        let used: Vec<(Packet, Packet)> = (0..USED).map(|at| connect(20_000 + at)).collect();
        let idle: Vec<(Packet, Packet)> = (0..USED).map(|at| connect(21_000 + at)).collect();
        // Three times what the table has room for, while the ones in use go on being used, both ways.
        for at in 0..ENTRIES as u16 * 3 / 2 {
            connect(22_000 + at);
            if at % 100 == 0 {
                for (ack, out) in &used {
                    send(ack);
                    let back = Packet {
                        source: out.destination,
                        destination: out.source,
                        flags: ACK,
                        ..out.clone()
                    };
                    send(&back);
                }
            }
        }
        for (ack, out) in &used {
            let run = send(ack);
            let now = Packet::read(&run.frame).unwrap();
            assert_eq!((run.action, now.source, now.destination), (TX, out.source, out.destination));
        }
        let before = loaded.counters().unwrap().get("no_flow").copied().unwrap_or(0);
        let reset = idle.iter().filter(|(ack, _)| {
            let run = send(ack);
            Packet::read(&run.frame)
                .is_ok_and(|answer| answer.flags & RST != 0 && answer.destination == ack.source)
        });
        let reset = reset.count() as u64;
        assert!(reset > u64::from(USED) / 2, "{family:?}: {reset} idle connections had gone");
        assert_eq!(loaded.counters().unwrap().get("no_flow").copied().unwrap_or(0) - before, reset);
    }
}
