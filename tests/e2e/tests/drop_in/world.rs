//! A node, its pods on a bridge and a client outside, each a network namespace; an API server; and what runs in them.
//! Owns their making and their end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skep_harness::command::{output, run_line};
use skep_harness::kubectl::Kubectl;
use skep_harness::process::{Place, wait_until};

/// The node's namespace, and its name in the API.
pub const NODE: &str = "skep-drop-node";
/// The outside client's namespace.
pub const CLIENT: &str = "skep-drop-client";
/// The pods: namespace and address. The first two serve.
pub const PODS: [(&str, &str); 3] =
    [("pod-drop-a", "10.55.1.2"), ("pod-drop-b", "10.55.1.3"), ("pod-drop-c", "10.55.1.4")];
/// The node's address.
pub const NODE_IP: &str = "172.31.99.1";
/// The client's address.
pub const CLIENT_IP: &str = "172.31.99.100";
const BRIDGE_IP: &str = "10.55.1.1";
const PINS: &str = "/sys/fs/bpf/skep-drop";
const API_PORT: u16 = 6443;
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything; it goes when this is dropped.
pub struct World {
    folder: PathBuf,
    cgroup: PathBuf,
    control: Option<Child>,
    proxy: Option<Child>,
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

/// Runs lines of commands; all must succeed.
fn all(lines: &[String]) {
    for line in lines {
        run_line(line).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

impl World {
    /// The world; `None`, said aloud, where the tier `cluster` is not asked for.
    pub fn make() -> Option<Self> {
        let tiers = std::env::var("SKEP_TEST_TIERS").unwrap_or_default();
        if !tiers.split(',').any(|tier| tier == "cluster") {
            println!("skipped: needs tier cluster");
            return None;
        }
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts can be read");
        let cgroups = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let root = cgroups.and_then(|line| line.split(' ').nth(1)).expect("cgroup2 is mounted");
        let world = Self {
            folder: std::env::temp_dir().join(format!("skep-drop-{}", std::process::id())),
            cgroup: Path::new(root).join(NODE),
            control: None,
            proxy: None,
        };
        world.remove();
        fs::create_dir_all(&world.folder).expect("a folder can be made");
        fs::create_dir(&world.cgroup).expect("a cgroup can be made");
        Self::wire();
        for (pod, _) in &PODS[..2] {
            serve(pod);
        }
        serve_own(PODS[2].0);
        Some(world.with_api())
    }

    /// Namespaces, bridge, veths.
    fn wire() {
        let uplink = |namespace: &str, address: &str, gateway: &str| {
            vec![
                format!("ip -n {namespace} link set eth0 up"),
                format!("ip -n {namespace} addr add {address}/24 dev eth0"),
                format!("ip -n {namespace} route add default via {gateway}"),
                format!("nsenter --net=/run/netns/{namespace} ethtool -K eth0 tx off tso off gso off gro on"),
            ]
        };
        let mut lines = Vec::new();
        for namespace in [NODE, CLIENT].into_iter().chain(PODS.map(|pod| pod.0)) {
            lines.push(format!("ip netns add {namespace}"));
            lines.push(format!("ip -n {namespace} link set lo up"));
        }
        lines.push(format!("ip -n {NODE} link add eth0 type veth peer name eth0 netns {CLIENT}"));
        lines.extend(uplink(NODE, NODE_IP, CLIENT_IP));
        lines.extend(uplink(CLIENT, CLIENT_IP, NODE_IP));
        lines.push(format!("ip -n {NODE} link add cni0 type bridge"));
        lines.push(format!("ip -n {NODE} addr add {BRIDGE_IP}/24 dev cni0"));
        lines.push(format!("ip -n {NODE} link set cni0 up"));
        lines.push(format!("nsenter --net=/run/netns/{NODE} sysctl -qw net.ipv4.ip_forward=1"));
        for (number, (pod, address)) in PODS.iter().enumerate() {
            lines.push(format!("ip -n {NODE} link add veth{number} type veth peer name eth0 netns {pod}"));
            // A pod may reach itself through its service: the frame goes back where it came from.
            lines.push(format!("ip -n {NODE} link set veth{number} master cni0 up"));
            lines.push(format!("ip -n {NODE} link set veth{number} type bridge_slave hairpin on"));
            lines.push(format!("ip -n {pod} addr add {address}/24 dev eth0"));
            lines.push(format!("ip -n {pod} link set eth0 up"));
            lines.push(format!("ip -n {pod} route add default via {BRIDGE_IP}"));
        }
        all(&lines);
    }

    /// Starts an API server on the node and waits for it.
    fn with_api(mut self) -> Self {
        let mut command = Place::Network(NODE.into()).command(&binary("skep-control").to_string_lossy());
        command.args(["apiserver", "--listen", &format!("{NODE_IP}:{API_PORT}")]);
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
        let log = File::create(self.folder.join(format!("{name}.log"))).expect("a log can be made");
        let errors = log.try_clone().expect("a log can be shared");
        command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("it starts")
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// kubectl in the node's namespace, from where the API server is reached.
    fn kubectl(&self, arguments: &[&str], input: &str) -> Option<String> {
        let kubectl = Kubectl::new(&self.kubeconfig());
        let input = input.to_owned();
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.inside(NODE, move || {
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

    /// Starts `skep-node proxy`.
    pub fn start_proxy(&mut self) {
        let mut command = Place::Network(NODE.into()).command(&binary("skep-node").to_string_lossy());
        command.args([
            "proxy",
            "--node-name",
            NODE,
            "--node-ip",
            NODE_IP,
            "--bpf-root",
            PINS,
            "--kubeconfig",
        ]);
        command.arg(self.kubeconfig()).arg("--ebpf-object").arg(object());
        command.arg("--cgroup-root").arg(&self.cgroup);
        self.proxy = Some(self.start(&mut command, "proxy"));
    }

    fn end_proxy(&mut self, signal: Signal) -> std::process::ExitStatus {
        let mut proxy = self.proxy.take().expect("the proxy runs");
        let ended = proxy.try_wait().expect("it can be asked");
        assert!(ended.is_none(), "the proxy had ended by itself: {}", self.log("proxy"));
        kill(Pid::from_raw(i32::try_from(proxy.id()).expect("a pid")), signal).expect("it takes signals");
        proxy.wait().expect("it ends")
    }

    /// Kills the agent.
    pub fn kill_proxy(&mut self) {
        self.end_proxy(Signal::SIGKILL);
    }

    /// Asks the agent to end.
    pub fn stop_proxy(&mut self) {
        let status = self.end_proxy(Signal::SIGTERM);
        assert!(status.success(), "{status}: {}", self.log("proxy"));
    }

    /// Runs `skep-node cleanup`; what it printed.
    pub fn cleanup(&self) -> String {
        let mut command = Place::Network(NODE.into()).command(&binary("skep-node").to_string_lossy());
        output(command.args(["cleanup", "--bpf-root", PINS])).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// What a datapath has left on the node.
    pub fn traces(&self) -> Vec<String> {
        let mut found = Vec::new();
        if Path::new(PINS).exists() {
            found.push(PINS.to_owned());
        }
        let run = |line: String| run_line(&line).unwrap_or_else(|error| panic!("{error:#}"));
        if run(format!("ip -n {NODE} -details link show eth0")).contains("prog/") {
            found.push("XDP on eth0".to_owned());
        }
        let attached = run(format!("nsenter --net=/run/netns/{NODE} bpftool net show dev eth0"));
        found.extend(attached.lines().filter(|line| line.contains("eth0")).map(str::to_owned));
        let hooks = run(format!("bpftool cgroup show {}", self.cgroup.display()));
        found.extend(hooks.lines().skip(1).map(str::to_owned));
        found
    }

    /// A process in the node's cgroup and that namespace, connected to what bash calls `target`.
    pub fn shell(&self, namespace: &str, target: &str) -> Shell {
        let script = format!(
            "echo $$ > {}/cgroup.procs && exec nsenter --net=/run/netns/{namespace} bash -c '
            exec 3<>{target} || exit 1
            # One read for each answer: bash itself reads bytes, and loses the rest of a datagram.
            while read -r line; do echo \"$line\" >&3; timeout 5 dd bs=256 count=1 status=none <&3 || exit 1; done'",
            self.cgroup.display()
        );
        let mut child = Command::new("bash")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("bash starts");
        let input = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Shell { child, input, answers }
    }

    /// Removes whatever is there, of this run or of one before.
    fn remove(&self) {
        let mut cleanup = Place::Network(NODE.into()).command(&binary("skep-node").to_string_lossy());
        output(cleanup.args(["cleanup", "--bpf-root", PINS])).ok();
        for namespace in [NODE, CLIENT].into_iter().chain(PODS.map(|pod| pod.0)) {
            run_line(&format!("ip netns del {namespace}")).ok();
        }
        fs::remove_dir(&self.cgroup).ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("--- proxy\n{}", self.log("proxy"));
        }
        for mut child in [self.proxy.take(), self.control.take()].into_iter().flatten() {
            child.kill().ok();
            child.wait().ok();
        }
        self.remove();
    }
}

/// A connected process.
pub struct Shell {
    child: Child,
    input: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Shell {
    /// Sends a line; the answer, empty when there is none.
    pub fn ask(&mut self, line: &str) -> String {
        let mut answer = String::new();
        if self.input.write_all(format!("{line}\n").as_bytes()).is_ok() {
            self.answers.read_line(&mut answer).ok();
        }
        answer.trim().to_owned()
    }

    /// Whether it gets no answer within three seconds: packets that nobody takes are sent for minutes.
    pub fn fails(mut self) -> bool {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        let (done, waiting) = std::sync::mpsc::channel::<()>();
        let watchdog = thread::spawn(move || {
            if waiting.recv_timeout(Duration::from_secs(3)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                kill(pid, Signal::SIGKILL).ok();
            }
        });
        let failed = self.ask("anyone").is_empty();
        drop(done);
        watchdog.join().expect("the watchdog ends");
        failed
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn enter(namespace: &str) {
    let file = File::open(Path::new("/run/netns").join(namespace)).expect("the namespace is there");
    setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
}

/// Answers every line on port 8080 with the pod's name, the peer's address and the line.
fn serve(pod: &'static str) {
    let (told, ready) = std::sync::mpsc::channel();
    thread::spawn(move || {
        enter(pod);
        let listener = TcpListener::bind("0.0.0.0:8080").expect("the port is free");
        let socket = UdpSocket::bind("0.0.0.0:8080").expect("the port is free");
        thread::spawn(move || {
            let mut buffer = [0; 256];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let line = String::from_utf8_lossy(&buffer[..length]);
                socket.send_to(format!("{pod} {} {line}", peer.ip()).as_bytes(), peer).ok();
            }
        });
        told.send(()).ok();
        accept(listener, pod);
    });
    ready.recv().expect("the pod serves");
}

/// Serves on the pod's own localhost, at the number of a NodePort.
fn serve_own(pod: &'static str) {
    let (told, ready) = std::sync::mpsc::channel();
    thread::spawn(move || {
        enter(pod);
        let listener = TcpListener::bind("127.0.0.1:30080").expect("the port is free");
        told.send(()).ok();
        accept(listener, "own");
    });
    ready.recv().expect("the pod serves");
}

fn accept(listener: TcpListener, name: &'static str) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            let Ok(peer) = stream.peer_addr() else { return };
            let Ok(mut out) = stream.try_clone() else { return };
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if out.write_all(format!("{name} {} {line}\n", peer.ip()).as_bytes()).is_err() {
                    return;
                }
            }
        });
    }
}
