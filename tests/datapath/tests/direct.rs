//! Direct replies: the node that takes a client's packet keeps the source and announces the frontend; the backend's node
//! learns it, takes the announcement out, and answers in the frontend's name.
#![allow(clippy::unwrap_used)] // a test

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use skep_abi::flow::{EGRESS_REMOTE, FLOW_DIRECT, FLOW_HALF_OPEN, FLOW_REPLY, FLOW_SNAT, STATE_ESTABLISHED};
use skep_abi::local::{LOCAL_V4, LOCAL_V6, LocalEndpoint};
use skep_abi::service::FLAG_DIRECT;
use skep_datapath_tests::fixture::{Change, Fixture, packet};
use skep_datapath_tests::packet::{ACK, FIN, INIT, Packet, RST, SCTP, SYN, TCP, UDP, octets};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{Family, POD_HOST_MAC, POD_MAC, Service, v4, v6};

const PASS: u32 = 2;
const TX: u32 = 3;
/// TC's answers.
const NEXT: u32 = u32::MAX;
const SHOT: u32 = 2;
const REDIRECT: u32 = 7;

fn front(family: Family) -> SocketAddr {
    SocketAddr::new(family.node(), 30080)
}

fn client(family: Family) -> SocketAddr {
    SocketAddr::new(family.client(), 40000)
}

fn remote(family: Family) -> SocketAddr {
    SocketAddr::new(family.remote_pod(), 8080)
}

fn local(family: Family) -> SocketAddr {
    SocketAddr::new(family.local_pod(), 8080)
}

fn counted(names: &[&'static str]) -> BTreeMap<&'static str, u64> {
    names.iter().map(|name| (*name, 1)).collect()
}

/// What a packet carries that tells of `frontend`, as [`Packet::options`].
fn announcement(frontend: SocketAddr, protocol: u8) -> Vec<u8> {
    let mut bytes = match frontend.ip() {
        IpAddr::V4(_) => vec![0x9e, 8],
        IpAddr::V6(_) => vec![60, protocol, 2, 0x1e, 20],
    };
    bytes.extend(frontend.port().to_be_bytes());
    if frontend.is_ipv6() {
        bytes.extend([0, 0]);
    }
    bytes.extend(octets(frontend.ip()));
    bytes
}

fn first(protocol: u8, from: SocketAddr, to: SocketAddr) -> Packet {
    if protocol == TCP { Packet::tcp(from, to, SYN) } else { Packet::udp(from, to) }
}

fn cases() -> impl Iterator<Item = (Family, u8)> {
    Family::ALL.into_iter().flat_map(|family| [TCP, UDP].map(|protocol| (family, protocol)))
}

fn direct(family: Family, protocol: u8, backend: SocketAddr) -> Service {
    Service { flags: FLAG_DIRECT, ..Service::external(front(family), protocol, &[backend]) }
}

/// Through XDP and, where that leaves the packet alone, TC.
fn uplink(fixture: &Fixture, sent: &Packet) -> (bool, Change) {
    let frame = sent.build();
    let change = fixture.xdp(&frame).unwrap();
    if change.action != PASS {
        return (true, change);
    }
    assert_eq!(change.frame, frame, "left to TC untouched");
    (false, fixture.tc_uplink("tc_uplink_in", &frame).unwrap())
}

#[test]
fn first_packet_keeps_its_source_and_carries_the_frontend() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in cases() {
        let fixture = Fixture::new().unwrap();
        direct(family, protocol, remote(family)).write(fixture.loaded()).unwrap();
        let sent = first(protocol, client(family), front(family));
        let (by_xdp, change) = uplink(&fixture, &sent);
        assert!(!by_xdp, "{family:?} {protocol}");
        let options = announcement(front(family), protocol);
        let expected = Packet { destination: remote(family), hops: 63, options, ..sent.clone() };
        assert_eq!((change.action, change.frame), (REDIRECT, expected.build()), "{family:?} {protocol}");
        let rows = fixture.flows().unwrap();
        assert_eq!(rows.len(), 2);
        let forward = rows.iter().find(|row| row.flags & FLOW_REPLY == 0).unwrap();
        assert_eq!((forward.new_source, forward.egress), (client(family), EGRESS_REMOTE));
        assert!(rows.iter().all(|row| row.flags & (FLOW_DIRECT | FLOW_SNAT) == FLOW_DIRECT));
    }
}

#[test]
fn later_packets_go_out_by_xdp_and_now_and_then_one_tells_again() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in cases() {
        let fixture = Fixture::new().unwrap();
        direct(family, protocol, remote(family)).write(fixture.loaded()).unwrap();
        let sent = first(protocol, client(family), front(family));
        uplink(&fixture, &sent);
        let next = Packet { flags: if protocol == TCP { ACK } else { 0 }, ..sent };
        let told: Vec<bool> = (0..200)
            .map(|_| {
                let (by_xdp, change) = uplink(&fixture, &next);
                let options = if by_xdp { Vec::new() } else { announcement(front(family), protocol) };
                let expected = Packet { destination: remote(family), hops: 63, options, ..next.clone() };
                let mut frame = expected.build();
                frame[..12].copy_from_slice(&change.frame[..12]);
                assert_eq!((change.action, change.frame), (if by_xdp { TX } else { REDIRECT }, frame));
                !by_xdp
            })
            .collect();
        assert!(told[0] && !told[10], "{told:?}");
        let again = told[10..].iter().filter(|told| **told).count();
        assert!((2..=4).contains(&again), "{family:?} {protocol}: {again} of 190");
        let long = Packet { payload: vec![7; 1300], ..next };
        assert!((0..200).all(|_| uplink(&fixture, &long).0), "nothing makes a long packet longer");
    }
}

