//! ICMP errors about translated packets: both headers are translated back, in both directions and at each hook, and what
//! quotes nothing of ours passes untouched.
#![allow(clippy::unwrap_used)] // a test

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use skep_abi::backend::STATE_GONE;
use skep_abi::service::FLAG_DIRECT;
use skep_datapath_tests::fixture::{Change, Fixture, packet};
use skep_datapath_tests::packet::{ACK, Packet, SYN, TCP, UDP, checksum, octets};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{
    CLIENT_MAC, Family, NODE_MAC, OTHER_MAC, POD_HOST_MAC, POD_MAC, Service, set_state,
};

const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;
const REDIRECT: u32 = 4;
/// What TC returns for a packet that is sent elsewhere, and for one that is left alone.
const TC_REDIRECT: u32 = 7;
const TC_NEXT: u32 = u32::MAX;

/// An ICMP error.
#[derive(Clone, Debug)]
struct Complaint {
    macs: ([u8; 6], [u8; 6]),
    from: IpAddr,
    to: IpAddr,
    hops: u8,
    /// Type and code, and the four bytes after the checksum.
    kind: ([u8; 2], [u8; 4]),
    /// The packet complained about, and how many bytes of it are quoted.
    about: Packet,
    quoted: usize,
}

impl Complaint {
    fn build(&self) -> Vec<u8> {
        let quote = &self.about.build()[14..];
        let mut message = self.kind.0.to_vec();
        message.extend([0, 0]);
        message.extend(self.kind.1);
        message.extend(&quote[..self.quoted.min(quote.len())]);
        let mut frame = self.macs.0.to_vec();
        frame.extend(self.macs.1);
        let (from, to) = (octets(self.from), octets(self.to));
        if self.from.is_ipv4() {
            let sum = checksum(&[&message]);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            let mut header = vec![0x45, 0xc0];
            header.extend((20 + message.len() as u16).to_be_bytes());
            header.extend([0xab, 0xcd, 0, 0, self.hops, 1, 0, 0]);
            header.extend([from, to].concat());
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend([8, 0]);
            frame.extend(header);
        } else {
            let mut pseudo = [from.clone(), to.clone()].concat();
            pseudo.extend((message.len() as u32).to_be_bytes());
            pseudo.extend([0, 0, 0, 58]);
            let sum = checksum(&[&pseudo, &message]);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((message.len() as u16).to_be_bytes());
            frame.extend([58, self.hops]);
            frame.extend([from, to].concat());
        }
        frame.extend(message);
        frame
    }
}

fn router(family: Family) -> IpAddr {
    if family == Family::V4 { "198.51.100.77" } else { "2001:db8:77::1" }.parse().unwrap()
}

/// Kinds of errors: type and code, and what follows.
fn kinds(family: Family) -> Vec<([u8; 2], [u8; 4])> {
    let mtu = 1400_u32.to_be_bytes();
    match family {
        Family::V4 => {
            vec![([3, 4], [0, 0, 5, 120]), ([3, 3], [0; 4]), ([11, 0], [0; 4]), ([12, 0], [9, 0, 0, 0])]
        }
        Family::V6 => vec![([2, 0], mtu), ([1, 4], [0; 4]), ([3, 0], [0; 4]), ([4, 1], [0, 0, 0, 6])],
    }
}

fn node_port(family: Family) -> SocketAddr {
    SocketAddr::new(family.node(), 30080)
}

