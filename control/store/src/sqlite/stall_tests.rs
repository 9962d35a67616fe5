//! A disk that stalls again and again: everybody waits, and nobody is told anything that is not so; needs the tier
//! `kernel`.

use std::sync::Arc;
use std::time::Duration;

use super::tests::open;
use crate::histories::{self, Load, Outcome, Recorder, Watched};
use crate::stalls::{self, Disk};
use crate::{Revision, Store};

const STALLED: Duration = Duration::from_millis(400);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recorded_history_over_a_disk_that_stalls_is_linearizable() {
    let test = "sqlite::stall_tests::recorded_history_over_a_disk_that_stalls_is_linearizable";
    if !stalls::inside(test, "kernel") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::make(folder.path(), "disk", 64);
    let path = disk.folder().join("state.db");
    let store: Arc<dyn Store> = Arc::new(open(&path));
    let live = Watched::start(&*store, Revision(0)).await;
    let recorder = Arc::new(Recorder::kept());
    let load = Load { clients: 8, keys: 3, each: 250, pause: Duration::from_millis(4), seed: 9 };
    let work = tokio::spawn(histories::run(store.clone(), recorder.clone(), load));
    tokio::time::sleep(Duration::from_millis(100)).await;
    disk.stutter(5, STALLED, Duration::from_millis(100)).await;
    work.await.unwrap();
    let operations = histories::operations(&recorder.lines());
    assert!(operations.iter().all(|one| one.outcome != Outcome::Unknown), "a slow disk is waited for");
    histories::judge(&*store, &operations, live, Revision(0)).await;
    drop(store);
}
