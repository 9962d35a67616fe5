//! A zone that was changed step by step answers like one that was made from the end state.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::{check, port};
use crate::view::{EndpointView, ServiceKind, ServiceView, SliceView};
use crate::zone::{Kind, Zone};

#[derive(Clone, Debug)]
enum Step {
    Service(u8, ServiceKind),
    NoService(u8),
    Slice(u8, u8, Vec<u8>),
    NoSlice(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        Just(ServiceKind::Headless),
        Just(ServiceKind::External("example.org".into())),
        proptest::collection::vec((0_u8..4).prop_map(address), 1..3).prop_map(ServiceKind::ClusterIps),
    ];
    let step = prop_oneof![
        (0_u8..3, kind).prop_map(|(service, kind)| Step::Service(service, kind)),
        (0_u8..3).prop_map(Step::NoService),
        (0_u8..4, 0_u8..3, proptest::collection::vec(0_u8..4, 0..3))
            .prop_map(|(a, b, c)| Step::Slice(a, b, c)),
        (0_u8..4).prop_map(Step::NoSlice),
    ];
    proptest::collection::vec(step, 0..30)
}

fn address(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

fn service(number: u8, kind: ServiceKind) -> ServiceView {
    ServiceView {
        namespace: "ns".into(),
        name: format!("s{number}"),
        kind,
        ports: vec![port("http", "tcp", 80)],
    }
}

fn slice(number: u8, service: u8, addresses: &[u8]) -> SliceView {
    let endpoint = |number: &u8| EndpointView {
        address: address(*number),
        hostname: number.is_multiple_of(2).then(|| format!("host{number}")),
    };
    SliceView {
        namespace: "ns".into(),
        name: format!("slice{number}"),
        service: format!("s{service}"),
        ports: vec![port("http", "tcp", 8080)],
        endpoints: addresses.iter().map(endpoint).collect(),
    }
}

fn empty() -> Zone {
    let mut zone = Zone::new("c");
    zone.services_listed();
    zone.slices_listed();
    zone
}

fn answers(zone: &Zone) -> Vec<String> {
    let reverse = (0..4).map(|number| (format!("{number}.0.0.10.in-addr.arpa"), Kind::Ptr));
    let forward = (0..3).flat_map(|number| {
        [
            (format!("s{number}.ns.svc.c"), Kind::A),
            (format!("_http._tcp.s{number}.ns.svc.c"), Kind::Srv),
            (format!("host2.s{number}.ns.svc.c"), Kind::A),
            (format!("10-0-0-1.s{number}.ns.svc.c"), Kind::A),
        ]
    });
    reverse
        .chain(forward)
        .chain([("ns.svc.c".to_owned(), Kind::A)])
        .map(|(name, kind)| check(zone, &name, kind))
        .collect()
}

proptest! {
    #[test]
    fn zone_changed_in_steps_equals_zone_of_the_end_state(steps in steps()) {
        let mut zone = empty();
        let (mut services, mut slices) = (BTreeMap::new(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Service(number, kind) => {
                    zone.set_service(service(number, kind.clone()));
                    services.insert(number, kind);
                }
                Step::NoService(number) => {
                    zone.remove_service("ns", &format!("s{number}"));
                    services.remove(&number);
                }
                Step::Slice(number, of, addresses) => {
                    zone.set_slice(slice(number, of, &addresses));
                    slices.insert(number, (of, addresses));
                }
                Step::NoSlice(number) => {
                    zone.remove_slice("ns", &format!("slice{number}"));
                    slices.remove(&number);
                }
            }
        }
        let mut fresh = empty();
        for (number, (of, addresses)) in &slices {
            fresh.set_slice(slice(*number, *of, addresses));
        }
        for (number, kind) in services {
            fresh.set_service(service(number, kind));
        }
        prop_assert_eq!(answers(&zone), answers(&fresh));
    }
}