#[test]
fn what_cannot_be_announced_has_its_source_translated() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in cases() {
        let fixture = Fixture::new().unwrap();
        direct(family, protocol, remote(family)).write(fixture.loaded()).unwrap();
        let sent = first(protocol, client(family), front(family));
        let long = Packet { payload: vec![7; 1300], ..sent.clone() };
        let (by_xdp, change) = uplink(&fixture, &long);
        assert_eq!((by_xdp, packet(&change).source.ip()), (true, family.node()), "{family:?} {protocol}");
        // A connection to another frontend that leads to the same tuple at the backend.
        fixture.forget_flows().unwrap();
        let other = SocketAddr::new(family.cluster_ip(), 80);
        Service { frontend: other, ..direct(family, protocol, remote(family)) }
            .write(fixture.loaded())
            .unwrap();
        uplink(&fixture, &sent);
        let (by_xdp, change) = uplink(&fixture, &first(protocol, client(family), other));
        assert_eq!((by_xdp, packet(&change).source.ip()), (true, family.node()), "{family:?} {protocol}");
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        direct(family, SCTP, remote(family)).write(fixture.loaded()).unwrap();
        let sent = Packet::sctp(client(family), front(family), INIT);
        let change = fixture.tc_uplink("tc_uplink_in", &sent.build()).unwrap();
        assert_eq!(packet(&change).source.ip(), family.node(), "{family:?}");
    }
}

#[test]
fn backend_here_is_given_the_packet_and_replies_as_for_any_frontend() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in cases() {
        let fixture = Fixture::new().unwrap();
        direct(family, protocol, local(family)).write(fixture.loaded()).unwrap();
        let (by_xdp, change) = uplink(&fixture, &first(protocol, client(family), front(family)));
        assert!(by_xdp && packet(&change).destination == local(family));
        assert!(fixture.flows().unwrap().iter().all(|row| row.flags & FLOW_DIRECT == 0));
    }
}

/// A frontend that another node tells of: that node's own port, or an address that services alone have.
fn told_frontends(family: Family) -> [SocketAddr; 2] {
    let other: IpAddr = if family == Family::V4 { "192.0.2.2" } else { "2001:db8::2" }.parse().unwrap();
    [SocketAddr::new(other, 30080), SocketAddr::new(family.cluster_ip(), 80)]
}

/// This node as the backend's: it has both frontends too.
fn backend_node(family: Family, protocol: u8) -> Fixture {
    let fixture = Fixture::new().unwrap();
    direct(family, protocol, local(family)).write(fixture.loaded()).unwrap();
    let balancer = SocketAddr::new(family.cluster_ip(), 80);
    Service { frontend: balancer, ..direct(family, protocol, local(family)) }
        .write(fixture.loaded())
        .unwrap();
    fixture
}

fn announced(family: Family, protocol: u8, frontend: SocketAddr) -> Packet {
    let sent = first(protocol, client(family), local(family));
    Packet { options: announcement(frontend, protocol), ..sent }
}

fn receive(fixture: &Fixture, sent: &Packet) -> Change {
    let frame = sent.build();
    let change = fixture.xdp(&frame).unwrap();
    assert_eq!((change.action, &change.frame), (PASS, &frame));
    fixture.tc_uplink("tc_uplink_in", &frame).unwrap()
}

fn reply(sent: &Packet, flags: u8) -> Packet {
    Packet {
        source: sent.destination,
        destination: sent.source,
        source_mac: POD_MAC,
        destination_mac: POD_HOST_MAC,
        flags: if sent.protocol == TCP { flags } else { 0 },
        options: Vec::new(),
        ..sent.clone()
    }
}