fn counted(names: &[&'static str]) -> BTreeMap<&'static str, u64> {
    names.iter().map(|name| (*name, 1)).collect()
}

/// A connection through a NodePort to `backend`: what the client sent, and that as it left.
fn connection(fixture: &Fixture, family: Family, protocol: u8, backend: IpAddr) -> (Packet, Packet) {
    let backend = SocketAddr::new(backend, 8080);
    Service::external(node_port(family), protocol, &[backend]).write(fixture.loaded()).unwrap();
    let source = SocketAddr::new(family.client(), 40000);
    let sent = if protocol == TCP {
        Packet::tcp(source, node_port(family), SYN)
    } else {
        Packet::udp(source, node_port(family))
    };
    let change = fixture.xdp(&sent.build()).unwrap();
    assert_ne!(change.action, PASS);
    (sent, packet(&change))
}

fn complaint(family: Family, about: &Packet, to: IpAddr) -> Complaint {
    Complaint {
        macs: (NODE_MAC, CLIENT_MAC),
        from: router(family),
        to,
        hops: 200,
        kind: kinds(family)[0],
        about: about.clone(),
        quoted: 1000,
    }
}

#[test]
fn error_about_a_packet_to_the_backend_reaches_the_client_as_about_its_own() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in Family::ALL.into_iter().flat_map(|f| [TCP, UDP].map(|p| (f, p))) {
        let fixture = Fixture::new().unwrap();
        let (sent, mut out) = connection(&fixture, family, protocol, family.remote_pod());
        let mut own = Packet { hops: out.hops, ..sent.clone() };
        let mut expect = counted(&["icmp_error_translated", "hop_resolved"]);
        // The quote: 8 bytes of the transport header, a whole one, one with data, and behind options.
        let headers = family.header() + if protocol == TCP { 20 } else { 8 };
        for (payload, quoted) in [(0, family.header() + 8), (0, headers), (301, 1000), (300, headers + 7)] {
            for kind in kinds(family) {
                for options in [vec![], options(family, protocol)] {
                    out.payload = vec![0x5a; payload];
                    own.payload.clone_from(&out.payload);
                    out.options.clone_from(&options);
                    own.options.clone_from(&options);
                    let length = quoted + options.len().saturating_sub(usize::from(family == Family::V6));
                    let sent = Complaint { kind, quoted: length, ..complaint(family, &out, out.source.ip()) };
                    let expected = Complaint {
                        macs: (CLIENT_MAC, NODE_MAC),
                        from: node_port(family).ip(),
                        to: own.source.ip(),
                        hops: 199,
                        about: own.clone(),
                        ..sent.clone()
                    };
                    let change = fixture.xdp(&sent.build()).unwrap();
                    let expected = Change { action: TX, frame: expected.build(), counters: expect.clone() };
                    assert_eq!(change, expected, "{family:?} {protocol} {kind:?} {payload} {quoted}");
                    expect = counted(&["icmp_error_translated"]);
                }
            }
        }
        let rows = fixture.flows().unwrap();
        assert!(rows.iter().all(|row| row.packets <= 1), "errors are no packets of a flow: {rows:?}");
    }
}

fn options(family: Family, protocol: u8) -> Vec<u8> {
    if family == Family::V4 {
        vec![1, 1, 1, 1, 1, 1, 1, 0]
    } else {
        // A destination options header of 8 bytes.
        vec![60, protocol, 0, 1, 4, 0, 0, 0, 0]
    }
}

#[test]
fn error_about_a_reply_reaches_the_backend_as_about_its_own() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in Family::ALL.into_iter().flat_map(|f| [TCP, UDP].map(|p| (f, p))) {
        for local in [false, true] {
            let fixture = Fixture::new().unwrap();
            let backend = if local { family.local_pod() } else { family.remote_pod() };
            let (sent, out) = connection(&fixture, family, protocol, backend);
            let flags = if protocol == TCP { SYN | ACK } else { 0 };
            let answer = Packet { source: out.destination, destination: out.source, flags, ..sent.clone() };
            let change = if local { fixture.from_pod(&answer.build()) } else { fixture.xdp(&answer.build()) };
            let reply = packet(&change.unwrap());
            assert_eq!(reply.source, sent.destination);
            let error = complaint(family, &reply, reply.source.ip());
            let change = fixture.xdp(&error.build()).unwrap();
            let expected = Complaint {
                macs: if local { (POD_MAC, POD_HOST_MAC) } else { (OTHER_MAC, NODE_MAC) },
                // The backend here talks with the client, the one elsewhere with this node.
                from: if local { error.from } else { family.node() },
                to: backend,
                hops: 199,
                about: Packet { hops: reply.hops, ..answer },
                ..error.clone()
            };
            let action = if local { REDIRECT } else { TX };
            let counters = counted(&["icmp_error_translated"]);
            assert_eq!(change, Change { action, frame: expected.build(), counters }, "{family:?} {protocol}");
        }
    }
}

#[test]
fn error_about_a_direct_reply_is_sent_on_to_the_backends_node_with_its_sender() {
    if !tier_enabled() {
        return;
    }
    for (family, protocol) in Family::ALL.into_iter().flat_map(|f| [TCP, UDP].map(|p| (f, p))) {
        let fixture = Fixture::new().unwrap();
        let backend = SocketAddr::new(family.remote_pod(), 8080);
        let service = Service::external(node_port(family), protocol, &[backend]);
        Service { flags: FLAG_DIRECT, ..service }.write(fixture.loaded()).unwrap();
        let client = SocketAddr::new(family.client(), 40000);
        let sent = match protocol {
            TCP => Packet::tcp(client, node_port(family), SYN),
            _ => Packet::udp(client, node_port(family)),
        };
        assert_eq!(fixture.xdp(&sent.build()).unwrap().action, PASS);
        // As the client got it from the backend's node.
        let reply = Packet { source: node_port(family), destination: client, ..sent };
        let error = complaint(family, &reply, node_port(family).ip());
        let expected = Complaint {
            macs: (OTHER_MAC, NODE_MAC),
            to: backend.ip(),
            hops: 199,
            about: Packet { source: backend, ..reply.clone() },
            ..error.clone()
        };
        let change = fixture.xdp(&error.build()).unwrap();
        let counters = counted(&["icmp_error_translated"]);
        let expected = Change { action: TX, frame: expected.build(), counters };
        assert_eq!(change, expected, "{family:?} {protocol}");
    }
}

