//! Ways to other machines that one new flow takes over from another: only while nothing has changed, and for what fits.

use std::net::SocketAddr;

use skep_abi::config::{CONFIG, Config};
use skep_abi::local::{LOCAL_V4, LOCAL_V6, LOCAL_XDP_REDIRECT, LocalEndpoint};
use skep_datapath_tests::fixture::{Change, Fixture, packet};
use skep_datapath_tests::packet::{Packet, UDP};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{Family, OTHER_MAC, POD_HOST_MAC, POD_MAC, Service, v4, v6};

const PASS: u32 = 2;
const TX: u32 = 3;
const REDIRECT: u32 = 4;

fn frontend(family: Family) -> SocketAddr {
    SocketAddr::new(family.node(), 30080)
}

fn fixture(family: Family) -> Fixture {
    let fixture = Fixture::new().expect("root");
    let pod = SocketAddr::new(family.remote_pod(), 8080);
    Service::external(frontend(family), UDP, &[pod]).write(fixture.loaded()).expect("the service's entries");
    fixture
}

/// The first datagram of the client with that port.
fn send(fixture: &Fixture, family: Family, port: u16, payload: usize) -> Change {
    let source = SocketAddr::new(family.client(), port);
    let sent = Packet { payload: vec![7; payload], ..Packet::udp(source, frontend(family)) };
    fixture.xdp(&sent.build()).expect("a run")
}

#[test]
fn new_flows_take_the_same_way_until_the_epoch_is_raised() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = fixture(family);
        for port in 40000..40008 {
            let change = send(&fixture, family, port, 5);
            assert_eq!(
                (change.action, packet(&change).destination_mac),
                (TX, OTHER_MAC),
                "{family:?} {port}"
            );
            assert_eq!(change.counters.get("hop_resolved"), Some(&1), "{family:?} {port}");
        }
        // The backend's address is a pod's here from now on.
        let local =
            LocalEndpoint { ifindex: 3, flags: LOCAL_XDP_REDIRECT, pod_mac: POD_MAC, host_mac: POD_HOST_MAC };
        match family {
            Family::V4 => fixture.loaded().set(LOCAL_V4, &v4(family.remote_pod()), &local).unwrap(),
            Family::V6 => fixture.loaded().set(LOCAL_V6, &v6(family.remote_pod()), &local).unwrap(),
        }
        let config: Config = fixture.loaded().get(CONFIG, &0_u32).unwrap().unwrap();
        fixture.loaded().set(CONFIG, &0_u32, &Config { epoch: config.epoch + 1, ..config }).unwrap();
        let change = send(&fixture, family, 40008, 5);
        assert_eq!((change.action, packet(&change).destination_mac), (REDIRECT, POD_MAC), "{family:?}");
    }
}

#[test]
fn way_of_a_short_packet_is_not_a_longer_ones() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let fixture = fixture(family);
        for port in (40000..40016).step_by(2) {
            assert_eq!(send(&fixture, family, port, 5).action, TX, "{family:?} {port}");
            // Longer than the uplink takes: the stack deals with it.
            assert_eq!(send(&fixture, family, port + 1, 1600).action, PASS, "{family:?} {port}");
        }
    }
}
