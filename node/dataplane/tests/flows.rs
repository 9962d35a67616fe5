//! Connections through the real programs: they work, and they survive the agent's end, its restart, and changes of the
//! service, while a client outside talks to a pod through a NodePort.
#![allow(clippy::unwrap_used)] // a test

mod namespaces;
mod support;
#[path = "support/topology.rs"]
mod topology;

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use namespaces::{Namespace, ask, connect, exchange};
use skep_abi::counters::Reason;
use skep_abi::service::{KIND_CLUSTER_IP, KIND_NODE_PORT};
use skep_dataplane::{KernelDataplane, XdpState};
use skep_maps::{
    Dataplane, DesiredFrontend, DesiredPool, DesiredPort, Endpoint, Frontend, Scope, dataplane::adopt,
};
use support::{ip, isolated};
use topology::{config, connected, counted, program};

/// The service: a NodePort and a ClusterIP in one family with the pod as its endpoint, or with none.
fn service(v4: bool, endpoint: bool) -> DesiredPort {
    let [node, cluster, pod]: [IpAddr; 3] =
        if v4 { ["192.0.2.1", "10.96.0.7", "10.244.1.2"] } else { ["2001:db8::1", "fd96::7", "fd44::2"] }
            .map(|text| text.parse().unwrap());
    let frontend = |address, port, scope, kind| DesiredFrontend {
        frontend: Frontend { address, port, protocol: 6, scope },
        kind,
        flags: 0,
        pool: 0,
    };
    DesiredPort {
        name: if v4 { "4" } else { "6" }.into(),
        affinity_seconds: 0,
        pools: vec![DesiredPool::each(
            endpoint.then_some(Endpoint { address: pod, port: 8080, local: true }).into_iter().collect(),
        )],
        source_ranges: BTreeSet::new(),
        draining: vec![(pod, 8080)],
        frontends: vec![
            frontend(node, 30080, Scope::External, KIND_NODE_PORT),
            frontend(node, 30080, Scope::Internal, KIND_NODE_PORT),
            frontend(cluster, 80, Scope::Internal, KIND_CLUSTER_IP),
        ],
    }
}

/// Echoes what comes over connections to `address`.
fn serve(address: &'static str) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                std::io::copy(&mut reader, &mut stream).ok();
            });
        }
    });
}

#[test]
fn connections_through_a_node_port_survive_the_agent_and_the_service() {
    isolated(|place| {
        let (client, pod, link) = connected();
        pod.run(|| {
            serve("10.244.1.2:8080");
            serve("[fd44::2]:8080");
        });

        let agent = KernelDataplane::open(&config(place)).unwrap();
        assert_eq!(agent.uplinks()[0].1, XdpState::Native);
        agent.attach_pod(&link).unwrap();
        let mut table = adopt(&agent).unwrap();
        program(&agent, &mut table, &[service(true, true), service(false, true)]);
        let targets = ["192.0.2.1:30080", "[2001:db8::1]:30080"];
        let mut streams: Vec<TcpStream> = targets
            .iter()
            .map(|target| connect(&client, target).unwrap_or_else(|e| panic!("{target}: {e}")))
            .collect();
        let mut all = |what: &str| streams.iter_mut().for_each(|stream| exchange(stream, what));
        all("with the agent");
        let translated = |dataplane: &KernelDataplane| -> u64 {
            // xdp_uplink: translated and redirected.
            dataplane.totals().unwrap().programs[0][1..3].iter().sum()
        };
        assert!(translated(&agent) > 0, "{:?}", agent.totals());
        drop(agent);
        all("without an agent");
        let agent = KernelDataplane::open(&config(place)).unwrap();
        agent.attach_pod(&link).unwrap();
        all("with a new agent");
        let mut table = adopt(&agent).unwrap();
        program(&agent, &mut table, &[service(true, true), service(false, true)]);
        table.finish_adoption();
        assert!(table.take_difference().is_empty());
        all("with the service adopted");
        program(&agent, &mut table, &[service(true, false), service(false, false)]);
        all("while its endpoint drains");
        for target in targets {
            let refused = connect(&client, target).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{target}");
        }
        program(&agent, &mut table, &[]);
        all("after the service was deleted");
    });
}

#[test]
fn datagrams_in_fragments_and_refusals_of_them_pass_a_node_port() {
    isolated(|place| {
        let (client, pod, link) = connected();
        let agent = KernelDataplane::open(&config(place)).unwrap();
        agent.attach_pod(&link).unwrap();
        let mut table = adopt(&agent).unwrap();
        let udp = |v4: bool| {
            let mut port = service(v4, true);
            port.frontends.iter_mut().for_each(|frontend| frontend.frontend.protocol = 17);
            port
        };
        program(&agent, &mut table, &[udp(true), udp(false)]);
        for (target, backend) in
            [("192.0.2.1:30080", "10.244.1.2:8080"), ("[2001:db8::1]:30080", "[fd44::2]:8080")]
        {
            let (ready, wait) = mpsc::channel();
            let echo = pod.run(move || {
                let socket = UdpSocket::bind(backend).unwrap();
                ready.send(()).unwrap();
                thread::spawn(move || {
                    let mut bytes = vec![0; 65536];
                    for _ in 0..3 {
                        let (length, from) = socket.recv_from(&mut bytes).unwrap();
                        socket.send_to(&bytes[..length], from).unwrap();
                    }
                })
            });
            wait.recv().unwrap();
            for length in [100, 5000, 60_000] {
                assert!(ask(&client, target, length).unwrap_or_else(|e| panic!("{target} {length}: {e}")));
            }
            echo.join().unwrap();
            // Nobody listens any more: the pod's complaint arrives as the service's.
            let before = counted(&agent, Reason::ErrorTranslated);
            let refused = ask(&client, target, 100).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{target}: {refused}");
            assert!(counted(&agent, Reason::ErrorTranslated) > before);
        }
        assert!(counted(&agent, Reason::Fragment) > 0, "XDP left the fragments to TC");
    });
}

