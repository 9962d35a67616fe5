//! The flags of every subcommand, with the defaults of a production node.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use skep_dataplane::AttachChoices;

use crate::inspect::Subject;
use crate::logging::Format;

/// The node agent of Skep.
#[derive(Parser)]
#[command(name = "skep-node", version)]
pub(crate) struct Arguments {
    /// What to log: a level, or a filter such as `info,skep_pods=debug`.
    #[arg(long, global = true, default_value = "info", env = "SKEP_LOG")]
    pub(crate) log: String,
    /// The form of log lines.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) log_format: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a node: pods, their network, services, DNS.
    Run(Box<RunArguments>),
    /// Run the service datapath alone, on any Kubernetes cluster, in place of kube-proxy.
    Proxy(Box<ProxyArguments>),
    /// The CNI plugin: called by the container runtime, not by people.
    Cni,
    /// Show what the kernel's tables hold, decoded.
    Inspect(InspectArguments),
    /// Remove every pinned program and table. Services stop working on this node.
    Cleanup(CleanupArguments),
}

/// Where the datapath lives; shared by all subcommands.
#[derive(Args, Clone, Debug)]
pub(crate) struct PinArguments {
    /// Folder in a BPF file system where programs and tables are pinned.
    #[arg(long, default_value = "/sys/fs/bpf/skep")]
    pub(crate) bpf_root: PathBuf,
}

/// What the datapath needs.
#[derive(Args, Clone, Debug)]
pub(crate) struct DatapathArguments {
    #[command(flatten)]
    pub(crate) pins: PinArguments,
    /// The eBPF object.
    #[arg(long, default_value = "/usr/lib/skep/skep-programs")]
    pub(crate) ebpf_object: PathBuf,
    /// Interfaces towards other nodes and clients; if not given, those that have the node's addresses.
    #[arg(long = "uplink")]
    pub(crate) uplinks: Vec<String>,
    /// How XDP is attached to them; whatever it cannot do, TC does.
    #[arg(long, value_enum, default_value_t = Xdp::Auto)]
    pub(crate) xdp: Xdp,
    /// The cgroup2 folder whose processes' sockets are translated: this node's own.
    #[arg(long, default_value = "/sys/fs/cgroup")]
    pub(crate) cgroup_root: PathBuf,
    /// Where NodePorts answer: `primary` (the node's addresses) or ranges such as 192.0.2.0/24.
    #[arg(long = "nodeport-addresses", value_delimiter = ',')]
    pub(crate) node_port_addresses: Vec<String>,
    /// How replies go back to clients outside from backends on other nodes; all nodes must be told the same.
    #[arg(long, value_enum, default_value_t = ExternalReturn::SourceTranslation)]
    pub(crate) external_return: ExternalReturn,
    /// Where load balancers and probes ask for the health of the service datapath: /healthz and /livez.
    #[arg(long, default_value = "0.0.0.0:10256")]
    pub(crate) healthz_bind_address: std::net::SocketAddr,
    /// Messages of the datapath in the log: off, error, warn, info, debug or trace.
    #[arg(long, default_value = "off")]
    pub(crate) datapath_log: String,
}

/// See [`AttachChoices`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Xdp {
    /// In the driver, else in the stack. A veth's driver loses what is sent back unless its other end has an XDP program
    /// too, so there it is in the stack.
    Auto,
    /// As `auto`, in the driver on a veth as well.
    Native,
    /// In the stack.
    Generic,
    /// Not at all.
    Off,
}

impl From<Xdp> for AttachChoices {
    fn from(choice: Xdp) -> Self {
        let native = matches!(choice, Xdp::Auto | Xdp::Native);
        Self { native, veth: choice == Xdp::Native, generic: choice != Xdp::Off, ..Self::default() }
    }
}

/// See [`skep_services::ExternalReturn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExternalReturn {
    /// By the node that took the packet, which puts its own address in place of the client's.
    SourceTranslation,
    /// Straight from the backend's node, which sees the client's address; not for SCTP. The network must carry packets
    /// from nodes with clients' and services' addresses as their sources.
    Direct,
}

