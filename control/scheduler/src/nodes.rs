//! What is known of the nodes, in columns, and of the pods on them. Pure.
//!
//! A node has a row; the columns of a row change one by one as its Node object or its pods change, so that
//! one pod's coming or going costs the same whatever the number of nodes. Pods on nodes that are not known
//! (yet) are remembered and counted when the node appears.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::quantity;
use crate::queue::Event;
use crate::shape::{HostPort, Resources, Shape};

/// A row in the columns. Valid until the next change of the set of nodes.
pub type Row = usize;

/// All nodes and what is on them.
#[derive(Debug, Default)]
pub struct Nodes {
    rows: HashMap<String, Row>,
    free: Vec<Row>,
    names: Vec<Option<String>>,
    labels: Vec<BTreeMap<String, String>>,
    taints: Vec<Vec<Taint>>,
    unschedulable: Vec<bool>,
    allocatable: Vec<Resources>,
    most_pods: Vec<i64>,
    requested: Vec<Resources>,
    pods: Vec<i64>,
    usual_cpu: Vec<i64>,
    usual_memory: Vec<i64>,
    ports: Vec<Vec<HostPort>>,
    groups: Vec<HashMap<String, u32>>,
    placed: HashMap<String, Placed>,
    on_node: HashMap<String, HashMap<String, Arc<Shape>>>,
}

#[derive(Debug)]
struct Placed {
    node: String,
    /// Chosen by us and not yet confirmed by the watch.
    assumed: bool,
}

impl Nodes {
    /// Rows of nodes that exist, in no particular order.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        (0..self.names.len()).filter(|row| self.names[*row].is_some())
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row of a node.
    pub fn row(&self, name: &str) -> Option<Row> {
        self.rows.get(name).copied()
    }

    /// The node's name.
    pub fn name(&self, row: Row) -> &str {
        self.names[row].as_deref().unwrap_or_default()
    }

    /// The node's labels.
    pub fn labels(&self, row: Row) -> &BTreeMap<String, String> {
        &self.labels[row]
    }

    /// The node's taints.
    pub fn taints(&self, row: Row) -> &[Taint] {
        &self.taints[row]
    }

    /// Whether the node is cordoned.
    pub fn is_unschedulable(&self, row: Row) -> bool {
        self.unschedulable[row]
    }

    /// What the node has for pods.
    pub fn allocatable(&self, row: Row) -> &Resources {
        &self.allocatable[row]
    }

    /// What its pods ask for together.
    pub fn requested(&self, row: Row) -> &Resources {
        &self.requested[row]
    }

    /// How many pods it has, and how many it may have.
    pub fn pod_count(&self, row: Row) -> (i64, i64) {
        (self.pods[row], self.most_pods[row])
    }

    /// Its load for comparisons: thousandths of a processor, and bytes.
    pub fn usual_load(&self, row: Row) -> (i64, i64) {
        (self.usual_cpu[row], self.usual_memory[row])
    }

    /// Ports of the node that pods have taken.
    pub fn ports(&self, row: Row) -> &[HostPort] {
        &self.ports[row]
    }

    /// How many pods of a controller are on it.
    pub fn group_size(&self, row: Row, group: &str) -> u32 {
        self.groups[row].get(group).copied().unwrap_or(0)
    }

    /// Takes a node in. What changed about it that could make room for a waiting pod.
    pub fn apply_node(&mut self, node: &Node) -> Vec<Event> {
        let Some(name) = node.metadata.name.clone() else { return Vec::new() };
        let (row, new) = match self.rows.get(&name) {
            Some(row) => (*row, false),
            None => (self.add_row(name), true),
        };
        let (spec, status) = (node.spec.clone().unwrap_or_default(), node.status.clone().unwrap_or_default());
        let labels = node.metadata.labels.clone().unwrap_or_default();
        let taints = spec.taints.unwrap_or_default();
        let unschedulable = spec.unschedulable == Some(true);
        let amounts = status.allocatable.or(status.capacity).unwrap_or_default();
        let allocatable = Resources::read(Some(&amounts));
        let most_pods = amounts.get("pods").and_then(quantity::units).unwrap_or(0);
        let mut events = Vec::new();
        if new {
            events.push(Event::NodeAdded);
        } else {
            if labels != self.labels[row] {
                events.push(Event::NodeLabels);
            }
            if taints != self.taints[row] || unschedulable != self.unschedulable[row] {
                events.push(Event::NodeTaints);
            }
            if allocatable != self.allocatable[row] || most_pods != self.most_pods[row] {
                events.push(Event::NodeCapacity);
            }
        }
        self.labels[row] = labels;
        self.taints[row] = taints;
        self.unschedulable[row] = unschedulable;
        self.allocatable[row] = allocatable;
        self.most_pods[row] = most_pods;
        events
    }

