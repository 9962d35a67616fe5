//! Connections whose backend is gone: what it still sends, and what their client sends next.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use skep_abi::backend::STATE_GONE;
use skep_datapath_tests::fixture::{Change, Fixture, packet};
use skep_datapath_tests::packet::{ACK, Packet, RST, SYN, TCP};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{Family, Service, set_state};

const TX: u32 = 3;

fn node_port(family: Family) -> SocketAddr {
    SocketAddr::new(family.node(), 30080)
}

fn counted(names: &[&'static str]) -> BTreeMap<&'static str, u64> {
    names.iter().map(|name| (*name, 1)).collect()
}

/// How a backend's packet gets to the programs.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// From another node.
    Uplink,
    /// From a pod behind a veth of ours.
    Veth,
    /// From a pod of another network, on its way out.
    Out,
}

/// A connection of the client's to a backend that is gone by now: the fixture, what the client sends next, and what the
/// backend does.
fn connection_to_one_that_is_gone(family: Family, way: Way) -> (Fixture, Packet, Packet) {
    let fixture = Fixture::new().expect("the programs are loaded");
    let pod = if matches!(way, Way::Uplink) { family.remote_pod() } else { family.local_pod() };
    let service = Service::external(node_port(family), TCP, &[SocketAddr::new(pod, 8080)]);
    service.write(fixture.loaded()).expect("the service is written");
    let syn = Packet::tcp(SocketAddr::new(family.client(), 40000), node_port(family), SYN);
    let out = packet(&fixture.xdp(&syn.build()).expect("the program runs"));
    let back = Packet { source: out.destination, destination: out.source, ..out };
    backend_sends(&fixture, way, &Packet { flags: SYN | ACK, ..back.clone() });
    let next = Packet { flags: ACK, ..syn };
    assert_eq!(fixture.xdp(&next.build()).expect("the program runs").counters, counted(&["flow_opened"]));
    set_state(fixture.loaded(), 1000, STATE_GONE, 1).expect("the state is written");
    (fixture, next, Packet { flags: ACK, payload: b"answer".to_vec(), ..back })
}

fn backend_sends(fixture: &Fixture, way: Way, sent: &Packet) -> Change {
    let frame = sent.build();
    match way {
        Way::Uplink => fixture.xdp(&frame),
        Way::Veth => fixture.from_pod(&frame),
        Way::Out => fixture.tc_uplink("tc_uplink_out", &frame),
    }
    .expect("the program runs")
}

#[test]
fn answer_under_way_when_its_backend_goes_reaches_the_client_who_is_reset_at_its_next_packet() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        for way in [Way::Uplink, Way::Veth, Way::Out] {
            let (fixture, next, answer) = connection_to_one_that_is_gone(family, way);
            // As often as it has to be sent: the client that waits for it sends nothing.
            for _ in 0..2 {
                let change = backend_sends(&fixture, way, &answer);
                assert_eq!(change.counters, BTreeMap::new(), "{family:?} {way:?}");
                let got = packet(&change);
                let ends = (got.source, got.destination, got.payload);
                let expected = (next.destination, next.source, answer.payload.clone());
                assert_eq!(ends, expected, "{family:?} {way:?}");
            }
            for _ in 0..2 {
                let change = fixture.xdp(&next.build()).unwrap();
                assert_eq!((change.action, &change.counters), (TX, &counted(&["backend_gone"])), "{way:?}");
                assert_eq!((packet(&change).flags, packet(&change).sequence), (RST, next.acknowledgment));
            }
            // The client has been told: whatever the address sends now is its own affair.
            let frame = answer.build();
            assert_eq!(backend_sends(&fixture, way, &answer).frame, frame, "{family:?} {way:?}");
        }
    }
}

#[test]
fn address_of_a_backend_that_is_gone_begins_anew_under_its_own_name() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        for way in [Way::Uplink, Way::Veth, Way::Out] {
            for begins in [SYN, SYN | ACK] {
                let (fixture, _, answer) = connection_to_one_that_is_gone(family, way);
                for flags in [begins, ACK, ACK] {
                    let sent = Packet { flags, ..answer.clone() };
                    let change = backend_sends(&fixture, way, &sent);
                    assert_eq!((change.frame, change.counters), (sent.build(), BTreeMap::new()), "{way:?}");
                }
            }
        }
    }
}