#[test]
fn path_mtu_behind_a_service_is_found_by_the_client() {
    isolated(|place| {
        let (client, pod, link) = connected();
        let far = Namespace::new();
        ip("link add in0 type veth peer name in1");
        pod.take("in0", &["10.244.9.1/24", "fd44:9::1/64"], &[]);
        far.take("in1", &["10.244.9.2/24", "fd44:9::2/64"], &[]);
        // The pod is a router here, and its way on is narrower than the far end says of itself.
        pod.run(|| {
            ip("link set in0 mtu 1300");
            for file in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
                std::fs::write(file, "1").unwrap();
            }
        });
        far.run(|| {
            ip("link set in1 mtu 1300");
            ip("route add default via 10.244.9.1 advmss 1460");
            ip("route add default via fd44:9::1 advmss 1440");
        });
        ip("route add 10.244.9.0/24 via 10.244.1.2");
        ip("route add fd44:9::/64 via fd44::2");
        far.run(|| {
            serve("10.244.9.2:8080");
            serve("[fd44:9::2]:8080");
        });
        let agent = KernelDataplane::open(&config(place)).unwrap();
        agent.attach_pod(&link).unwrap();
        let mut table = adopt(&agent).unwrap();
        let behind = |v4: bool| {
            let mut port = service(v4, true);
            let address = if v4 { "10.244.9.2" } else { "fd44:9::2" }.parse().unwrap();
            port.pools = vec![DesiredPool::each(vec![Endpoint { address, port: 8080, local: false }])];
            port
        };
        program(&agent, &mut table, &[behind(true), behind(false)]);
        for target in ["192.0.2.1:30080", "[2001:db8::1]:30080"] {
            let before = counted(&agent, Reason::ErrorTranslated);
            let mut stream = connect(&client, target).unwrap_or_else(|e| panic!("{target}: {e}"));
            exchange(&mut stream, &"x".repeat(20_000));
            assert!(counted(&agent, Reason::ErrorTranslated) > before, "{target}");
        }
    });
}

#[test]
fn datagram_flow_keeps_its_backend_over_agents_and_their_endpoints() {
    isolated(|place| {
        let (client, pod, link) = connected();
        let agent = KernelDataplane::open(&config(place)).unwrap();
        agent.attach_pod(&link).unwrap();
        let ports: Vec<u16> = (8080..8088).collect();
        let udp = |count: usize| {
            let mut port = service(true, true);
            port.frontends.iter_mut().for_each(|frontend| frontend.frontend.protocol = 17);
            let address = "10.244.1.2".parse().unwrap();
            let endpoint = |port: &u16| Endpoint { address, port: *port, local: true };
            port.pools = vec![DesiredPool::each(ports[..count].iter().map(endpoint).collect())];
            port.draining = ports.iter().map(|port| (address, *port)).collect();
            port
        };
        let mut table = adopt(&agent).unwrap();
        program(&agent, &mut table, &[udp(4)]);
        for port in ports.clone() {
            pod.run(move || {
                let socket = UdpSocket::bind(("10.244.1.2", port)).unwrap();
                thread::spawn(move || {
                    let mut bytes = [0; 16];
                    while let Ok((_, from)) = socket.recv_from(&mut bytes) {
                        socket.send_to(&port.to_be_bytes(), from).ok();
                    }
                });
            });
        }
        let socket = client.run(|| {
            let socket = UdpSocket::bind("192.0.2.100:0").unwrap();
            socket.connect("192.0.2.1:30080").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket
        });
        let answered = || {
            socket.send(b"who").unwrap();
            let mut port = [0; 2];
            assert_eq!(socket.recv(&mut port).unwrap(), 2);
            u16::from_be_bytes(port)
        };
        let first = answered();
        drop(agent);
        assert_eq!(answered(), first, "without an agent");
        let agent = KernelDataplane::open(&config(place)).unwrap();
        let made = counted(&agent, Reason::FlowCreated);
        assert_eq!(answered(), first, "with a new agent");
        let mut table = adopt(&agent).unwrap();
        program(&agent, &mut table, &[udp(8)]);
        assert_eq!(answered(), first, "with more endpoints");
        assert_eq!((counted(&agent, Reason::FlowCreated), counted(&agent, Reason::FlowMoved)), (made, 0));
        // Its own leaves: it moves at once.
        let mut without = udp(8);
        without.pools[0] = DesiredPool::each(
            ports
                .iter()
                .filter(|port| **port != first)
                .map(|port| Endpoint { address: "10.244.1.2".parse().unwrap(), port: *port, local: true })
                .collect(),
        );
        program(&agent, &mut table, &[without]);
        assert_ne!(answered(), first);
        assert_eq!(counted(&agent, Reason::FlowMoved), 1);
    });
}

#[test]
fn pod_reaches_itself_through_its_service() {
    isolated(|place| {
        let (_client, pod, link) = connected();
        pod.run(|| {
            serve("10.244.1.2:8080");
            serve("[fd44::2]:8080");
        });
        let agent = KernelDataplane::open(&config(place)).unwrap();
        agent.attach_pod(&link).unwrap();
        let mut table = adopt(&agent).unwrap();
        program(&agent, &mut table, &[service(true, true), service(false, true)]);
        for target in ["10.96.0.7:80", "[fd96::7]:80", "192.0.2.1:30080", "[2001:db8::1]:30080"] {
            let mut stream = connect(&pod, target).unwrap_or_else(|error| panic!("{target}: {error}"));
            exchange(&mut stream, "to itself");
        }
    });
}
