//! For tests: a disk that stalls, as one that is overloaded or about to fail does. A real file system on a loop device,
//! in a mount namespace of the test, which is frozen and thawed again: meanwhile nothing reaches the disk, and whoever
//! waits for it waits.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::time::sleep;

/// Set in the process that runs inside the mount namespace.
const INSIDE: &str = "SKEP_STORE_STALL_TEST";

/// Whether this process is the one inside; starts that one otherwise, where `tier` is asked for. `test` is its path.
pub(crate) fn inside(test: &str, tier: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let tiers = std::env::var("SKEP_TEST_TIERS").unwrap_or_default();
    if !tiers.split([',', ' ']).any(|one| one == tier) {
        println!("skipped: needs tier {tier}");
        return false;
    }
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "yes")
        .status()
        .unwrap();
    assert!(status.success(), "{test} inside the namespace: {status}");
    false
}

/// A disk of its own.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Makes and mounts one of `mebibytes` at `folder/name`.
    pub(crate) fn make(folder: &Path, name: &str, mebibytes: u32) -> Self {
        let script = format!(
            "cd {}; truncate -s {mebibytes}M {name}.image; mkfs.ext4 -q {name}.image; mkdir {name}
            mount -o loop {name}.image {name}",
            folder.display()
        );
        let status = Command::new("sh").args(["-ec", &script]).status().unwrap();
        assert!(status.success(), "{script}: {status}");
        Self(folder.join(name))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// Stalls so often, for so long each time, with rests between.
    pub(crate) async fn stutter(&self, times: u32, stalled: Duration, rest: Duration) {
        for _ in 0..times {
            assert!(self.set("--freeze"), "the disk stalls");
            sleep(stalled).await;
            assert!(self.set("--unfreeze"), "the disk goes on");
            sleep(rest).await;
        }
    }

    fn set(&self, how: &str) -> bool {
        Command::new("fsfreeze")
            .arg(how)
            .arg(&self.0)
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap()
            .success()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A frozen file system would outlive the test.
        self.set("--unfreeze");
    }
}
