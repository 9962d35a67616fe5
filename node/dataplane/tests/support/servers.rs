//! A service whose endpoints are two servers in one pod, a client outside, and the agent between them.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use skep_abi::service::KIND_NODE_PORT;
use skep_dataplane::{AttachChoices, DataplaneConfig, KernelDataplane};
use skep_maps::{
    Dataplane, DesiredFrontend, DesiredPool, DesiredPort, Endpoint, Frontend, PodLink, Scope, Table,
    dataplane::adopt,
};

use crate::namespaces::Namespace;
use crate::support::{Place, isolated};
use crate::topology::{config, connected, program};

pub const POD: [&str; 2] = ["10.244.1.2", "fd44::2"];
pub const NODE: [&str; 2] = ["192.0.2.1:30053", "[2001:db8::1]:30053"];

/// A service of both families at the node port, whose endpoints are the pod's servers at these ports, and have been at
/// those that drain.
pub fn service(protocol: u8, endpoints: &[u16], draining: &[u16]) -> Vec<DesiredPort> {
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
pub fn answer(pod: &Namespace, port: u16, name: &'static str) -> mpsc::Receiver<String> {
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
pub fn ask_both(client: &Namespace) -> [UdpSocket; 2] {
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
pub fn ask(socket: &UdpSocket, text: &str) -> std::io::Result<String> {
    socket.send(text.as_bytes())?;
    let mut bytes = [0; 512];
    let length = socket.recv(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

pub fn refused(socket: &UdpSocket, text: &str) {
    assert_eq!(ask(socket, text).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{text}");
}

pub struct Node {
    pub client: Namespace,
    pub pod: Namespace,
    pub link: PodLink,
    pub agent: KernelDataplane,
    pub table: Table,
}

impl Node {
    pub fn new(place: &Place, attach: AttachChoices) -> Self {
        let (client, pod, link) = connected();
        let agent = KernelDataplane::open(&DataplaneConfig { attach, ..config(place) }).unwrap();
        agent.attach_pod(&link).unwrap();
        let table = adopt(&agent).unwrap();
        Self { client, pod, link, agent, table }
    }

    pub fn program(&mut self, ports: &[DesiredPort]) {
        program(&self.agent, &mut self.table, ports);
    }

    /// The agent ends and another takes over.
    pub fn restart(self, place: &Place, meanwhile: impl FnOnce()) -> Self {
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
pub const WAYS: [AttachChoices; 2] = [
    AttachChoices { native: true, veth: true, generic: true, tcx: true },
    AttachChoices { native: false, veth: false, generic: false, tcx: true },
];

/// Runs `test` in a fresh place each way.
pub fn each_way(test: fn(&Place, AttachChoices)) {
    WAYS.into_iter().for_each(|attach| isolated(move |place| test(place, attach)));
}
