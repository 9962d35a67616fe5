//! `skep-node proxy` on nodes whose network is not ours: pods behind bridges, as plain CNI plugins make them.
//!
//! Needs no cluster of `cargo xtask up`, only the binaries and the eBPF object: nodes, pods and a client outside are network
//! namespaces, an API server runs on the first node, the pods' servers are threads of the test. Owns their making, what is
//! told when a test fails, and their end.

mod client;
mod servers;
mod shell;
mod wires;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skep_harness::command::{output, run_line};
use skep_harness::kubectl::Kubectl;
use skep_harness::process::{Place, wait_until};

pub use client::Connection;
pub use servers::{GATE, HELD};
pub use shell::Shell;
pub use wires::{CLIENT_IP, EXTERNAL, Node, Pod, Wires};

const API_PORT: u16 = 6443;
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything; it goes when this is dropped.
pub struct World {
    /// Namespaces and addresses.
    pub wires: Wires,
    prefix: String,
    folder: PathBuf,
    cgroups: PathBuf,
    control: Option<Child>,
    proxies: Vec<Option<Child>>,
}

/// The folder where cargo puts this build's binaries.
fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test is a file");
    let folder = test.ancestors().nth(2).expect("tests are in `deps`, beside the binaries").to_owned();
    let path = folder.join(name);
    assert!(path.exists(), "{} is not there: cargo build --package {name}", path.display());
    path
}

fn object() -> PathBuf {
    let built = "../../ebpf/programs/target/bpfel-unknown-none/release/skep-programs";
    std::env::var_os("SKEP_EBPF_OBJECT")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(built), PathBuf::from)
}

impl World {
    /// So many nodes with so many pods each, whose names begin with `prefix`; `None`, said aloud, where the tier `cluster` is
    /// not asked for.
    pub fn make(prefix: &str, nodes: usize, pods: usize) -> Option<Self> {
        let tiers = std::env::var("SKEP_TEST_TIERS").unwrap_or_default();
        if !tiers.split(',').any(|tier| tier == "cluster") {
            println!("skipped: needs tier cluster");
            return None;
        }
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts can be read");
        let cgroups = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let root = cgroups.and_then(|line| line.split(' ').nth(1)).expect("cgroup2 is mounted");
        let world = Self {
            wires: Wires::plan(prefix, nodes, pods),
            prefix: prefix.to_owned(),
            folder: std::env::temp_dir().join(format!("{prefix}-{}", std::process::id())),
            cgroups: PathBuf::from(root),
            control: None,
            proxies: (0..nodes).map(|_| None).collect(),
        };
        world.remove();
        fs::create_dir_all(&world.folder).expect("a folder can be made");
        for node in &world.wires.nodes {
            fs::create_dir(world.cgroup(node)).expect("a cgroup can be made");
        }
        world.wires.make();
        world.wires.pods().for_each(|pod| servers::serve(&pod.name));
        Some(world.with_api())
    }

    fn cgroup(&self, node: &Node) -> PathBuf {
        self.cgroups.join(&node.name)
    }

    fn pins(&self, node: &Node) -> String {
        format!("/sys/fs/bpf/{}", node.name)
    }

    /// Starts an API server on the first node and waits for it.
    fn with_api(mut self) -> Self {
        let node = &self.wires.nodes[0];
        let mut command =
            Place::Network(node.name.clone()).command(&binary("skep-control").to_string_lossy());
        command.args(["apiserver", "--listen", &format!("{}:{API_PORT}", node.address)]);
        command.arg("--data-dir").arg(&self.folder);
        self.control = Some(self.start(&mut command, "control"));
        let kubeconfig = self.kubeconfig();
        wait_until(PATIENCE, || {
            kubeconfig.exists() && self.kubectl(&["get", "--raw", "/readyz"], "").is_some()
        })
        .unwrap_or_else(|error| panic!("the API server is not ready: {error}\n{}", self.log("control")));
        self
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    fn start(&self, command: &mut Command, name: &str) -> Child {
        let path = self.folder.join(format!("{name}.log"));
        // One that starts again goes on in the log of the one before.
        let mut log = File::options().create(true).append(true).open(path).expect("a log can be made");
        writeln!(log, "--- {name} starts").expect("a log can be written");
        let errors = log.try_clone().expect("a log can be shared");
        command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("it starts")
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// kubectl on the first node, from where the API server is reached; nothing, said aloud, when it fails.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Option<String> {
        let kubectl = Kubectl::new(&self.kubeconfig());
        let input = input.to_owned();
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.inside(&self.wires.nodes[0].name, move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            kubectl.run_with(&arguments, &input).map_err(|error| println!("{error:#}")).ok()
        })
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) {
        assert!(self.kubectl(&["apply", "--filename", "-"], manifests).is_some(), "{}", self.log("control"));
    }

