//! Recorded histories on etcd, while it is restarted and while leaders are killed; needs the tier `etcd`.

use std::sync::Arc;
use std::time::Duration;

use super::cluster_tests::Cluster;
use super::tests::{Etcd, tier};
use crate::Store;
use crate::histories::{self, Load, Recorder, Watched};

const LOAD: Load = Load { clients: 6, keys: 3, each: 250, pause: Duration::from_millis(10), seed: 4 };

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recorded_history_is_linearizable() {
    if tier() {
        let etcd = Etcd::start();
        histories::run_and_check(Arc::new(etcd.store().await), LOAD).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recorded_history_over_restarts_is_linearizable() {
    if !tier() {
        return;
    }
    let mut etcd = Etcd::start();
    let store: Arc<dyn Store> = Arc::new(etcd.store().await);
    let before = store.current_revision().await.unwrap();
    let live = Watched::start(&*store, before).await;
    let recorder = Arc::new(Recorder::kept());
    let work =
        tokio::spawn(histories::run(store.clone(), recorder.clone(), Load { seed: 5, each: 320, ..LOAD }));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        etcd = tokio::task::spawn_blocking(move || {
            etcd.restart();
            etcd
        })
        .await
        .unwrap();
    }
    assert!(!work.is_finished(), "the restarts came in the middle");
    work.await.unwrap();
    let operations = histories::operations(&recorder.lines());
    histories::judge(&*store, &operations, live, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recorded_history_over_dying_leaders_is_linearizable() {
    if !tier() {
        return;
    }
    let mut cluster = Cluster::start();
    // Two control planes.
    let stores: [Arc<dyn Store>; 2] = [Arc::new(cluster.store().await), Arc::new(cluster.store().await)];
    let before = stores[0].current_revision().await.unwrap();
    let live = Watched::start(&*stores[1], before).await;
    let recorder = Arc::new(Recorder::kept());
    let load = |seed| Load { clients: 3, seed, ..LOAD };
    let work = [(&stores[0], 6), (&stores[1], 7)]
        .map(|(store, seed)| tokio::spawn(histories::run(store.clone(), recorder.clone(), load(seed))));
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let leader = cluster.leader().await;
        cluster.kill(leader);
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.revive(leader);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for clients in work {
        clients.await.unwrap();
    }
    let operations = histories::operations(&recorder.lines());
    histories::judge(&*stores[0], &operations, live, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recorded_history_over_a_leader_that_hangs_is_linearizable() {
    if !tier() {
        return;
    }
    let cluster = Cluster::start();
    let store: Arc<dyn Store> = Arc::new(cluster.store().await);
    let before = store.current_revision().await.unwrap();
    let live = Watched::start(&*store, before).await;
    let recorder = Arc::new(Recorder::kept());
    let load = Load { each: 120, seed: 8, ..LOAD };
    let work = tokio::spawn(histories::run(store.clone(), recorder.clone(), load));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let leader = cluster.leader().await;
    cluster.freeze(leader);
    tokio::time::sleep(Duration::from_secs(6)).await;
    // It believes that it leads, and must not answer from what it knows.
    cluster.thaw(leader);
    work.await.unwrap();
    let operations = histories::operations(&recorder.lines());
    histories::judge(&*store, &operations, live, before).await;
}
