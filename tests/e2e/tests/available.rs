//! Three control planes, of which one is killed, cut off, or loses its etcd member. Tier `available`.
//!
//! Each test leaves the cluster whole. A client writes all the time, as a person would who tries again after an error:
//! what it was told is there must be there at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use skep_e2e::{Sandbox, cluster_of, echo_manifest, eventually};
use skep_harness::cluster::Cluster;
use skep_harness::kubectl::Kubectl;
use skep_harness::layout::Control;
use skep_harness::{address, etcd, fabric, process};

const TIER: &str = "available";
/// Longest time without the API while its address moves.
const GONE: Duration = Duration::from_secs(20);

/// Creates config maps one after the other until it is stopped.
struct Writer {
    stop: Arc<AtomicBool>,
    /// How many were acknowledged so far.
    count: Arc<AtomicUsize>,
    thread: JoinHandle<Written>,
}

struct Written {
    acknowledged: Vec<String>,
    longest_gap: Duration,
}

impl Writer {
    fn start(cluster: &Cluster, namespace: &str) -> Self {
        let (kubectl, namespace) = (cluster.kubectl(), namespace.to_owned());
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let (stopped, counted) = (stop.clone(), count.clone());
        let thread = std::thread::spawn(move || {
            let mut written = Written { acknowledged: Vec::new(), longest_gap: Duration::ZERO };
            let mut last = Instant::now();
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("w{number:05}");
                let manifest = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
                let arguments =
                    ["--namespace", &namespace, "--request-timeout=2s", "create", "--filename", "-"];
                match kubectl.run_with(&arguments, &manifest) {
                    Ok(_) => {
                        written.longest_gap = written.longest_gap.max(last.elapsed());
                        last = Instant::now();
                        written.acknowledged.push(name);
                        counted.store(written.acknowledged.len(), Ordering::Relaxed);
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(100)),
                }
            }
            written
        });
        Self { stop, count, thread }
    }

    /// Stops it once writes go on; everything that was acknowledged is there.
    fn finish(self, sandbox: &Sandbox) {
        let so_far = self.count.load(Ordering::Relaxed);
        eventually(30, "writes go on", || (self.count.load(Ordering::Relaxed) >= so_far + 3).then_some(()));
        self.stop.store(true, Ordering::Relaxed);
        let written = self.thread.join().expect("the writer does not panic");
        let there = sandbox.run(&["get", "configmaps", "--output", "name"]);
        let lost: Vec<_> =
            written.acknowledged.iter().filter(|name| !there.contains(name.as_str())).collect();
        assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
        println!("{} writes, {:?} without one at most", written.acknowledged.len(), written.longest_gap);
        assert!(written.longest_gap < GONE, "{:?}", written.longest_gap);
    }
}

fn holder(cluster: &Cluster) -> Control {
    eventually(15, "one control plane has the address", || address::holder(&cluster.layout).cloned())
}

fn kill(cluster: &Cluster, name: &str) {
    let found = process::find(&cluster.layout, name).unwrap_or_else(|| panic!("{name} runs"));
    process::kill_all(&[found.pid]);
}

