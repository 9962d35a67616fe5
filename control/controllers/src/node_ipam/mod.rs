//! Node address ranges: gives every node a part of the cluster's pod ranges.
//!
//! Watches Nodes; writes `spec.podCIDR` and `spec.podCIDRs` of those that have none, one range per family.
//! The ranges of nodes are never changed and are free again when the node is gone. One worker, which
//! remembers what it gave out until the cache shows it, so that no range is given twice.

mod cidr;

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use parking_lot::Mutex;
use serde_json::json;

use self::cidr::Cidr;
use crate::error::{During, Error, Result};
use crate::informers::Informers;
use crate::runtime::events::{Recorder, Severity};
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};
use crate::{Context, ControllersConfig};

/// The name in metrics; the identity is that of the node controller.
pub const NAME: &str = "node-ipam-controller";

/// The controller.
pub struct NodeRanges {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
    recorder: Recorder,
    ranges: Vec<Pool>,
    /// Given out, and not seen in the cache yet.
    given: Mutex<HashMap<String, Vec<Cidr>>>,
}

/// A range of the cluster, and the size of the parts that nodes get.
#[derive(Clone, Debug)]
struct Pool {
    range: Cidr,
    part: u8,
}

impl NodeRanges {
    /// Registers with the watches.
    ///
    /// # Errors
    /// When a range is not one, or is smaller than a node's part.
    pub fn new(context: &mut Context<'_>, config: &ControllersConfig) -> Result<Self> {
        let ranges = pools(config)?;
        let (client, recorder) = context.identity(crate::node_lifecycle::NAME);
        let informers = context.informers.clone();
        let queue: Queue<ObjectKey> = Queue::default();
        let to = queue.clone();
        informers.nodes.on_change(move |change| {
            if change.is_deletion() || own_ranges(change.object()).is_empty() || change.before().is_none() {
                to.add(ObjectKey::of(&change.object().metadata));
            }
        });
        Ok(Self { queue, informers, client, recorder, ranges, given: Mutex::new(HashMap::new()) })
    }
}

fn pools(config: &ControllersConfig) -> Result<Vec<Pool>> {
    let mut pools: Vec<Pool> = Vec::new();
    for text in &config.cluster_cidrs {
        let range =
            Cidr::parse(text).ok_or_else(|| Error::Config(format!("{text:?} is not an address range")))?;
        let part = if range.is_v4() { config.node_mask_v4 } else { config.node_mask_v6 };
        if part < range.prefix() || part > range.bits() {
            return Err(Error::Config(format!("/{part} for a node does not fit into {text}")));
        }
        if pools.iter().any(|pool| pool.range.is_v4() == range.is_v4()) {
            return Err(Error::Config(format!("{text}: only one pod range per address family is possible")));
        }
        pools.push(Pool { range, part });
    }
    Ok(pools)
}

fn own_ranges(node: &Node) -> Vec<Cidr> {
    let Some(spec) = node.spec.as_ref() else { return Vec::new() };
    let many = spec.pod_cidrs.iter().flatten();
    let mut ranges: Vec<Cidr> = many.filter_map(|text| Cidr::parse(text)).collect();
    if ranges.is_empty() {
        ranges.extend(spec.pod_cidr.as_deref().and_then(Cidr::parse));
    }
    ranges
}

/// The lowest free part of each pool.
fn allocate(pools: &[Pool], taken: &[Cidr], node: &str) -> Result<Vec<Cidr>> {
    let mut parts = Vec::with_capacity(pools.len());
    for pool in pools {
        let part = pool.range.first_free(pool.part, taken);
        parts.push(
            part.ok_or_else(|| Error::RangeExhausted {
                range: pool.range.to_string(),
                node: node.to_owned(),
            })?,
        );
    }
    Ok(parts)
}

impl Reconcile for NodeRanges {
    const NAME: &'static str = NAME;
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let node = self.informers.nodes.get(&key);
        let Some(node) = node.filter(|node| own_ranges(node).is_empty()) else {
            self.given.lock().remove(&key.name);
            return Ok(Requeue::Done);
        };
        if self.ranges.is_empty() {
            return Ok(Requeue::Done);
        }
        let before = self.given.lock().get(&key.name).cloned();
        let parts = match before {
            Some(parts) => parts,
            None => {
                let mut taken: Vec<Cidr> =
                    self.informers.nodes.all().iter().flat_map(|node| own_ranges(node)).collect();
                taken.extend(self.given.lock().values().flatten());
                match allocate(&self.ranges, &taken, &key.name) {
                    Ok(parts) => parts,
                    Err(error) => {
                        let message = format!("Node {key} status is now: CIDRNotAvailable");
                        self.recorder.record(&*node, Severity::Normal, "CIDRNotAvailable", message);
                        return Err(error);
                    }
                }
            }
        };
        self.given.lock().insert(key.name.clone(), parts.clone());
        let names: Vec<String> = parts.iter().map(ToString::to_string).collect();
        // The version guards against ranges that another controller has given meanwhile.
        let patch = json!({
            "metadata": { "uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version },
            "spec": { "podCIDR": names.first(), "podCIDRs": names },
        });
        let api: Api<Node> = Api::all(self.client.clone());
        let patched = api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        match patched.during("give a pod range to node", &key) {
            Ok(_) => Ok(Requeue::Done),
            Err(error) if error.is_not_found() => Ok(Requeue::Done),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(ranges: &[&str]) -> ControllersConfig {
        ControllersConfig::new("", ranges.iter().map(|range| (*range).to_owned()).collect())
    }

    fn texts(parts: &[Cidr]) -> Vec<String> {
        parts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn allocate_nodes_get_the_lowest_free_parts_of_both_families() {
        let pools = pools(&config(&["10.244.0.0/16", "fd44::/48"])).unwrap();
        let first = allocate(&pools, &[], "n1").unwrap();
        assert_eq!(texts(&first), ["10.244.0.0/24", "fd44::/64"]);
        let second = allocate(&pools, &first, "n2").unwrap();
        assert_eq!(texts(&second), ["10.244.1.0/24", "fd44:0:0:1::/64"]);
        // The first node is gone: its parts are free again.
        assert_eq!(allocate(&pools, &second, "n3").unwrap(), first);
    }

    #[test]
    fn allocate_full_range_says_so() {
        let pools = pools(&config(&["10.244.0.0/23"])).unwrap();
        let taken = [Cidr::parse("10.244.0.0/24").unwrap(), Cidr::parse("10.244.1.128/25").unwrap()];
        let error = allocate(&pools, &taken, "n1").unwrap_err();
        assert_eq!(error.to_string(), "no pod address range of 10.244.0.0/23 is left for node n1");
    }

    #[test]
    fn pools_ranges_that_cannot_work_are_refused() {
        for ranges in [&["10.244.0.0/16", "10.1.0.0/16"][..], &["10.244.0.0/28"], &["10.244.0.0"], &["x/16"]]
        {
            assert!(pools(&config(ranges)).is_err(), "{ranges:?}");
        }
    }
}
