//! Questions and answers: the zone by itself, and over sockets on loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use parking_lot::RwLock;
use tokio::net::UdpSocket;

use crate::view::{EndpointView, PortView, ServiceKind, ServiceView, SliceView};
use crate::zone::{Answer, Kind, Zone};
use crate::{DnsConfig, DnsMetrics, bind};

fn port(name: &str, protocol: &str, port: u16) -> PortView {
    PortView { name: name.into(), protocol: protocol.into(), port }
}

fn zone() -> Zone {
    let mut zone = Zone::new("cluster.local.");
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

/// Asks a server on loopback; the code and the answers as text.
async fn ask(server: SocketAddr, name: &str, record_type: RecordType) -> (ResponseCode, Vec<String>) {
    let mut question = Message::query();
    question.add_query(Query::query(Name::from_utf8(name).unwrap(), record_type));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = [0; 4096];
    let (length, _) = socket.recv_from(&mut buffer).await.unwrap();
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(answer.metadata.id, question.metadata.id);
    (answer.metadata.response_code, answer.answers.iter().map(|record| record.data.to_string()).collect())
}

#[tokio::test]
async fn serve_answers_over_udp_and_follows_aliases() {
    // A port that the kernel gives is free: take its number, then let the server bind it.
    let listen = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let config = DnsConfig { listen: vec![listen], domain: "cluster.local".into(), upstreams: Vec::new() };
    let metrics = DnsMetrics::register(&prometheus::Registry::new()).unwrap();
    let mut server = bind(&config, Arc::new(RwLock::new(zone())), metrics).await.unwrap();

    let web = ask(listen, "WEB.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(web, (ResponseCode::NoError, vec!["10.96.0.20".into()]));
    let near = ask(listen, "near.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(near.1, ["web.default.svc.cluster.local.", "10.96.0.20"]);
    let far = ask(listen, "far.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(far.1, ["example.org."]);
    let none = ask(listen, "none.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(none, (ResponseCode::NXDomain, Vec::new()));
    let outside = ask(listen, "example.org.", RecordType::A).await;
    assert_eq!(outside.0, ResponseCode::Refused);
    server.shutdown_gracefully().await.unwrap();
}
