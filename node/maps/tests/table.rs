//! The service table against the fake: what is written, in which phase, and that nothing in use is ever overwritten.
#![allow(clippy::unwrap_used)] // a test

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use skep_abi::Be16;
use skep_abi::backend::{BACKEND_LOCAL, Backend, BackendState, STATE_ACTIVE, STATE_DRAINING, STATE_GONE};
use skep_abi::service::{KIND_CLUSTER_IP, KIND_EXTERNAL_IP, ServiceValue};
use skep_maps::dataplane::adopt;
use skep_maps::fake::FakeDataplane;
use skep_maps::frontend::to_shared;
use skep_maps::suite::{self, owner, port};
use skep_maps::table::QUARANTINE;
use skep_maps::{
    Dataplane, DesiredFrontend, DesiredPool, DesiredPort, Difference, Endpoint, Frontend, MapsError, Owner,
    PodLink, Scope, Spread, Table,
};

fn backend(address: &str, id: u32) -> Backend {
    Backend { address: to_shared(address.parse().unwrap()), port: Be16::new(8080), flags: 0, id }
}

fn state(state: u32, generation: u32) -> BackendState {
    BackendState { state, generation }
}

fn apply(table: &mut Table, dataplane: &FakeDataplane, now: Duration) -> Difference {
    let difference = table.take_difference();
    dataplane.apply(&difference).unwrap();
    table.applied(now);
    difference
}

#[test]
fn fake_passes_the_suite() {
    suite::services_follow_the_differences(&FakeDataplane::new(64, 64));
    suite::source_ranges_follow_the_differences(&FakeDataplane::new(64, 64));
    let link = PodLink {
        interface: "veth1".into(),
        ifindex: 7,
        host_mac: [2, 0, 0, 0, 0, 1],
        pod_mac: [2, 0, 0, 0, 0, 2],
        addresses: vec!["10.244.1.2".parse().unwrap(), "fd44:1::2".parse().unwrap()],
        xdp_redirect: true,
    };
    suite::pods_come_and_go(&FakeDataplane::new(64, 64), &link);
}

#[test]
fn replace_one_endpoint_changed_writes_that_service_only() {
    let dataplane = FakeDataplane::new(64, 64);
    let mut table = Table::new(64, 64);
    for at in 0..10 {
        let name = format!("default/s{at}");
        let mut plan = port(&format!("10.96.0.{at}"), &["10.244.1.2", "10.244.2.2"], &[]);
        plan.frontends.truncate(1);
        table.replace(&owner(&name), &[plan]).unwrap();
    }
    apply(&mut table, &dataplane, Duration::ZERO);
    let mut plan = port("10.96.0.4", &["10.244.1.2", "10.244.3.2"], &["10.244.2.2"]);
    plan.frontends.truncate(1);
    let frontend = plan.frontends[0].frontend;
    table.replace(&owner("default/s4"), &[plan]).unwrap();
    let value = ServiceValue { id: 5, slice: 20, count: 2, kind: KIND_CLUSTER_IP, ..ServiceValue::default() };
    assert_eq!(
        table.take_difference(),
        Difference {
            counters: vec![],
            states_before: BTreeMap::from([(20, state(STATE_ACTIVE, 1))]),
            slices: vec![(20, vec![backend("10.244.1.2", 8), backend("10.244.3.2", 20)])],
            bits: vec![],
            ranges_before: BTreeSet::new(),
            ranges_after: BTreeSet::new(),
            services: BTreeMap::from([(frontend, Some(value))]),
            states_after: BTreeMap::from([(9, state(STATE_DRAINING, 1))]),
        }
    );
}

#[test]
fn replace_endpoint_that_comes_back_keeps_its_id_and_generation() {
    let dataplane = FakeDataplane::new(64, 64);
    let mut table = Table::new(64, 64);
    let web = owner("default/web");
    table.replace(&web, &[port("10.96.0.1", &["10.244.1.2"], &[])]).unwrap();
    apply(&mut table, &dataplane, Duration::ZERO);
    table.replace(&web, &[port("10.96.0.1", &[], &["10.244.1.2"])]).unwrap();
    let difference = apply(&mut table, &dataplane, Duration::ZERO);
    assert_eq!(difference.states_after, BTreeMap::from([(0, state(STATE_DRAINING, 1))]));
    assert!(difference.services.values().all(|value| value.is_some_and(|v| v.count == 0)));
    table.replace(&web, &[port("10.96.0.1", &["10.244.1.2"], &[])]).unwrap();
    let difference = apply(&mut table, &dataplane, Duration::ZERO);
    assert_eq!(difference.states_before, BTreeMap::from([(0, state(STATE_ACTIVE, 1))]));
    assert_eq!(difference.states_after, BTreeMap::new());
}

