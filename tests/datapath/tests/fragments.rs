//! Fragments of packets to and from services, through TC: they go the way of their datagram's flow, in order; what comes
//! before its first fragment, or would replace what was translated, is dropped; what is no service's passes.
#![allow(clippy::unwrap_used)] // a test

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use skep_abi::fronts::{FRONTS, address_bit_v4, address_bit_v6};
use skep_datapath_tests::fixture::{Change, Fixture};
use skep_datapath_tests::packet::{Packet, SYN, TCP, UDP, checksum};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{Family, POD_HOST_MAC, POD_MAC, Service};

/// What TC returns for a packet that is sent elsewhere, dropped, or left alone.
const REDIRECT: u32 = 7;
const SHOT: u32 = 2;
const NEXT: u32 = u32::MAX;
/// XDP's.
const XDP_PASS: u32 = 2;

/// The fragment of `whole` that has bytes `from..to` of what follows the network header. Offsets are multiples of 8.
fn fragment(whole: &Packet, id: u32, from: usize, to: usize) -> Vec<u8> {
    let frame = whole.build();
    let header = if whole.source.is_ipv4() { 34 } else { 54 };
    let body = &frame[header..];
    let to = to.min(body.len());
    let more = to < body.len();
    let mut part = frame[..header].to_vec();
    if whole.source.is_ipv4() {
        part[16..18].copy_from_slice(&((20 + to - from) as u16).to_be_bytes());
        part[18..20].copy_from_slice(&(id as u16).to_be_bytes());
        part[20..22].copy_from_slice(&((from / 8) as u16 | if more { 0x2000 } else { 0 }).to_be_bytes());
        part[24..26].fill(0);
        let sum = checksum(&[&part[14..]]);
        part[24..26].copy_from_slice(&sum.to_be_bytes());
    } else {
        part[18..20].copy_from_slice(&((8 + to - from) as u16).to_be_bytes());
        let next = std::mem::replace(&mut part[20], 44);
        part.extend([next, 0]);
        part.extend((from as u16 | u16::from(more)).to_be_bytes());
        part.extend(id.to_be_bytes());
    }
    part.extend(&body[from..to]);
    part
}

/// The identification of a fragment.
fn id(family: Family, frame: &[u8]) -> u32 {
    if family == Family::V4 {
        u32::from(u16::from_be_bytes([frame[18], frame[19]]))
    } else {
        u32::from_be_bytes([frame[58], frame[59], frame[60], frame[61]])
    }
}

fn vip(family: Family) -> SocketAddr {
    let text = if family == Family::V4 { "203.0.113.5:80" } else { "[2001:db8:5::5]:80" };
    text.parse().unwrap()
}

/// Says that only services have this address, as the agent does.
fn mark(fixture: &Fixture, address: IpAddr) {
    let bit = match address {
        IpAddr::V4(address) => address_bit_v4(address.into()),
        IpAddr::V6(address) => address_bit_v6(address.into()),
    };
    let word: u64 = fixture.loaded().get(FRONTS, &bit.word).unwrap().unwrap_or(0);
    fixture.loaded().set(FRONTS, &bit.word, &(word | bit.mask)).unwrap();
}

/// A packet of some 600 bytes from the client.
fn long(family: Family, protocol: u8, to: SocketAddr) -> Packet {
    let source = SocketAddr::new(family.client(), 40000);
    let packet = if protocol == TCP { Packet::tcp(source, to, SYN) } else { Packet::udp(source, to) };
    Packet { payload: (0..600).map(|at| at as u8).collect(), ..packet }
}

