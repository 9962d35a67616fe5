//! What every [`Dataplane`] must do, as tests: run on the fake here and on the kernel's maps by `skep-dataplane`.
//!
//! Panics on the first thing that is not so, as tests do. The dataplane given must be empty and hold at least 64 slots
//! and 64 backend ids.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use skep_abi::backend::{Backend, STATE_ACTIVE, STATE_DRAINING, STATE_GONE};
use skep_abi::service::{FLAG_HASHED, FLAG_SOURCE_RANGES, KIND_CLUSTER_IP, KIND_NODE_PORT};

use crate::dataplane::{Dataplane, PodLink, adopt};
use crate::desired::{DesiredFrontend, DesiredPool, DesiredPort, Endpoint, Owner};
use crate::extents::Extent;
use crate::frontend::{Frontend, Scope, from_shared};
use crate::prefix::Prefix;
use crate::table::Table;

/// A service port with a ClusterIP and a NodePort in the family of `cluster_ip`, whose endpoints are `endpoints` and
/// whose node addresses are `.1` of documentation ranges.
pub fn port(cluster_ip: &str, endpoints: &[&str], draining: &[&str]) -> DesiredPort {
    let cluster_ip: IpAddr = cluster_ip.parse().expect("an address");
    let node: IpAddr =
        if cluster_ip.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" }.parse().expect("an address");
    let address = |text: &&str| text.parse::<IpAddr>().expect("an address");
    let frontend = |address, port, scope, kind, flags| DesiredFrontend {
        frontend: Frontend { address, port, protocol: skep_abi::TCP, scope },
        kind,
        flags,
        pool: 0,
    };
    DesiredPort {
        name: if cluster_ip.is_ipv4() { "http/4" } else { "http/6" }.into(),
        affinity_seconds: 0,
        pools: vec![DesiredPool::each(
            endpoints.iter().map(|e| Endpoint { address: address(e), port: 8080, local: false }).collect(),
        )],
        source_ranges: BTreeSet::new(),
        draining: draining.iter().map(|e| (address(e), 8080)).collect(),
        frontends: vec![
            frontend(cluster_ip, 80, Scope::Internal, KIND_CLUSTER_IP, 0),
            frontend(node, 30080, Scope::External, KIND_NODE_PORT, FLAG_HASHED),
        ],
    }
}

/// An owner of that name.
pub fn owner(name: &str) -> Owner {
    Owner { name: name.into(), created: 1 }
}

/// The endpoints that each frontend leads to, read back from the dataplane.
pub fn reachable(dataplane: &dyn Dataplane) -> BTreeMap<Frontend, Vec<String>> {
    let services = dataplane.services().expect("services can be read");
    let show = |frontend: &Frontend, backend: &Backend| {
        let address = from_shared(backend.address, frontend.address.is_ipv4());
        format!("{address} {}", backend.port.get())
    };
    services
        .iter()
        .map(|(frontend, value)| {
            let backends = match value.count {
                0 => Vec::new(),
                length => dataplane.slots(Extent { start: value.slice, length }),
            };
            (*frontend, backends.iter().map(|backend| show(frontend, backend)).collect())
        })
        .collect()
}

fn step(dataplane: &dyn Dataplane, table: &mut Table, change: impl FnOnce(&mut Table)) -> usize {
    change(table);
    let difference = table.take_difference();
    dataplane.apply(&difference).expect("the difference can be applied");
    table.applied(Duration::ZERO);
    difference.len()
}

/// Services appear, change and go; each step leads where it should and the last one leaves nothing.
pub fn services_follow_the_differences(dataplane: &dyn Dataplane) {
    let mut table = adopt(dataplane).expect("an empty dataplane can be adopted");
    let web = owner("default/web");
    let four = port("10.96.0.7", &["10.244.1.2", "10.244.2.2"], &[]);
    let six = port("fd96::7", &["fd44:1::2"], &[]);
    step(dataplane, &mut table, |t| drop(t.replace(&web, &[four.clone(), six.clone()]).expect("it fits")));
    let expected: BTreeMap<Frontend, Vec<String>> = BTreeMap::from([
        (four.frontends[0].frontend, vec!["10.244.1.2 8080".into(), "10.244.2.2 8080".into()]),
        (four.frontends[1].frontend, vec!["10.244.1.2 8080".into(), "10.244.2.2 8080".into()]),
        (six.frontends[0].frontend, vec!["fd44:1::2 8080".into()]),
        (six.frontends[1].frontend, vec!["fd44:1::2 8080".into()]),
    ]);
    assert_eq!(reachable(dataplane), expected);
    let flags: Vec<u16> = dataplane.services().expect("readable").iter().map(|(_, v)| v.flags).collect();
    assert_eq!(flags.iter().filter(|flags| **flags == FLAG_HASHED).count(), 2);

    // One endpoint terminates, then goes.
    let states = |dataplane: &dyn Dataplane| -> Vec<u32> {
        dataplane.backend_states().iter().take(3).map(|state| state.state).collect()
    };
    assert_eq!(states(dataplane), [STATE_ACTIVE; 3]);
    let less = port("10.96.0.7", &["10.244.2.2"], &["10.244.1.2"]);
    step(dataplane, &mut table, |t| drop(t.replace(&web, &[less, six.clone()]).expect("it fits")));
    assert_eq!(states(dataplane), [STATE_DRAINING, STATE_ACTIVE, STATE_ACTIVE]);
    let gone = port("10.96.0.7", &["10.244.2.2"], &[]);
    let written = step(dataplane, &mut table, |t| {
        drop(t.replace(&web, &[gone.clone(), six.clone()]).expect("it fits"))
    });
    assert_eq!(states(dataplane), [STATE_GONE, STATE_ACTIVE, STATE_ACTIVE]);
    assert_eq!(written, 1, "only the state of the backend that went");

    // A new agent finds everything as it is.
    let mut again = adopt(dataplane).expect("the contents can be adopted");
    again.take_difference();
    again.replace(&web, &[gone, six]).expect("it fits");
    again.finish_adoption();
    assert!(again.take_difference().is_empty(), "an unchanged service needs no write after a restart");

    step(dataplane, &mut again, |t| drop(t.replace(&web, &[]).expect("removal always fits")));
    assert_eq!(reachable(dataplane), BTreeMap::new());
}

