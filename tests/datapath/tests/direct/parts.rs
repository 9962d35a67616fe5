//! What the cases of direct replies are made of: services, announcements, and packets on either node.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use skep_abi::service::FLAG_DIRECT;
use skep_datapath_tests::fixture::{Change, Fixture};
use skep_datapath_tests::packet::{Packet, SYN, TCP, UDP, octets};
use skep_datapath_tests::world::{Family, POD_HOST_MAC, POD_MAC, Service};

pub const PASS: u32 = 2;
pub const TX: u32 = 3;
/// TC's answers.
pub const NEXT: u32 = u32::MAX;
pub const SHOT: u32 = 2;
pub const REDIRECT: u32 = 7;

pub fn front(family: Family) -> SocketAddr {
    SocketAddr::new(family.node(), 30080)
}

pub fn client(family: Family) -> SocketAddr {
    SocketAddr::new(family.client(), 40000)
}

pub fn remote(family: Family) -> SocketAddr {
    SocketAddr::new(family.remote_pod(), 8080)
}

pub fn local(family: Family) -> SocketAddr {
    SocketAddr::new(family.local_pod(), 8080)
}

pub fn counted(names: &[&'static str]) -> BTreeMap<&'static str, u64> {
    names.iter().map(|name| (*name, 1)).collect()
}

/// What a packet carries that tells of `frontend`, as [`Packet::options`].
pub fn announcement(frontend: SocketAddr, protocol: u8) -> Vec<u8> {
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

pub fn first(protocol: u8, from: SocketAddr, to: SocketAddr) -> Packet {
    if protocol == TCP { Packet::tcp(from, to, SYN) } else { Packet::udp(from, to) }
}

pub fn cases() -> impl Iterator<Item = (Family, u8)> {
    Family::ALL.into_iter().flat_map(|family| [TCP, UDP].map(|protocol| (family, protocol)))
}

pub fn direct(family: Family, protocol: u8, backend: SocketAddr) -> Service {
    Service { flags: FLAG_DIRECT, ..Service::external(front(family), protocol, &[backend]) }
}

/// Through XDP and, where that leaves the packet alone, TC.
pub fn uplink(fixture: &Fixture, sent: &Packet) -> (bool, Change) {
    let frame = sent.build();
    let change = fixture.xdp(&frame).unwrap();
    if change.action != PASS {
        return (true, change);
    }
    assert_eq!(change.frame, frame, "left to TC untouched");
    (false, fixture.tc_uplink("tc_uplink_in", &frame).unwrap())
}

/// A frontend that another node tells of: that node's own port, or an address that services alone have.
pub fn told_frontends(family: Family) -> [SocketAddr; 2] {
    let other: IpAddr = if family == Family::V4 { "192.0.2.2" } else { "2001:db8::2" }.parse().unwrap();
    [SocketAddr::new(other, 30080), SocketAddr::new(family.cluster_ip(), 80)]
}

/// This node as the backend's: it has both frontends too.
pub fn backend_node(family: Family, protocol: u8) -> Fixture {
    let fixture = Fixture::new().unwrap();
    direct(family, protocol, local(family)).write(fixture.loaded()).unwrap();
    let balancer = SocketAddr::new(family.cluster_ip(), 80);
    Service { frontend: balancer, ..direct(family, protocol, local(family)) }
        .write(fixture.loaded())
        .unwrap();
    fixture
}

pub fn announced(family: Family, protocol: u8, frontend: SocketAddr) -> Packet {
    let sent = first(protocol, client(family), local(family));
    Packet { options: announcement(frontend, protocol), ..sent }
}

pub fn receive(fixture: &Fixture, sent: &Packet) -> Change {
    let frame = sent.build();
    let change = fixture.xdp(&frame).unwrap();
    assert_eq!((change.action, &change.frame), (PASS, &frame));
    fixture.tc_uplink("tc_uplink_in", &frame).unwrap()
}

pub fn reply(sent: &Packet, flags: u8) -> Packet {
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