#[test]
fn replace_twice_before_applying_leaves_the_last_state() {
    let dataplane = FakeDataplane::new(64, 64);
    let mut table = Table::new(64, 64);
    let web = owner("default/web");
    table.replace(&web, &[port("10.96.0.1", &["10.244.1.2"], &[])]).unwrap();
    apply(&mut table, &dataplane, Duration::ZERO);
    table.replace(&web, &[port("10.96.0.1", &[], &["10.244.1.2"])]).unwrap();
    table.replace(&web, &[port("10.96.0.1", &["10.244.1.2"], &[])]).unwrap();
    apply(&mut table, &dataplane, Duration::ZERO);
    assert_eq!(dataplane.state().states[0], state(STATE_ACTIVE, 1));
    table.replace(&web, &[]).unwrap();
    table.replace(&web, &[port("10.96.0.1", &["10.244.1.2"], &[])]).unwrap();
    apply(&mut table, &dataplane, Duration::ZERO);
    assert_eq!(
        dataplane.state().states[0],
        state(STATE_DRAINING, 1),
        "the service was another one in between"
    );
    let frontend = port("10.96.0.1", &[], &[]).frontends[0].frontend;
    assert_eq!(dataplane.backends_of(&frontend).unwrap(), [backend("10.244.1.2", 1)]);
}

#[test]
fn slots_replaced_return_only_after_the_quarantine() {
    let dataplane = FakeDataplane::new(4, 64);
    let mut table = Table::new(4, 64);
    let web = owner("default/web");
    let plan = |endpoints: &[&str]| {
        let mut plan = port("10.96.0.1", endpoints, &[]);
        plan.frontends.truncate(1);
        plan
    };
    table.replace(&web, &[plan(&["10.0.0.1", "10.0.0.2"])]).unwrap();
    apply(&mut table, &dataplane, Duration::ZERO);
    table.replace(&web, &[plan(&["10.0.0.3", "10.0.0.4"])]).unwrap();
    apply(&mut table, &dataplane, Duration::from_secs(5));
    let full = table.replace(&web, &[plan(&["10.0.0.5"])]).unwrap_err();
    assert!(matches!(full, MapsError::TableFull { what: "slots" }));
    assert!(table.take_difference().is_empty(), "what did not fit changes nothing");
    assert_eq!(table.expire(Duration::from_secs(5)), Some(Duration::from_secs(5) + QUARANTINE));
    assert_eq!(table.expire(Duration::from_secs(5) + QUARANTINE), None);
    table.replace(&web, &[plan(&["10.0.0.5"])]).unwrap();
}

#[test]
fn replace_port_of_another_name_takes_the_frontends_over_at_once() {
    let dataplane = FakeDataplane::new(64, 64);
    let mut table = Table::new(64, 64);
    let named = |name: &str| DesiredPort { name: name.into(), ..port("10.96.0.1", &["10.244.1.2"], &[]) };
    // Whichever of the two names is the smaller one.
    for name in ["m", "z", "a"] {
        let plan = named(name);
        assert_eq!(table.replace(&owner("default/web"), std::slice::from_ref(&plan)).unwrap(), []);
        let [(_, id)] = table.ports_of("default/web")[..] else { panic!("one port") };
        apply(&mut table, &dataplane, Duration::ZERO);
        let entries = dataplane.services().unwrap();
        assert_eq!(entries.len(), plan.frontends.len());
        assert!(entries.iter().all(|(_, value)| value.id == id), "{name}: {entries:?}");
        assert!(plan.frontends.iter().all(|wanted| !table.waits_for("default/web", &wanted.frontend)));
    }
}