impl From<ExternalReturn> for skep_services::ExternalReturn {
    fn from(choice: ExternalReturn) -> Self {
        match choice {
            ExternalReturn::SourceTranslation => Self::SourceTranslation,
            ExternalReturn::Direct => Self::Direct,
        }
    }
}

/// Flags of `run`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArguments {
    /// Credentials for the API server, as this node.
    #[arg(long)]
    pub(crate) kubeconfig: PathBuf,
    /// Name of this node's Node object.
    #[arg(long)]
    pub(crate) node_name: String,
    /// This node's addresses towards the others, the primary family first.
    #[arg(long = "node-ip", required = true)]
    pub(crate) node_ips: Vec<IpAddr>,
    #[command(flatten)]
    pub(crate) datapath: DatapathArguments,
    /// Certificate of the node's own HTTPS endpoint, PEM.
    #[arg(long)]
    pub(crate) serving_cert: PathBuf,
    /// Its key, PEM.
    #[arg(long)]
    pub(crate) serving_key: PathBuf,
    /// The authority whose client certificates may call that endpoint, PEM.
    #[arg(long)]
    pub(crate) client_ca: PathBuf,
    /// Port of that endpoint.
    #[arg(long, default_value_t = 10250)]
    pub(crate) port: u16,
    /// containerd's socket.
    #[arg(long, default_value = "/run/containerd/containerd.sock")]
    pub(crate) containerd: PathBuf,
    /// Cgroup below which pods' cgroups are made, relative to each hierarchy.
    #[arg(long, default_value = "/")]
    pub(crate) cgroup_parent: String,
    /// Below these amounts the node reports pressure and is given no new pods; as kubelet writes them. Pods are
    /// not evicted.
    #[arg(long, default_value = "memory.available<100Mi,nodefs.available<10%")]
    pub(crate) eviction_hard: skep_pods::node::Thresholds,
    /// Address of the cluster's DNS service; it is answered on this node.
    #[arg(long, default_value = "10.96.0.10")]
    pub(crate) cluster_dns: IpAddr,
    /// The cluster's domain.
    #[arg(long, default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// Where the machine's name servers are listed: for names outside the cluster.
    #[arg(long, default_value = "/etc/resolv.conf")]
    pub(crate) resolv_conf: PathBuf,
    /// Folder for what survives a restart of the machine.
    #[arg(long, default_value = "/var/lib/skep")]
    pub(crate) state_dir: PathBuf,
    /// Folder for sockets.
    #[arg(long, default_value = "/run/skep")]
    pub(crate) run_dir: PathBuf,
    /// Where the container runtime looks for network configurations.
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub(crate) cni_conf_dir: PathBuf,
    /// Where the container runtime looks for network plugins.
    #[arg(long, default_value = "/opt/cni/bin")]
    pub(crate) cni_bin_dir: PathBuf,
}

/// Flags of `proxy`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProxyArguments {
    /// Credentials for the API server.
    #[arg(long)]
    pub(crate) kubeconfig: PathBuf,
    /// Name of this node's Node object; the machine's host name if not given.
    #[arg(long)]
    pub(crate) node_name: Option<String>,
    /// This node's addresses; those of its Node object if not given.
    #[arg(long = "node-ip")]
    pub(crate) node_ips: Vec<IpAddr>,
    #[command(flatten)]
    pub(crate) datapath: DatapathArguments,
    /// Where metrics are served.
    #[arg(long, default_value = "127.0.0.1:10249")]
    pub(crate) metrics_listen: std::net::SocketAddr,
}

/// Flags of `inspect`.
#[derive(Args, Clone, Debug)]
pub(crate) struct InspectArguments {
    /// What to show.
    #[arg(value_enum)]
    pub(crate) subject: Subject,
    /// Only what is about this service: an address (`10.96.0.7`, `10.96.0.7:80`) or `namespace/name`.
    #[arg(long)]
    pub(crate) service: Option<String>,
    /// Credentials for the API server, for a service given by name: its addresses are asked for.
    #[arg(long, env = "KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) pins: PinArguments,
    /// `table` or `json`.
    #[arg(short, long, default_value = "table", value_parser = ["table", "json"])]
    pub(crate) output: String,
}

/// Flags of `cleanup`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CleanupArguments {
    #[command(flatten)]
    pub(crate) pins: PinArguments,
}
