//! What a cluster that did not come up looks like, for whoever has to find out why.

use skep_harness::cluster::Cluster;
use skep_harness::process;

/// How much of each log and list is shown: the end of it.
const LINES: usize = 15;

/// Nodes, pods, recent events and the ends of the logs. What cannot be had says why.
pub fn describe(cluster: &Cluster) -> String {
    let nodes = "custom-columns=NODE:.metadata.name,READY:.status.conditions[?(@.type==\"Ready\")].status,\
                 TAINTS:.spec.taints[*].key";
    let questions = [
        vec!["get", "nodes", "--output", nodes],
        vec!["get", "pods", "--all-namespaces", "--output", "wide"],
        vec!["get", "events", "--all-namespaces", "--sort-by", ".metadata.creationTimestamp"],
    ];
    let kubectl = cluster.kubectl();
    let mut said = String::new();
    for question in questions {
        let answer = kubectl.run(&question).unwrap_or_else(|error| format!("{error:#}"));
        said += &section(&format!("kubectl {}", question[..2].join(" ")), &answer);
    }
    let agents = cluster.layout.nodes.iter().map(|node| node.process("agent"));
    let controls = cluster.layout.controls.iter().map(|control| control.process.clone());
    for name in controls.chain(agents) {
        said += &section(&format!("log of {name}"), &process::log_tail(&cluster.layout, &name, LINES));
    }
    said
}

fn section(title: &str, text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(LINES + 1);
    let head = lines.first().filter(|_| skipped > 0).map(|line| format!("  {line}\n")).unwrap_or_default();
    let rest: String = lines[skipped..].iter().map(|line| format!("  {line}\n")).collect();
    format!("--- {title}\n{head}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_keeps_the_head_and_the_end() {
        let text: String = (0..100).map(|line| format!("{line}\n")).collect();
        let shown = section("numbers", &text);
        assert!(shown.starts_with("--- numbers\n  0\n  84\n") && shown.ends_with("  99\n"), "{shown}");
        assert_eq!(section("few", "one\n"), "--- few\n  one\n");
    }
}