#[test]
fn replace_conflicting_external_address_older_service_keeps_it() {
    let dataplane = FakeDataplane::new(64, 64);
    let mut table = Table::new(64, 64);
    let plan = |endpoint: &str| DesiredPort {
        name: "p".into(),
        affinity_seconds: 0,
        pools: vec![DesiredPool::each(vec![Endpoint {
            address: endpoint.parse().unwrap(),
            port: 1,
            local: true,
        }])],
        source_ranges: BTreeSet::new(),
        draining: vec![],
        frontends: vec![DesiredFrontend {
            frontend: Frontend {
                address: "198.51.100.1".parse().unwrap(),
                port: 80,
                protocol: 6,
                scope: Scope::External,
            },
            kind: KIND_EXTERNAL_IP,
            flags: 0,
            pool: 0,
        }],
    };
    let old = Owner { name: "b/old".into(), created: 1 };
    let new = Owner { name: "a/new".into(), created: 2 };
    assert_eq!(table.replace(&old, &[plan("10.0.0.1")]).unwrap(), []);
    let frontend = plan("10.0.0.1").frontends[0].frontend;
    assert_eq!(table.replace(&new, &[plan("10.0.0.2")]).unwrap(), [frontend]);
    apply(&mut table, &dataplane, Duration::ZERO);
    let serves = |dataplane: &FakeDataplane| dataplane.backends_of(&frontend).unwrap()[0];
    assert_eq!(serves(&dataplane).address, to_shared("10.0.0.1".parse().unwrap()));
    assert_eq!(serves(&dataplane).flags, BACKEND_LOCAL);
    table.replace(&old, &[]).unwrap();
    apply(&mut table, &dataplane, Duration::ZERO);
    assert_eq!(serves(&dataplane).address, to_shared("10.0.0.2".parse().unwrap()));
}

#[test]
fn adopt_services_gone_meanwhile_are_removed_and_their_backends_drain() {
    let dataplane = FakeDataplane::new(64, 64);
    let mut table = Table::new(64, 64);
    table.replace(&owner("default/a"), &[port("10.96.0.1", &["10.0.0.1", "10.0.0.2"], &[])]).unwrap();
    let mut other = port("10.96.0.2", &["10.0.0.3"], &[]);
    other.frontends.truncate(1);
    table.replace(&owner("default/b"), &[other]).unwrap();
    apply(&mut table, &dataplane, Duration::ZERO);

    let mut again = adopt(&dataplane).unwrap();
    again.replace(&owner("default/a"), &[port("10.96.0.1", &["10.0.0.2"], &[])]).unwrap();
    again.finish_adoption();
    let difference = apply(&mut again, &dataplane, Duration::ZERO);
    assert_eq!(
        difference.states_after,
        BTreeMap::from([(0, state(STATE_GONE, 1)), (2, state(STATE_DRAINING, 1))])
    );
    let kept = port("10.96.0.1", &[], &[]);
    let known: Vec<Frontend> = dataplane.services().unwrap().into_iter().map(|(f, _)| f).collect();
    assert_eq!(BTreeSet::from_iter(known), kept.frontends.iter().map(|f| f.frontend).collect());
    assert_eq!(dataplane.backends_of(&kept.frontends[0].frontend).unwrap(), [backend("10.0.0.2", 1)]);
}

#[test]
fn adopt_nonsense_is_replaced_without_touching_what_is_in_use() {
    let dataplane = FakeDataplane::new(64, 64);
    let mut table = Table::new(64, 64);
    table.replace(&owner("default/a"), &[port("10.96.0.1", &["10.0.0.1", "10.0.0.2"], &[])]).unwrap();
    apply(&mut table, &dataplane, Duration::ZERO);
    // An entry whose slice overlaps, one beyond the table, one that names a backend of another service.
    for (last, slice, count) in [(9, 1, 3), (10, 60, 100), (11, u32::MAX, 2), (12, 5, 1)] {
        let mut frontend = port("10.96.0.1", &[], &[]).frontends[0].frontend;
        frontend.address = format!("10.96.0.{last}").parse().unwrap();
        let value = ServiceValue { id: last, slice, count, ..ServiceValue::default() };
        dataplane.state().services.insert(frontend, value);
    }
    let mut again = adopt(&dataplane).unwrap();
    for (name, last) in [("a", 1), ("b", 9), ("c", 10), ("d", 11), ("e", 12)] {
        let mut plan = port(&format!("10.96.0.{last}"), &["10.0.0.1", "10.0.0.2"], &[]);
        plan.frontends.truncate(if last == 1 { 2 } else { 1 });
        again.replace(&owner(&format!("default/{name}")), &[plan]).unwrap();
    }
    again.finish_adoption();
    let before = dataplane.services().unwrap();
    let difference = again.take_difference();
    assert_disjoint(&before, &difference, 64);
    dataplane.apply(&difference).unwrap();
    let wanted: Vec<String> = vec!["10.0.0.1 8080".into(), "10.0.0.2 8080".into()];
    assert!(suite::reachable(&dataplane).values().all(|backends| *backends == wanted));
}

