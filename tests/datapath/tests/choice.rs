//! Which backend a connection from outside gets: the same on every node.
#![allow(clippy::unwrap_used)] // a test

use std::net::SocketAddr;

use skep_abi::config::{CONFIG, Config};
use skep_abi::service::FLAG_HASHED;
use skep_datapath_tests::fixture::{Fixture, packet};
use skep_datapath_tests::packet::{Packet, SYN};
use skep_datapath_tests::tier_enabled;
use skep_datapath_tests::world::{Family, Service};

/// The backends that connections from 50 ports get on a node whose tables have this seed.
fn chosen(family: Family, seed: u64) -> Vec<SocketAddr> {
    let fixture = Fixture::new().unwrap();
    let config: Config = fixture.world.configure(fixture.loaded()).unwrap();
    fixture.loaded().set(CONFIG, &0_u32, &Config { seed, ..config }).unwrap();
    let frontend = SocketAddr::new(family.node(), 30080);
    let backends: Vec<SocketAddr> =
        (0..50).map(|at| SocketAddr::new(family.remote_pod(), 9000 + at)).collect();
    let service = Service { flags: FLAG_HASHED, ..Service::external(frontend, 6, &backends) };
    service.write(fixture.loaded()).unwrap();
    let connect = |port| {
        let from = SocketAddr::new(family.client(), port);
        let change = fixture.xdp(&Packet::tcp(from, frontend, SYN).build()).unwrap();
        assert_eq!(change.counters.get("flow_created"), Some(&1), "{family:?} {:?}", change.counters);
        packet(&change).destination
    };
    (40000..40050).map(connect).collect()
}

#[test]
fn nodes_with_different_seeds_choose_alike() {
    if !tier_enabled() {
        return;
    }
    for family in Family::ALL {
        let here = chosen(family, 0x0123_4567_89ab_cdef);
        assert_eq!(here, chosen(family, 0xfedc_ba98_7654_3210), "{family:?}");
        let mut different = here.clone();
        different.sort();
        different.dedup();
        assert!(different.len() > 20, "{family:?}: 50 connections met {} of 50 backends", different.len());
    }
}
