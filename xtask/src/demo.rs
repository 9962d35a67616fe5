//! The demo: an echo Deployment behind a NodePort, asked by a client outside the cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use skep_harness::cluster::{Cluster, http_get, in_network};
use skep_harness::layout::{CLIENT, Node};

/// The manifest, as a user would write it.
pub const MANIFEST: &str = include_str!("../demo/echo.yaml");
/// The node port that it asks for.
pub const NODE_PORT: u16 = 30080;
/// How many pods must answer.
const REPLICAS: usize = 3;

/// Applies the manifest. Returns whether it changed anything.
pub fn apply(cluster: &Cluster) -> Result<bool> {
    let said = cluster.kubectl().run_with(&["apply", "--filename", "-"], MANIFEST)?;
    Ok(said.lines().any(|line| !line.ends_with("unchanged")))
}

/// Asks a node's port from outside until every replica has answered. Returns requests per pod.
pub fn ask(cluster: &Cluster, node: &Node, patience: Duration) -> Result<BTreeMap<String, u32>> {
    let address: SocketAddr = format!("{}:{NODE_PORT}", node.ipv4()).parse()?;
    let end = Instant::now() + patience;
    let answers = in_network(CLIENT, || {
        let mut answers = BTreeMap::new();
        let mut last = String::new();
        while answers.len() < REPLICAS {
            match http_get(address, "/", Duration::from_secs(2)) {
                Ok(body) => {
                    let pod = body.split_whitespace().next().context("the answer names its pod")?;
                    *answers.entry(pod.to_owned()).or_insert(0) += 1;
                }
                Err(error) => {
                    last = format!(" (last error: {error:#})");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
            if Instant::now() >= end {
                bail!("only {} of {REPLICAS} pods answered at {address}{last}", answers.len());
            }
        }
        Ok(answers)
    })?;
    let nodes = nodes_of(cluster, answers.keys())?;
    if nodes < cluster.layout.nodes.len() {
        bail!("the pods that answered run on {nodes} node, not on all {}", cluster.layout.nodes.len());
    }
    Ok(answers)
}

/// On how many nodes these pods run.
fn nodes_of<'a>(cluster: &Cluster, pods: impl Iterator<Item = &'a String>) -> Result<usize> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName}{\"\\n\"}{end}";
    let listing = cluster.kubectl().run(&["get", "pods", "--selector", "app=echo", "--output", path])?;
    let place: BTreeMap<&str, &str> = listing.lines().filter_map(|line| line.split_once(' ')).collect();
    Ok(pods.filter_map(|pod| place.get(pod.as_str())).collect::<std::collections::BTreeSet<_>>().len())
}
