//! Packets from the uplink: NodePort to a pod here, to a pod elsewhere, their replies, and what is left alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use skep_abi::backend::{STATE_DRAINING, STATE_GONE};
use skep_abi::counters::ServiceStats;
use skep_abi::flow::{
    EGRESS_POD, EGRESS_REMOTE, EGRESS_STACK, EGRESS_UNRESOLVED, FLOW_HALF_OPEN, FLOW_LOCAL, FLOW_REPLY,
    FLOW_SNAT, STATE_CLOSED, STATE_CLOSING, STATE_ESTABLISHED, STATE_NEW,
};
use skep_abi::service::FLAG_DROP_WHEN_EMPTY;
use skep_datapath_tests::fixture::{Change, Fixture, FlowRow, packet};
use skep_datapath_tests::packet::{ACK, FIN, Packet, RST, SYN, TCP, UDP};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{
    CLIENT_MAC, Family, NODE_MAC, OTHER_MAC, POD_HOST_MAC, POD_MAC, Service, counted_services,
    service_counts, set_state,
};

const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;
const REDIRECT: u32 = 4;

const PROTOCOLS: [u8; 2] = [TCP, UDP];

fn from_client(family: Family, protocol: u8, to: SocketAddr) -> Packet {
    let source = SocketAddr::new(family.client(), 40000);
    if protocol == TCP { Packet::tcp(source, to, SYN) } else { Packet::udp(source, to) }
}

fn node_port(family: Family) -> SocketAddr {
    SocketAddr::new(family.node(), 30080)
}

fn counted(names: &[&'static str]) -> BTreeMap<&'static str, u64> {
    names.iter().map(|name| (*name, 1)).collect()
}

#[test]
fn node_port_new_flow_to_local_pod_keeps_source_and_is_redirected() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in Family::ALL.into_iter().flat_map(|f| PROTOCOLS.map(|p| (f, p))) {
        let fixture = Fixture::new().unwrap();
        let pod = SocketAddr::new(family.local_pod(), 8080);
        Service::external(node_port(family), protocol, &[pod]).write(fixture.loaded()).unwrap();
        let sent = from_client(family, protocol, node_port(family));
        let change = fixture.xdp(&sent.build()).unwrap();
        assert_eq!(
            (change.action, &change.counters),
            (REDIRECT, &counted(&["flow_created"])),
            "{family:?} {protocol}"
        );
        let expected = Packet {
            destination: pod,
            destination_mac: POD_MAC,
            source_mac: POD_HOST_MAC,
            hops: 63,
            ..sent.clone()
        };
        assert_eq!(packet(&change), expected);
        let forward = FlowRow {
            source: sent.source,
            destination: sent.destination,
            new_source: sent.source,
            new_destination: pod,
            flags: FLOW_LOCAL | if protocol == TCP { FLOW_HALF_OPEN } else { 0 },
            egress: EGRESS_POD,
            state: STATE_NEW,
            packets: 1,
        };
        let reply = FlowRow {
            source: pod,
            destination: sent.source,
            new_source: sent.destination,
            new_destination: sent.source,
            flags: forward.flags | FLOW_REPLY,
            egress: EGRESS_UNRESOLVED,
            packets: 0,
            ..forward.clone()
        };
        let mut expected = vec![forward, reply];
        expected.sort();
        assert_eq!(fixture.flows().unwrap(), expected);
    }
}

#[test]
fn node_port_reply_from_local_pod_is_translated_back() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in Family::ALL.into_iter().flat_map(|f| PROTOCOLS.map(|p| (f, p))) {
        let fixture = Fixture::new().unwrap();
        let pod = SocketAddr::new(family.local_pod(), 8080);
        Service::external(node_port(family), protocol, &[pod]).write(fixture.loaded()).unwrap();
        let sent = from_client(family, protocol, node_port(family));
        fixture.xdp(&sent.build()).unwrap();
        let reply = Packet {
            source: pod,
            destination: sent.source,
            flags: if protocol == TCP { SYN | ACK } else { 0 },
            ..sent.clone()
        };
        let change = fixture.from_pod(&reply.build()).unwrap();
        assert_eq!(
            (change.action, &change.counters),
            (7, &counted(&["hop_resolved"])),
            "{family:?} {protocol}"
        );
        assert_eq!(packet(&change), Packet { source: sent.destination, hops: 63, ..reply });
    }
}

