//! What is left of a cluster that was cut off while it was made is removed without a trace. Tier `kernel`.

use std::path::Path;

use skep_harness::cluster::Cluster;
use skep_harness::{machine, process, teardown};

#[test]
fn remove_after_a_crash_leaves_no_trace() {
    if !std::env::var("SKEP_TEST_TIERS").is_ok_and(|tiers| tiers.split(',').any(|tier| tier == "kernel")) {
        println!("skipped: needs tier kernel");
        return;
    }
    let cluster = Cluster::new();
    let layout = &cluster.layout;
    assert_eq!(teardown::traces(layout), Vec::<String>::new(), "no cluster may run while the tests do");
    cluster.ensure_fabric().unwrap();
    assert!(!cluster.ensure_fabric().unwrap(), "a second time changes nothing");
    for node in &layout.nodes {
        machine::ensure(layout, node).unwrap();
    }
    // A program that nobody remembers, in a namespace and a cgroup of the cluster.
    let mut forgotten = machine::command(layout, &layout.nodes[0], Path::new("sleep")).unwrap();
    let mut forgotten = forgotten.arg("600").spawn().unwrap();
    let holder = process::find(layout, &layout.nodes[1].process("machine")).unwrap();
    process::kill_all(&[holder.pid]);

    let found = teardown::remove(layout).unwrap();
    // It may have been collected already; that it is gone is what counts.
    forgotten.wait().ok();
    assert!(found.iter().any(|what| what == "namespace skep-n1"), "{found:?}");
    assert!(!Path::new(&format!("/proc/{}", forgotten.id())).exists(), "it was killed and collected");
    assert_eq!(teardown::traces(layout), Vec::<String>::new());
    assert_eq!(teardown::remove(layout).unwrap(), Vec::<String>::new());
}
