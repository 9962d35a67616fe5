//! SCTP: left by XDP to TC, which translates it as it does TCP, with its own checksum and its own signs of opening and closing.
#![allow(clippy::unwrap_used)] // a test

use std::collections::BTreeMap;
use std::net::SocketAddr;

use skep_abi::flow::{STATE_CLOSED, STATE_CLOSING, STATE_ESTABLISHED, STATE_NEW};
use skep_abi::service::SCOPE_INTERNAL;
use skep_datapath_tests::fixture::{Change, Fixture, packet};
use skep_datapath_tests::packet::{ABORT, DATA, INIT, INIT_ACK, Packet, SCTP, SHUTDOWN};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{Family, POD_HOST_MAC, POD_MAC, Service};

/// What XDP returns for what it leaves alone, and TC for what is sent elsewhere or dropped.
const PASS: u32 = 2;
const SHOT: u32 = 2;
const TC_REDIRECT: u32 = 7;

fn counted(names: &[&'static str]) -> BTreeMap<&'static str, u64> {
    names.iter().map(|name| (*name, 1)).collect()
}

fn node_port(family: Family) -> SocketAddr {
    SocketAddr::new(family.node(), 30080)
}

fn init(family: Family, to: SocketAddr) -> Packet {
    Packet::sctp(SocketAddr::new(family.client(), 40000), to, INIT)
}

#[test]
fn node_port_to_local_pod_and_back_keeps_the_checksum_right_at_any_length() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let pod = SocketAddr::new(family.local_pod(), 8080);
        Service::external(node_port(family), SCTP, &[pod]).write(fixture.loaded()).unwrap();
        let mut first = true;
        for length in [16, 0, 4, 20, 500, 1024, 1400] {
            let chunk = if first { INIT } else { DATA };
            let payload: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
            let sent = Packet { flags: chunk, payload, ..init(family, node_port(family)) };
            let frame = sent.build();
            let change = fixture.xdp(&frame).unwrap();
            assert_eq!(change, Change { action: PASS, frame: frame.clone(), counters: BTreeMap::new() });
            let change = fixture.tc_uplink("tc_uplink_in", &frame).unwrap();
            assert_eq!(change.action, TC_REDIRECT, "{family:?} {length} {:?}", change.counters);
            let expected = Packet {
                destination: pod,
                destination_mac: POD_MAC,
                source_mac: POD_HOST_MAC,
                hops: 63,
                ..sent.clone()
            };
            assert_eq!(packet(&change), expected);
            let chunk = if first { INIT_ACK } else { DATA };
            let reply = Packet { source: pod, destination: sent.source, flags: chunk, ..sent.clone() };
            let change = fixture.from_pod(&reply.build()).unwrap();
            assert_eq!(change.action, TC_REDIRECT);
            assert_eq!(packet(&change), Packet { source: sent.destination, hops: 63, ..reply });
            first = false;
        }
        assert_eq!(fixture.flows().unwrap().len(), 2);
    }
}

#[test]
fn node_port_to_remote_pod_is_translated_at_source() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let pod = SocketAddr::new(family.remote_pod(), 8080);
        Service::external(node_port(family), SCTP, &[pod]).write(fixture.loaded()).unwrap();
        let sent = init(family, node_port(family));
        let change = fixture.tc_uplink("tc_uplink_in", &sent.build()).unwrap();
        assert_eq!(change.action, TC_REDIRECT);
        let out = packet(&change);
        assert!(out.source.ip() == family.node() && out.source.port() >= 61000, "{:?}", out.source);
        assert_eq!((out.destination, &out.payload, out.sequence), (pod, &sent.payload, sent.sequence));
        let answer = Packet { source: pod, destination: out.source, flags: INIT_ACK, ..sent.clone() };
        let change = fixture.tc_uplink("tc_uplink_in", &answer.build()).unwrap();
        let back = packet(&change);
        assert_eq!(
            (change.action, back.source, back.destination),
            (TC_REDIRECT, sent.destination, sent.source)
        );
    }
}

#[test]
fn pod_reaches_a_cluster_ip_through_tc() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let frontend = SocketAddr::new(family.cluster_ip(), 80);
        let other = SocketAddr::new(family.remote_pod(), 8080);
        let service = Service { scope: SCOPE_INTERNAL, ..Service::external(frontend, SCTP, &[other]) };
        service.write(fixture.loaded()).unwrap();
        let pod = SocketAddr::new(family.local_pod(), 40000);
        let sent = Packet::sctp(pod, frontend, INIT);
        let change = fixture.from_pod(&sent.build()).unwrap();
        assert_eq!(change.action, TC_REDIRECT, "{:?}", change.counters);
        assert_eq!(packet(&change).destination, other);
    }
}

#[test]
fn association_is_followed_by_its_chunks() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let pod = SocketAddr::new(family.remote_pod(), 8080);
        Service::external(node_port(family), SCTP, &[pod]).write(fixture.loaded()).unwrap();
        let sent = init(family, node_port(family));
        for (chunk, state) in [
            (INIT, STATE_NEW),
            (10, STATE_ESTABLISHED),
            (DATA, STATE_ESTABLISHED),
            (SHUTDOWN, STATE_CLOSING),
            (DATA, STATE_CLOSING),
            (ABORT, STATE_CLOSED),
        ] {
            let frame = Packet { flags: chunk, ..sent.clone() }.build();
            let change = fixture.tc_uplink("tc_uplink_in", &frame).unwrap();
            assert_eq!(change.action, TC_REDIRECT);
            let rows = fixture.flows().unwrap();
            let forward = rows.iter().find(|row| row.source == sent.source).unwrap();
            assert_eq!(forward.state, state, "after chunk {chunk}");
        }
    }
}

#[test]
fn service_without_endpoints_aborts_and_an_abort_is_not_answered() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let through = |frame: &[u8]| fixture.tc_uplink("tc_uplink_in", frame);
        Service::external(node_port(family), SCTP, &[]).write(fixture.loaded()).unwrap();
        let sent = init(family, node_port(family));
        let change = through(&sent.build()).unwrap();
        assert_eq!(change.action, TC_REDIRECT);
        assert_eq!(change.counters, counted(&["no_endpoints"]));
        let abort = Packet {
            source: sent.destination,
            destination: sent.source,
            source_mac: sent.destination_mac,
            destination_mac: sent.source_mac,
            flags: ABORT,
            // The initiate tag.
            sequence: 0x0001_0203,
            payload: Vec::new(),
            ..sent.clone()
        };
        assert_eq!(packet(&change), abort);
        // In the middle of an association: the packet's own tag, and the T bit.
        let pod = SocketAddr::new(family.remote_pod(), 8080);
        Service::external(node_port(family), SCTP, &[pod]).write(fixture.loaded()).unwrap();
        let data = Packet { flags: DATA, sequence: 77, ..sent.clone() };
        let change = through(&data.build()).unwrap();
        assert_eq!(change.counters, counted(&["no_flow"]));
        assert_eq!(packet(&change), Packet { sequence: 77, acknowledgment: 1, ..abort });
        let change = through(&Packet { flags: ABORT, ..sent.clone() }.build()).unwrap();
        assert_eq!((change.action, change.counters), (SHOT, counted(&["no_flow"])));
    }
}