/// No slot that an entry names before the difference is written by it.
fn assert_disjoint(before: &[(Frontend, ServiceValue)], difference: &Difference, slots: u64) {
    for (start, slice) in &difference.slices {
        let (start, end) = (u64::from(*start), u64::from(*start) + slice.len() as u64);
        assert!(end <= slots);
        for (frontend, value) in before {
            let (from, to) = (u64::from(value.slice), u64::from(value.slice) + u64::from(value.count));
            assert!(value.count == 0 || to <= start || end <= from, "{frontend} reads slots being written");
        }
    }
}

/// A port whose external frontend draws from a Maglev table over its endpoints.
fn spread(last: u8, endpoints: &[&str]) -> DesiredPort {
    let mut plan = port(&format!("10.96.0.{last}"), endpoints, &[]);
    plan.frontends[1].frontend.port = 30_000 + u16::from(last);
    plan.frontends[1].pool = 1;
    let endpoints = plan.pools[0].endpoints.clone();
    plan.pools.push(DesiredPool { endpoints, spread: Spread::Maglev });
    plan
}

#[test]
fn replace_maglev_table_is_kept_over_a_restart_and_rewritten_for_its_service_alone() {
    let dataplane = FakeDataplane::new(4096, 64);
    let mut table = Table::new(4096, 64);
    let two = ["10.244.1.2", "10.244.2.2"];
    for last in 0..3 {
        table.replace(&owner(&format!("default/s{last}")), &[spread(last, &two)]).unwrap();
    }
    apply(&mut table, &dataplane, Duration::ZERO);
    let plan = spread(1, &two);
    assert_eq!(dataplane.backends_of(&plan.frontends[0].frontend).unwrap().len(), 2);
    let before = dataplane.backends_of(&plan.frontends[1].frontend).unwrap();
    assert_eq!(before.len(), 251);

    let mut table = adopt(&dataplane).unwrap();
    table.take_difference();
    for last in 0..3 {
        table.replace(&owner(&format!("default/s{last}")), &[spread(last, &two)]).unwrap();
    }
    table.finish_adoption();
    assert!(table.take_difference().is_empty(), "an unchanged table needs no write after a restart");

    table.replace(&owner("default/s1"), &[spread(1, &["10.244.1.2", "10.244.2.2", "10.244.3.2"])]).unwrap();
    let difference = apply(&mut table, &dataplane, Duration::ZERO);
    assert_eq!(difference.slices.iter().map(|(_, slice)| slice.len()).collect::<Vec<_>>(), [3, 251]);
    let after = dataplane.backends_of(&plan.frontends[1].frontend).unwrap();
    let moved = before.iter().zip(&after).filter(|(old, new)| old != new).count();
    assert!((251 / 3..251 / 2).contains(&moved), "{moved} slots changed hands for a third endpoint");
}

#[test]
fn replace_maglev_without_room_leaves_the_table_to_plain_slices() {
    let dataplane = FakeDataplane::new(1024, 64);
    let mut table = Table::new(1024, 64);
    let lengths = |dataplane: &FakeDataplane| -> Vec<usize> {
        (0..3)
            .map(|last| {
                dataplane.backends_of(&spread(last, &[]).frontends[1].frontend).map_or(0, |b| b.len())
            })
            .collect()
    };
    for last in 0..3 {
        table
            .replace(&owner(&format!("default/s{last}")), &[spread(last, &["10.244.1.2", "10.244.2.2"])])
            .unwrap();
    }
    apply(&mut table, &dataplane, Duration::ZERO);
    // Two tables and three plain slices are nearly half of it.
    assert_eq!((lengths(&dataplane), table.fill().cramped), (vec![251, 251, 2], 1));
    // One that has a table keeps having one, for which there is room beyond the half.
    table.replace(&owner("default/s0"), &[spread(0, &["10.244.1.2", "10.244.3.2"])]).unwrap();
    apply(&mut table, &dataplane, Duration::ZERO);
    assert_eq!(lengths(&dataplane), [251, 251, 2]);
    // Another one has to wait until a table is free, and gets it when it changes.
    table.replace(&owner("default/s1"), &[]).unwrap();
    apply(&mut table, &dataplane, Duration::ZERO);
    table.expire(QUARANTINE);
    table.replace(&owner("default/s2"), &[spread(2, &["10.244.1.2", "10.244.3.2"])]).unwrap();
    apply(&mut table, &dataplane, Duration::ZERO);
    assert_eq!((lengths(&dataplane), table.fill().cramped), (vec![251, 0, 251], 0));
}