#[test]
fn node_port_to_remote_pod_is_translated_both_ways_and_sent_back_out() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in Family::ALL.into_iter().flat_map(|f| PROTOCOLS.map(|p| (f, p))) {
        let fixture = Fixture::new().unwrap();
        let pod = SocketAddr::new(family.remote_pod(), 8080);
        Service::external(node_port(family), protocol, &[pod]).write(fixture.loaded()).unwrap();
        let sent = from_client(family, protocol, node_port(family));
        let change = fixture.xdp(&sent.build()).unwrap();
        assert_eq!(
            (change.action, &change.counters),
            (TX, &counted(&["flow_created", "hop_resolved"])),
            "{family:?} {protocol}"
        );
        let out = packet(&change);
        assert!(out.source.ip() == family.node() && out.source.port() >= 61000, "{:?}", out.source);
        let expected = Packet {
            source: out.source,
            destination: pod,
            destination_mac: OTHER_MAC,
            source_mac: NODE_MAC,
            hops: 63,
            ..sent.clone()
        };
        assert_eq!(out, expected);

        let answer = Packet {
            source: pod,
            destination: out.source,
            destination_mac: NODE_MAC,
            source_mac: OTHER_MAC,
            flags: if protocol == TCP { SYN | ACK } else { 0 },
            ..sent.clone()
        };
        let change = fixture.xdp(&answer.build()).unwrap();
        assert_eq!(
            (change.action, &change.counters),
            (TX, &counted(&["hop_resolved"])),
            "{family:?} {protocol}"
        );
        let expected = Packet {
            source: sent.destination,
            destination: sent.source,
            destination_mac: CLIENT_MAC,
            source_mac: NODE_MAC,
            hops: 63,
            ..answer
        };
        assert_eq!(packet(&change), expected);
        let flags: Vec<u8> = fixture.flows().unwrap().iter().map(|row| row.flags).collect();
        let stage = if protocol == TCP { FLOW_HALF_OPEN } else { 0 };
        let (forward, reply) = (stage | FLOW_SNAT, stage | FLOW_SNAT | FLOW_REPLY);
        assert!(flags == [forward, reply] || flags == [reply, forward], "{flags:?}");
        assert!(fixture.flows().unwrap().iter().all(|row| row.egress == EGRESS_REMOTE && row.packets == 1));
    }
}

#[test]
fn known_flow_keeps_its_backend_and_follows_the_connection_states() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let pods: Vec<SocketAddr> =
            (0..50).map(|at| SocketAddr::new(family.remote_pod(), 9000 + at)).collect();
        Service::external(node_port(family), TCP, &pods).write(fixture.loaded()).unwrap();
        let sent = from_client(family, TCP, node_port(family));
        let first = packet(&fixture.xdp(&sent.build()).unwrap());
        fixture.answer(&first).unwrap();
        let steps = [
            (ACK, STATE_ESTABLISHED),
            (ACK, STATE_ESTABLISHED),
            (FIN | ACK, STATE_CLOSING),
            (ACK, STATE_CLOSING),
            (RST, STATE_CLOSED),
        ];
        for (at, (flags, state)) in steps.into_iter().enumerate() {
            let next = Packet { flags, payload: b"data".to_vec(), ..sent.clone() };
            let change = fixture.xdp(&next.build()).unwrap();
            let opened = u64::from(at == 0);
            let counted = change.counters.get("flow_opened").copied().unwrap_or(0);
            assert_eq!((change.action, change.counters.len() as u64, counted), (TX, opened, opened));
            let out = packet(&change);
            assert_eq!((out.source, out.destination), (first.source, first.destination));
            let forward = fixture.flows().unwrap().into_iter().find(|row| row.source == sent.source).unwrap();
            assert_eq!(forward.state, state, "after {flags:#x}");
        }
        assert_eq!(fixture.flows().unwrap().len(), 2);
        // A SYN after the end is a new connection, with a tuple of its own.
        let change = fixture.xdp(&sent.build()).unwrap();
        assert_eq!(change.counters.get("flow_created"), Some(&1));
        assert_ne!(packet(&change).source, first.source);
    }
}