/// The addresses behind the service `default/kubernetes`, in order.
fn servers(cluster: &Cluster) -> Vec<String> {
    let path = "jsonpath={.endpoints[*].addresses[0]}";
    let get =
        ["--namespace", "default", "--request-timeout=2s", "get", "endpointslice", "kubernetes", "-o", path];
    cluster.kubectl().run(&get).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn all_servers(cluster: &Cluster) -> Vec<String> {
    cluster.layout.controls.iter().map(Control::ipv4).collect()
}

/// Waits until every control plane serves. A leader that could not renew its Lease has ended, as it does everywhere:
/// whoever watches over the process, here this, starts it again.
fn wait_whole(cluster: &Cluster) {
    eventually(60, "all control planes are behind the service", || {
        for control in &cluster.layout.controls {
            if process::find(&cluster.layout, &control.process).is_none() {
                cluster.start_control_plane(control).ok();
            }
        }
        (servers(cluster) == all_servers(cluster)).then_some(())
    });
}

/// Applies it as a person would, who tries again after an error.
fn apply(cluster: &Cluster, sandbox: &Sandbox, manifest: &str) {
    let kubectl = cluster.kubectl();
    let apply = ["--namespace", &sandbox.name, "--request-timeout=5s", "apply", "--filename", "-"];
    eventually(20, "the API takes a manifest", || kubectl.run_with(&apply, manifest).ok());
}

/// Asks for pods, and waits until they run.
fn roll_out(cluster: &Cluster, sandbox: &Sandbox) {
    apply(cluster, sandbox, &echo_manifest("web", 2));
    let kubectl = cluster.kubectl();
    let status = ["--namespace", &sandbox.name, "rollout", "status", "deployment/web", "--timeout=5s"];
    eventually(90, "pods run", || kubectl.run(&status).ok());
}

#[test]
fn address_and_leases_move_when_the_control_plane_that_has_them_is_killed() {
    let Some(cluster) = cluster_of(TIER) else { return };
    wait_whole(&cluster);
    let sandbox = Sandbox::new(&cluster, "killed");
    let writer = Writer::start(&cluster, &sandbox.name);
    let first = holder(&cluster);
    kill(&cluster, &first.process);
    let second = eventually(15, "another control plane takes the address", || {
        address::holder(&cluster.layout).filter(|one| one.name != first.name).cloned()
    });
    eventually(40, "the one that was killed is no longer behind the service", || {
        let servers = servers(&cluster);
        (servers.len() == 2 && !servers.contains(&first.ipv4())).then_some(())
    });
    // Scheduler and controllers go on elsewhere, if they were there.
    roll_out(&cluster, &sandbox);
    cluster.start_control_plane(&first).unwrap();
    wait_whole(&cluster);
    assert_eq!(holder(&cluster).name, second.name, "nothing moves back");
    writer.finish(&sandbox);
}

#[test]
fn cluster_goes_on_while_the_machine_that_has_the_address_is_cut_off() {
    let Some(cluster) = cluster_of(TIER) else { return };
    wait_whole(&cluster);
    let sandbox = Sandbox::new(&cluster, "cut-off");
    let writer = Writer::start(&cluster, &sandbox.name);
    let first = holder(&cluster);
    fabric::plug(first.host, false).unwrap();
    let moved = eventually(15, "another control plane has the address", || {
        let others = cluster.layout.controls.iter().filter(|one| one.name != first.name);
        others.into_iter().find(|one| address::has(one)).cloned()
    });
    apply(&cluster, &sandbox, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: meanwhile}\n");
    // Scheduler and controllers go on elsewhere, and agents notice that nobody is at the end of their watches any more.
    let asked = Instant::now();
    roll_out(&cluster, &sandbox);
    println!("pods run {:?} after they were asked for", asked.elapsed());
    fabric::plug(first.host, true).unwrap();
    eventually(15, "one alone has the address again", || address::holder(&cluster.layout).map(drop));
    let namespace = sandbox.name.clone();
    eventually(30, "the one that was cut off knows what happened meanwhile", || {
        let get = ["--namespace", &namespace, "--request-timeout=2s", "get", "configmap", "meanwhile"];
        let alone = process::find(&cluster.layout, &first.process).is_none();
        if alone {
            cluster.start_control_plane(&first).ok();
        }
        Kubectl::new(&first.kubeconfig()).run(&get).ok()
    });
    wait_whole(&cluster);
    writer.finish(&sandbox);
    println!("moved from {} to {}", first.name, moved.name);
}

#[test]
fn etcd_member_that_is_killed_is_not_missed() {
    let Some(cluster) = cluster_of(TIER) else { return };
    wait_whole(&cluster);
    let sandbox = Sandbox::new(&cluster, "member");
    let writer = Writer::start(&cluster, &sandbox.name);
    for control in &cluster.layout.controls {
        kill(&cluster, &control.beside("etcd"));
        // What was asked of the member in the moment of its death is asked again by whoever asked.
        apply(
            &cluster,
            &sandbox,
            &format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: without-{}}}\n", control.name),
        );
        etcd::start(&cluster.layout, control).unwrap();
        eventually(20, "the member is back", || etcd::is_healthy(&cluster.layout, control).then_some(()));
    }
    writer.finish(&sandbox);
}