/// A random change: which service, which endpoints are ready and which drain (bit masks), whether it restarts first.
type Change = (u8, u8, u8, bool, bool);

fn plan(service: u8, ready: u8, draining: u8) -> DesiredPort {
    let pick = |mask: u8| -> Vec<String> {
        (0..8).filter(|bit| mask & (1 << bit) != 0).map(|bit| format!("10.0.{service}.{bit}")).collect()
    };
    let (ready, draining) = (pick(ready), pick(draining & !ready));
    let mut plan = port(
        &format!("10.96.0.{service}"),
        &ready.iter().map(String::as_str).collect::<Vec<_>>(),
        &draining.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    // All services share one NodePort: they are in conflict about it.
    plan.name = Arc::from("p");
    plan
}

proptest! {
    /// Services come, change, go, and the agent restarts, in any order: each service's own frontend always leads to
    /// exactly its endpoints, all of them active, no slot in use is ever written, and everything is free in the end.
    #[test]
    fn table_random_changes_keep_the_kernel_consistent(
        changes in proptest::collection::vec(any::<Change>(), 1..60)
    ) {
        let dataplane = FakeDataplane::new(256, 256);
        let mut table = adopt(&dataplane).unwrap();
        let mut model: BTreeMap<u8, (u8, u8)> = BTreeMap::new();
        let mut now = Duration::ZERO;
        for (service, ready, draining, delete, restart) in changes {
            let service = service % 5;
            if restart {
                table = adopt(&dataplane).unwrap();
            }
            if delete { model.remove(&service); } else { model.insert(service, (ready, draining)); }
            let name = |service: u8| Owner { name: format!("default/s{service}").into(), created: i64::from(service) };
            if restart {
                for (known, (ready, draining)) in &model {
                    table.replace(&name(*known), &[plan(*known, *ready, *draining)]).unwrap();
                }
                table.finish_adoption();
            } else if delete {
                table.replace(&name(service), &[]).unwrap();
            } else {
                table.replace(&name(service), &[plan(service, ready, draining)]).unwrap();
            }
            let before = dataplane.services().unwrap();
            let difference = table.take_difference();
            assert_disjoint(&before, &difference, 256);
            dataplane.apply(&difference).unwrap();
            table.applied(now);
            now += QUARANTINE;
            table.expire(now);

            let mut expected: BTreeMap<Frontend, Vec<String>> = BTreeMap::new();
            for (known, (ready, draining)) in model.iter().rev() {
                let plan = plan(*known, *ready, *draining);
                let list: Vec<String> = plan.pools[0].endpoints.iter().map(|e| format!("{} {}", e.address, e.port)).collect();
                // The oldest, which comes last here, keeps the shared NodePort.
                expected.extend(plan.frontends.iter().map(|f| (f.frontend, list.clone())));
            }
            prop_assert_eq!(suite::reachable(&dataplane), expected);
            let states = dataplane.backend_states();
            for (frontend, _) in dataplane.services().unwrap() {
                for backend in dataplane.backends_of(&frontend).unwrap() {
                    prop_assert_eq!(states[backend.id as usize].state, STATE_ACTIVE);
                }
            }
        }
        for service in 0..5 {
            table.replace(&Owner { name: format!("default/s{service}").into(), created: 0 }, &[]).unwrap();
        }
        apply(&mut table, &dataplane, now);
        table.expire(now + QUARANTINE);
        prop_assert_eq!(dataplane.services().unwrap(), vec![]);
        prop_assert_eq!((table.fill().slots, table.fill().frontends), ((0, 256), 0));
    }
}

#[test]
fn replace_without_room_refuses_that_service_and_keeps_the_others() {
    let dataplane = FakeDataplane::new(64, 64);
    let per = |v4, v6| skep_maps::room::PerFamily { v4, v6 };
    dataplane.state().room = skep_maps::room::Room { frontends: per(6, 0), ranges: per(3, 0) };
    let mut table = adopt(&dataplane).unwrap();
    let ranged = |address: &str, ranges: &[&str]| {
        let mut plan = port(address, &["10.244.1.2"], &[]);
        plan.frontends.truncate(1);
        plan.source_ranges = ranges.iter().map(|text| skep_maps::Prefix::parse(text).unwrap()).collect();
        plan
    };
    let now = Duration::ZERO;
    table.replace(&owner("a"), &[ranged("10.96.0.1", &["10.0.0.0/8", "11.0.0.0/8"])]).unwrap();
    let refused = table.replace(&owner("b"), &[ranged("10.96.0.2", &["10.0.0.0/8", "11.0.0.0/8"])]);
    assert!(matches!(refused, Err(MapsError::TableFull { what: "source ranges" })), "{refused:?}");
    assert_eq!(table.ports_of("b"), []);
    table.replace(&owner("c"), &[ranged("10.96.0.3", &["10.0.0.0/8"])]).unwrap();
    apply(&mut table, &dataplane, now);
    let held = || {
        let state = dataplane.state();
        (state.services.len(), state.source_ranges.len())
    };
    assert_eq!(held(), (2, 3));
    // A range that leaves makes room only when it has left: others are written before.
    table.replace(&owner("c"), &[ranged("10.96.0.3", &[])]).unwrap();
    table.replace(&owner("b"), &[ranged("10.96.0.2", &["10.0.0.0/8"])]).unwrap_err();
    // One that comes again meanwhile never left.
    table.replace(&owner("c"), &[ranged("10.96.0.3", &["10.0.0.0/8"])]).unwrap();
    table.replace(&owner("c"), &[ranged("10.96.0.3", &[])]).unwrap();
    apply(&mut table, &dataplane, now);
    table.replace(&owner("b"), &[ranged("10.96.0.2", &["10.0.0.0/8"])]).unwrap();
    apply(&mut table, &dataplane, now);
    assert_eq!(held(), (3, 3));
    // Frontends are counted too, what is let go in the same step is made up for, and another agent counts what is there.
    let mut table = adopt(&dataplane).unwrap();
    for number in 4..7 {
        table.replace(&owner(&number.to_string()), &[ranged(&format!("10.96.0.{number}"), &[])]).unwrap();
    }
    let refused = table.replace(&owner("7"), &[ranged("10.96.0.7", &[])]);
    assert!(matches!(refused, Err(MapsError::TableFull { what: "frontends" })), "{refused:?}");
    table.replace(&owner("6"), &[ranged("10.96.0.8", &[])]).unwrap();
    apply(&mut table, &dataplane, now);
    assert_eq!(dataplane.state().services.len(), 6);
}

#[test]
fn adopted_host_port_that_nobody_asks_for_ends_its_flows() {
    let dataplane = FakeDataplane::new(64, 64);
    let mut table = adopt(&dataplane).unwrap();
    for (name, kind) in [("pod", skep_abi::service::KIND_HOST_PORT), ("service", KIND_CLUSTER_IP)] {
        let mut plan = port(if name == "pod" { "192.0.2.1" } else { "10.96.0.1" }, &["10.244.1.2"], &[]);
        plan.frontends.truncate(1);
        plan.frontends[0].kind = kind;
        table.replace(&owner(name), &[plan]).unwrap();
    }
    apply(&mut table, &dataplane, Duration::ZERO);
    let ids: Vec<u32> = ["192.0.2.1", "10.96.0.1"]
        .map(|address| {
            let state = dataplane.state();
            let (_, value) = state.services.iter().find(|(f, _)| f.address.to_string() == address).unwrap();
            state.slots[value.slice as usize].id
        })
        .into();
    // Another agent, and both are gone meanwhile.
    let mut table = adopt(&dataplane).unwrap();
    table.finish_adoption();
    apply(&mut table, &dataplane, Duration::ZERO);
    let states = ids.iter().map(|id| dataplane.state().states[*id as usize].state).collect::<Vec<_>>();
    assert_eq!(states, [STATE_GONE, STATE_DRAINING]);
}
