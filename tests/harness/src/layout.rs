//! Names, addresses and folders of a development cluster.
//!
//! Everything that exists outside the repository is named here, so that `down` knows what `up` made.

use std::path::{Path, PathBuf};

/// Network namespace that holds the bridge.
pub const FABRIC: &str = "skep-fabric";
/// Network namespace of the control plane.
pub const CONTROL: &str = "skep-cp";
/// Network namespace of a client outside the cluster.
pub const CLIENT: &str = "skep-client";
/// The machine's own end of its link into the fabric.
pub const MACHINE_LINK: &str = "skep-host";
/// The uplink inside every namespace.
pub const UPLINK: &str = "eth0";

/// Host part of the control plane's address.
pub const CONTROL_HOST: u16 = 1;
/// Host part of the outside client's address.
pub const CLIENT_HOST: u16 = 100;
/// Host part of the machine's own address on the fabric.
pub const MACHINE_HOST: u16 = 254;
/// Host part of the first node's address; the second has the next one.
pub const FIRST_NODE_HOST: u16 = 11;

/// TCP port of the API server.
pub const API_PORT: u16 = 6443;
/// Addresses for pods, of which each node gets a /24.
pub const CLUSTER_CIDR: &str = "10.244.0.0/16";
/// Addresses for services.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// Address of the cluster's DNS service.
pub const CLUSTER_DNS: &str = "10.96.0.10";

/// IPv4 address on the fabric with the host part given.
pub fn ipv4(host: u16) -> String {
    format!("172.30.0.{host}")
}

/// IPv6 address on the fabric with the host part given, which is written in the same decimal digits.
pub fn ipv6(host: u16) -> String {
    format!("fd30::{host}")
}

/// The folders of one development cluster.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Survives `down --keep-state`: the control plane's data, the nodes' containers, images, binaries.
    pub state: PathBuf,
    /// Logs and pid files of the processes that were started.
    pub run: PathBuf,
    /// The nodes.
    pub nodes: Vec<Node>,
}

/// Names and folders of one node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Node name, network namespace and cgroup root: `skep-n1`.
    pub name: String,
    /// Host part of its addresses.
    pub host: u16,
    /// Its folder under [`Layout::state`].
    pub state: PathBuf,
}

impl Layout {
    /// The one development cluster of this machine, with `nodes` nodes.
    pub fn machine(nodes: u16) -> Self {
        Self::under(Path::new("/var/lib/skep-dev"), Path::new("/run/skep-dev"), nodes)
    }

    fn under(state: &Path, run: &Path, nodes: u16) -> Self {
        let nodes = (1..=nodes)
            .map(|number| {
                let name = format!("skep-n{number}");
                Node { state: state.join(&name), host: FIRST_NODE_HOST + number - 1, name }
            })
            .collect();
        Self { state: state.to_owned(), run: run.to_owned(), nodes }
    }

    /// Where the binaries that run are copied to, so that building again does not disturb them.
    pub fn bin(&self, name: &str) -> PathBuf {
        self.state.join("bin").join(name)
    }

    /// The control plane's data directory.
    pub fn control_data(&self) -> PathBuf {
        self.state.join("control")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.control_data().join("admin.kubeconfig")
    }

    /// Where a process's log goes.
    pub fn log(&self, process: &str) -> PathBuf {
        self.run.join("log").join(format!("{process}.log"))
    }

    /// The API server as every namespace and the machine itself reach it.
    pub fn server_url() -> String {
        format!("https://{}:{API_PORT}", ipv4(CONTROL_HOST))
    }

    /// All network namespaces, the fabric last.
    pub fn namespaces(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        names.extend([CONTROL, CLIENT, FABRIC]);
        names
    }
}

impl Node {
    /// IPv4 address on the fabric.
    pub fn ipv4(&self) -> String {
        ipv4(self.host)
    }

    /// The name under which one of this node's processes is kept (`skep-n1.containerd`).
    pub fn process(&self, role: &str) -> String {
        format!("{}.{role}", self.name)
    }

    /// The node's cgroup root, relative to each hierarchy.
    pub fn cgroup(&self) -> String {
        format!("/{}", self.name)
    }
}