#[test]
fn service_without_endpoints_is_refused_or_dropped() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in Family::ALL.into_iter().flat_map(|f| PROTOCOLS.map(|p| (f, p))) {
        let fixture = Fixture::new().unwrap();
        let mut service = Service::external(node_port(family), protocol, &[]);
        service.write(fixture.loaded()).unwrap();
        let sent = from_client(family, protocol, node_port(family));
        let change = fixture.xdp(&sent.build()).unwrap();
        assert_eq!(
            (change.action, &change.counters),
            (TX, &counted(&["no_endpoints"])),
            "{family:?} {protocol}"
        );
        check_refusal(family, &sent, &change);
        assert_eq!(fixture.flows().unwrap(), []);

        service.flags = FLAG_DROP_WHEN_EMPTY;
        service.write(fixture.loaded()).unwrap();
        let change = fixture.xdp(&sent.build()).unwrap();
        assert_eq!((change.action, &change.counters), (DROP, &counted(&["no_local_endpoints"])));
    }
}

#[test]
fn service_is_counted_for_itself_and_one_beyond_the_row_for_nobody() {
    if !tier_enabled() {
        return;
    }
    // The two families have their maps in common.
    for (first, family) in [41, 43].into_iter().zip(Family::ALL) {
        let fixture = Fixture::new().unwrap();
        let loaded = fixture.loaded();
        let pod = SocketAddr::new(family.local_pod(), 8080);
        let counts = |id| service_counts(loaded, id).unwrap();
        let sent = Packet::udp(SocketAddr::new(family.client(), 40000), node_port(family));
        let length = sent.build().len() as u64 - 14;
        let mut service = Service { id: first, ..Service::external(node_port(family), UDP, &[pod]) };
        service.write(loaded).unwrap();
        fixture.xdp(&sent.build()).unwrap();
        fixture.xdp(&sent.build()).unwrap();
        let expected = ServiceStats { packets: 2, bytes: 2 * length, connections: 1, refused: 0 };
        assert_eq!(counts(first), expected, "{family:?}");
        service = Service { id: first + 1, ..Service::external(node_port(family), UDP, &[]) };
        service.write(loaded).unwrap();
        fixture.forget_flows().unwrap();
        fixture.xdp(&sent.build()).unwrap();
        assert_eq!(counts(first + 1), ServiceStats { refused: 1, ..ServiceStats::default() });
        // As many services as a row counts: in it would be another processor's of the first.
        let services = counted_services(loaded).unwrap();
        service.id = services;
        service.write(loaded).unwrap();
        fixture.xdp(&sent.build()).unwrap();
        assert_eq!(counts(0), ServiceStats::default());
        assert_eq!((counts(first), counts(first + 1).refused), (expected, 1));
    }
}

/// A refusal of `sent`: a reset, or an ICMP error that quotes it.
fn check_refusal(family: Family, sent: &Packet, change: &Change) {
    if sent.protocol == TCP {
        let expected = Packet {
            source: sent.destination,
            destination: sent.source,
            destination_mac: sent.source_mac,
            source_mac: sent.destination_mac,
            flags: RST | ACK,
            sequence: 0,
            acknowledgment: sent.sequence + 1,
            ..sent.clone()
        };
        let mut answer = packet(change);
        // A closed window: the builder always opens it, the reader does not tell.
        answer.payload.clear();
        assert_eq!(answer, expected);
        return;
    }
    let frame = &change.frame;
    let header = family.header();
    assert_eq!(frame.len(), 14 + header + 8 + header + 8);
    assert_eq!(frame[..6], sent.source_mac);
    assert_eq!(frame[6..12], sent.destination_mac);
    let kind = if family == Family::V4 { [3, 3] } else { [1, 4] };
    assert_eq!(frame[14 + header..16 + header], kind);
    assert_eq!(frame[14 + header + 8..], sent.build()[14..14 + header + 8]);
    let mut parts: Vec<Vec<u8>> = Vec::new();
    if family == Family::V6 {
        let mut pseudo = frame[14 + 8..14 + 40].to_vec();
        pseudo.extend([0, 0, 0, (8 + header + 8) as u8, 0, 0, 0, 58]);
        parts.push(pseudo);
    } else {
        assert_eq!(skep_datapath_tests::packet::checksum(&[&frame[14..34]]), 0);
    }
    parts.push(frame[14 + header..].to_vec());
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    assert_eq!(skep_datapath_tests::packet::checksum(&parts), 0);
}

