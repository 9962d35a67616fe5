//! Flows of real clients while their service changes: each of the troubles that users of other proxies report, by name.
//!
//! The client is outside and comes through a NodePort; it keeps its socket, and so its port, over the changes. The pod has
//! two servers, so that it stands for two.
#![allow(clippy::unwrap_used)] // a test

#[allow(dead_code)] // it has more than is used here
mod namespaces;
mod support;
#[path = "support/topology.rs"]
mod topology;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use namespaces::Namespace;
use skep_abi::counters::Reason;
use skep_abi::service::KIND_NODE_PORT;
use skep_abi::{TCP, UDP};
use skep_dataplane::{AttachChoices, DataplaneConfig, KernelDataplane};
use skep_maps::{
    Dataplane, DesiredFrontend, DesiredPool, DesiredPort, Endpoint, Frontend, PodLink, Scope, Table,
    dataplane::adopt,
};
use support::{Place, ip, isolated};
use topology::{config, connected, counted, program};

const POD: [&str; 2] = ["10.244.1.2", "fd44::2"];
const NODE: [&str; 2] = ["192.0.2.1:30053", "[2001:db8::1]:30053"];

/// A service of both families at the node port, whose endpoints are the pod's servers at these ports, and have been at
/// those that drain.
fn service(protocol: u8, endpoints: &[u16], draining: &[u16]) -> Vec<DesiredPort> {
    let one = |(node, pod): (&str, &str)| {
        let node: SocketAddr = node.parse().unwrap();
        let address = pod.parse().unwrap();
        let frontend = Frontend { address: node.ip(), port: node.port(), protocol, scope: Scope::External };
        let endpoint = |port: &u16| Endpoint { address, port: *port, local: true };
        DesiredPort {
            name: pod.into(),
            affinity_seconds: 0,
            pools: vec![DesiredPool::each(endpoints.iter().map(endpoint).collect())],
            source_ranges: BTreeSet::new(),
            draining: draining.iter().map(|port| (address, *port)).collect(),
            frontends: vec![DesiredFrontend { frontend, kind: KIND_NODE_PORT, flags: 0, pool: 0 }],
        }
    };
    NODE.into_iter().zip(POD).map(one).collect()
}

/// A server in the pod at both of its addresses: answers with its name, and tells what it was sent.
fn answer(pod: &Namespace, port: u16, name: &'static str) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    pod.run(move || {
        for address in POD {
            let socket = UdpSocket::bind((address, port)).unwrap();
            let tell = tell.clone();
            thread::spawn(move || {
                let mut bytes = [0; 512];
                while let Ok((length, from)) = socket.recv_from(&mut bytes) {
                    tell.send(String::from_utf8_lossy(&bytes[..length]).into_owned()).ok();
                    socket.send_to(name.as_bytes(), from).unwrap();
                }
            });
        }
    });
    told
}

