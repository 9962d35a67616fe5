//! Connections that are not made yet: what a SYN leaves behind, when that becomes a connection, and that a flood of SYNs
//! takes nothing from those that are made.
#![allow(clippy::unwrap_used)] // a test

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use skep_abi::config::CONFIG;
use skep_abi::flow::{FLOW_ENTRIES, FLOW_HALF_OPEN, FLOW_REPLY, STATE_CLOSED};
use skep_abi::service::FLAG_HASHED;
use skep_abi::{Be16, config::Config};
use skep_datapath_tests::fixture::{Change, Fixture, FlowRow, packet};
use skep_datapath_tests::packet::{ACK, INIT, Packet, RST, SCTP, SYN, TCP, set_source};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{Family, NODE_MAC, OTHER_MAC, Service};

const DROP: u32 = 1;
const TX: u32 = 3;

/// SYNs of a flood; `SKEP_FLOOD_PACKETS` sets another number.
const FLOOD: u32 = 600_000;

fn front(family: Family) -> SocketAddr {
    SocketAddr::new(family.node(), 30080)
}

fn client(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.client(), port)
}

fn counted(names: &[&'static str]) -> BTreeMap<&'static str, u64> {
    names.iter().map(|name| (*name, 1)).collect()
}

/// A service with as many pods on the other node, whose connections are source-translated.
fn remote(family: Family, pods: u16) -> Service {
    let backends: Vec<SocketAddr> =
        (0..pods).map(|at| SocketAddr::new(family.remote_pod(), 9000 + at)).collect();
    Service::external(front(family), TCP, &backends)
}

/// What the backend sends back to a packet that came to it.
fn reply(out: &Packet, flags: u8) -> Packet {
    Packet {
        source: out.destination,
        destination: out.source,
        destination_mac: NODE_MAC,
        source_mac: OTHER_MAC,
        flags,
        ..out.clone()
    }
}

fn stages(rows: &[FlowRow]) -> (usize, usize) {
    let half_open = rows.iter().filter(|row| row.flags & FLOW_HALF_OPEN != 0).count();
    (half_open, rows.len() - half_open)
}

fn send(fixture: &Fixture, packet: &Packet) -> Change {
    fixture.xdp(&packet.build()).unwrap()
}

#[test]
fn syn_and_its_answer_leave_half_open_entries_that_the_clients_answer_opens() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        remote(family, 50).write(fixture.loaded()).unwrap();
        let syn = Packet::tcp(client(family, 40000), front(family), SYN);
        let first = send(&fixture, &syn);
        let out = packet(&first);
        assert_eq!(stages(&fixture.flows().unwrap()), (2, 0), "{family:?}");
        // The SYN again is the same connection.
        let again = send(&fixture, &syn);
        assert_eq!((again.counters.len(), packet(&again)), (0, out.clone()));

        let answer = send(&fixture, &reply(&out, SYN | ACK));
        assert_eq!((answer.action, packet(&answer).source), (TX, front(family)));
        assert_eq!(stages(&fixture.flows().unwrap()), (2, 0), "{family:?}: the backend answers anybody");

        let ack = send(&fixture, &Packet { flags: ACK, ..syn.clone() });
        assert_eq!((ack.action, &ack.counters), (TX, &counted(&["flow_opened"])), "{family:?}");
        assert_eq!((packet(&ack).source, packet(&ack).destination), (out.source, out.destination));
        let rows = fixture.flows().unwrap();
        assert_eq!(stages(&rows), (0, 2), "{rows:?}");
        let of = |reply: u8| rows.iter().find(|row| row.flags & FLOW_REPLY == reply).unwrap();
        assert_eq!((of(0).packets, of(FLOW_REPLY).packets), (3, 1), "counts go on");

        let data = send(&fixture, &reply(&out, ACK));
        assert_eq!((data.counters.len(), packet(&data).destination), (0, client(family, 40000)));
    }
}

#[test]
fn answer_that_acknowledges_nothing_of_the_backends_makes_no_connection() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        remote(family, 1).write(fixture.loaded()).unwrap();
        let syn = Packet::tcp(client(family, 40000), front(family), SYN);
        let out = packet(&send(&fixture, &syn));
        let ack = |acknowledgment| Packet { flags: ACK, acknowledgment, ..syn.clone() };
        let forged = |number: u32| {
            let change = send(&fixture, &ack(number));
            assert_eq!((change.action, change.counters), (DROP, counted(&["wrong_answer"])), "{number}");
            assert_eq!(stages(&fixture.flows().unwrap()), (2, 0), "{family:?}");
        };
        // Before the backend has answered there is nothing to acknowledge.
        [0, 1, 1001].into_iter().for_each(forged);
        let answer = |sequence| send(&fixture, &Packet { sequence, ..reply(&out, SYN | ACK) });
        answer(u32::MAX);
        [1, u32::MAX, 1001].into_iter().for_each(forged);
        // A backend that keeps no state itself answers the SYN that came again with another number; the client may have had
        // either.
        answer(5000);
        [1, 5000, 5002].into_iter().for_each(forged);
        let opened = send(&fixture, &ack(if family == Family::V4 { 0 } else { 5001 }));
        assert_eq!((opened.action, &opened.counters), (TX, &counted(&["flow_opened"])), "{family:?}");
        assert_eq!(stages(&fixture.flows().unwrap()), (0, 2), "{family:?}");
        // From then on numbers are the two ends' affair.
        assert_eq!(send(&fixture, &ack(9)).action, TX);
    }
}

