//! Questions and answers: the zone by itself; over sockets in `sockets`; changed step by step in `steps`.

mod sockets;
mod steps;

use crate::view::{EndpointView, PortView, ServiceKind, ServiceView, SliceView};
use crate::zone::{Answer, Kind, Zone};

fn port(name: &str, protocol: &str, port: u16) -> PortView {
    PortView { name: name.into(), protocol: protocol.into(), port }
}

fn zone() -> Zone {
    let mut zone = Zone::new("cluster.local.");
    zone.services_listed();
    zone.slices_listed();
    let service = |name: &str, kind| ServiceView {
        namespace: "default".into(),
        name: name.into(),
        kind,
        ports: vec![port("http", "tcp", 80), port("", "tcp", 81)],
    };
    let addresses = vec!["10.96.0.20".parse().unwrap(), "fd96::20".parse().unwrap()];
    zone.set_service(service("web", ServiceKind::ClusterIps(addresses)));
    zone.set_service(service("db", ServiceKind::Headless));
    zone.set_service(service("far", ServiceKind::External("example.org".into())));
    zone.set_service(service("near", ServiceKind::External("web.default.svc.cluster.local".into())));
    let endpoint = |address: &str, hostname: Option<&str>| EndpointView {
        address: address.parse().unwrap(),
        hostname: hostname.map(str::to_owned),
    };
    zone.set_slice(SliceView {
        namespace: "default".into(),
        name: "db-1".into(),
        service: "db".into(),
        ports: vec![port("pg", "tcp", 5432)],
        endpoints: vec![endpoint("10.244.1.5", Some("db-0")), endpoint("10.244.2.6", None)],
    });
    zone
}

fn check(zone: &Zone, name: &str, kind: Kind) -> String {
    let labels: Vec<String> = name.split('.').map(str::to_owned).collect();
    match zone.answer(&labels, kind) {
        Answer::Elsewhere => "elsewhere".into(),
        Answer::NotYet => "not yet".into(),
        Answer::NoName => "no name".into(),
        Answer::Records(records) => format!("{records:?}"),
    }
}

#[test]
fn answer_cluster_ip_by_family() {
    let zone = zone();
    assert_eq!(check(&zone, "web.default.svc.cluster.local", Kind::A), "[Address(10.96.0.20)]");
    assert_eq!(check(&zone, "web.default.svc.cluster.local", Kind::Aaaa), "[Address(fd96::20)]");
    assert_eq!(check(&zone, "web.default.svc.cluster.local", Kind::Txt), "[]");
}

#[test]
fn answer_missing_names_are_no_names() {
    let zone = zone();
    for name in [
        "none.default.svc.cluster.local",
        "web.other.svc.cluster.local",
        "other.svc.cluster.local",
        "x.web.default.svc.cluster.local",
        "a.b.c.web.default.svc.cluster.local",
        "none.cluster.local",
        "web.default.cluster.local",
    ] {
        assert_eq!(check(&zone, name, Kind::A), "no name", "{name}");
    }
    for name in ["cluster.local", "svc.cluster.local", "default.svc.cluster.local"] {
        assert_eq!(check(&zone, name, Kind::A), "[]", "{name}");
    }
    assert_eq!(check(&zone, "example.org", Kind::A), "elsewhere");
    assert_eq!(check(&zone, "notcluster.local", Kind::A), "elsewhere");
}

#[test]
fn answer_headless_gives_endpoints_and_their_names() {
    let zone = zone();
    let all = "[Address(10.244.1.5), Address(10.244.2.6)]";
    assert_eq!(check(&zone, "db.default.svc.cluster.local", Kind::A), all);
    assert_eq!(check(&zone, "db-0.db.default.svc.cluster.local", Kind::A), "[Address(10.244.1.5)]");
    assert_eq!(check(&zone, "10-244-2-6.db.default.svc.cluster.local", Kind::A), "[Address(10.244.2.6)]");
    assert_eq!(check(&zone, "db-1.db.default.svc.cluster.local", Kind::A), "no name");
    assert_eq!(
        check(&zone, "_pg._tcp.db.default.svc.cluster.local", Kind::Srv),
        "[Service { port: 5432, target: \"10-244-2-6.db.default.svc.cluster.local\" }, \
         Service { port: 5432, target: \"db-0.db.default.svc.cluster.local\" }]"
    );
}

