//! Connections that are over: who may have their tuple, and when.
#![allow(clippy::unwrap_used)] // a test

use std::net::SocketAddr;

use skep_abi::Be16;
use skep_abi::config::{CONFIG, Config};
use skep_abi::flow::{STATE_CLOSED, STATE_CLOSING, STATE_TIME_WAIT, TICK_SHIFT};
use skep_datapath_tests::fixture::{Change, Fixture, packet};
use skep_datapath_tests::packet::{ACK, FIN, Packet, RST, SYN, TCP, UDP};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{Family, NODE_MAC, OTHER_MAC, POD_HOST_MAC, POD_MAC, Service};

const DROP: u32 = 1;
const TX: u32 = 3;
const REDIRECT: u32 = 4;

fn front(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.node(), port)
}

fn client(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.client(), port)
}

fn send(fixture: &Fixture, packet: &Packet) -> Change {
    fixture.xdp(&packet.build()).unwrap()
}

/// What the backend sends back to a packet that came to it.
fn reply(out: &Packet, flags: u8) -> Packet {
    let (source, destination) = (out.destination, out.source);
    Packet { source, destination, destination_mac: NODE_MAC, source_mac: OTHER_MAC, flags, ..out.clone() }
}

fn ticks(seconds: u64) -> u32 {
    ((seconds * 1_000_000_000) >> TICK_SHIFT) as u32
}

/// How a connection ends: who sends what, `true` for the backend.
type End = &'static [(bool, u8)];

/// Opens a connection to the pod through port 30080, ends it, and connects from the same port through 30081. Returns the
/// state of the first one's entries, and the source that the pod sees of the second.
fn again_after(fixture: &Fixture, family: Family, end: End) -> (Vec<u8>, SocketAddr) {
    let pod = SocketAddr::new(family.local_pod(), 8080);
    Service::external(front(family, 30080), TCP, &[pod]).write(fixture.loaded()).unwrap();
    let second = Service::external(front(family, 30081), TCP, &[pod]);
    Service { id: 2, slice: 2000, ..second }.write(fixture.loaded()).unwrap();
    let syn = Packet::tcp(client(family, 40000), front(family, 30080), SYN);
    let first = send(fixture, &syn);
    assert_eq!(first.action, REDIRECT, "{family:?} {:?}", first.counters);
    let out = packet(&first);
    let back = |flags| {
        let packet = reply(&out, flags);
        let packet = Packet { destination_mac: POD_HOST_MAC, source_mac: POD_MAC, ..packet };
        fixture.from_pod(&packet.build()).unwrap();
    };
    back(SYN | ACK);
    send(fixture, &Packet { flags: ACK, ..syn.clone() });
    for (backend, flags) in end {
        if *backend { back(*flags) } else { drop(send(fixture, &Packet { flags: *flags, ..syn.clone() })) }
    }
    let states = fixture.flows().unwrap().iter().map(|row| row.state).collect();
    let again = send(fixture, &Packet::tcp(client(family, 40000), front(family, 30081), SYN));
    assert_eq!((again.action, again.counters.get("flow_created")), (REDIRECT, Some(&1)), "{family:?}");
    (states, packet(&again).source)
}

#[test]
fn client_that_reuses_its_port_keeps_its_source_once_the_earlier_connection_is_closed() {
    if !tier_enabled() {
        return;
    }
    const F: u8 = FIN | ACK;
    let closed: [End; 5] = [
        &[(true, F), (false, F), (true, ACK), (false, RST)],
        &[(false, F), (true, F), (false, ACK)],
        &[(false, F), (false, F), (true, F), (true, F)],
        &[(false, RST)],
        &[(true, RST | ACK)],
    ];
    let open: [(End, u8); 4] = [
        (&[], STATE_CLOSING),
        (&[(true, F), (false, ACK)], STATE_CLOSING),
        (&[(false, F), (false, F), (true, ACK)], STATE_CLOSING),
        // The pod has it in TIME_WAIT, and may refuse the SYN.
        (&[(true, F), (false, F), (true, ACK)], STATE_TIME_WAIT),
    ];
    for family in Family::ALL {
        for end in closed {
            let fixture = Fixture::new().unwrap();
            let (states, source) = again_after(&fixture, family, end);
            assert_eq!(states, [STATE_CLOSED; 2], "{family:?} {end:?}");
            assert_eq!(source, client(family, 40000), "{family:?} {end:?}");
        }
        for (end, most) in open {
            let fixture = Fixture::new().unwrap();
            let (states, source) = again_after(&fixture, family, end);
            let as_far = states.iter().all(|state| *state <= STATE_CLOSING || *state == most);
            assert!(as_far, "{family:?} {end:?} {states:?}");
            // Its port changes and nothing else: the pod still sees its client.
            assert_eq!(source.ip(), family.client(), "{family:?} {end:?}");
            assert_ne!(source.port(), 40000, "{family:?} {end:?}");
        }
    }
}

