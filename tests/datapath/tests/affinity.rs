//! Session affinity: a client keeps its backend until its time is out or the backend leaves.
#![allow(clippy::unwrap_used)] // a test

use std::net::SocketAddr;

use skep_abi::affinity::{AFFINITY, Affinity, AffinityKey, CLIENT_ADDRESS, ticks};
use skep_abi::backend::STATE_DRAINING;
use skep_abi::service::{FLAG_AFFINITY, SCOPE_INTERNAL};
use skep_datapath_tests::fixture::{Fixture, packet};
use skep_datapath_tests::packet::{ACK, Packet, SYN, TCP, UDP};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{Family, Service, set_state};

/// Time-out of the services here.
const SECONDS: u32 = 60;

fn cases() -> impl Iterator<Item = (Family, u8)> {
    Family::ALL.into_iter().flat_map(|family| [TCP, UDP].map(|protocol| (family, protocol)))
}

/// A service with affinity and many backends.
fn service(family: Family, protocol: u8) -> Service {
    let frontend = SocketAddr::new(family.node(), 30080);
    let backends: Vec<SocketAddr> =
        (0..50).map(|at| SocketAddr::new(family.remote_pod(), 9000 + at)).collect();
    Service {
        flags: FLAG_AFFINITY,
        affinity_seconds: SECONDS,
        ..Service::external(frontend, protocol, &backends)
    }
}

fn first_packet(protocol: u8, from: SocketAddr, to: SocketAddr) -> Packet {
    if protocol == TCP { Packet::tcp(from, to, SYN) } else { Packet::udp(from, to) }
}

/// The backend of a new connection from the client's `port`.
fn connect(fixture: &Fixture, family: Family, protocol: u8, port: u16) -> SocketAddr {
    let from = SocketAddr::new(family.client(), port);
    let sent = first_packet(protocol, from, SocketAddr::new(family.node(), 30080));
    let change = fixture.xdp(&sent.build()).unwrap();
    assert_eq!(change.counters.get("flow_created"), Some(&1), "{family:?} {protocol} {:?}", change.counters);
    answer(fixture, &sent, &packet(&change));
    packet(&change).destination
}

/// The client of a connection goes on after the handshake: only then its backend is written down.
fn answer(fixture: &Fixture, first: &Packet, out: &Packet) {
    if first.protocol == TCP {
        fixture.answer(out).unwrap();
        let change = fixture.xdp(&Packet { flags: ACK, ..first.clone() }.build()).unwrap();
        assert_eq!(change.counters.get("flow_opened"), Some(&1), "{:?}", change.counters);
    }
}

fn entries(fixture: &Fixture) -> Vec<(AffinityKey, Affinity)> {
    fixture.loaded().entries(AFFINITY).unwrap()
}

/// Makes the one entry look as if it was last used `age` ticks earlier.
fn age(fixture: &Fixture, age: u32) -> (AffinityKey, Affinity) {
    let [(key, mut entry)] = entries(fixture).try_into().expect("one client, one entry");
    entry.last_used = entry.last_used.wrapping_sub(age);
    fixture.loaded().set(AFFINITY, &key, &entry).unwrap();
    (key, entry)
}

#[test]
fn client_keeps_its_backend_over_connections() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in cases() {
        let fixture = Fixture::new().unwrap();
        service(family, protocol).write(fixture.loaded()).unwrap();
        let first = connect(&fixture, family, protocol, 40000);
        for port in 40001..40020 {
            assert_eq!(connect(&fixture, family, protocol, port), first, "{family:?} {protocol}");
        }
        let [(key, entry)] = entries(&fixture).try_into().expect("one client, one entry");
        assert_eq!((key.service, key.kind), (1, CLIENT_ADDRESS));
        assert_eq!((entry.backend.port.get(), entry.generation), (first.port(), 1));
    }
}

#[test]
fn each_client_has_an_entry_and_without_affinity_connections_spread() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in cases() {
        let fixture = Fixture::new().unwrap();
        service(family, protocol).write(fixture.loaded()).unwrap();
        // The node itself stands in for a second client, a pod for a third.
        let clients = [family.client(), family.node(), family.local_pod()];
        for client in clients {
            let to = SocketAddr::new(family.node(), 30080);
            let sent = first_packet(protocol, SocketAddr::new(client, 40000), to);
            let out = packet(&fixture.xdp(&sent.build()).unwrap());
            answer(&fixture, &sent, &out);
        }
        assert_eq!(entries(&fixture).len(), clients.len());

        fixture.loaded().clear(AFFINITY).unwrap();
        Service { flags: 0, affinity_seconds: 0, ..service(family, protocol) }
            .write(fixture.loaded())
            .unwrap();
        let mut backends: Vec<SocketAddr> =
            (41000..41040).map(|port| connect(&fixture, family, protocol, port)).collect();
        backends.sort();
        backends.dedup();
        assert!(backends.len() > 10, "40 connections to 50 backends met {}", backends.len());
        assert_eq!(entries(&fixture), []);
    }
}