#[test]
fn announcement_is_learned_and_taken_out_and_replies_leave_as_the_frontends() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in cases() {
        for frontend in told_frontends(family) {
            let fixture = backend_node(family, protocol);
            let sent = announced(family, protocol, frontend);
            let change = receive(&fixture, &sent);
            let plain = Packet { options: Vec::new(), ..sent.clone() };
            assert_eq!(
                (change.action, &change.counters, change.frame),
                (NEXT, &counted(&["flow_announced"]), plain.build()),
                "{family:?} {protocol} {frontend}"
            );
            // Told again it is the same.
            assert_eq!(receive(&fixture, &sent).counters, BTreeMap::new());
            let answer = reply(&sent, SYN | ACK);
            let change = fixture.from_pod(&answer.build()).unwrap();
            assert_eq!((change.action, &change.counters), (REDIRECT, &counted(&["hop_resolved"])));
            assert_eq!(packet(&change), Packet { source: frontend, hops: 63, ..answer });
            let [row] = fixture.flows().unwrap().try_into().expect("one entry");
            let stage = if protocol == TCP { FLOW_HALF_OPEN } else { 0 };
            assert_eq!((row.flags, row.egress), (FLOW_REPLY | FLOW_DIRECT | stage, EGRESS_REMOTE));

            let data = reply(&sent, ACK);
            let change = fixture.from_pod(&data.build()).unwrap();
            let counters = if protocol == TCP { counted(&["flow_opened"]) } else { BTreeMap::new() };
            assert_eq!((packet(&change).source, change.counters), (frontend, counters));
            let [row] = fixture.flows().unwrap().try_into().expect("one entry");
            assert_eq!((row.flags, row.state), (FLOW_REPLY | FLOW_DIRECT, STATE_ESTABLISHED));
        }
    }
}

#[test]
fn refusal_of_the_backend_leaves_as_the_frontends_and_makes_no_connection() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = backend_node(family, TCP);
        let [frontend, _] = told_frontends(family);
        let sent = announced(family, TCP, frontend);
        receive(&fixture, &sent);
        let change = fixture.from_pod(&reply(&sent, RST | ACK).build()).unwrap();
        assert_eq!(packet(&change).source, frontend);
        assert!(fixture.flows().unwrap().iter().all(|row| row.flags & FLOW_HALF_OPEN != 0));
    }
}

#[test]
fn announcement_of_a_frontend_that_is_not_direct_is_left_alone() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in cases() {
        let fixture = Fixture::new().unwrap();
        Service::external(front(family), protocol, &[local(family)]).write(fixture.loaded()).unwrap();
        let [frontend, unknown] = told_frontends(family);
        for told in [frontend, unknown] {
            let sent = announced(family, protocol, told);
            let change = receive(&fixture, &sent);
            assert_eq!((change.action, change.frame, change.counters), (NEXT, sent.build(), BTreeMap::new()));
        }
        assert_eq!(fixture.flows().unwrap(), []);
    }
}

#[test]
fn pod_that_got_the_address_later_does_not_get_the_entry() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in cases() {
        let fixture = backend_node(family, protocol);
        let [frontend, _] = told_frontends(family);
        let sent = announced(family, protocol, frontend);
        receive(&fixture, &sent);
        let answer = reply(&sent, SYN | ACK);
        assert_eq!(packet(&fixture.from_pod(&answer.build()).unwrap()).source, frontend);
        let place = LocalEndpoint { ifindex: 999, flags: 0, pod_mac: POD_MAC, host_mac: POD_HOST_MAC };
        match family {
            Family::V4 => fixture.loaded().set(LOCAL_V4, &v4(family.local_pod()), &place).unwrap(),
            Family::V6 => fixture.loaded().set(LOCAL_V6, &v6(family.local_pod()), &place).unwrap(),
        }
        let change = fixture.from_pod(&answer.build()).unwrap();
        assert_eq!((change.action, change.frame), (NEXT, answer.build()), "{family:?} {protocol}");
        // Told anew, it is the new pod's.
        assert_eq!(receive(&fixture, &sent).counters, counted(&["flow_announced"]));
        assert_eq!(packet(&fixture.from_pod(&answer.build()).unwrap()).source, frontend);
    }
}

#[test]
fn second_frontend_for_one_client_port_is_dropped_until_the_first_connection_is_over() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = backend_node(family, TCP);
        let [one, other] = told_frontends(family);
        let sent = announced(family, TCP, one);
        receive(&fixture, &sent);
        fixture.from_pod(&reply(&sent, ACK).build()).unwrap();
        let change = receive(&fixture, &announced(family, TCP, other));
        assert_eq!((change.action, &change.counters), (SHOT, &counted(&["flow_collision"])), "{family:?}");
        assert_eq!(packet(&fixture.from_pod(&reply(&sent, ACK).build()).unwrap()).source, one);
        fixture.from_pod(&reply(&sent, FIN | ACK).build()).unwrap();
        assert_eq!(receive(&fixture, &announced(family, TCP, other)).counters, counted(&["flow_announced"]));
        assert_eq!(packet(&fixture.from_pod(&reply(&sent, SYN | ACK).build()).unwrap()).source, other);
    }
}