fn counted(names: &[&'static str]) -> BTreeMap<&'static str, u64> {
    names.iter().map(|name| (*name, 1)).collect()
}

const PARTS: [(usize, usize); 3] = [(0, 248), (248, 496), (496, 2000)];

#[test]
fn fragments_go_the_way_of_their_first_and_back() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in Family::ALL.into_iter().flat_map(|f| [TCP, UDP].map(|p| (f, p))) {
        for frontend in [vip(family), SocketAddr::new(family.node(), 30080)] {
            let fixture = Fixture::new().unwrap();
            if frontend == vip(family) {
                mark(&fixture, frontend.ip());
            }
            let pod = SocketAddr::new(family.local_pod(), 8080);
            Service::external(frontend, protocol, &[pod]).write(fixture.loaded()).unwrap();
            let sent = long(family, protocol, frontend);
            let out = Packet {
                destination: pod,
                destination_mac: POD_MAC,
                source_mac: POD_HOST_MAC,
                hops: 63,
                ..sent.clone()
            };
            let mut new_id = None;
            // In disorder, but for the first.
            for at in [0, 2, 1] {
                let (from, to) = PARTS[at];
                let frame = fragment(&sent, 7, from, to);
                let change = fixture.xdp(&frame).unwrap();
                let left =
                    Change { action: XDP_PASS, frame: frame.clone(), counters: counted(&["fragment"]) };
                assert_eq!(change, left);
                let change = fixture.tc_uplink("tc_uplink_in", &frame).unwrap();
                let counters = if at == 0 { counted(&["flow_created"]) } else { BTreeMap::new() };
                let id = id(family, &change.frame);
                assert_eq!(*new_id.get_or_insert(id), id, "one datagram keeps one identification");
                let expected = Change { action: REDIRECT, frame: fragment(&out, id, from, to), counters };
                assert_eq!(change, expected, "{family:?} {protocol} {frontend} {from}");
            }
            let answer = Packet { source: pod, destination: sent.source, flags: sent.flags, ..sent.clone() };
            let back = Packet { source: frontend, hops: 63, ..answer.clone() };
            let mut new_id = None;
            for (from, to) in PARTS {
                let change = fixture.from_pod(&fragment(&answer, 9, from, to)).unwrap();
                let id = id(family, &change.frame);
                assert_eq!(*new_id.get_or_insert(id), id);
                assert_eq!((change.action, change.frame), (REDIRECT, fragment(&back, id, from, to)));
            }
            assert_eq!(fixture.flows().unwrap().len(), 2);
        }
    }
}

#[test]
fn fragments_are_translated_at_source_too() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let pod = SocketAddr::new(family.remote_pod(), 8080);
        Service::external(vip(family), UDP, &[pod]).write(fixture.loaded()).unwrap();
        let sent = long(family, UDP, vip(family));
        let change = fixture.tc_uplink("tc_uplink_in", &fragment(&sent, 7, 0, 248)).unwrap();
        let rows = fixture.flows().unwrap();
        let forward = rows.iter().find(|row| row.source == sent.source).unwrap();
        let out = Packet { source: forward.new_source, destination: pod, hops: 63, ..sent.clone() };
        let new_id = id(family, &change.frame);
        assert_eq!((change.action, change.frame), (REDIRECT, fragment(&out, new_id, 0, 248)));
        let change = fixture.tc_uplink("tc_uplink_in", &fragment(&sent, 7, 248, 2000)).unwrap();
        assert_eq!((change.action, change.frame), (REDIRECT, fragment(&out, new_id, 248, 2000)));
        let reply = Packet { source: pod, destination: out.source, ..sent.clone() };
        let back = Packet { source: vip(family), destination: sent.source, hops: 63, ..reply.clone() };
        for (from, to) in PARTS {
            let change = fixture.tc_uplink("tc_uplink_in", &fragment(&reply, 8, from, to)).unwrap();
            let id = id(family, &change.frame);
            assert_eq!(
                (change.action, change.frame),
                (REDIRECT, fragment(&back, id, from, to)),
                "{family:?}"
            );
        }
    }
}

#[test]
fn clients_with_one_identification_leave_with_two() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let pod = SocketAddr::new(family.remote_pod(), 8080);
        Service::external(vip(family), UDP, &[pod]).write(fixture.loaded()).unwrap();
        // To the pod all of them come from this node, and are told apart by ports that later fragments do not have.
        let ids: std::collections::BTreeSet<u32> = (0..40)
            .map(|client| {
                let sent = long(family, UDP, vip(family));
                let source = SocketAddr::new(family.client(), 40000 + client);
                let sent = Packet { source, ..sent };
                let change = fixture.tc_uplink("tc_uplink_in", &fragment(&sent, 7, 0, 248)).unwrap();
                assert_eq!(change.action, REDIRECT);
                id(family, &change.frame)
            })
            .collect();
        assert_eq!(ids.len(), 40, "{family:?}");
    }
}

