//! A whole cluster: control plane and nodes, each part started if it does not run or its binary has changed.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::image::digest;
use crate::kubectl::Kubectl;
use crate::layout::{self, Layout, Node, UPLINK};
use crate::process;
use crate::{cgroups, command, containerd, fabric, machine};

/// How long a program may take to end on SIGTERM.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the cluster is made of, built beforehand.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The `skep-control` binary.
    pub control: std::path::PathBuf,
    /// The `skep-node` binary.
    pub node: std::path::PathBuf,
    /// The eBPF object.
    pub ebpf: std::path::PathBuf,
    /// The XDP program for the far ends of the nodes' uplinks.
    pub wire: std::path::PathBuf,
    /// Image archives, with their digests.
    pub images: Vec<(std::path::PathBuf, String)>,
    /// Name of the image that holds a pod's namespaces.
    pub sandbox_image: String,
}

/// The machine's development cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its names and folders.
    pub layout: Layout,
}

impl Cluster {
    /// The cluster of this machine, with two nodes; highly available if it was made so.
    pub fn new() -> Self {
        Self { layout: Layout::machine(2) }
    }

    /// The same, with three control planes on an etcd.
    pub fn highly_available() -> Self {
        Self { layout: Layout::highly_available(2) }
    }

    /// kubectl as its administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.layout.kubeconfig())
    }

    /// Makes the network. Returns whether anything was missing.
    pub fn ensure_fabric(&self) -> Result<bool> {
        fabric::ensure(&self.layout)
    }

    /// Makes the fabric take what native XDP on the nodes sends.
    pub fn ensure_wires(&self, parts: &Parts) -> Result<bool> {
        fabric::ensure_wires(&self.layout, &parts.wire)
    }

    /// Makes a node's namespaces and starts its containerd.
    pub fn ensure_machine(&self, node: &Node, parts: &Parts) -> Result<bool> {
        let made = machine::ensure(&self.layout, node)?;
        Ok(containerd::ensure(&self.layout, node, &parts.sandbox_image)? | made)
    }

    /// Imports the images that a node does not have.
    pub fn ensure_images(&self, node: &Node, parts: &Parts) -> Result<bool> {
        let mut imported = false;
        for (archive, digest) in &parts.images {
            imported |= containerd::import(&self.layout, node, archive, digest)?;
        }
        Ok(imported)
    }

    /// Starts a node's agent, or starts it again when its binary or the eBPF object changed.
    pub fn ensure_agent(&self, node: &Node, parts: &Parts) -> Result<bool> {
        let name = node.process("agent");
        let binary = self.install_for(node, &parts.node, "skep-node")?;
        let object = self.install_for(node, &parts.ebpf, "skep-programs")?;
        if binary | object {
            process::stop(&self.layout, &name, PATIENCE)?;
        }
        if process::find(&self.layout, &name).is_some() {
            return Ok(false);
        }
        self.start_agent(node)?;
        Ok(true)
    }

    /// Starts a node's agent, which must not run.
    pub fn start_agent(&self, node: &Node) -> Result<()> {
        let credentials = node.state.join("credentials");
        if !credentials.join("kubeconfig").exists() {
            self.issue_credentials(node, &credentials)?;
        }
        let mut start = machine::command(&self.layout, node, &node.state.join("bin/skep-node"))?;
        let (cni_conf, cni_bin) = containerd::cni_folders(node);
        start.args(["run", "--node-name", &node.name, "--node-ip", &node.ipv4()]);
        start.arg("--kubeconfig").arg(credentials.join("kubeconfig"));
        start.arg("--serving-cert").arg(credentials.join("serving.crt"));
        start.arg("--serving-key").arg(credentials.join("serving.key"));
        start.arg("--client-ca").arg(credentials.join("ca.crt"));
        start.args(["--containerd", containerd::SOCKET, "--uplink", UPLINK]);
        // The other ends of the uplinks have the programs that this needs: `ensure_wires`.
        start.args(["--xdp", "native"]);
        start
            .args(["--cgroup-parent", &node.cgroup()])
            .arg("--cgroup-root")
            .arg(cgroups::unified(&node.cgroup()));
        // Its disk is the machine's, of which a development cluster needs next to nothing.
        start.args(["--eviction-hard", "memory.available<100Mi,nodefs.available<256Mi"]);
        start.args(["--cluster-dns", layout::CLUSTER_DNS, "--cluster-domain", "cluster.local"]);
        start.args([
            "--state-dir",
            "/var/lib/skep",
            "--run-dir",
            "/run/skep",
            "--bpf-root",
            "/sys/fs/bpf/skep",
        ]);
        start.arg("--cni-conf-dir").arg(cni_conf).arg("--cni-bin-dir").arg(cni_bin);
        start.arg("--ebpf-object").arg(node.state.join("bin/skep-programs"));
        process::start(&self.layout, &node.process("agent"), &mut start)?;
        Ok(())
    }

    /// Waits until the API server says that a node is ready.
    pub fn wait_ready(&self, node: &Node) -> Result<()> {
        let kubectl = self.kubectl();
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        self.wait_for(&node.process("agent"), Duration::from_secs(60), "the node is not ready", || {
            kubectl.run(&["get", "node", &node.name, "-o", path]).is_ok_and(|status| status == "True")
        })
    }

    /// Routes from the control plane to the pods of a node, for what the API server proxies to pods.
    pub fn ensure_pod_route(&self, node: &Node) -> Result<()> {
        let range = self.kubectl().run(&["get", "node", &node.name, "-o", "jsonpath={.spec.podCIDR}"])?;
        if range.is_empty() {
            bail!("{} has no range of pod addresses", node.name);
        }
        for control in &self.layout.controls {
            command::run_line(&format!("ip -n {} route replace {range} via {}", control.name, node.ipv4()))?;
        }
        Ok(())
    }

    fn issue_credentials(&self, node: &Node, folder: &Path) -> Result<()> {
        let mut issue = std::process::Command::new(self.layout.bin("skep-control"));
        issue.arg("node-credentials").arg("--data-dir").arg(self.layout.control_data());
        issue.args(["--node", &node.name, "--ip", &node.ipv4(), "--server", &Layout::server_url()]);
        command::output(issue.arg("--out").arg(folder))?;
        Ok(())
    }

    pub(crate) fn install(&self, source: &Path, name: &str) -> Result<bool> {
        install(source, &self.layout.bin(name))
    }

    fn install_for(&self, node: &Node, source: &Path, name: &str) -> Result<bool> {
        install(source, &node.state.join("bin").join(name))
    }

    pub(crate) fn wait_for(
        &self,
        name: &str,
        patience: Duration,
        what: &str,
        mut done: impl FnMut() -> bool,
    ) -> Result<()> {
        let mut ended = false;
        let waited = process::wait_until(patience, || {
            ended = process::find(&self.layout, name).is_none();
            done() || ended
        });
        if ended || waited.is_err() {
            let why = if ended { "it ended" } else { "it took too long" };
            let log = self.layout.log(name);
            return Err(anyhow!(
                "{what}: {why}; the end of {} says:\n{}",
                log.display(),
                process::log_tail(&self.layout, name, 12)
            ));
        }
        Ok(())
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

/// Copies a file that is run, unless the copy is the same already. Returns whether it was copied.
fn install(source: &Path, target: &Path) -> Result<bool> {
    let new = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
    if fs::read(target).is_ok_and(|old| digest(&old) == digest(&new)) {
        return Ok(false);
    }
    fs::create_dir_all(target.parent().context("a binary has a folder")?)?;
    let fresh = target.with_extension("new");
    fs::write(&fresh, new)?;
    fs::set_permissions(&fresh, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    fs::rename(&fresh, target)?;
    Ok(true)
}

/// Runs `work` on a thread of its own inside a network namespace.
pub fn in_network<T: Send>(namespace: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let path = Path::new("/run/netns").join(namespace);
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let file = fs::File::open(&path).with_context(|| format!("no namespace {namespace}"))?;
                nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET)?;
                work()
            })
            .join()
            .map_err(|_| anyhow!("the thread in {namespace} panicked"))?
    })
}

/// One `GET` over a connection of its own; the body. By HTTP/1.0, so that the body comes in one piece.
pub fn http_get(address: SocketAddr, path: &str, patience: Duration) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("{status}");
    }
    Ok(body.to_owned())
}