#[test]
fn sctp_association_is_half_open_until_the_clients_cookie() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let service = Service { protocol: SCTP, ..remote(family, 1) };
        service.write(fixture.loaded()).unwrap();
        let init = Packet::sctp(client(family, 40000), front(family), INIT);
        fixture.tc_uplink("tc_uplink_in", &init.build()).unwrap();
        assert_eq!(stages(&fixture.flows().unwrap()), (2, 0));
        const COOKIE_ECHO: u8 = 10;
        let echo = Packet::sctp(client(family, 40000), front(family), COOKIE_ECHO);
        let change = fixture.tc_uplink("tc_uplink_in", &echo.build()).unwrap();
        assert_eq!(change.counters, counted(&["flow_opened"]), "{family:?}");
        assert_eq!(stages(&fixture.flows().unwrap()), (0, 2));
    }
}

#[test]
fn client_that_resets_instead_makes_no_connection_and_may_begin_anew() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        remote(family, 50).write(fixture.loaded()).unwrap();
        let syn = Packet::tcp(client(family, 40000), front(family), SYN);
        let out = packet(&send(&fixture, &syn));
        let reset = send(&fixture, &Packet { flags: RST, ..syn.clone() });
        assert_eq!((reset.action, reset.counters.len()), (TX, 0));
        let rows = fixture.flows().unwrap();
        assert_eq!(stages(&rows), (2, 0));
        assert!(rows.iter().any(|row| row.state == STATE_CLOSED));
        let anew = send(&fixture, &syn);
        assert_eq!(anew.counters.get("flow_created"), Some(&1));
        assert_ne!(packet(&anew).source, out.source);
    }
}

#[test]
fn half_open_entry_that_went_is_chosen_alike_and_without_one_the_answer_is_refused() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        Service { flags: FLAG_HASHED, ..remote(family, 50) }.write(fixture.loaded()).unwrap();
        for port in 40000..40020 {
            let syn = Packet::tcp(client(family, port), front(family), SYN);
            let first = packet(&send(&fixture, &syn)).destination;
            fixture.forget_flows().unwrap();
            assert_eq!(packet(&send(&fixture, &syn)).destination, first, "{family:?} {port}");
            fixture.forget_flows().unwrap();
            let ack = send(&fixture, &Packet { flags: ACK, ..syn });
            assert_eq!((ack.action, &ack.counters), (TX, &counted(&["no_flow"])));
            assert_eq!(fixture.flows().unwrap(), []);
        }
    }
}

#[test]
fn connection_whose_reply_entry_went_gets_it_back_unless_another_has_its_tuple() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        remote(family, 1).write(fixture.loaded()).unwrap();
        let syn = Packet::tcp(client(family, 40000), front(family), SYN);
        let out = packet(&send(&fixture, &syn));
        fixture.answer(&out).unwrap();
        fixture.forget(&reply(&out, ACK)).unwrap();
        assert_eq!(stages(&fixture.flows().unwrap()), (1, 0));
        let ack = send(&fixture, &Packet { flags: ACK, ..syn.clone() });
        assert_eq!(ack.counters, counted(&["flow_opened", "flow_repaired"]), "{family:?}");
        assert_eq!(stages(&fixture.flows().unwrap()), (0, 2));

        // One port only: the next connection to the same backend takes the tuple of the first, which is half-open.
        fixture.forget_flows().unwrap();
        let config: Config = fixture.loaded().get(CONFIG, &0_u32).unwrap().unwrap();
        let one = Config { snat_last: config.snat_first, ..config };
        fixture.loaded().set(CONFIG, &0_u32, &one).unwrap();
        let first = packet(&send(&fixture, &syn));
        fixture.answer(&first).unwrap();
        fixture.age(&reply(&first, ACK), 3).unwrap();
        let other = Packet::tcp(client(family, 40001), front(family), SYN);
        let second = send(&fixture, &other);
        assert_eq!(packet(&second).source, first.source, "{family:?} {:?}", second.counters);
        // Its client is late: refused, and the tuple stays the other's.
        let late = send(&fixture, &Packet { flags: ACK, ..syn.clone() });
        assert_eq!((late.action, &late.counters), (TX, &counted(&["no_flow"])), "{family:?}");
        assert_eq!(packet(&late).flags, RST);
        fixture.answer(&packet(&second)).unwrap();
        let made = send(&fixture, &Packet { flags: ACK, ..other.clone() });
        assert_eq!(made.counters, counted(&["flow_opened"]), "{family:?}");
        // A made connection keeps it.
        let third = send(&fixture, &Packet::tcp(client(family, 40002), front(family), SYN));
        assert_eq!((third.action, &third.counters), (DROP, &counted(&["snat_exhausted"])), "{family:?}");
        let data = send(&fixture, &reply(&first, ACK));
        assert_eq!(packet(&data).destination, client(family, 40001), "{family:?}");
        let restored = fixture.loaded().set(CONFIG, &0_u32, &config);
        restored.unwrap();
    }
}

