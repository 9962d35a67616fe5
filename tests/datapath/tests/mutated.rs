//! Packets that are nearly right, by the hundred thousand: each gets a defined verdict; what is left alone is left untouched;
//! what is translated is translated as the flow of its own tuple says, never as another's; and what came with right checksums
//! leaves with right ones. `SKEP_MUTATED_PACKETS` sets how many of each kind and family.
#![allow(clippy::unwrap_used)] // a test

use std::net::{IpAddr, SocketAddr};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use skep_abi::flow::Flow;
use skep_abi::{V4, V6};
use skep_datapath_tests::fixture::Fixture;
use skep_datapath_tests::object::Run;
use skep_datapath_tests::packet::{ACK, INIT, Packet, SCTP, SYN, TCP, UDP};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{Family, Service};

const PACKETS: u32 = 20_000;
const CLIENTS: u16 = 16;

/// One way into the datapath.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Xdp,
    TcUplink,
    TcPod,
}

fn node_port(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.node(), port)
}

/// Flows of every kind, and the packets that they are made of: what mutations start from.
fn prepare(family: Family) -> (Fixture, Vec<Vec<u8>>) {
    let fixture = Fixture::new().unwrap();
    let local = SocketAddr::new(family.local_pod(), 8080);
    let remote = SocketAddr::new(family.remote_pod(), 8080);
    let mut frames = Vec::new();
    let cases = [(TCP, 30080, local), (UDP, 30080, local), (TCP, 30081, remote), (UDP, 30081, remote)];
    let cases = cases.into_iter().chain([(SCTP, 30082, remote), (TCP, 30083, local)]);
    for (at, (protocol, port, backend)) in (1..).zip(cases) {
        let frontend = node_port(family, port);
        let backends = if port == 30083 { Vec::new() } else { vec![backend] };
        let service =
            Service { id: at, slice: at * 1000, ..Service::external(frontend, protocol, &backends) };
        service.write(fixture.loaded()).unwrap();
        for client in 0..CLIENTS {
            let source = SocketAddr::new(family.client(), 40000 + client);
            let first = match protocol {
                TCP => Packet::tcp(source, frontend, SYN),
                UDP => Packet::udp(source, frontend),
                _ => Packet::sctp(source, frontend, INIT),
            };
            let frame = first.build();
            let change = match protocol {
                SCTP => fixture.tc_uplink("tc_uplink_in", &frame),
                _ => fixture.xdp(&frame),
            };
            let change = change.unwrap();
            frames.push(frame);
            if protocol == TCP {
                frames.push(Packet { flags: ACK, payload: vec![7; 40], ..first.clone() }.build());
            }
            if let Ok(out) = Packet::read(&change.frame) {
                let reply = Packet { source: out.destination, destination: out.source, flags: ACK, ..out };
                // A connection whose backend has answered is opened by the first of its client's packets.
                let answer = Packet { flags: SYN | ACK, ..reply.clone() }.build();
                match (protocol, backend) {
                    (TCP, pod) if pod == local => drop(fixture.from_pod(&answer).unwrap()),
                    (TCP, _) => drop(fixture.xdp(&answer).unwrap()),
                    _ => {}
                }
                frames.push(reply.build());
            }
        }
    }
    (fixture, frames)
}

/// A few bytes of the headers are others, or there are fewer or more of them.
fn mutate(random: &mut StdRng, frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let below = |random: &mut StdRng, bound: usize| random.next_u32() as usize % bound;
    for _ in 0..below(random, 4) {
        let at = 12 + below(random, frame.len().min(90) - 12);
        match below(random, 3) {
            0 => frame[at] ^= 1 << below(random, 8),
            1 => frame[at] = random.next_u32() as u8,
            _ => frame[at] = [0, 1, 4, 0x45, 0x60, 6, 17, 44, 58, 132, 0xff][below(random, 11)],
        }
    }
    match below(random, 12) {
        0 => frame.truncate(14 + below(random, frame.len() - 14)),
        1 => frame.resize(frame.len() + below(random, 64), 0xee),
        _ => {}
    }
    frame
}