#[test]
fn packets_for_no_service_pass_untouched_and_leave_no_trace() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let pod = SocketAddr::new(family.local_pod(), 8080);
        Service::external(node_port(family), TCP, &[pod]).write(fixture.loaded()).unwrap();
        let others = [
            from_client(family, TCP, SocketAddr::new(family.node(), 22)),
            from_client(family, UDP, node_port(family)),
            from_client(family, TCP, SocketAddr::new(family.client(), 30080)),
            // The translation's own port range, without a flow.
            from_client(family, TCP, SocketAddr::new(family.node(), 62000)),
        ];
        for sent in others {
            let frame = sent.build();
            let change = fixture.xdp(&frame).unwrap();
            assert_eq!(change, Change { action: PASS, frame, counters: BTreeMap::new() }, "{sent:?}");
            assert_eq!(fixture.flows().unwrap(), []);
        }
    }
}

#[test]
fn damaged_packets_pass_untouched_and_are_counted() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let pod = SocketAddr::new(family.local_pod(), 8080);
        for protocol in PROTOCOLS {
            Service::external(node_port(family), protocol, &[pod]).write(fixture.loaded()).unwrap();
            let whole = from_client(family, protocol, node_port(family)).build();
            let transport = if protocol == TCP { 20 } else { 8 };
            let mut damaged: Vec<(Vec<u8>, &'static str)> = Vec::new();
            for length in 14..14 + family.header() + transport {
                damaged.push((whole[..length].to_vec(), "malformed"));
            }
            let mut version = whole.clone();
            version[14] ^= 0x10;
            damaged.push((version, "malformed"));
            if family == Family::V4 {
                let mut short = whole.clone();
                short[14] = 0x44;
                damaged.push((short, "malformed"));
                let mut total = whole.clone();
                total[17] = 21;
                damaged.push((total, "malformed"));
                for fragment in [[0x20, 0], [0, 5]] {
                    let mut part = whole.clone();
                    part[20..22].copy_from_slice(&fragment);
                    damaged.push((part, "fragment"));
                }
            }
            if protocol == TCP {
                let mut offset = whole.clone();
                offset[14 + family.header() + 12] = 0x40;
                damaged.push((offset, "malformed"));
                let mut offset = whole.clone();
                offset[14 + family.header() + 12] = 0xf0;
                damaged.push((offset, "malformed"));
            } else {
                let mut length = whole.clone();
                length[14 + family.header() + 4] = 0xff;
                damaged.push((length, "malformed"));
            }
            for (frame, reason) in damaged {
                let change = fixture.xdp(&frame).unwrap();
                let expected = Change { action: PASS, frame: frame.clone(), counters: counted(&[reason]) };
                assert_eq!(change, expected, "{family:?} {protocol} {frame:02x?}");
            }
        }
        assert_eq!(fixture.flows().unwrap(), []);
    }
}

