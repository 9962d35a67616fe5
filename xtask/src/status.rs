//! `cargo xtask status` and `cargo xtask kubeconfig`: what runs, and how to reach it.

use anyhow::{Result, bail};
use skep_harness::cluster::Cluster;
use skep_harness::{process, teardown};

/// Shows processes, nodes, pods and services.
pub fn run() -> Result<()> {
    let cluster = Cluster::new();
    let layout = &cluster.layout;
    if teardown::traces(layout).is_empty() {
        println!("There is no cluster on this machine: `cargo xtask up` makes one.");
        return Ok(());
    }
    let mut names: Vec<String> = layout.controls.iter().map(|control| control.process.clone()).collect();
    if layout.is_highly_available() {
        let beside = layout.controls.iter().flat_map(|one| ["etcd", "address"].map(|role| one.beside(role)));
        names.extend(beside);
    }
    for node in &layout.nodes {
        names.extend(["machine", "containerd", "agent"].map(|role| node.process(role)));
    }
    for name in names {
        match process::find(layout, &name) {
            Some(found) => {
                println!("{name:<20} runs, pid {}, log {}", found.pid, layout.log(&name).display())
            }
            None => println!("{name:<20} does not run"),
        }
    }
    if !layout.kubeconfig().exists() {
        bail!("the control plane was never started: `cargo xtask up` goes on from here");
    }
    let listing = ["get", "nodes,pods,services", "--all-namespaces", "--output", "wide"];
    println!("\n{}", cluster.kubectl().run(&listing)?);
    Ok(())
}

/// Prints the path of the kubeconfig.
pub fn kubeconfig() -> Result<()> {
    let path = Cluster::new().layout.kubeconfig();
    if !path.exists() {
        bail!("there is no cluster on this machine: `cargo xtask up` makes one");
    }
    println!("{}", path.display());
    Ok(())
}