#[test]
fn fragment_before_its_first_or_over_the_header_is_dropped_where_only_services_are() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in Family::ALL.into_iter().flat_map(|f| [TCP, UDP].map(|p| (f, p))) {
        let node_port = SocketAddr::new(family.node(), 30080);
        for (frontend, alone) in [(vip(family), true), (node_port, false)] {
            let fixture = Fixture::new().unwrap();
            mark(&fixture, vip(family).ip());
            let pod = SocketAddr::new(family.local_pod(), 8080);
            Service::external(frontend, protocol, &[pod]).write(fixture.loaded()).unwrap();
            let sent = long(family, protocol, frontend);
            let check = |frame: Vec<u8>, dropped: bool, reason: &'static str| {
                let change = fixture.tc_uplink("tc_uplink_in", &frame).unwrap();
                let counters = counted(&[if dropped { reason } else { "fragment" }]);
                let action = if dropped { SHOT } else { NEXT };
                assert_eq!(change, Change { action, frame, counters }, "{family:?} {protocol} {frontend}");
            };
            check(fragment(&sent, 7, 248, 496), alone, "fragment_before_first");
            check(fragment(&sent, 7, 8, 496), alone, "fragment_before_first");
            if protocol == TCP {
                check(fragment(&sent, 7, 0, 8), alone, "fragment_cut_header");
                check(fragment(&sent, 7, 0, 16), alone, "fragment_cut_header");
            }
            assert_eq!(fixture.flows().unwrap(), []);

            let change = fixture.tc_uplink("tc_uplink_in", &fragment(&sent, 7, 0, 248)).unwrap();
            assert_eq!(change.action, REDIRECT);
            // Another datagram's, another protocol's and another client's fragments are not this one's.
            check(fragment(&sent, 8, 248, 496), alone, "fragment_before_first");
            let other = long(family, if protocol == TCP { UDP } else { TCP }, frontend);
            check(fragment(&other, 7, 248, 496), alone, "fragment_before_first");
            let other = Packet { source: SocketAddr::new(family.remote_pod(), 40000), ..sent.clone() };
            check(fragment(&other, 7, 248, 496), alone, "fragment_before_first");
            // One that would replace the translated checksum and flags.
            for from in [8, 16] {
                let change = fixture.tc_uplink("tc_uplink_in", &fragment(&sent, 7, from, 248)).unwrap();
                if protocol == TCP {
                    assert_eq!((change.action, change.counters), (SHOT, counted(&["fragment_cut_header"])));
                } else {
                    assert_eq!(change.action, REDIRECT, "all of UDP's header lies before");
                }
            }
        }
    }
}

#[test]
fn fragments_of_no_service_pass_untouched() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        mark(&fixture, vip(family).ip());
        let pod = SocketAddr::new(family.local_pod(), 8080);
        Service::external(vip(family), UDP, &[pod]).write(fixture.loaded()).unwrap();
        // To the node, and to a port of the service's address that has none: the first notes it, the rest follow.
        for target in [SocketAddr::new(family.node(), 53), SocketAddr::new(vip(family).ip(), 81)] {
            let sent = long(family, UDP, target);
            for (from, to) in PARTS {
                let frame = fragment(&sent, 7, from, to);
                let change = fixture.tc_uplink("tc_uplink_in", &frame).unwrap();
                assert_eq!(change, Change { action: NEXT, frame, counters: counted(&["fragment"]) });
            }
        }
        // Damaged in any length: never anything but passed, dropped by name, or sent on as it was in length.
        let first = fragment(&long(family, TCP, vip(family)), 7, 0, 248);
        for length in 14 + family.header()..first.len() {
            let frame = first[..length].to_vec();
            let change = fixture.tc_uplink("tc_uplink_in", &frame).unwrap();
            assert_eq!(change.frame, frame, "{length}");
            assert!([SHOT, NEXT].contains(&change.action), "{change:?}");
        }
        assert_eq!(fixture.flows().unwrap(), []);
    }
}

#[test]
fn damaged_fragments_are_passed_dropped_by_name_or_translated_and_never_anything_else() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        mark(&fixture, vip(family).ip());
        let pod = SocketAddr::new(family.remote_pod(), 8080);
        Service::external(vip(family), UDP, &[pod]).write(fixture.loaded()).unwrap();
        let sent = long(family, UDP, vip(family));
        let parts = PARTS.map(|(from, to)| fragment(&sent, 7, from, to));
        assert_eq!(fixture.tc_uplink("tc_uplink_in", &parts[0]).unwrap().action, REDIRECT);
        // A fixed sequence of changes, so that every run is the same.
        let mut number = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: usize| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (number >> 33) as usize % below
        };
        let mut seen = [0; 3];
        for _ in 0..4000 {
            let mut frame = parts[next(3)].clone();
            for _ in 0..1 + next(3) {
                // Where the headers are, mostly.
                let reach = if next(4) == 0 { frame.len() - 14 } else { 60 };
                let at = 14 + next(reach);
                frame[at] = next(256) as u8;
            }
            frame.truncate(14 + family.header() + next(frame.len() - 14 - family.header()) + 1);
            let change = fixture.tc_uplink("tc_uplink_in", &frame).unwrap();
            assert_eq!(change.frame.len(), frame.len());
            match change.action {
                NEXT => {
                    assert_eq!(change.frame, frame);
                    seen[0] += 1;
                }
                SHOT => {
                    assert!(!change.counters.is_empty(), "a drop without a name: {frame:02x?}");
                    seen[1] += 1;
                }
                REDIRECT => seen[2] += 1,
                _ => panic!("{change:?} after {frame:02x?}"),
            }
        }
        assert!(seen.iter().all(|count| *count > 50), "passed, dropped, translated: {seen:?}");
    }
}
