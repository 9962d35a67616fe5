//! One pod, all nodes: which can take it, and which of those is best. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::nodes::{Nodes, Row};
use crate::plugins::{ALL, Candidate, Plugin, Reason, Scale};

/// How a cycle ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The pod goes to this node.
    Node(String),
    /// No node can take it.
    Unschedulable {
        /// Why, as the event and the condition say it: `0/2 nodes are available: 2 Insufficient cpu.`
        message: String,
        /// The plugins that refused it.
        rejected_by: BTreeSet<&'static str>,
    },
}

/// Chooses a node. Among equally good ones, `tie` decides.
pub fn schedule(candidate: &Candidate<'_>, nodes: &Nodes, tie: u64) -> Outcome {
    let mut reasons: BTreeMap<Reason, usize> = BTreeMap::new();
    let mut rejected_by = BTreeSet::new();
    let mut feasible: Vec<Row> = Vec::new();
    for row in nodes.rows() {
        let refusal = ALL.iter().find_map(|plugin| {
            plugin.filter(candidate, nodes, row).err().map(|reasons| (plugin.name(), reasons))
        });
        match refusal {
            None => feasible.push(row),
            Some((plugin, why)) => {
                rejected_by.insert(plugin);
                why.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1);
            }
        }
    }
    match best(candidate, nodes, &feasible, tie) {
        Some(row) => Outcome::Node(nodes.name(row).to_owned()),
        None => Outcome::Unschedulable { message: message(nodes.len(), &reasons), rejected_by },
    }
}

fn message(nodes: usize, reasons: &BTreeMap<Reason, usize>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut counted: Vec<String> =
        reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    counted.sort();
    format!("0/{nodes} nodes are available: {}.", counted.join(", "))
}

fn best(candidate: &Candidate<'_>, nodes: &Nodes, feasible: &[Row], tie: u64) -> Option<Row> {
    let mut totals = vec![0_i64; feasible.len()];
    if feasible.len() > 1 {
        for plugin in ALL.iter().filter(|plugin| plugin.weight() > 0) {
            let points = points(*plugin, candidate, nodes, feasible);
            totals.iter_mut().zip(points).for_each(|(total, points)| *total += plugin.weight() * points);
        }
    }
    let top = totals.iter().max()?;
    let winners: Vec<Row> =
        feasible.iter().zip(&totals).filter(|(_, total)| *total == top).map(|(row, _)| *row).collect();
    let index = usize::try_from(tie % winners.len() as u64).unwrap_or(0);
    winners.get(index).copied()
}