#[test]
fn options_extension_headers_and_vlan_are_seen_through() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let pod = SocketAddr::new(family.local_pod(), 8080);
        Service::external(node_port(family), UDP, &[pod]).write(fixture.loaded()).unwrap();
        let mut sent = from_client(family, UDP, node_port(family));
        sent.options = if family == Family::V4 {
            vec![1, 1, 1, 1, 1, 1, 1, 0]
        } else {
            // A hop-by-hop header of 8 bytes, then an atomic fragment header, then UDP.
            let mut headers = vec![0, 44, 0, 1, 4, 0, 0, 0, 0];
            headers.extend([17, 0, 0, 0, 1, 2, 3, 4]);
            headers
        };
        // XDP leaves them to TC.
        let change = fixture.xdp(&sent.build()).unwrap();
        assert_eq!(change, Change { action: PASS, frame: sent.build(), counters: BTreeMap::new() });
        let change = fixture.tc_uplink("tc_uplink_in", &sent.build()).unwrap();
        assert_eq!((change.action, &change.counters), (7, &counted(&["flow_created"])), "{family:?}");
        let mut expected = sent.clone();
        expected.destination = pod;
        expected.destination_mac = POD_MAC;
        expected.source_mac = POD_HOST_MAC;
        expected.hops = 63;
        assert_eq!(change.frame, expected.build());

        // Tagged packets that would have to be forwarded are left to TC on the VLAN interface.
        let mut tagged = from_client(family, UDP, node_port(family));
        tagged.vlan = Some(7);
        let frame = tagged.build();
        let change = fixture.xdp(&frame).unwrap();
        assert_eq!((change.action, change.frame), (PASS, frame));
        // To the stack they go translated.
        fixture.loaded().clear("LOCAL_V4").unwrap();
        fixture.loaded().clear("LOCAL_V6").unwrap();
        fixture.forget_flows().unwrap();
        let here = SocketAddr::new(family.node(), 53);
        Service::external(node_port(family), UDP, &[here]).write(fixture.loaded()).unwrap();
        let change = fixture.xdp(&tagged.build()).unwrap();
        assert_eq!((change.action, packet(&change)), (PASS, Packet { destination: here, ..tagged }));
        assert!(fixture.flows().unwrap().iter().any(|row| row.egress == EGRESS_STACK));
    }
}

#[test]
fn fragments_of_ipv6_pass_untouched() {
    if !tier_enabled() {
        return;
    }
    let fixture = Fixture::new().unwrap();
    let family = Family::V6;
    let pod = SocketAddr::new(family.local_pod(), 8080);
    Service::external(node_port(family), UDP, &[pod]).write(fixture.loaded()).unwrap();
    let mut sent = from_client(family, UDP, node_port(family));
    for (offset, reason) in [([0, 1], "fragment"), ([0, 8], "fragment")] {
        sent.options = vec![44, 17, 0, offset[0], offset[1], 1, 2, 3, 4];
        let frame = sent.build();
        let change = fixture.xdp(&frame).unwrap();
        assert_eq!(change, Change { action: PASS, frame, counters: counted(&[reason]) });
    }
    sent.options = vec![0];
    for _ in 0..5 {
        sent.options.extend([60, 0, 1, 4, 0, 0, 0, 0]);
    }
    let frame = sent.build();
    let change = fixture.xdp(&frame).unwrap();
    assert_eq!(change, Change { action: PASS, frame: frame.clone(), counters: BTreeMap::new() });
    let change = fixture.tc_uplink("tc_uplink_in", &frame).unwrap();
    assert_eq!(change, Change { action: u32::MAX, frame, counters: counted(&["extension_headers"]) });
}