/// A service's source ranges are there before the flag that asks for them, and go with it; a new agent finds them, and
/// removes those of no service. The dataplane must be empty.
pub fn source_ranges_follow_the_differences(dataplane: &dyn Dataplane) {
    let stored = || {
        let mut found = dataplane.source_ranges().expect("ranges can be read");
        found.sort_unstable();
        found.iter().map(|(id, range)| format!("{id} {range}")).collect::<Vec<_>>()
    };
    let with = |cluster_ip: &str, ranges: &[&str]| {
        let mut plan = port(cluster_ip, &[], &[]);
        plan.source_ranges = ranges.iter().map(|text| Prefix::parse(text).expect("a range")).collect();
        plan.frontends[1].flags |= if ranges.is_empty() { 0 } else { FLAG_SOURCE_RANGES };
        plan
    };
    let mut table = adopt(dataplane).expect("an empty dataplane can be adopted");
    let (web, dns) = (owner("default/web"), owner("default/dns"));
    let four = with("10.96.0.7", &["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0"]);
    let six = with("fd96::7", &["2001:db8::/32"]);
    step(dataplane, &mut table, |t| drop(t.replace(&web, &[four, six.clone()]).expect("it fits")));
    assert_eq!(stored(), ["1 0.0.0.0/0", "1 10.0.0.0/8", "1 10.1.0.0/16", "2 2001:db8::/32"]);

    // One range more, one less: two writes and the service values stay.
    let four = with("10.96.0.7", &["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32"]);
    let written = step(dataplane, &mut table, |t| {
        drop(t.replace(&web, &[four.clone(), six.clone()]).expect("it fits"))
    });
    assert_eq!(written, 2);
    assert_eq!(stored(), ["1 0.0.0.0/0", "1 10.0.0.0/8", "1 192.0.2.1/32", "2 2001:db8::/32"]);

    // A new agent changes nothing about what is as it should be, and removes what belongs to nobody.
    let stray = (77, Prefix::parse("10.9.0.0/16").expect("a range"));
    let lost = crate::Difference { ranges_before: BTreeSet::from([stray]), ..Default::default() };
    dataplane.apply(&lost).expect("a range can be written");
    let mut again = adopt(dataplane).expect("the contents can be adopted");
    step(dataplane, &mut again, |t| drop(t.replace(&web, &[four, six]).expect("it fits")));
    assert_eq!(stored(), ["1 0.0.0.0/0", "1 10.0.0.0/8", "1 192.0.2.1/32", "2 2001:db8::/32"]);

    // Turned on and off before it was ever written: nothing is left.
    drop(again.replace(&dns, &[with("10.96.0.8", &["10.0.0.0/8"])]).expect("it fits"));
    step(dataplane, &mut again, |t| drop(t.replace(&dns, &[]).expect("removal always fits")));
    step(dataplane, &mut again, |t| drop(t.replace(&web, &[]).expect("removal always fits")));
    assert_eq!(stored(), Vec::<String>::new());
}

/// A pod's link is known after it is attached, again after a repetition, and not after it is detached.
pub fn pods_come_and_go(dataplane: &dyn Dataplane, link: &PodLink) {
    for _ in 0..2 {
        dataplane.attach_pod(link).expect("the link can be attached");
        let mut known: Vec<(IpAddr, u32)> = dataplane
            .local_endpoints()
            .expect("readable")
            .iter()
            .map(|(address, endpoint)| (*address, endpoint.ifindex))
            .collect();
        known.sort_unstable();
        let mut expected: Vec<(IpAddr, u32)> = link.addresses.iter().map(|a| (*a, link.ifindex)).collect();
        expected.sort_unstable();
        assert_eq!(known, expected);
    }
    for _ in 0..2 {
        dataplane.detach_pod(&link.addresses).expect("the link can be detached");
        assert_eq!(dataplane.local_endpoints().expect("readable"), Vec::new());
    }
    dataplane.routes_changed().expect("the epoch can be raised");
}