#[test]
fn time_out_runs_from_the_last_connection_and_ends_affinity() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in cases() {
        let fixture = Fixture::new().unwrap();
        let mut service = service(family, protocol);
        service.write(fixture.loaded()).unwrap();
        let old = connect(&fixture, family, protocol, 40000);
        // Another backend takes the slice over, the old one stays in use elsewhere: only affinity leads to it.
        let new = SocketAddr::new(family.remote_pod(), 7777);
        service.backends = vec![new];
        service.slice = 2000;
        service.write(fixture.loaded()).unwrap();

        let (_, aged) = age(&fixture, ticks(SECONDS) - 60);
        assert_eq!(connect(&fixture, family, protocol, 40001), old, "{family:?} {protocol}");
        let [(_, renewed)] = entries(&fixture).try_into().expect("one client, one entry");
        assert!(
            renewed.last_used.wrapping_sub(aged.last_used) >= ticks(SECONDS) - 60,
            "a new connection renews"
        );
        age(&fixture, ticks(SECONDS) + 1);
        assert_eq!(connect(&fixture, family, protocol, 40002), new, "{family:?} {protocol}");
        assert_eq!(connect(&fixture, family, protocol, 40003), new, "the new choice is kept");
    }
}

#[test]
fn client_whose_time_is_out_meets_other_backends_and_its_connections_agree() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in cases() {
        let fixture = Fixture::new().unwrap();
        service(family, protocol).write(fixture.loaded()).unwrap();
        let to = SocketAddr::new(family.node(), 30080);
        let mut met = std::collections::BTreeSet::from([connect(&fixture, family, protocol, 40000)]);
        for round in 1..10 {
            age(&fixture, ticks(SECONDS) + u32::from(round) * 7);
            // Nobody has answered this one by the time that the next comes.
            let early = first_packet(protocol, SocketAddr::new(family.client(), 50000 + round), to);
            let early = packet(&fixture.xdp(&early.build()).unwrap()).destination;
            let made = connect(&fixture, family, protocol, 40000 + 2 * round);
            assert_eq!(early, made, "{family:?} {protocol}");
            assert_eq!(connect(&fixture, family, protocol, 40001 + 2 * round), made, "the choice is kept");
            met.insert(made);
        }
        assert!(met.len() > 4, "{family:?} {protocol}: 9 expiries, met {met:?}");
    }
}

#[test]
fn entry_whose_backend_left_is_not_followed() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in cases() {
        let fixture = Fixture::new().unwrap();
        let service = service(family, protocol);
        service.write(fixture.loaded()).unwrap();
        let old = connect(&fixture, family, protocol, 40000);
        let [(_, entry)] = entries(&fixture).try_into().expect("one client, one entry");
        let others: Vec<SocketAddr> = service.backends.iter().copied().filter(|at| *at != old).collect();
        Service { backends: others, slice: 2000, ..service }.write(fixture.loaded()).unwrap();
        set_state(fixture.loaded(), entry.backend.id, STATE_DRAINING, 1).unwrap();
        let next = connect(&fixture, family, protocol, 40001);
        assert_ne!(next, old, "{family:?} {protocol}");
        assert_eq!(connect(&fixture, family, protocol, 40002), next);
    }
}

#[test]
fn pod_keeps_its_backend_through_tc() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in cases() {
        let fixture = Fixture::new().unwrap();
        let frontend = SocketAddr::new(family.cluster_ip(), 80);
        Service { frontend, scope: SCOPE_INTERNAL, ..service(family, protocol) }
            .write(fixture.loaded())
            .unwrap();
        let mut backends = Vec::new();
        for port in 40000..40010 {
            let sent = first_packet(protocol, SocketAddr::new(family.local_pod(), port), frontend);
            let change = fixture.from_pod(&sent.build()).unwrap();
            assert_eq!(change.counters.get("flow_created"), Some(&1), "{family:?} {protocol}");
            backends.push(packet(&change).destination);
        }
        backends.dedup();
        assert_eq!(backends.len(), 1, "{family:?} {protocol}: {backends:?}");
    }
}

#[test]
fn connections_of_one_client_that_are_not_made_yet_meet_one_backend_and_leave_no_entry() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        service(family, TCP).write(fixture.loaded()).unwrap();
        let to = SocketAddr::new(family.node(), 30080);
        let backend = |client, port| {
            let sent = Packet::tcp(SocketAddr::new(client, port), to, SYN);
            packet(&fixture.xdp(&sent.build()).unwrap()).destination
        };
        let first = backend(family.client(), 40000);
        assert!((40001..40020).all(|port| backend(family.client(), port) == first), "{family:?}");
        assert_eq!(entries(&fixture), [], "{family:?}");
        let clients = (0..40).map(|last| match family.client() {
            std::net::IpAddr::V4(_) => std::net::IpAddr::from([198, 51, 100, last]),
            std::net::IpAddr::V6(_) => {
                std::net::IpAddr::from([0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(last)])
            }
        });
        let others: std::collections::BTreeSet<_> = clients.map(|client| backend(client, 40000)).collect();
        assert!(others.len() > 10, "40 clients met {} of 50 backends", others.len());
    }
}