fn points(plugin: &dyn Plugin, candidate: &Candidate<'_>, nodes: &Nodes, feasible: &[Row]) -> Vec<i64> {
    let mut raw: Vec<i64> = feasible.iter().map(|row| plugin.score(candidate, nodes, *row)).collect();
    let max = raw.iter().copied().max().unwrap_or(0);
    for score in &mut raw {
        *score = match plugin.scale() {
            Scale::Points => *score,
            Scale::MoreIsBetter if max == 0 => 0,
            Scale::LessIsBetter if max == 0 => 100,
            Scale::MoreIsBetter => *score * 100 / max,
            Scale::LessIsBetter => 100 - *score * 100 / max,
        };
    }
    raw
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::{Node, Pod};
    use serde_json::{Value, json};

    use super::*;
    use crate::shape::Shape;

    fn nodes(list: &[Value]) -> Nodes {
        let mut nodes = Nodes::default();
        for (index, extra) in list.iter().enumerate() {
            let mut node: Value = json!({
                "metadata": {"name": format!("n{}", index + 1), "labels": {"disk": "hdd"}},
                "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "110"}},
            });
            for (key, value) in extra.as_object().into_iter().flatten() {
                node[key] = value.clone();
            }
            nodes.apply_node(&serde_json::from_value::<Node>(node).unwrap());
        }
        nodes
    }

    fn pod(spec: Value) -> Pod {
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true}]);
        serde_json::from_value(
            json!({"metadata": {"name": "p", "uid": "p", "ownerReferences": owner}, "spec": spec}),
        )
        .unwrap()
    }

    fn asks(cpu: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
    }

    fn run(pod: &Pod, nodes: &Nodes, tie: u64) -> Outcome {
        let shape = Shape::of(pod);
        schedule(&Candidate { pod, spec: pod.spec.as_ref().unwrap(), shape: &shape }, nodes, tie)
    }

    fn check_refused(pod: &Pod, nodes: &Nodes, expected: &str, plugins: &[&'static str]) {
        match run(pod, nodes, 0) {
            Outcome::Unschedulable { message, rejected_by } => {
                assert_eq!(message, expected);
                assert_eq!(rejected_by.into_iter().collect::<Vec<_>>(), plugins);
            }
            Outcome::Node(name) => panic!("went to {name}"),
        }
    }

    #[test]
    fn schedule_no_node_gives_upstreams_message() {
        check_refused(&pod(asks("1")), &Nodes::default(), "no nodes available to schedule pods", &[]);
    }

    #[test]
    fn schedule_too_large_pod_names_the_resource() {
        let nodes = nodes(&[json!({}), json!({})]);
        let expected = "0/2 nodes are available: 2 Insufficient cpu.";
        check_refused(&pod(asks("3")), &nodes, expected, &["NodeResourcesFit"]);
    }

    #[test]
    fn schedule_different_reasons_are_counted_by_node() {
        let nodes = nodes(&[
            json!({"spec": {"unschedulable": true}}),
            json!({"spec": {"taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}]}}),
            json!({"status": {"allocatable": {"cpu": "1", "memory": "1Mi", "pods": "0"}}}),
        ]);
        let spec =
            json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "2", "memory": "2Mi"}}}]});
        let expected = "0/3 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 Too many pods, \
                        1 node(s) had untolerated taint {a: b}, 1 node(s) were unschedulable.";
        check_refused(
            &pod(spec),
            &nodes,
            expected,
            &["NodeResourcesFit", "NodeUnschedulable", "TaintToleration"],
        );
    }

    #[test]
    fn schedule_replicas_spread_over_nodes_whatever_the_tie() {
        for tie in 0..4 {
            let mut nodes = nodes(&[json!({}), json!({}), json!({})]);
            let pod = pod(json!({"containers": [{"name": "c"}]}));
            let mut counts = BTreeMap::new();
            for replica in 0..6 {
                let Outcome::Node(name) = run(&pod, &nodes, tie) else { panic!("refused") };
                nodes.assume(&format!("p{replica}"), &name, Arc::new(Shape::of(&pod)));
                *counts.entry(name).or_insert(0) += 1;
            }
            assert_eq!(counts.into_values().collect::<Vec<_>>(), [2, 2, 2]);
        }
    }

    #[test]
    fn schedule_node_with_more_left_is_preferred() {
        let small = json!({"status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"}}});
        assert_eq!(run(&pod(asks("500m")), &nodes(&[small, json!({})]), 0), Outcome::Node("n2".into()));
    }

    #[test]
    fn schedule_selector_and_soft_taint_are_respected() {
        let labelled = json!({"metadata": {"name": "n2", "labels": {"disk": "ssd"}}});
        let nodes_ = nodes(&[json!({}), labelled]);
        let mut spec = asks("1");
        spec["nodeSelector"] = json!({"disk": "ssd"});
        assert_eq!(run(&pod(spec.clone()), &nodes_, 0), Outcome::Node("n2".into()));
        spec["nodeSelector"] = json!({"disk": "tape"});
        let expected = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.";
        check_refused(&pod(spec), &nodes_, expected, &["NodeAffinity"]);
        let soft = json!({"spec": {"taints": [{"key": "a", "effect": "PreferNoSchedule"}]}});
        assert_eq!(run(&pod(asks("1")), &nodes(&[soft, json!({})]), 0), Outcome::Node("n2".into()));
    }

    #[test]
    fn schedule_host_port_is_given_once_per_node() {
        let mut nodes = nodes(&[json!({}), json!({})]);
        let pod =
            pod(json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}));
        for replica in 0..2 {
            let Outcome::Node(name) = run(&pod, &nodes, 0) else { panic!("refused") };
            nodes.assume(&format!("p{replica}"), &name, Arc::new(Shape::of(&pod)));
        }
        let expected =
            "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports.";
        check_refused(&pod, &nodes, expected, &["NodePorts"]);
    }
}
