//! Direct replies: the node that takes a client's packet keeps the source and announces the frontend; the backend's node
//! learns it, takes the announcement out, and answers in the frontend's name.
#![allow(clippy::unwrap_used)] // a test

#[path = "direct/parts.rs"]
mod parts;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use skep_abi::flow::{
    EGRESS_REMOTE, FLOW_DIRECT, FLOW_HALF_OPEN, FLOW_REPLY, FLOW_SNAT, FLOW_TRUSTED, STATE_ESTABLISHED,
};
use skep_abi::local::{LOCAL_V4, LOCAL_V6, LocalEndpoint};
use skep_datapath_tests::fixture::{Fixture, packet};
use skep_datapath_tests::packet::{ACK, FIN, INIT, Packet, RST, SCTP, SYN, TCP};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{Family, POD_HOST_MAC, POD_MAC, Service, v4, v6};

use parts::*;

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
            let stage = if protocol == TCP { FLOW_HALF_OPEN | FLOW_TRUSTED } else { 0 };
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
