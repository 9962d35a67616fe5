//! Connected UDP sockets follow their services: clients that are processes of their own, in the node's network namespace
//! and in another, connect once and never again.
#![allow(clippy::unwrap_used)] // a test

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use skep_abi::service::KIND_CLUSTER_IP;
use skep_dataplane::{DataplaneConfig, KernelDataplane};
use skep_maps::dataplane::{MovedSockets, adopt};
use skep_maps::suite::owner;
use skep_maps::{Dataplane, DesiredFrontend, DesiredPool, DesiredPort, Endpoint, Frontend, Scope, Table};
use support::{Place, ip, isolated, object};

/// A process with one UDP socket (`support/datagrams.rs`).
struct Client {
    process: Child,
    told: ChildStdin,
    tells: BufReader<ChildStdout>,
}

impl Client {
    /// In this namespace, or `apart` in one of its own.
    fn start(place: &Place, apart: bool) -> Self {
        let program = env!("CARGO_BIN_EXE_skep-test-datagrams");
        let mut command = if apart { Command::new("unshare") } else { Command::new(program) };
        if apart {
            command.arg("--net").arg(program);
        }
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::fs::write(place.cgroup.join("cgroup.procs"), process.id().to_string()).unwrap();
        let (told, tells) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut client = Self { process, told, tells: BufReader::new(tells) };
        // An answer means that it is where it should be.
        assert_eq!(client.act("hello"), "error: Other");
        client
    }

    /// Has it do something, and what came of it.
    fn act(&mut self, line: &str) -> String {
        writeln!(self.told, "{line}").unwrap();
        let mut answer = String::new();
        self.tells.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }

    /// Connects its namespace with this one through the two ends of a link.
    fn link(&self, here: &str, there: &str, addresses: [(&str, &str); 2]) {
        let number = self.process.id().to_string();
        ip(&format!("link set {there} netns {number}"));
        let inside = |arguments: String| {
            let enter = ["-t", &number, "-n", "ip"];
            let status =
                Command::new("nsenter").args(enter).args(arguments.split_whitespace()).status().unwrap();
            assert!(status.success(), "{arguments}");
        };
        inside("link set lo up".into());
        inside(format!("link set {there} up"));
        for (mine, its) in addresses {
            ip(&format!("address add {mine} dev {here} nodad"));
            inside(format!("address add {its} dev {there} nodad"));
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Answers what comes to `address` with `name` before it.
fn echo(address: &str, name: &'static str) {
    let socket = UdpSocket::bind(address).unwrap();
    thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let answer = format!("{name} {}", String::from_utf8_lossy(&bytes[..length]));
            socket.send_to(answer.as_bytes(), from).unwrap();
        }
    });
}

/// A UDP service at `frontend`, served by `endpoints`.
fn service(frontend: &str, endpoints: &[&str]) -> DesiredPort {
    let at: SocketAddr = frontend.parse().unwrap();
    let endpoint = |text: &&str| -> Endpoint {
        let address: SocketAddr = text.parse().unwrap();
        Endpoint { address: address.ip(), port: address.port(), local: true }
    };
    DesiredPort {
        name: frontend.into(),
        affinity_seconds: 0,
        pools: vec![DesiredPool::each(endpoints.iter().map(endpoint).collect())],
        source_ranges: Default::default(),
        draining: Vec::<(IpAddr, u16)>::new(),
        frontends: vec![DesiredFrontend {
            frontend: Frontend { address: at.ip(), port: at.port(), protocol: 17, scope: Scope::Internal },
            kind: KIND_CLUSTER_IP,
            flags: 0,
            pool: 0,
        }],
    }
}

fn program(dataplane: &KernelDataplane, table: &mut Table, name: &str, ports: &[DesiredPort]) {
    table.replace(&owner(name), ports).unwrap();
    dataplane.apply(&table.take_difference()).unwrap();
    table.applied(Duration::ZERO);
}

/// A node whose only programs are the socket hooks.
fn node(place: &Place) -> (KernelDataplane, Table) {
    let config = DataplaneConfig {
        cgroup_root: Some(place.cgroup.clone()),
        ..DataplaneConfig::new(object(), &place.pins, 7)
    };
    let agent = KernelDataplane::open(&config).unwrap();
    let table = adopt(&agent).unwrap();
    (agent, table)
}