#[test]
fn error_of_a_pod_leaves_as_the_services() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let (sent, out) = connection(&fixture, family, UDP, family.local_pod());
        let error = Complaint {
            from: family.local_pod(),
            kind: kinds(family)[1],
            ..complaint(family, &out, family.client())
        };
        let change = fixture.from_pod(&error.build()).unwrap();
        let expected =
            Complaint { from: family.node(), hops: 199, about: Packet { hops: out.hops, ..sent }, ..error };
        let counters = counted(&["icmp_error_translated", "hop_resolved"]);
        assert_eq!(change, Change { action: TC_REDIRECT, frame: expected.build(), counters }, "{family:?}");
    }
}

#[test]
fn error_that_xdp_did_not_take_is_translated_by_tc() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let (sent, out) = connection(&fixture, family, TCP, family.remote_pod());
        let error = complaint(family, &out, out.source.ip());
        let change = fixture.tc_uplink("tc_uplink_in", &error.build()).unwrap();
        let expected = Complaint {
            from: family.node(),
            to: family.client(),
            hops: 199,
            about: Packet { hops: out.hops, ..sent },
            ..error.clone()
        };
        let counters = counted(&["icmp_error_translated", "hop_resolved"]);
        assert_eq!(change, Change { action: TC_REDIRECT, frame: expected.build(), counters }, "{family:?}");
        let last = Complaint { hops: 1, ..error };
        let change = fixture.xdp(&last.build()).unwrap();
        assert_eq!((change.action, change.counters.get("ttl_expired")), (DROP, Some(&1)));
    }
}

#[test]
fn errors_that_quote_nothing_of_ours_pass_untouched() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let (_, out) = connection(&fixture, family, UDP, family.remote_pod());
        let ours = complaint(family, &out, out.source.ip());
        let about = |change: &dyn Fn(&mut Packet)| {
            let mut about = out.clone();
            change(&mut about);
            Complaint { about, ..ours.clone() }
        };
        let asks = if family == Family::V4 { [8, 0] } else { [128, 0] };
        let redirect = if family == Family::V4 { [5, 1] } else { [137, 0] };
        let cases = [
            Complaint { kind: (asks, [0, 1, 0, 1]), ..ours.clone() },
            Complaint { kind: (redirect, [0; 4]), ..ours.clone() },
            Complaint { to: family.client(), ..ours.clone() },
            Complaint { quoted: family.header() + 7, ..ours.clone() },
            Complaint { quoted: 0, ..ours.clone() },
            about(&|packet| packet.source.set_port(1)),
            about(&|packet| packet.destination.set_port(1)),
            about(&|packet| packet.destination.set_ip(family.client())),
            about(&|packet| packet.protocol = TCP),
        ];
        let untouched = |frame: Vec<u8>, what: &str| {
            let expected = Change { action: PASS, frame: frame.clone(), counters: BTreeMap::new() };
            assert_eq!(fixture.xdp(&frame).unwrap(), expected, "{family:?} {what}");
            let expected = Change { action: TC_NEXT, ..expected };
            assert_eq!(fixture.tc_uplink("tc_uplink_in", &frame).unwrap(), expected, "{family:?} {what}");
        };
        for case in cases {
            untouched(case.build(), &format!("{case:?}"));
        }
        let whole = ours.build();
        let inner = 14 + family.header() + 8;
        for (at, value) in
            [(inner, 0x95), (inner, 0x44), (inner + if family == Family::V4 { 9 } else { 6 }, 132)]
        {
            let mut frame = whole.clone();
            frame[at] = value;
            untouched(frame, &format!("{at} {value}"));
        }
        // Cut off anywhere before the quoted ports end.
        for length in 14 + family.header() + 1..inner + family.header() + 4 {
            untouched(whole[..length].to_vec(), &format!("cut to {length}"));
        }
        // A backend that is gone: whatever has its address now is not what the error is about.
        set_state(fixture.loaded(), 1000, STATE_GONE, 1).unwrap();
        untouched(whole, "gone");
    }
}

#[test]
fn damaged_errors_are_passed_dropped_or_translated_and_never_anything_else() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let (_, mut out) = connection(&fixture, family, TCP, family.remote_pod());
        out.payload = vec![7; 100];
        let whole = complaint(family, &out, out.source.ip()).build();
        // A fixed sequence of changes, so that every run is the same.
        let mut number = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |below: usize| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (number >> 33) as usize % below
        };
        let mut translated = 0;
        for _ in 0..5000 {
            let mut frame = whole.clone();
            for _ in 0..1 + next(4) {
                let at = 14 + next(frame.len() - 14);
                frame[at] = next(256) as u8;
            }
            frame.truncate(15 + next(frame.len() - 14));
            let change = fixture.xdp(&frame).unwrap();
            assert_eq!(change.frame.len(), frame.len());
            match change.action {
                PASS => assert_eq!(change.frame, frame),
                TX if change.counters.contains_key("icmp_error_translated") => translated += 1,
                DROP if change.counters.contains_key("ttl_expired") => {}
                _ => panic!("{change:?} after {frame:02x?}"),
            }
        }
        assert!(translated > 50, "only {translated} were still whole enough");
    }
}