#[test]
fn fin_that_opens_a_connection_counts_for_its_end_as_well() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let backend = SocketAddr::new(family.remote_pod(), 8080);
        Service::external(front(family, 30080), TCP, &[backend]).write(fixture.loaded()).unwrap();
        let syn = Packet::tcp(client(family, 40000), front(family, 30080), SYN);
        let out = packet(&send(&fixture, &syn));
        send(&fixture, &reply(&out, SYN | ACK));
        let fin = send(&fixture, &Packet { flags: FIN | ACK, ..syn });
        assert_eq!((fin.action, fin.counters.get("flow_opened")), (TX, Some(&1)), "{family:?}");
        let back = send(&fixture, &reply(&out, FIN | ACK));
        assert_eq!(back.action, TX, "{family:?} {:?}", back.counters);
        let states: Vec<u8> = fixture.flows().unwrap().iter().map(|row| row.state).collect();
        assert_eq!(states, [STATE_CLOSED; 2], "{family:?}");
    }
}

/// A fixture with one port for translated sources, and a service with one backend elsewhere.
fn with_one_port(family: Family, protocol: u8) -> Fixture {
    let fixture = Fixture::new().unwrap();
    let config: Config = fixture.loaded().get(CONFIG, &0_u32).unwrap().unwrap();
    fixture.loaded().set(CONFIG, &0_u32, &Config { snat_last: config.snat_first, ..config }).unwrap();
    let backend = SocketAddr::new(family.remote_pod(), 8080);
    Service::external(front(family, 30080), protocol, &[backend]).write(fixture.loaded()).unwrap();
    fixture
}

/// Whether another client gets the port.
fn is_given(fixture: &Fixture, family: Family, protocol: u8) -> bool {
    let other = match protocol {
        TCP => Packet::tcp(client(family, 41000), front(family, 30080), SYN),
        _ => Packet::udp(client(family, 41000), front(family, 30080)),
    };
    let change = send(fixture, &other);
    let refused = change.counters.get("snat_exhausted") == Some(&1) && change.action == DROP;
    assert!(refused || change.action == TX, "{:?}", change.counters);
    !refused
}

#[test]
fn reset_connections_port_goes_to_another_client_after_a_tick() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = with_one_port(family, TCP);
        let syn = Packet::tcp(client(family, 40000), front(family, 30080), SYN);
        let out = packet(&send(&fixture, &syn));
        fixture.answer(&out).unwrap();
        send(&fixture, &Packet { flags: ACK, ..syn.clone() });
        fixture.age(&reply(&out, ACK), ticks(3600)).unwrap();
        assert!(!is_given(&fixture, family, TCP), "{family:?}: a connection that is idle for an hour");
        send(&fixture, &Packet { flags: RST, ..syn });
        fixture.age(&reply(&out, ACK), 2).unwrap();
        assert!(is_given(&fixture, family, TCP), "{family:?}");
    }
}

#[test]
fn port_that_a_backend_has_in_time_wait_goes_to_another_client_when_there_is_no_other() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = with_one_port(family, TCP);
        let syn = Packet::tcp(client(family, 40000), front(family, 30080), SYN);
        let out = packet(&send(&fixture, &syn));
        fixture.answer(&out).unwrap();
        send(&fixture, &Packet { flags: ACK, ..syn.clone() });
        send(&fixture, &reply(&out, FIN | ACK));
        fixture.age(&reply(&out, ACK), 2).unwrap();
        assert!(!is_given(&fixture, family, TCP), "{family:?}: the client may go on sending");
        send(&fixture, &Packet { flags: FIN | ACK, ..syn });
        fixture.age(&reply(&out, ACK), 2).unwrap();
        assert!(is_given(&fixture, family, TCP), "{family:?}");
    }
}

#[test]
fn datagrams_port_goes_to_another_client_when_neither_direction_has_had_any_for_its_time() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        for (answered, patience) in [(false, 30), (true, 120)] {
            let fixture = with_one_port(family, UDP);
            let datagram = Packet::udp(client(family, 40000), front(family, 30080));
            let out = packet(&send(&fixture, &datagram));
            let answer = reply(&out, 0);
            if answered {
                assert_eq!(send(&fixture, &answer).action, TX);
            }
            fixture.age(&answer, ticks(patience) - 2).unwrap();
            assert!(!is_given(&fixture, family, UDP), "{family:?} {answered}: too early");
            // A datagram in one direction alone, at a time at which upkeep is due.
            fixture.age(&answer, ticks(patience)).unwrap();
            let config: Config = fixture.loaded().get(CONFIG, &0_u32).unwrap().unwrap();
            fixture.loaded().set(CONFIG, &0_u32, &Config { epoch: config.epoch + 1, ..config }).unwrap();
            assert_eq!(send(&fixture, &datagram).action, TX);
            assert!(!is_given(&fixture, family, UDP), "{family:?} {answered}: the client goes on");
            fixture.age(&answer, ticks(patience) + 2).unwrap();
            assert!(is_given(&fixture, family, UDP), "{family:?} {answered}");
        }
    }
}

#[test]
fn default_range_of_ports_lies_apart_from_others_and_holds_twenty_thousand() {
    use skep_abi::config::{SNAT_FIRST, SNAT_LAST};
    let (first, last) = (Be16::new(SNAT_FIRST).get(), Be16::new(SNAT_LAST).get());
    assert_eq!(u32::from(last) - u32::from(first) + 1, 20_000);
    // NodePorts and Linux's own ports.
    assert!(last < 30_000 && first > 1023);
}