#[test]
fn answer_srv_of_a_service_names_the_service() {
    let zone = zone();
    let target = "[Service { port: 80, target: \"web.default.svc.cluster.local\" }]";
    assert_eq!(check(&zone, "_http._tcp.web.default.svc.cluster.local", Kind::Srv), target);
    assert_eq!(check(&zone, "_http._udp.web.default.svc.cluster.local", Kind::Srv), "no name");
    assert_eq!(check(&zone, "_tcp.web.default.svc.cluster.local", Kind::Srv), "[]");
}

#[test]
fn answer_pod_names_pointers_and_version() {
    let zone = zone();
    assert_eq!(check(&zone, "10-244-1-9.default.pod.cluster.local", Kind::A), "[Address(10.244.1.9)]");
    assert_eq!(check(&zone, "10-244-1.default.pod.cluster.local", Kind::A), "no name");
    assert_eq!(
        check(&zone, "20.0.96.10.in-addr.arpa", Kind::Ptr),
        "[Pointer(\"web.default.svc.cluster.local\")]"
    );
    assert_eq!(
        check(&zone, "5.1.244.10.in-addr.arpa", Kind::Ptr),
        "[Pointer(\"db-0.db.default.svc.cluster.local\")]"
    );
    assert_eq!(check(&zone, "9.9.9.9.in-addr.arpa", Kind::Ptr), "elsewhere");
    assert_eq!(check(&zone, "dns-version.cluster.local", Kind::Txt), "[Text(\"1.1.0\")]");
}

#[test]
fn remove_slice_and_service_leave_nothing() {
    let mut zone = zone();
    zone.remove_slice("default", "db-1");
    assert_eq!(check(&zone, "db.default.svc.cluster.local", Kind::A), "[]");
    for name in ["web", "db", "far", "near"] {
        zone.remove_service("default", name);
    }
    assert_eq!(check(&zone, "default.svc.cluster.local", Kind::A), "no name");
}

#[test]
fn answer_before_everything_is_listed_denies_nothing() {
    let mut zone = Zone::new("cluster.local");
    zone.services_listed();
    let addresses = vec!["10.96.0.20".parse().unwrap()];
    let (namespace, name) = ("default".to_owned(), "web".to_owned());
    zone.set_service(ServiceView {
        namespace,
        name,
        kind: ServiceKind::ClusterIps(addresses),
        ports: Vec::new(),
    });
    assert_eq!(check(&zone, "web.default.svc.cluster.local", Kind::A), "[Address(10.96.0.20)]");
    assert_eq!(check(&zone, "none.default.svc.cluster.local", Kind::A), "not yet");
    assert_eq!(check(&zone, "21.0.96.10.in-addr.arpa", Kind::Ptr), "not yet");
    assert_eq!(check(&zone, "example.org", Kind::A), "elsewhere");
    zone.slices_listed();
    assert_eq!(check(&zone, "none.default.svc.cluster.local", Kind::A), "no name");
}

#[test]
fn answer_pod_names_need_no_service_in_their_namespace() {
    let zone = zone();
    assert_eq!(check(&zone, "10-244-1-9.empty.pod.cluster.local", Kind::A), "[Address(10.244.1.9)]");
    assert_eq!(check(&zone, "empty.pod.cluster.local", Kind::A), "[]");
    assert_eq!(check(&zone, "fd44--7.empty.pod.cluster.local", Kind::Aaaa), "[Address(fd44::7)]");
}
