//! Names, addresses and folders of a development cluster.
//!
//! Everything that exists outside the repository is named here, so that `down` knows what `up` made.

use std::path::{Path, PathBuf};

/// Network namespace that holds the bridge.
pub const FABRIC: &str = "skep-fabric";
/// Network namespace of the control plane, and the start of their names where there are several.
pub const CONTROL: &str = "skep-cp";
/// Control planes of a highly available cluster.
pub const CONTROL_PLANES: u16 = 3;
/// Network namespace of a client outside the cluster.
pub const CLIENT: &str = "skep-client";
/// The machine's own end of its link into the fabric.
pub const MACHINE_LINK: &str = "skep-host";
/// The uplink inside every namespace.
pub const UPLINK: &str = "eth0";

/// Host part of the address of the API: the control plane's, or the one that moves between several.
pub const CONTROL_HOST: u16 = 1;
/// Host part of the first of several control planes; the others have the next ones.
pub const FIRST_CONTROL_HOST: u16 = 2;
/// Host part of the outside client's address.
pub const CLIENT_HOST: u16 = 100;
/// Host part of the machine's own address on the fabric.
pub const MACHINE_HOST: u16 = 254;
/// Host part of the first node's address; the second has the next one.
pub const FIRST_NODE_HOST: u16 = 11;

/// In the state folder of a cluster that is highly available.
const AVAILABLE: &str = "highly-available";

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
    /// The control planes: one, or three on an etcd.
    pub controls: Vec<Control>,
}

/// Names and folders of one control plane.
#[derive(Clone, Debug)]
pub struct Control {
    /// Its network namespace.
    pub name: String,
    /// Under this name its process is kept.
    pub process: String,
    /// Host part of its own address.
    pub host: u16,
    /// Its data directory.
    pub data: PathBuf,
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
    /// The one development cluster of this machine, with `nodes` nodes; highly available if it was made so.
    pub fn machine(nodes: u16) -> Self {
        let folders = Self::folders();
        let available = folders.0.join(AVAILABLE).exists();
        Self::under(&folders.0, &folders.1, nodes, available)
    }

    /// The same, highly available. [`Layout::mark`] makes it so.
    pub fn highly_available(nodes: u16) -> Self {
        let folders = Self::folders();
        Self::under(&folders.0, &folders.1, nodes, true)
    }

    fn folders() -> (PathBuf, PathBuf) {
        ("/var/lib/skep-dev".into(), "/run/skep-dev".into())
    }

    /// Notes that the cluster of this machine is highly available. Returns whether it was not before.
    pub fn mark(&self) -> std::io::Result<bool> {
        let mark = self.state.join(AVAILABLE);
        if mark.exists() {
            return Ok(false);
        }
        std::fs::create_dir_all(&self.state)?;
        std::fs::write(mark, "Three control planes on an etcd.\n")?;
        Ok(true)
    }

    fn under(state: &Path, run: &Path, nodes: u16, available: bool) -> Self {
        let nodes = (1..=nodes)
            .map(|number| {
                let name = format!("skep-n{number}");
                Node { state: state.join(&name), host: FIRST_NODE_HOST + number - 1, name }
            })
            .collect();
        let single = Control {
            name: CONTROL.into(),
            process: "control".into(),
            host: CONTROL_HOST,
            data: state.join("control"),
        };
        let controls = if available { Control::several(state) } else { vec![single] };
        Self { state: state.to_owned(), run: run.to_owned(), nodes, controls }
    }

    /// Whether there are several control planes.
    pub fn is_highly_available(&self) -> bool {
        self.controls.len() > 1
    }

    /// Where the binaries that run are copied to, so that building again does not disturb them.
    pub fn bin(&self, name: &str) -> PathBuf {
        self.state.join("bin").join(name)
    }

    /// The data directory of the control plane, or of the first one.
    pub fn control_data(&self) -> PathBuf {
        self.state.join("control")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        match self.is_highly_available() {
            true => self.state.join("admin.kubeconfig"),
            false => self.control_data().join("admin.kubeconfig"),
        }
    }

    /// Where a process's log goes.
    pub fn log(&self, process: &str) -> PathBuf {
        self.run.join("log").join(format!("{process}.log"))
    }

    /// The API server as every namespace and the machine itself reach it.
    pub fn server_url() -> String {
        format!("https://{}:{API_PORT}", ipv4(CONTROL_HOST))
    }

    /// The network namespaces of this cluster, the fabric last.
    pub fn namespaces(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        names.extend(self.controls.iter().map(|control| control.name.as_str()));
        names.extend([CLIENT, FABRIC]);
        names
    }

    /// The network namespaces that a development cluster of either kind may have, the fabric last.
    pub fn every_namespace(&self) -> Vec<String> {
        let mut names: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        names.extend((1..=CONTROL_PLANES).map(Control::name_of));
        names.extend([CONTROL, CLIENT, FABRIC].map(str::to_owned));
        names
    }
}

impl Control {
    fn several(state: &Path) -> Vec<Self> {
        let one = |number: u16| Self {
            name: Self::name_of(number),
            process: format!("control{number}"),
            host: FIRST_CONTROL_HOST + number - 1,
            data: state.join(if number == 1 { "control".to_owned() } else { format!("control{number}") }),
        };
        (1..=CONTROL_PLANES).map(one).collect()
    }

    fn name_of(number: u16) -> String {
        format!("{CONTROL}{number}")
    }

    /// Its own IPv4 address on the fabric.
    pub fn ipv4(&self) -> String {
        ipv4(self.host)
    }

    /// The name under which a process beside it is kept (`skep-cp1.etcd`).
    pub fn beside(&self, role: &str) -> String {
        format!("{}.{role}", self.name)
    }

    /// The administrator's kubeconfig for this one alone.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data.join("admin.kubeconfig")
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