/// Addresses, ports and protocol of a packet without options or extension headers that has ports.
fn tuple(frame: &[u8]) -> Option<(SocketAddr, SocketAddr, u8)> {
    let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let (source, destination, protocol, l4): (IpAddr, IpAddr, u8, usize) = match word(12)? {
        // Later fragments have no ports.
        0x0800 if frame.get(14)? == &0x45 && word(20)? & 0x1fff == 0 => {
            let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
            (address(26)?, address(30)?, *frame.get(23)?, 34)
        }
        0x86dd => {
            let address = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?));
            (address(22)?, address(38)?, *frame.get(20)?, 54)
        }
        _ => return None,
    };
    let known = [TCP, UDP, SCTP].contains(&protocol);
    known.then_some((
        SocketAddr::new(source, word(l4)?),
        SocketAddr::new(destination, word(l4 + 2)?),
        protocol,
    ))
}

/// What the flow table says that packets with this tuple leave with.
fn flow_of(
    fixture: &Fixture,
    (source, destination, protocol): (SocketAddr, SocketAddr, u8),
) -> Option<(SocketAddr, SocketAddr)> {
    let packet = Packet { protocol, ..Packet::udp(source, destination) };
    let key = fixture.key(&packet).unwrap();
    match source.ip() {
        IpAddr::V4(_) => leaves(fixture.loaded().flow::<V4>(&key).unwrap()?),
        IpAddr::V6(_) => leaves(fixture.loaded().flow::<V6>(&key).unwrap()?),
    }
}

fn leaves<A: Into<IpAddr>>(flow: Flow<A>) -> Option<(SocketAddr, SocketAddr)> {
    Some((
        SocketAddr::new(flow.new_source.into(), flow.new_source_port.get()),
        SocketAddr::new(flow.new_destination.into(), flow.new_destination_port.get()),
    ))
}

/// Checks one packet. True when it was changed.
fn check(fixture: &Fixture, way: Way, frame: &[u8]) -> bool {
    // The kernel takes nothing into the stack that ends within its network header.
    if way != Way::Xdp && frame.len() < 54 {
        return false;
    }
    // Without a look at the counters, which takes many times longer than the packet.
    let (loaded, world) = (fixture.loaded(), &fixture.world);
    let run = match way {
        Way::Xdp => loaded.run_xdp("xdp_uplink", world.uplink, frame),
        Way::TcUplink => loaded.run_tc("tc_uplink_in", world.uplink, frame),
        Way::TcPod => loaded.run_tc("tc_from_pod", world.pod, frame),
    };
    let Run { action, frame: out } = run.unwrap();
    let told = || format!("{way:?} {action}\n in {frame:02x?}\nout {out:02x?}");
    let (defined, drop) = match way {
        Way::Xdp => ([1, 2, 3, 4].contains(&action), action == 1),
        Way::TcUplink | Way::TcPod => ([u32::MAX, 2, 7].contains(&action), action == 2),
    };
    assert!(defined, "{}", told());
    if drop || out == frame {
        return false;
    }
    if let (Some(before), Some(after)) = (tuple(frame), tuple(&out)) {
        let refused = (before.0, before.1) == (after.1, after.0);
        let translated = flow_of(fixture, before) == Some((after.0, after.1));
        assert!(refused || translated, "{before:?} became {after:?}\n{}", told());
        if Packet::read(frame).is_ok() {
            assert!(Packet::read(&out).is_ok(), "{:?}\n{}", Packet::read(&out), told());
        }
    }
    true
}

#[test]
fn mutated_packets_get_a_defined_verdict_and_no_other_flows_addresses() {
    if !tier_enabled() {
        return;
    }
    let packets = std::env::var("SKEP_MUTATED_PACKETS").map_or(PACKETS, |text| text.parse().unwrap());
    for family in Family::ALL {
        let (fixture, frames) = prepare(family);
        for (at, way) in (1_u64..).zip([Way::Xdp, Way::TcUplink, Way::TcPod]) {
            let mut random = StdRng::seed_from_u64(at);
            let mut changed = 0;
            for number in 0..packets {
                let frame = mutate(&mut random, &frames[number as usize % frames.len()]);
                changed += u32::from(check(&fixture, way, &frame));
            }
            assert!(changed > packets / 50, "{family:?} {way:?}: only {changed} were translated or refused");
        }
    }
}
