//! The namespaces of a [`super::World`] and what joins them. Owns every name and address; what runs there is others'.

use skep_harness::command::run_line;

/// The outside client's address.
pub const CLIENT_IP: &str = "172.31.99.100";
/// The client's way to these addresses is by the first node, as a router would have it.
pub const EXTERNAL: &str = "203.0.113.0/24";

/// One node: its namespace, which is its name in the API, and the pods on its bridge.
#[derive(Clone, Debug)]
pub struct Node {
    /// Namespace and name.
    pub name: String,
    /// Its address on the wire.
    pub address: String,
    /// Its pods.
    pub pods: Vec<Pod>,
    number: usize,
}

/// A pod: namespace and address.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Namespace, and what it calls itself.
    pub name: String,
    /// Address.
    pub address: String,
}

/// Nodes and a client on one wire.
#[derive(Clone, Debug)]
pub struct Wires {
    /// The client's namespace.
    pub client: String,
    /// The nodes.
    pub nodes: Vec<Node>,
    switch: String,
}

impl Wires {
    /// The names for so many nodes with so many pods each; nothing is made yet.
    pub fn plan(prefix: &str, nodes: usize, pods: usize) -> Self {
        let node = |number: usize| Node {
            name: format!("{prefix}-n{number}"),
            address: format!("172.31.99.{number}"),
            pods: (0..pods)
                .map(|pod| Pod {
                    name: format!("{prefix}-n{number}-p{pod}"),
                    address: format!("10.55.{number}.{}", pod + 2),
                })
                .collect(),
            number,
        };
        Self {
            client: format!("{prefix}-client"),
            nodes: (1..=nodes).map(node).collect(),
            switch: format!("{prefix}-wire"),
        }
    }

    /// All pods, node by node.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.nodes.iter().flat_map(|node| &node.pods)
    }

    fn namespaces(&self) -> impl Iterator<Item = &str> {
        let nodes = self.nodes.iter().map(|node| node.name.as_str());
        let pods = self.pods().map(|pod| pod.name.as_str());
        [self.switch.as_str(), self.client.as_str()].into_iter().chain(nodes).chain(pods)
    }

    /// Makes them all.
    pub fn make(&self) {
        let mut lines = Vec::new();
        for namespace in self.namespaces() {
            lines.push(format!("ip netns add {namespace}"));
            lines.push(format!("ip -n {namespace} link set lo up"));
            for scope in ["all", "default"] {
                lines.push(sysctl(namespace, &format!("net.ipv4.conf.{scope}.rp_filter=0")));
            }
        }
        lines.push(format!("ip -n {} link add br0 type bridge", self.switch));
        lines.push(format!("ip -n {} link set br0 up", self.switch));
        lines.extend(self.uplink(&self.client, CLIENT_IP, &self.nodes[0].address));
        lines.push(format!("ip -n {} route add {EXTERNAL} via {}", self.client, self.nodes[0].address));
        for node in &self.nodes {
            lines.extend(self.uplink(&node.name, &node.address, CLIENT_IP));
            lines.extend(bridge(node));
            let others = self.nodes.iter().filter(|other| other.number != node.number);
            lines.extend(others.map(|other| {
                format!("ip -n {} route add 10.55.{}.0/24 via {}", node.name, other.number, other.address)
            }));
        }
        for line in &lines {
            run_line(line).unwrap_or_else(|error| panic!("{error:#}"));
        }
    }

    /// A veth from the switch. Its offloads are off: what crosses it has its checksums, as on a real wire.
    fn uplink(&self, namespace: &str, address: &str, gateway: &str) -> Vec<String> {
        let port = format!("p{}", address.rsplit('.').next().unwrap_or_default());
        let offload = |namespace: &str, link: &str| {
            inside(namespace, &format!("ethtool -K {link} tx off tso off gso off gro on"))
        };
        vec![
            format!("ip -n {} link add {port} type veth peer name eth0 netns {namespace}", self.switch),
            format!("ip -n {} link set {port} master br0 up", self.switch),
            format!("ip -n {namespace} link set eth0 up"),
            format!("ip -n {namespace} addr add {address}/24 dev eth0"),
            format!("ip -n {namespace} route add default via {gateway}"),
            offload(namespace, "eth0"),
            offload(&self.switch, &port),
        ]
    }

    /// Removes whatever is there.
    pub fn remove(&self) {
        for namespace in self.namespaces() {
            run_line(&format!("ip netns del {namespace}")).ok();
        }
    }
}

/// A node's bridge and its pods on it, as plain CNI plugins make them.
fn bridge(node: &Node) -> Vec<String> {
    let Node { name, number, .. } = node;
    let gateway = format!("10.55.{number}.1");
    let mut lines = vec![
        format!("ip -n {name} link add cni0 type bridge"),
        format!("ip -n {name} addr add {gateway}/24 dev cni0"),
        format!("ip -n {name} link set cni0 up"),
        sysctl(name, "net.ipv4.ip_forward=1"),
    ];
    for (at, Pod { name: pod, address }) in node.pods.iter().enumerate() {
        lines.extend([
            format!("ip -n {name} link add veth{at} type veth peer name eth0 netns {pod}"),
            // A pod may reach itself through its service: the frame goes back where it came from.
            format!("ip -n {name} link set veth{at} master cni0 up"),
            format!("ip -n {name} link set veth{at} type bridge_slave hairpin on"),
            format!("ip -n {pod} addr add {address}/24 dev eth0"),
            format!("ip -n {pod} link set eth0 up"),
            format!("ip -n {pod} route add default via {gateway}"),
        ]);
    }
    lines
}

fn sysctl(namespace: &str, setting: &str) -> String {
    inside(namespace, &format!("sysctl -qw {setting}"))
}

/// A command line in a network namespace.
pub(super) fn inside(namespace: &str, line: &str) -> String {
    format!("nsenter --net=/run/netns/{namespace} {line}")
}
