//! `cargo xtask up`: from a clone to a working cluster, step by step, each step doing only what is left to do.

use std::time::Duration;

use anyhow::{Context, Result};
use skep_harness::cluster::{Cluster, Parts};
use skep_harness::layout::{self, CLIENT, Layout};
use skep_harness::{process, teardown};

use crate::packages::{self, Purpose};
use crate::progress::{Outcome, Progress};
use crate::{build, demo, diagnosis, ebpf, images};

/// Arguments of `up`.
#[derive(Debug, Default, clap::Args)]
pub struct Arguments {
    /// Build the binaries in release: slower to build, as fast as it gets to run.
    #[arg(long)]
    pub release: bool,
    /// Three control planes over a three-member etcd, and an address of the API that moves between them.
    #[arg(long)]
    pub ha: bool,
}

/// Brings up the cluster and its demo. Returns how many steps had to change something.
pub fn run(arguments: &Arguments) -> Result<usize> {
    crate::need_root("up")?;
    let mut progress = Progress::new();
    let cluster = cluster(arguments.ha)?;
    if let Err(error) = bring_up(&mut progress, &cluster, arguments.release) {
        if cluster.layout.kubeconfig().exists() {
            eprintln!("{}", diagnosis::describe(&cluster));
        }
        return Err(error);
    }
    show(&progress, &cluster);
    Ok(progress.changed())
}

/// The cluster that is wanted. One that is there stays of its kind.
fn cluster(available: bool) -> Result<Cluster> {
    let present = Cluster::new();
    if present.layout.is_highly_available() || !available {
        return Ok(present);
    }
    anyhow::ensure!(
        teardown::traces(&present.layout).is_empty(),
        "the cluster on this machine has one control plane: run `cargo xtask down` first"
    );
    Ok(Cluster::highly_available())
}

fn bring_up(progress: &mut Progress, cluster: &Cluster, release: bool) -> Result<()> {
    let available = cluster.layout.is_highly_available();
    let purpose = if available { Purpose::Available } else { Purpose::Cluster };
    progress.step("install packages", || packages::ensure(purpose))?;
    check_leftovers(cluster)?;
    if available {
        cluster.layout.mark()?;
    }
    let parts = build_parts(progress, release)?;
    progress.step("network fabric", || Ok(cluster.ensure_fabric()? | cluster.ensure_wires(&parts)?))?;
    let title = if available { "etcd and three control planes" } else { "control plane" };
    progress.step(title, || cluster.ensure_control(&parts))?;
    for node in &cluster.layout.nodes {
        progress.step(&format!("{}: containerd", node.name), || cluster.ensure_machine(node, &parts))?;
        progress.step(&format!("{}: images", node.name), || cluster.ensure_images(node, &parts))?;
        progress.step(&format!("{}: agent", node.name), || cluster.ensure_agent(node, &parts))?;
    }
    for node in &cluster.layout.nodes {
        let title = format!("{}: ready", node.name);
        progress.step(&title, || {
            cluster.wait_ready(node)?;
            cluster.ensure_pod_route(node)?;
            Ok(Outcome::Checked(String::new()))
        })?;
    }
    progress.step("demo applied", || demo::apply(cluster))?;
    for node in &cluster.layout.nodes {
        let title = format!("demo answers at {}:{}", node.ipv4(), demo::NODE_PORT);
        progress.step(&title, || {
            let answers = demo::ask(cluster, node, Duration::from_secs(90))?;
            let said: Vec<String> = answers.iter().map(|(pod, count)| format!("{pod} x{count}")).collect();
            Ok(Outcome::Checked(said.join(", ")))
        })?;
    }
    Ok(())
}

/// Builds everything that the cluster runs.
pub fn build_parts(progress: &mut Progress, release: bool) -> Result<Parts> {
    progress.step("build binaries", || build::binaries(&["skep-control", "skep-node"], release))?;
    let mut object = None;
    progress.step("build eBPF object", || {
        let (path, compiler) = ebpf::build()?;
        object = Some(path);
        Ok(Outcome::Checked(compiler))
    })?;
    let mut archives = Vec::new();
    progress.step("build images", || {
        archives = images::build()?;
        Ok(Outcome::Checked(format!("{}, {}", images::PAUSE, images::ECHO)))
    })?;
    Ok(Parts {
        control: build::binary("skep-control", release),
        node: build::binary("skep-node", release),
        ebpf: object.context("the step above sets it")?,
        wire: ebpf::wire_path(),
        images: archives,
        sandbox_image: images::PAUSE.into(),
    })
}

/// A cluster whose namespaces or processes are only partly there was cut off: better removed than repaired.
fn check_leftovers(cluster: &Cluster) -> Result<()> {
    let layout = &cluster.layout;
    let traces = teardown::traces(layout);
    let held =
        layout.nodes.iter().filter(|node| process::find(layout, &node.process("machine")).is_some()).count();
    let credentials = layout.nodes.iter().any(|node| node.state.join("credentials").exists());
    anyhow::ensure!(
        traces.is_empty() || !credentials || layout.kubeconfig().exists(),
        "an earlier cluster is only partly there ({}): run `cargo xtask down` first",
        traces.join(", ")
    );
    anyhow::ensure!(
        held == 0 || held == layout.nodes.len() || !credentials,
        "one of the nodes of an earlier cluster is gone: run `cargo xtask down` first"
    );
    Ok(())
}

fn show(progress: &Progress, cluster: &Cluster) {
    let kubeconfig = cluster.layout.kubeconfig();
    let node = &cluster.layout.nodes[0];
    if progress.changed() == 0 {
        println!("\nThe cluster was up already; nothing had to be changed ({}).", progress.elapsed());
    } else {
        println!("\nThe cluster is up ({}).", progress.elapsed());
    }
    println!(
        "
  API server   {}
  kubeconfig   {}

Try:
  export KUBECONFIG=$(cargo xtask kubeconfig)
  kubectl get nodes,pods,services --output wide
  kubectl logs deployment/echo --follow
  kubectl scale deployment/echo --replicas=5
  ip netns exec {CLIENT} wget -qO- http://{}:{}/      # from outside, through XDP
  cargo xtask status
  cargo xtask down",
        Layout::server_url(),
        kubeconfig.display(),
        layout::ipv4(node.host),
        demo::NODE_PORT
    );
}