#[test]
fn removed_backend_moves_udp_at_once_and_lets_tcp_drain() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let [old, new] = [7000, 7001].map(|port| SocketAddr::new(family.remote_pod(), port));
        for protocol in PROTOCOLS {
            fixture.forget_flows().unwrap();
            let mut service = Service::external(node_port(family), protocol, &[old]);
            service.write(fixture.loaded()).unwrap();
            let sent = from_client(family, protocol, node_port(family));
            let out = packet(&fixture.xdp(&sent.build()).unwrap());
            assert_eq!(out.destination, old);
            if protocol == TCP {
                fixture.answer(&out).unwrap();
            }
            // The other backend has another id.
            service.id = 2;
            service.slice = 2000;
            service.backends = vec![new];
            service.write(fixture.loaded()).unwrap();
            set_state(fixture.loaded(), 1000, STATE_DRAINING, 1).unwrap();
            let next = Packet { flags: if protocol == TCP { ACK } else { 0 }, ..sent.clone() };
            let change = fixture.xdp(&next.build()).unwrap();
            let expected = if protocol == TCP { old } else { new };
            assert_eq!(packet(&change).destination, expected, "{family:?} {protocol}");
            assert_eq!(change.counters.contains_key("flow_moved"), protocol == UDP);

            set_state(fixture.loaded(), 1000, STATE_GONE, 1).unwrap();
            let change = fixture.xdp(&next.build()).unwrap();
            if protocol == TCP {
                assert_eq!((change.action, &change.counters), (TX, &counted(&["backend_gone"])));
                let reset = packet(&change);
                assert_eq!((reset.flags, reset.sequence), (RST, next.acknowledgment));
            } else {
                assert_eq!(packet(&change).destination, new);
            }
            // The id in another life is another backend.
            set_state(fixture.loaded(), 1000, 1, 2).unwrap();
            let change = fixture.xdp(&next.build()).unwrap();
            assert_eq!(change.counters.contains_key("backend_gone"), protocol == TCP);
        }
    }
}

#[test]
fn middle_of_an_unknown_connection_is_reset_and_a_reset_is_not() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let pod = SocketAddr::new(family.remote_pod(), 8080);
        Service::external(node_port(family), TCP, &[pod]).write(fixture.loaded()).unwrap();
        let sent = Packet::tcp(SocketAddr::new(family.client(), 40000), node_port(family), ACK);
        let change = fixture.xdp(&sent.build()).unwrap();
        assert_eq!((change.action, &change.counters), (TX, &counted(&["no_flow"])));
        assert_eq!((packet(&change).flags, packet(&change).sequence), (RST, sent.acknowledgment));
        let reset = Packet { flags: RST, ..sent };
        let change = fixture.xdp(&reset.build()).unwrap();
        assert_eq!((change.action, &change.counters), (DROP, &counted(&["no_flow"])));
        assert_eq!(fixture.flows().unwrap(), []);
    }
}

#[test]
fn unresolved_neighbour_is_left_to_tc_and_no_route_is_dropped() {
    if !tier_enabled() {
        return;
    }
    for (family, behind, nowhere) in [
        (Family::V4, "10.244.3.9:80", "10.244.4.9:80"),
        (Family::V6, "[fd44:0:0:3::9]:80", "[fd44:0:0:4::9]:80"),
    ] {
        let fixture = Fixture::new().unwrap();
        Service::external(node_port(family), TCP, &[behind.parse().unwrap()])
            .write(fixture.loaded())
            .unwrap();
        let frame = from_client(family, TCP, node_port(family)).build();
        let change = fixture.xdp(&frame).unwrap();
        let expected = Change { action: PASS, frame, counters: counted(&["flow_created", "no_neighbour"]) };
        assert_eq!(change, expected);
        let fixture = {
            drop(fixture);
            Fixture::new().unwrap()
        };
        Service::external(node_port(family), TCP, &[nowhere.parse().unwrap()])
            .write(fixture.loaded())
            .unwrap();
        let change = fixture.xdp(&from_client(family, TCP, node_port(family)).build()).unwrap();
        assert_eq!((change.action, &change.counters), (DROP, &counted(&["no_route"])));
        assert_eq!(fixture.flows().unwrap(), []);
    }
}

#[test]
fn last_hop_is_not_forwarded() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let pod = SocketAddr::new(family.remote_pod(), 8080);
        Service::external(node_port(family), TCP, &[pod]).write(fixture.loaded()).unwrap();
        let sent = Packet { hops: 1, ..from_client(family, TCP, node_port(family)) };
        let change = fixture.xdp(&sent.build()).unwrap();
        assert_eq!((change.action, change.counters.get("ttl_expired")), (DROP, Some(&1)));
        assert_eq!(change.frame, sent.build());
    }
}
