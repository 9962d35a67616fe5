//! The leader's disk stalls again and again; needs root and the tier `etcd`.

use std::sync::Arc;
use std::time::Duration;

use super::cluster_tests::Cluster;
use crate::Store;
use crate::histories::{self, Load, Recorder, Watched};
use crate::stalls::{self, Disk};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recorded_history_over_a_leader_with_a_disk_that_stalls_is_linearizable() {
    let test = "etcd::stall_tests::recorded_history_over_a_leader_with_a_disk_that_stalls_is_linearizable";
    if !stalls::inside(test, "etcd") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // etcd sets 64 MiB aside for its log, twice.
    let disks: Vec<Disk> = (0..3).map(|one| Disk::make(folder.path(), &format!("disk{one}"), 256)).collect();
    let cluster = Cluster::start_on(|_, member| disks[member].folder().join("etcd"));
    let store: Arc<dyn Store> = Arc::new(cluster.store().await);
    let before = store.current_revision().await.unwrap();
    let live = Watched::start(&*store, before).await;
    let recorder = Arc::new(Recorder::kept());
    let load = Load { clients: 6, keys: 3, each: 150, pause: Duration::from_millis(10), seed: 10 };
    let work = tokio::spawn(histories::run(store.clone(), recorder.clone(), load));
    tokio::time::sleep(Duration::from_millis(200)).await;
    for (stalled, times) in [(100, 8), (1500, 1), (300, 4)] {
        let leader = cluster.leader().await;
        disks[leader].stutter(times, Duration::from_millis(stalled), Duration::from_millis(100)).await;
    }
    work.await.unwrap();
    let operations = histories::operations(&recorder.lines());
    histories::judge(&*store, &operations, live, before).await;
}