    /// Drops a node. Its pods stay known.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(row) = self.rows.remove(name) {
            self.names[row] = None;
            self.free.push(row);
        }
    }

    fn add_row(&mut self, name: String) -> Row {
        let row = self.free.pop().unwrap_or_else(|| {
            self.names.push(None);
            self.labels.push(BTreeMap::new());
            self.taints.push(Vec::new());
            self.unschedulable.push(false);
            self.allocatable.push(Resources::default());
            self.most_pods.push(0);
            self.requested.push(Resources::default());
            self.pods.push(0);
            self.usual_cpu.push(0);
            self.usual_memory.push(0);
            self.ports.push(Vec::new());
            self.groups.push(HashMap::new());
            self.names.len() - 1
        });
        self.requested[row] = Resources::default();
        self.pods[row] = 0;
        self.usual_cpu[row] = 0;
        self.usual_memory[row] = 0;
        self.ports[row].clear();
        self.groups[row].clear();
        self.names[row] = Some(name.clone());
        let shapes: Vec<Arc<Shape>> =
            self.on_node.get(&name).into_iter().flat_map(|p| p.values().cloned()).collect();
        self.rows.insert(name, row);
        shapes.iter().for_each(|shape| self.count(row, shape));
        row
    }

    /// Counts a pod that we have given to a node, before the API knows.
    pub fn assume(&mut self, uid: &str, node: &str, shape: Arc<Shape>) {
        self.place(uid, node, shape, true);
    }

    /// Counts a pod that the API says is on a node.
    pub fn confirm(&mut self, uid: &str, node: &str, shape: Arc<Shape>) {
        self.place(uid, node, shape, false);
    }

    /// Takes back an assumption that did not come true. A confirmed pod stays.
    pub fn forget(&mut self, uid: &str) {
        if self.placed.get(uid).is_some_and(|placed| placed.assumed) {
            self.remove_pod(uid);
        }
    }

    /// Whether a pod is counted on a node.
    pub fn has_pod(&self, uid: &str) -> bool {
        self.placed.contains_key(uid)
    }

    /// The pod has ended or is gone. Whether it was counted.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(Placed { node, .. }) = self.placed.remove(uid) else { return false };
        let Some(pods) = self.on_node.get_mut(&node) else { return false };
        let shape = pods.remove(uid);
        if pods.is_empty() {
            self.on_node.remove(&node);
        }
        if let (Some(shape), Some(row)) = (shape, self.row(&node)) {
            self.discount(row, &shape);
        }
        true
    }

    fn place(&mut self, uid: &str, node: &str, shape: Arc<Shape>, assumed: bool) {
        let known = self.placed.get(uid).is_some_and(|placed| placed.node == node)
            && self.on_node.get(node).and_then(|pods| pods.get(uid)) == Some(&shape);
        if !known {
            self.remove_pod(uid);
            if let Some(row) = self.row(node) {
                self.count(row, &shape);
            }
            self.on_node.entry(node.to_owned()).or_default().insert(uid.to_owned(), shape);
        }
        self.placed.insert(uid.to_owned(), Placed { node: node.to_owned(), assumed });
    }

    fn count(&mut self, row: Row, shape: &Shape) {
        self.requested[row].add(&shape.requests);
        self.pods[row] += 1;
        self.usual_cpu[row] = self.usual_cpu[row].saturating_add(shape.usual_cpu);
        self.usual_memory[row] = self.usual_memory[row].saturating_add(shape.usual_memory);
        self.ports[row].extend(shape.ports.iter().cloned());
        if let Some(group) = &shape.group {
            *self.groups[row].entry(group.clone()).or_default() += 1;
        }
    }

    fn discount(&mut self, row: Row, shape: &Shape) {
        self.requested[row].subtract(&shape.requests);
        self.pods[row] -= 1;
        self.usual_cpu[row] = self.usual_cpu[row].saturating_sub(shape.usual_cpu);
        self.usual_memory[row] = self.usual_memory[row].saturating_sub(shape.usual_memory);
        for port in &shape.ports {
            if let Some(at) = self.ports[row].iter().position(|taken| taken == port) {
                self.ports[row].swap_remove(at);
            }
        }
        if let Some(group) = &shape.group
            && let Some(count) = self.groups[row].get_mut(group)
        {
            *count -= 1;
            if *count == 0 {
                self.groups[row].remove(group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "10"}},
        }))
        .unwrap()
    }

    fn shape(cpu: i64) -> Arc<Shape> {
        let requests = Resources { cpu, ..Resources::default() };
        Arc::new(Shape {
            requests,
            usual_cpu: cpu,
            usual_memory: 1,
            group: Some("g".into()),
            ..Shape::default()
        })
    }

    fn check(nodes: &Nodes, name: &str, cpu: i64, pods: i64) {
        let row = nodes.row(name).unwrap();
        assert_eq!((nodes.requested(row).cpu, nodes.pod_count(row).0), (cpu, pods));
        assert_eq!(i64::from(nodes.group_size(row, "g")), pods);
    }

    #[test]
    fn nodes_assumed_pod_counts_once_when_confirmed() {
        let mut nodes = Nodes::default();
        assert_eq!(nodes.apply_node(&node("n1")), [Event::NodeAdded]);
        nodes.assume("p", "n1", shape(500));
        check(&nodes, "n1", 500, 1);
        nodes.confirm("p", "n1", shape(500));
        check(&nodes, "n1", 500, 1);
        nodes.forget("p");
        check(&nodes, "n1", 500, 1);
        assert!(nodes.remove_pod("p"));
        check(&nodes, "n1", 0, 0);
        assert!(!nodes.remove_pod("p"));
    }

    #[test]
    fn nodes_assumption_that_failed_leaves_nothing() {
        let mut nodes = Nodes::default();
        nodes.apply_node(&node("n1"));
        nodes.assume("p", "n1", shape(500));
        nodes.forget("p");
        check(&nodes, "n1", 0, 0);
    }

    #[test]
    fn nodes_pod_seen_before_its_node_counts_when_the_node_appears() {
        let mut nodes = Nodes::default();
        nodes.confirm("p", "n1", shape(500));
        assert!(nodes.is_empty());
        nodes.apply_node(&node("n1"));
        check(&nodes, "n1", 500, 1);
        nodes.remove_node("n1");
        nodes.apply_node(&node("n2"));
        check(&nodes, "n2", 0, 0);
        nodes.apply_node(&node("n1"));
        check(&nodes, "n1", 500, 1);
    }

    #[test]
    fn nodes_pod_bound_elsewhere_than_assumed_moves() {
        let mut nodes = Nodes::default();
        nodes.apply_node(&node("n1"));
        nodes.apply_node(&node("n2"));
        nodes.assume("p", "n1", shape(500));
        nodes.confirm("p", "n2", shape(500));
        check(&nodes, "n1", 0, 0);
        check(&nodes, "n2", 500, 1);
    }

    #[test]
    fn nodes_heartbeat_is_no_event() {
        let mut nodes = Nodes::default();
        nodes.apply_node(&node("n1"));
        assert_eq!(nodes.apply_node(&node("n1")), []);
        let mut cordoned = node("n1");
        cordoned.spec.get_or_insert_default().unschedulable = Some(true);
        assert_eq!(nodes.apply_node(&cordoned), [Event::NodeTaints]);
    }
}
