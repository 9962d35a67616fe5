//! The server over sockets on loopback.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_server::Server;
use parking_lot::RwLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::zone;
use crate::handler::Handler;
use crate::view::{EndpointView, ServiceKind, ServiceView, SliceView};
use crate::zone::Zone;
use crate::{DnsConfig, DnsMetrics, bind};

async fn start(zone: Zone, upstreams: Vec<SocketAddr>) -> (Server<Handler>, SocketAddr) {
    // A port that the kernel gives is free: take its number, then let the server bind it.
    let listen = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let config = DnsConfig { listen: vec![listen], domain: "cluster.local".into(), upstreams };
    let metrics = DnsMetrics::register(&prometheus::Registry::new()).unwrap();
    (bind(&config, Arc::new(RwLock::new(zone)), metrics).await.unwrap(), listen)
}

fn question(name: &str, record_type: RecordType) -> Message {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_utf8(name).unwrap(), record_type));
    question
}

async fn send(server: SocketAddr, question: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = [0; 4096];
    let (length, _) = socket.recv_from(&mut buffer).await.unwrap();
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(answer.metadata.id, question.metadata.id);
    answer
}

async fn send_stream(server: SocketAddr, question: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let bytes = question.to_vec().unwrap();
    stream.write_u16(bytes.len() as u16).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut buffer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut buffer).await.unwrap();
    Message::from_vec(&buffer).unwrap()
}

/// Asks by datagram; the code and the answers as text.
async fn ask(server: SocketAddr, name: &str, record_type: RecordType) -> (ResponseCode, Vec<String>) {
    let answer = send(server, &question(name, record_type)).await;
    (answer.metadata.response_code, texts(&answer))
}

fn texts(answer: &Message) -> Vec<String> {
    answer.answers.iter().map(|record| record.data.to_string()).collect()
}

#[tokio::test]
async fn serve_answers_over_udp_and_follows_aliases() {
    let (mut server, listen) = start(zone(), Vec::new()).await;
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

#[tokio::test]
async fn serve_with_an_incomplete_zone_fails_instead_of_denying() {
    let (_server, listen) = start(Zone::new("cluster.local"), Vec::new()).await;
    let answer = ask(listen, "web.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(answer, (ResponseCode::ServFail, Vec::new()));
}

#[tokio::test]
async fn serve_denials_say_how_long_they_hold() {
    let (_server, listen) = start(zone(), Vec::new()).await;
    let answer = send(listen, &question("web.default.svc.cluster.local.", RecordType::TXT)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.metadata.authoritative && answer.answers.is_empty());
    assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
    assert_eq!(answer.authorities[0].ttl, 5);
}

/// A headless service with so many endpoints that no datagram holds them.
fn crowd() -> Zone {
    let mut zone = zone();
    let (namespace, name) = ("default".to_owned(), "crowd".to_owned());
    zone.set_service(ServiceView {
        namespace: namespace.clone(),
        name: name.clone(),
        kind: ServiceKind::Headless,
        ports: Vec::new(),
    });
    let endpoints =
        (1..=120).map(|last| EndpointView { address: [10, 244, 3, last].into(), hostname: None }).collect();
    zone.set_slice(SliceView {
        namespace,
        name: "crowd-1".into(),
        service: name,
        ports: Vec::new(),
        endpoints,
    });
    zone
}

#[tokio::test]
async fn serve_large_answer_is_cut_in_a_datagram_and_whole_in_a_stream() {
    let (_server, listen) = start(crowd(), Vec::new()).await;
    let mut question = question("crowd.default.svc.cluster.local.", RecordType::A);
    let plain = send(listen, &question).await;
    assert!(plain.metadata.truncation && plain.edns.is_none());
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    question.edns = Some(edns);
    let larger = send(listen, &question).await;
    assert!(larger.metadata.truncation && larger.edns.is_some());
    assert!(larger.answers.len() > plain.answers.len(), "the larger datagram that was allowed is used");
    let whole = send_stream(listen, &question).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 120);
}

#[tokio::test]
async fn serve_gives_endpoints_in_turn() {
    let (_server, listen) = start(zone(), Vec::new()).await;
    let mut firsts = Vec::new();
    for _ in 0..4 {
        firsts.push(ask(listen, "db.default.svc.cluster.local.", RecordType::A).await.1[0].clone());
    }
    assert_eq!(firsts, ["10.244.1.5", "10.244.2.6", "10.244.1.5", "10.244.2.6"]);
}

/// A name server that answers every question with one address: cut short by datagram, whole by stream.
async fn upstream() -> SocketAddr {
    let stream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = stream.local_addr().unwrap();
    let datagram = UdpSocket::bind(address).await.unwrap();
    let answer = |bytes: &[u8], whole: bool| {
        let mut answer = Message::from_vec(bytes).unwrap();
        answer.metadata.message_type = hickory_proto::op::MessageType::Response;
        answer.metadata.truncation = !whole;
        let name = answer.queries[0].name().clone();
        if whole {
            answer.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 7))));
        }
        answer.to_vec().unwrap()
    };
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, client) = datagram.recv_from(&mut buffer).await.unwrap();
            datagram.send_to(&answer(&buffer[..length], false), client).await.unwrap();
            let (mut client, _) = stream.accept().await.unwrap();
            let mut asked = vec![0; usize::from(client.read_u16().await.unwrap())];
            client.read_exact(&mut asked).await.unwrap();
            let bytes = answer(&asked, true);
            client.write_u16(bytes.len() as u16).await.unwrap();
            client.write_all(&bytes).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn serve_passes_other_names_on_and_follows_aliases_there() {
    // Nothing listens at the first server: the second is asked.
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (_server, listen) = start(zone(), vec![closed, upstream().await]).await;
    let outside = ask(listen, "example.org.", RecordType::A).await;
    assert_eq!(outside, (ResponseCode::NoError, vec!["192.0.2.7".into()]));
    let far = ask(listen, "far.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(far.1, ["example.org.", "192.0.2.7"]);
}