    /// Runs `work` on a thread in that namespace.
    pub fn inside<T: Send + 'static>(&self, namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = namespace.to_owned();
        thread::spawn(move || {
            enter(&namespace);
            work()
        })
        .join()
        .expect("the work ends")
    }

    /// Serves on a pod's own localhost.
    pub fn serve_own(&self, pod: &Pod, port: u16) {
        servers::serve_own(&pod.name, port);
    }

    /// Starts `skep-node proxy` on the node of that number, with further flags.
    pub fn start_proxy(&mut self, number: usize, flags: &[&str]) {
        let node = &self.wires.nodes[number];
        let mut command = Place::Network(node.name.clone()).command(&binary("skep-node").to_string_lossy());
        command.args(["proxy", "--node-name", &node.name, "--node-ip", &node.address]);
        command.args(["--bpf-root", &self.pins(node), "--kubeconfig"]).arg(self.kubeconfig());
        command.arg("--ebpf-object").arg(object()).arg("--cgroup-root").arg(self.cgroup(node)).args(flags);
        self.proxies[number] = Some(self.start(&mut command, &node.name));
    }

    fn end_proxy(&mut self, number: usize, signal: Signal) -> std::process::ExitStatus {
        let mut proxy = self.proxies[number].take().expect("the proxy runs");
        let ended = proxy.try_wait().expect("it can be asked");
        assert!(ended.is_none(), "the proxy had ended by itself");
        kill(Pid::from_raw(i32::try_from(proxy.id()).expect("a pid")), signal).expect("it takes signals");
        proxy.wait().expect("it ends")
    }

    /// Kills the agent.
    pub fn kill_proxy(&mut self, number: usize) {
        self.end_proxy(number, Signal::SIGKILL);
    }

    /// Asks the agent to end.
    pub fn stop_proxy(&mut self, number: usize) {
        let status = self.end_proxy(number, Signal::SIGTERM);
        assert!(status.success(), "{status}");
    }

    /// Runs `skep-node` with these arguments and the node's pins.
    fn agent(&self, node: &Node, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Place::Network(node.name.clone()).command(&binary("skep-node").to_string_lossy());
        output(command.args(arguments).args(["--bpf-root", &self.pins(node)]))
    }

    /// Runs `skep-node cleanup`; what it printed.
    pub fn cleanup(&self, number: usize) -> String {
        self.agent(&self.wires.nodes[number], &["cleanup"]).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// What `skep-node inspect` says of a subject, as JSON.
    pub fn inspect(&self, number: usize, subject: &str) -> serde_json::Value {
        let said = self.agent(&self.wires.nodes[number], &["inspect", subject, "--output", "json"]);
        let said = said.unwrap_or_else(|error| panic!("{error:#}"));
        serde_json::from_str(&said).expect("it prints JSON")
    }

    /// What a datapath has left on a node.
    pub fn traces(&self, number: usize) -> Vec<String> {
        let node = &self.wires.nodes[number];
        let mut found = Vec::new();
        if Path::new(&self.pins(node)).exists() {
            found.push(self.pins(node));
        }
        let run = |line: String| run_line(&line).unwrap_or_else(|error| panic!("{error:#}"));
        if run(format!("ip -n {} -details link show eth0", node.name)).contains("prog/") {
            found.push("XDP on eth0".to_owned());
        }
        let attached = run(wires::inside(&node.name, "bpftool net show dev eth0"));
        found.extend(attached.lines().filter(|line| line.contains("eth0")).map(str::to_owned));
        let hooks = run(format!("bpftool cgroup show {}", self.cgroup(node).display()));
        found.extend(hooks.lines().skip(1).map(str::to_owned));
        found
    }

    /// A process in the cgroup of the node of that number and in that namespace, connected to what bash calls `target`.
    pub fn shell(&self, number: usize, namespace: &str, target: &str) -> Shell {
        Shell::new(&self.cgroup(&self.wires.nodes[number]), namespace, target)
    }

    /// What may explain a failure: logs, and what the kernel knows.
    fn evidence(&self) -> String {
        let mut told = String::new();
        for node in &self.wires.nodes {
            told += &format!("--- log of {}\n{}", node.name, self.log(&node.name));
            for subject in ["stats", "verdicts", "services", "backends", "flows", "attachments"] {
                let said =
                    self.agent(node, &["inspect", subject]).unwrap_or_else(|error| format!("{error:#}\n"));
                told += &format!("--- {subject} of {}\n{said}", node.name);
            }
        }
        let sockets = "ss --tcp --numeric --info --options";
        let nodes = self
            .wires
            .nodes
            .iter()
            .flat_map(|node| [format!("ip -n {} neigh", node.name), wires::inside(&node.name, sockets)]);
        for line in nodes.chain([wires::inside(&self.wires.client, sockets)]) {
            let said = run_line(&line).unwrap_or_else(|error| format!("{error:#}\n"));
            told += &format!("--- {line}\n{said}");
        }
        told
    }

    /// Removes whatever is there, of this run or of one before.
    fn remove(&self) {
        for node in &self.wires.nodes {
            self.agent(node, &["cleanup"]).ok();
        }
        self.wires.remove();
        for node in &self.wires.nodes {
            fs::remove_dir(self.cgroup(node)).ok();
        }
        fs::remove_dir_all(&self.folder).ok();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("--- {}\n{}", self.prefix, self.evidence());
        }
        let proxies = self.proxies.iter_mut().map(Option::take);
        for mut child in proxies.chain([self.control.take()]).flatten() {
            child.kill().ok();
            child.wait().ok();
        }
        self.remove();
    }
}

fn enter(namespace: &str) {
    let file = File::open(Path::new("/run/netns").join(namespace)).expect("the namespace is there");
    setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
}