const V4: &str = "10.96.0.7:53";
const V6: &str = "[fd96::7]:53";

#[test]
fn connected_udp_sockets_that_never_reconnect_follow_their_service_in_every_namespace() {
    isolated(|place| {
        let (agent, mut table) = node(place);
        let mut clients = [false, true].map(|apart| Client::start(place, apart));
        let addresses = [("192.0.2.1/24", "192.0.2.100/24"), ("2001:db8::1/64", "2001:db8::100/64")];
        clients[1].link("up0", "up1", addresses);
        for (port, name) in [(5301, "one"), (5302, "two")] {
            echo(&format!("192.0.2.1:{port}"), name);
            echo(&format!("[2001:db8::1]:{port}"), name);
        }
        let mut serve = |port: u16| {
            let [v4, v6] = [format!("192.0.2.1:{port}"), format!("[2001:db8::1]:{port}")];
            program(&agent, &mut table, "default/dns", &[service(V4, &[&v4]), service(V6, &[&v6])]);
        };
        for client in &mut clients {
            for target in [V4, V6, "[::ffff:10.96.0.7]:53"] {
                serve(5301);
                // A process has one socket, so that another takes its place.
                let apart = client.process.id();
                assert_eq!(client.act(&format!("connect {target}")), target, "{apart}");
                assert_eq!(client.act("send a"), "one a", "{target}");
                assert_eq!(agent.move_sockets().unwrap(), MovedSockets::default());
                serve(5302);
                assert_eq!(client.act("send b"), "one b", "nothing translates it again");
                let moved = agent.move_sockets().unwrap();
                assert_eq!(moved, MovedSockets { reconnected: 1, ended: 0 }, "{target}");
                assert_eq!(client.act("send c"), "two c", "{target}");
                assert_eq!(agent.move_sockets().unwrap(), MovedSockets::default());
                client.act("close");
            }
        }
    });
}

#[test]
fn connected_udp_socket_of_a_deleted_service_ends_and_of_one_without_endpoints_stays() {
    isolated(|place| {
        let (agent, mut table) = node(place);
        let mut client = Client::start(place, false);
        echo("127.0.0.1:5301", "one");
        echo("127.0.0.1:5302", "two");
        program(&agent, &mut table, "default/dns", &[service(V4, &["127.0.0.1:5301"])]);
        program(&agent, &mut table, "default/other", &[service("10.96.0.8:53", &["127.0.0.1:5302"])]);
        assert_eq!(client.act(&format!("connect {V4}")), V4);
        assert_eq!(client.act("send a"), "one a");
        program(&agent, &mut table, "default/dns", &[service(V4, &[])]);
        assert_eq!(agent.move_sockets().unwrap(), MovedSockets::default());
        assert_eq!(client.act("send b"), "one b", "it may be on its way out, but there is no better one");
        program(&agent, &mut table, "default/dns", &[]);
        assert_eq!(agent.move_sockets().unwrap(), MovedSockets { reconnected: 0, ended: 1 });
        let refused = client.act("send c");
        assert!(refused.starts_with("error: "), "{refused}");
        assert_eq!(client.act("connect 10.96.0.8:53"), "10.96.0.8:53");
        // The end is told once, to whatever comes next.
        assert_eq!(client.act("send d"), "error: ConnectionAborted");
        assert_eq!(client.act("send e"), "two e");
    });
}

#[test]
fn tcp_socket_shows_the_frontend_that_it_was_connected_to() {
    isolated(|place| {
        let (agent, mut table) = node(place);
        let mut client = Client::start(place, false);
        let listeners = ["127.0.0.1:8080", "[::1]:8080"].map(|at| TcpListener::bind(at).unwrap());
        let ports = [(V4, "127.0.0.1:8080"), (V6, "[::1]:8080")].map(|(frontend, backend)| {
            let mut port = service(frontend, &[backend]);
            port.frontends[0].frontend.protocol = skep_abi::TCP;
            port
        });
        program(&agent, &mut table, "default/web", &ports);
        for target in [V4, V6, "[::ffff:10.96.0.7]:53"] {
            assert_eq!(client.act(&format!("stream {target}")), target);
        }
        let connections = |name: &str| {
            let ports = table.ports_of("default/web");
            let (_, id) = ports.iter().find(|(port, _)| &**port == name).unwrap();
            agent.service_totals(*id).unwrap().unwrap().connections
        };
        assert_eq!([V4, V6].map(connections), [2, 1]);
        // What is for no service shows what it is.
        assert_eq!(client.act("stream 127.0.0.1:8080"), "127.0.0.1:8080");
        drop(listeners);
    });
}