#[test]
fn young_half_open_connection_keeps_its_port() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        remote(family, 1).write(fixture.loaded()).unwrap();
        let config: Config = fixture.loaded().get(CONFIG, &0_u32).unwrap().unwrap();
        let one = Config { snat_last: Be16::new(config.snat_first.get()), ..config };
        fixture.loaded().set(CONFIG, &0_u32, &one).unwrap();
        let syn = Packet::tcp(client(family, 40000), front(family), SYN);
        fixture.answer(&packet(&send(&fixture, &syn))).unwrap();
        let other = send(&fixture, &Packet::tcp(client(family, 40001), front(family), SYN));
        assert_eq!((other.action, &other.counters), (DROP, &counted(&["snat_exhausted"])), "{family:?}");
        let ack = send(&fixture, &Packet { flags: ACK, ..syn });
        assert_eq!(ack.counters, counted(&["flow_opened"]), "{family:?}");
    }
}

/// Another address and port for each packet of a flood.
fn spoofed(family: Family, number: u32) -> SocketAddr {
    let address = match family {
        Family::V4 => IpAddr::from((0x0b00_0000 + number).to_be_bytes()),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 9, 0, 0, 0, (number >> 16) as u16, number as u16]),
    };
    SocketAddr::new(address, 1024 + (number % 60_000) as u16)
}

#[test]
fn flood_of_syns_evicts_no_connection_that_was_made() {
    if !tier_enabled() {
        return;
    }
    let packets = std::env::var("SKEP_FLOOD_PACKETS").map_or(FLOOD, |text| text.parse().unwrap());
    assert!(packets > 2 * FLOW_ENTRIES, "it is to go through the whole table");
    for family in Family::ALL {
        let fixture = Fixture::new().unwrap();
        let service = remote(family, 50);
        service.write(fixture.loaded()).unwrap();
        let made: Vec<(Packet, Packet)> = (0..1000)
            .map(|at| {
                let syn = Packet::tcp(client(family, 20_000 + at), front(family), SYN);
                let out = packet(&send(&fixture, &syn));
                fixture.answer(&out).unwrap();
                let ack = Packet { flags: ACK, ..syn };
                send(&fixture, &ack);
                (ack, out)
            })
            .collect();
        assert_eq!(stages(&fixture.flows().unwrap()), (0, 2000));
        let loaded = fixture.loaded();
        let before = loaded.counters().unwrap();
        let mut frame = Packet::tcp(spoofed(family, 0), front(family), SYN).build();
        for number in 0..packets {
            set_source(&mut frame, spoofed(family, number));
            let run = loaded.run_xdp("xdp_uplink", fixture.world.uplink, &frame).unwrap();
            assert!([DROP, TX].contains(&run.action), "{}", run.action);
        }
        let after = loaded.counters().unwrap();
        let rose = |name: &str| after.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
        let created = rose("flow_created");
        assert!(created > u64::from(packets) / 2, "{family:?}: only {created} flows for {packets} SYNs");
        assert_eq!(created + rose("snat_exhausted"), u64::from(packets), "{family:?}");
        assert_eq!((rose("flow_opened"), rose("flow_repaired")), (0, 0));

        let (half_open, open) = stages(&fixture.flows().unwrap());
        assert_eq!(open, 2000, "{family:?}");
        assert!(half_open <= FLOW_ENTRIES as usize && half_open > 10_000, "{family:?}: {half_open}");
        for (ack, out) in &made {
            let change = send(&fixture, ack);
            assert_eq!((change.action, packet(&change).source), (TX, out.source), "{family:?}");
            let back = send(&fixture, &reply(out, ACK));
            assert_eq!(packet(&back).destination, ack.source, "{family:?}");
        }
        // And there is still room for whoever comes.
        let mut others = (50_000..).map(|port| Packet::tcp(client(family, port), front(family), SYN));
        let sent = others
            .find_map(|syn| Some((syn.clone(), Some(send(&fixture, &syn)).filter(|out| out.action == TX)?)));
        let (syn, out) = sent.unwrap();
        fixture.answer(&packet(&out)).unwrap();
        let ack = send(&fixture, &Packet { flags: ACK, ..syn });
        assert_eq!(ack.counters.get("flow_opened"), Some(&1), "{family:?} {:?}", ack.counters);
    }
}
