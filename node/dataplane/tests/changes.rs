//! Flows of real clients while their service changes: each of the troubles that users of other proxies report, by name.
//!
//! The client is outside and comes through a NodePort; it keeps its socket, and so its port, over the changes. The pod has
//! two servers, so that it stands for two.
#![allow(clippy::unwrap_used)] // a test

#[allow(dead_code)] // it has more than is used here
mod namespaces;
#[path = "support/servers.rs"]
mod servers;
mod support;
#[path = "support/topology.rs"]
mod topology;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use servers::{NODE, Node, POD, WAYS, answer, ask, ask_both, each_way, refused, service};
use skep_abi::counters::Reason;
use skep_abi::{TCP, UDP};
use skep_dataplane::{DataplaneConfig, KernelDataplane};
use skep_maps::{Dataplane, dataplane::adopt};
use support::{ip, isolated};
use topology::{config, connected, counted, program};

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