/// Runs bpftool on a pinned map, keys and values as decimal bytes.
fn bpftool(place: &Place, what: &str, map: &str, parts: &[(&str, &[u8])]) -> Vec<u8> {
    let pin = place.pins.join("maps").join(map);
    let mut command = Command::new("bpftool");
    command.args(["-j", "map", what, "pinned"]).arg(pin);
    for (name, bytes) in parts {
        command.arg(name).args(bytes.iter().map(u8::to_string));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{what} {map}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The cookie of the only connected UDP socket here.
fn cookie() -> u64 {
    let output = Command::new("ss").args(["-H", "-u", "-n", "-e", "state", "established"]).output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    let word = line.split_whitespace().find_map(|word| word.strip_prefix("sk:")).unwrap();
    u64::from_str_radix(word, 16).unwrap()
}

/// Has the maps remember the socket as they did up to version 6: its frontend [`V4`], its backend 127.0.0.1 with that port.
fn remember_as_earlier(place: &Place, cookie: u64, port: u16) {
    let at = skep_abi::socket::place(cookie, skep_abi::UDP).to_ne_bytes();
    let size = size_of::<skep_abi::socket::Connected<skep_abi::V4>>();
    let known = bpftool(place, "lookup", "CONNECTED_V4", &[("key", &at)]);
    let known: serde_json::Value = serde_json::from_slice(&known).unwrap();
    let known: Vec<String> = serde_json::from_value(known["value"].clone()).unwrap();
    let bytes = |number: u8| format!("{number:#04x}");
    assert_eq!(known[..8], cookie.to_ne_bytes().map(bytes), "it is remembered by its cookie");
    bpftool(place, "update", "CONNECTED_V4", &[("key", &at), ("value", &vec![0; size])]);
    let key = [&cookie.to_ne_bytes()[..], &[127, 0, 0, 1], &port.to_be_bytes(), &[17, 0]].concat();
    let value = [&[10, 96, 0, 7][..], &53_u16.to_be_bytes(), &[0, 0]].concat();
    bpftool(place, "update", "PEERS_V4", &[("key", &key), ("value", &value)]);
}

#[test]
fn udp_socket_that_an_earlier_version_has_connected_shows_its_frontend_and_follows_it() {
    isolated(|place| {
        let (agent, mut table) = node(place);
        let mut client = Client::start(place, false);
        echo("127.0.0.1:5301", "one");
        echo("127.0.0.1:5302", "two");
        program(&agent, &mut table, "default/dns", &[service(V4, &["127.0.0.1:5301"])]);
        assert_eq!(client.act(&format!("connect {V4}")), V4);
        remember_as_earlier(place, cookie(), 5301);
        assert_eq!(client.act("peer"), V4);
        assert_eq!(agent.move_sockets().unwrap(), MovedSockets::default());
        program(&agent, &mut table, "default/dns", &[service(V4, &["127.0.0.1:5302"])]);
        assert_eq!(agent.move_sockets().unwrap(), MovedSockets { reconnected: 1, ended: 0 });
        assert_eq!(client.act("send a"), "two a");
        // What was remembered of the socket before is of no account any more.
        remember_as_earlier_too(place, 5302);
        program(&agent, &mut table, "default/dns", &[service(V4, &["127.0.0.1:5302"])]);
        assert_eq!(agent.move_sockets().unwrap(), MovedSockets::default());
        assert_eq!((client.act("peer"), client.act("send b")), (V4.to_owned(), "two b".to_owned()));
    });
}

/// Has the maps remember, beside what they do, that the socket was connected to that backend for a service that is gone.
fn remember_as_earlier_too(place: &Place, port: u16) {
    let key = [&cookie().to_ne_bytes()[..], &[127, 0, 0, 1], &port.to_be_bytes(), &[17, 0]].concat();
    let value = [&[10, 96, 0, 99][..], &53_u16.to_be_bytes(), &[0, 0]].concat();
    bpftool(place, "update", "PEERS_V4", &[("key", &key), ("value", &value)]);
}
