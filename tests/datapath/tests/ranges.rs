//! A load balancer's source ranges: who may open a connection, from outside and from a pod, and what is never asked.
#![allow(clippy::unwrap_used)] // a test

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use skep_abi::ranges::{ALLOWED, RangeKey, SERVICE_BITS, SOURCE_RANGES_V4, SOURCE_RANGES_V6};
use skep_abi::service::{FLAG_SOURCE_RANGES, SCOPE_INTERNAL};
use skep_datapath_tests::fixture::{Change, Fixture, packet};
use skep_datapath_tests::packet::{ACK, Packet, SYN, TCP, UDP};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{Family, Service, v4, v6};

const DROP: u32 = 1;
const TX: u32 = 3;
const REDIRECT: u32 = 4;
/// What TC returns for a drop, and for a packet that is sent elsewhere.
const SHOT: u32 = 2;
const TC_REDIRECT: u32 = 7;

fn vip(family: Family) -> SocketAddr {
    let text = if family == Family::V4 { "203.0.113.5:80" } else { "[2001:db8:5::5]:80" };
    text.parse().unwrap()
}

/// Lets the addresses that start as `address` does use service `service`.
fn allow(fixture: &Fixture, service: u32, address: IpAddr, length: u32) {
    let prefix_length = SERVICE_BITS + length;
    let loaded = fixture.loaded();
    match address {
        IpAddr::V4(_) => {
            loaded.set(SOURCE_RANGES_V4, &RangeKey { prefix_length, service, address: v4(address) }, &ALLOWED)
        }
        IpAddr::V6(_) => {
            loaded.set(SOURCE_RANGES_V6, &RangeKey { prefix_length, service, address: v6(address) }, &ALLOWED)
        }
    }
    .unwrap();
}

fn first(protocol: u8, from: IpAddr, to: SocketAddr) -> Packet {
    let source = SocketAddr::new(from, 40000);
    if protocol == TCP { Packet::tcp(source, to, SYN) } else { Packet::udp(source, to) }
}

fn dropped(action: u32, frame: Vec<u8>) -> Change {
    Change { action, frame, counters: BTreeMap::from([("source_not_allowed", 1)]) }
}

#[test]
fn new_flow_from_outside_the_ranges_is_dropped_and_from_within_served() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in Family::ALL.into_iter().flat_map(|f| [TCP, UDP].map(|p| (f, p))) {
        // Each case: the service's ranges, and whether the client lies within one of them.
        let near = |address: IpAddr, length: u32| (address, length);
        let [wide, half, whole] = if family == Family::V4 { [24, 25, 32] } else { [64, 121, 128] };
        let client = family.client();
        let other = family.remote_pod();
        let cases: [(&[(IpAddr, u32)], bool); 7] = [
            (&[], false),
            (&[near(other, whole)], false),
            (&[near(client, whole)], true),
            (&[near(client, wide)], true),
            (&[near(client, 0)], true),
            // One within the other; the longest match is one that the client is not in.
            (&[near(client, wide), near(family.node(), whole)], true),
            (&[near(other, half), near(client, half)], true),
        ];
        for (ranges, allowed) in cases {
            let fixture = Fixture::new().unwrap();
            let pod = SocketAddr::new(family.local_pod(), 8080);
            let service = Service::external(vip(family), protocol, &[pod]);
            Service { flags: FLAG_SOURCE_RANGES, ..service }.write(fixture.loaded()).unwrap();
            // Another service's ranges say nothing about this one.
            allow(&fixture, 2, client, 0);
            for (address, length) in ranges {
                allow(&fixture, 1, *address, *length);
            }
            let frame = first(protocol, client, vip(family)).build();
            let change = fixture.xdp(&frame).unwrap();
            if allowed {
                assert_eq!(change.action, REDIRECT, "{family:?} {protocol} {ranges:?}");
                assert_eq!(change.counters, BTreeMap::from([("flow_created", 1)]));
            } else {
                assert_eq!(change, dropped(DROP, frame), "{family:?} {protocol} {ranges:?}");
                assert_eq!(fixture.flows().unwrap(), []);
            }
        }
    }
}

#[test]
fn ranges_of_a_service_without_endpoints_drop_before_anything_is_answered() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let service = Service::external(vip(family), TCP, &[]);
        Service { flags: FLAG_SOURCE_RANGES, ..service }.write(fixture.loaded()).unwrap();
        let frame = first(TCP, family.client(), vip(family)).build();
        assert_eq!(fixture.xdp(&frame).unwrap(), dropped(DROP, frame.clone()));
        allow(&fixture, 1, family.client(), 8);
        let change = fixture.xdp(&frame).unwrap();
        assert_eq!((change.action, change.counters), (TX, BTreeMap::from([("no_endpoints", 1)])));
    }
}

#[test]
fn flow_that_was_begun_stays_when_its_client_falls_out_of_the_ranges() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let pod = SocketAddr::new(family.remote_pod(), 8080);
        let mut service = Service::external(vip(family), TCP, &[pod]);
        service.write(fixture.loaded()).unwrap();
        let open = first(TCP, family.client(), vip(family));
        let begun = fixture.xdp(&open.build()).unwrap();
        assert_eq!(begun.action, TX);
        fixture.answer(&packet(&begun)).unwrap();
        service.flags = FLAG_SOURCE_RANGES;
        service.write(fixture.loaded()).unwrap();
        let data = Packet { flags: ACK, ..open.clone() };
        let change = fixture.xdp(&data.build()).unwrap();
        assert_eq!((change.action, change.counters), (TX, BTreeMap::from([("flow_opened", 1)])));
        // The same client's next connection is a new one.
        let next = Packet { source: SocketAddr::new(family.client(), 40001), ..open };
        assert_eq!(fixture.xdp(&next.build()).unwrap(), dropped(DROP, next.build()));
    }
}

#[test]
fn pods_and_this_nodes_processes_are_held_against_the_ranges_too() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let backend = SocketAddr::new(family.remote_pod(), 8080);
        let service = Service::external(vip(family), TCP, &[backend]);
        let service = Service { flags: FLAG_SOURCE_RANGES, scope: SCOPE_INTERNAL, ..service };
        service.write(fixture.loaded()).unwrap();
        allow(&fixture, 1, family.client(), if family == Family::V4 { 32 } else { 128 });
        for from in [family.local_pod(), family.node()] {
            let frame = first(TCP, from, vip(family)).build();
            let send = || {
                let pod = from == family.local_pod();
                if pod { fixture.from_pod(&frame) } else { fixture.tc_uplink("tc_uplink_out", &frame) }
            };
            assert_eq!(send().unwrap(), dropped(SHOT, frame.clone()), "{from}");
            allow(&fixture, 1, from, if family == Family::V4 { 32 } else { 128 });
            let change = send().unwrap();
            assert_eq!(
                (change.action, change.counters.get("flow_created")),
                (TC_REDIRECT, Some(&1)),
                "{from}"
            );
        }
    }
}