/// The client's sockets, one to each family's node port.
fn ask_both(client: &Namespace) -> [UdpSocket; 2] {
    NODE.map(|node| {
        client.run(move || {
            let node: SocketAddr = node.parse().unwrap();
            let socket = UdpSocket::bind(if node.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            socket.connect(node).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            socket
        })
    })
}

/// Who answers a datagram.
fn ask(socket: &UdpSocket, text: &str) -> std::io::Result<String> {
    socket.send(text.as_bytes())?;
    let mut bytes = [0; 512];
    let length = socket.recv(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

fn refused(socket: &UdpSocket, text: &str) {
    assert_eq!(ask(socket, text).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{text}");
}

struct Node {
    client: Namespace,
    pod: Namespace,
    link: PodLink,
    agent: KernelDataplane,
    table: Table,
}

impl Node {
    fn new(place: &Place, attach: AttachChoices) -> Self {
        let (client, pod, link) = connected();
        let agent = KernelDataplane::open(&DataplaneConfig { attach, ..config(place) }).unwrap();
        agent.attach_pod(&link).unwrap();
        let table = adopt(&agent).unwrap();
        Self { client, pod, link, agent, table }
    }

    fn program(&mut self, ports: &[DesiredPort]) {
        program(&self.agent, &mut self.table, ports);
    }

    /// The agent ends and another takes over.
    fn restart(self, place: &Place, meanwhile: impl FnOnce()) -> Self {
        let Self { client, pod, link, agent, .. } = self;
        drop(agent);
        meanwhile();
        let agent = KernelDataplane::open(&config(place)).unwrap();
        agent.attach_pod(&link).unwrap();
        let table = adopt(&agent).unwrap();
        Self { client, pod, link, agent, table }
    }
}

/// As it is, and with TC doing all of it.
const WAYS: [AttachChoices; 2] = [
    AttachChoices { native: true, generic: true, tcx: true },
    AttachChoices { native: false, generic: false, tcx: true },
];

/// Runs `test` in a fresh place each way.
fn each_way(test: fn(&Place, AttachChoices)) {
    WAYS.into_iter().for_each(|attach| isolated(move |place| test(place, attach)));
}

#[test]
fn udp_flow_to_a_terminating_backend_moves_at_once_when_another_is_ready() {
    each_way(|place, attach| {
        let mut node = Node::new(place, attach);
        let servers = [(5301, "one"), (5302, "two")].map(|(port, name)| answer(&node.pod, port, name));
        for socket in ask_both(&node.client) {
            node.program(&service(UDP, &[5301], &[]));
            assert_eq!(ask(&socket, "first").unwrap(), "one");
            node.program(&service(UDP, &[5302], &[5301]));
            let before = counted(&node.agent, Reason::FlowMoved);
            assert_eq!(ask(&socket, "next").unwrap(), "two");
            assert_eq!(counted(&node.agent, Reason::FlowMoved), before + 1);
            let came: Vec<Vec<String>> = servers.iter().map(|told| told.try_iter().collect()).collect();
            assert_eq!(came, [vec!["first"], vec!["next"]], "nothing was sent to the one that terminates");
        }
    });
}

#[test]
fn udp_flows_are_kept_while_the_agent_is_away_and_when_it_returns() {
    isolated(|place| {
        let mut node = Node::new(place, WAYS[0]);
        let _servers = [(5301, "one"), (5302, "two")].map(|(port, name)| answer(&node.pod, port, name));
        node.program(&service(UDP, &[5301, 5302], &[]));
        let sockets: Vec<UdpSocket> = (0..8).flat_map(|_| ask_both(&node.client)).collect();
        let all = || -> Vec<String> { sockets.iter().map(|socket| ask(socket, "x").unwrap()).collect() };
        let chosen = all();
        assert!(chosen.contains(&"one".to_owned()) && chosen.contains(&"two".to_owned()), "{chosen:?}");
        let mut node = node.restart(place, || assert_eq!(all(), chosen));
        assert_eq!(all(), chosen);
        node.program(&service(UDP, &[5301, 5302], &[]));
        node.table.finish_adoption();
        assert!(node.table.take_difference().is_empty());
        assert_eq!(all(), chosen);
    });
}

#[test]
fn deleted_udp_service_leaves_nothing_that_misdelivers() {
    each_way(|place, attach| {
        let mut node = Node::new(place, attach);
        let servers = [(5301, "one"), (5302, "two")].map(|(port, name)| answer(&node.pod, port, name));
        for socket in ask_both(&node.client) {
            node.program(&service(UDP, &[5301], &[]));
            assert_eq!(ask(&socket, "served").unwrap(), "one");
            node.program(&[]);
            refused(&socket, "late");
            // Another service gets the port.
            node.program(&service(UDP, &[5302], &[]));
            assert_eq!(ask(&socket, "again").unwrap(), "two");
            let came: Vec<Vec<String>> = servers.iter().map(|told| told.try_iter().collect()).collect();
            assert_eq!(came, [vec!["served"], vec!["again"]]);
        }
    });
}

#[test]
fn first_endpoint_of_a_service_that_has_traffic_already_is_used_at_once() {
    each_way(|place, attach| {
        let mut node = Node::new(place, attach);
        let _server = answer(&node.pod, 5301, "one");
        for socket in ask_both(&node.client) {
            node.program(&service(UDP, &[], &[]));
            refused(&socket, "early");
            refused(&socket, "early still");
            node.program(&service(UDP, &[5301], &[]));
            assert_eq!(ask(&socket, "now").unwrap(), "one");
        }
        // And where there was no such service before.
        node.program(&[]);
        let [socket, _] = ask_both(&node.client);
        refused(&socket, "earlier");
        node.program(&service(UDP, &[5301], &[]));
        assert_eq!(ask(&socket, "now").unwrap(), "one");
    });
}

#[test]
fn reused_pod_address_receives_no_flow_of_the_pod_before() {
    each_way(|place, attach| {
        let mut node = Node::new(place, attach);
        let server = answer(&node.pod, 5301, "one");
        let accepted = node.pod.run(|| {
            let (tell, told) = mpsc::channel::<TcpStream>();
            for address in POD {
                let listener = TcpListener::bind((address, 8080)).unwrap();
                let tell = tell.clone();
                thread::spawn(move || listener.incoming().try_for_each(|stream| tell.send(stream.unwrap())));
            }
            told
        });
        let [datagrams, _] = ask_both(&node.client);
        node.program(&service(UDP, &[5301], &[]));
        assert_eq!(ask(&datagrams, "its own").unwrap(), "one");
        // The pod goes, and its address is another pod's, of another service.
        node.program(&service(UDP, &[], &[]));
        refused(&datagrams, "the other's");
        assert_eq!(server.try_iter().collect::<Vec<_>>(), ["its own"]);

        for target in NODE {
            node.program(&service(TCP, &[8080], &[]));
            let mut stream = node.client.run(move || TcpStream::connect(target).unwrap());
            let mut there = accepted.recv_timeout(Duration::from_secs(5)).unwrap();
            stream.write_all(b"its own").unwrap();
            let mut bytes = [0; 64];
            assert_eq!(there.read(&mut bytes).unwrap(), 7);
            node.program(&service(TCP, &[], &[]));
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.write_all(b"the other's").unwrap();
            assert_eq!(stream.read(&mut bytes).unwrap_err().kind(), ErrorKind::ConnectionReset, "{target}");
            there.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            assert_eq!(there.read(&mut bytes).unwrap_err().kind(), ErrorKind::WouldBlock, "{target}");
        }
    });
}

#[test]
fn source_ports_that_run_out_refuse_the_new_by_name_and_keep_the_established() {
    isolated(|place| {
        let (client, pod, link) = connected();
        // A pod elsewhere, behind this one: what goes there needs a translated source, and there is one port for that.
        pod.run(|| ip("address add 10.244.9.2/32 dev lo"));
        ip("route add 10.244.9.0/24 via 10.244.1.2");
        pod.run(|| {
            for port in [8080, 8081] {
                let listener = TcpListener::bind(("10.244.9.2", port)).unwrap();
                thread::spawn(move || {
                    for stream in listener.incoming() {
                        let mut stream = stream.unwrap();
                        let mut reader = stream.try_clone().unwrap();
                        thread::spawn(move || std::io::copy(&mut reader, &mut stream));
                    }
                });
            }
        });
        let config = DataplaneConfig { snat_ports: (61_000, 61_000), ..config(place) };
        let agent = KernelDataplane::open(&config).unwrap();
        agent.attach_pod(&link).unwrap();
        let mut table = adopt(&agent).unwrap();
        let far = |at: &str, port: u16| {
            let mut service = service(TCP, &[port], &[]).swap_remove(0);
            service.name = at.into();
            service.frontends[0].frontend.port = at.parse().unwrap();
            service.pools[0].endpoints[0].address = "10.244.9.2".parse().unwrap();
            service.pools[0].endpoints[0].local = false;
            service
        };
        program(&agent, &mut table, &[far("30053", 8080), far("30054", 8081)]);
        let connect = |port: u16| {
            client.run(move || {
                let target = SocketAddr::from(([192, 0, 2, 1], port));
                TcpStream::connect_timeout(&target, Duration::from_millis(1500))
            })
        };
        let exchange = |stream: &mut TcpStream| {
            stream.write_all(b"ping").unwrap();
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"ping");
        };
        let mut first = connect(30053).unwrap();
        exchange(&mut first);
        assert_eq!(connect(30053).unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(counted(&agent, Reason::SnatExhausted) > 0);
        exchange(&mut first);
        // Towards another backend the same port is free.
        exchange(&mut connect(30054).unwrap());
    });
}
