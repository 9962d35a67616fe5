//! Disks that are full or read-only, as real file systems in a mount namespace of the test; needs the tier `kernel`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tests::{create, events, open};
use super::{SqliteOptions, SqliteStore};
use crate::{Expected, ListRequest, Revision, Store, StoreError};

/// Set in the process that runs inside the namespace: the folder where the disk is mounted.
const FOLDER: &str = "SKEP_STORE_DISK_TEST_FOLDER";

/// The mounted folder, if this process is the one inside; starts that one otherwise, with `mount` run before it.
fn inside(test: &str, mount: &str) -> Option<PathBuf> {
    if let Ok(folder) = std::env::var(FOLDER) {
        return Some(folder.into());
    }
    let tiers = std::env::var("SKEP_TEST_TIERS").unwrap_or_default();
    if !tiers.split([',', ' ']).any(|tier| tier == "kernel") {
        println!("skipped: needs tier kernel");
        return None;
    }
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("disk");
    std::fs::create_dir(&folder).unwrap();
    // Mounts of a private namespace go when its last process ends.
    let script = format!("set -e; cd {}; {mount}; cd /; exec \"$@\"", outside.path().display());
    let status = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("sqlite::disk_tests::{test}"), "--nocapture", "--test-threads=1"])
        .env(FOLDER, &folder)
        .status()
        .unwrap();
    assert!(status.success(), "{test} inside the namespace: {status}");
    None
}

fn mount(arguments: &[&str], folder: &Path) {
    let status = Command::new("mount").args(arguments).arg(folder).status().unwrap();
    assert!(status.success(), "mount {arguments:?}: {status}");
}

async fn keys(store: &SqliteStore) -> usize {
    store.list(ListRequest { prefix: "/".into(), ..Default::default() }).await.unwrap().items.len()
}

#[tokio::test]
async fn full_disk_refuses_writes_goes_on_reading_and_recovers() {
    let mount = "mount -t tmpfs -o size=12m none disk";
    let Some(folder) = inside("full_disk_refuses_writes_goes_on_reading_and_recovers", mount) else { return };
    let path = folder.join("state.db");
    std::fs::write(folder.join("ballast"), vec![1; 4 << 20]).unwrap();
    let store = open(&path);
    let mut written = 0;
    let error = loop {
        match store.put(&format!("/{written:05}"), vec![1; 4000].into(), Expected::Absent, None).await {
            Ok(revision) => written = revision.0,
            Err(error) => break error,
        }
        assert!(written < 5000, "the disk is small");
    };
    assert!(matches!(error, StoreError::NoSpace(_)), "{error:?}");
    assert!(written > 100, "{written}");
    assert_eq!(keys(&store).await as u64, written);
    assert_eq!(events(&store, Revision(0), written as usize).await.len() as u64, written);
    assert!(store.get("/00000").await.unwrap().0.is_some());
    assert!(matches!(
        store.put("/x", vec![1; 4000].into(), Expected::Absent, None).await,
        Err(StoreError::NoSpace(_))
    ));

    std::fs::remove_file(folder.join("ballast")).unwrap();
    assert_eq!(
        create(&store, "/more", "x").await,
        Revision(written + 1),
        "the refused writes took no revision"
    );
    drop(store);
    assert_eq!(keys(&open(&path)).await as u64, written + 1);
}

#[tokio::test]
async fn disk_that_turns_read_only_refuses_writes_and_goes_on_reading() {
    let image = "truncate -s 32M image; mkfs.ext4 -q image; mount -o loop image disk";
    let test = "disk_that_turns_read_only_refuses_writes_and_goes_on_reading";
    let Some(folder) = inside(test, image) else { return };
    let path = folder.join("state.db");
    let store = open(&path);
    for number in 0..50 {
        create(&store, &format!("/{number}"), vec![1; 1000]).await;
    }
    // What ext4 does by itself when it meets an error of the disk.
    mount(&["-o", "remount,abort"], &folder);
    for round in 0..3 {
        let put = store.put("/late", "x".into(), Expected::Absent, None).await;
        assert!(matches!(put, Err(StoreError::ReadOnly(_))), "round {round}: {put:?}");
        assert_eq!(keys(&store).await, 50);
        assert_eq!(events(&store, Revision(0), 50).await.len(), 50);
    }
    drop(store);
    let refused = SqliteStore::open(&path, SqliteOptions::default()).err().unwrap();
    assert!(matches!(refused, StoreError::ReadOnly(_)), "{refused:?}");

    // Repaired, everything that was acknowledged is there.
    let run = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).status().unwrap().code().unwrap()
    };
    let (disk, image) = (folder.to_str().unwrap(), folder.with_file_name("image"));
    assert_eq!(run("umount", &[disk]), 0);
    assert!(run("e2fsck", &["-fy", image.to_str().unwrap()]) < 4, "the file system is repaired");
    mount(&["-o", "loop", image.to_str().unwrap()], &folder);
    let store = open(&path);
    assert_eq!(keys(&store).await, 50);
    assert_eq!(create(&store, "/more", "x").await, Revision(51));
}
