//! Namespaces for the tests of this folder: a place of its own for each test, that vanishes with its thread.
#![allow(clippy::unwrap_used)] // a test

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// False, with a note, unless the tests of the kernel are asked for.
fn enabled() -> bool {
    let tiers = std::env::var("SKEP_TEST_TIERS").unwrap_or_default();
    let wanted = tiers.split(',').any(|tier| tier.trim() == "kernel");
    if !wanted {
        println!("skipped: needs tier kernel");
    }
    wanted
}

/// Where the object under test is.
pub fn object_path() -> PathBuf {
    let built = "../../ebpf/programs/target/bpfel-unknown-none/release/skep-programs";
    std::env::var_os("SKEP_EBPF_OBJECT")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(built), PathBuf::from)
}

/// The object under test.
pub fn object() -> Vec<u8> {
    let path = object_path();
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; cargo xtask build-ebpf", path.display()))
}

/// Runs `ip`.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// A place of its own for one test.
pub struct Place {
    /// Directory for pins.
    pub pins: PathBuf,
    /// cgroup v2 directory of the test.
    pub cgroup: PathBuf,
}

static PLACES: AtomicU32 = AtomicU32::new(0);

/// Runs `test` in fresh namespaces with the veth pair up0-up1 as uplink, and pod0-pod1.
pub fn isolated(test: impl FnOnce(&Place) + Send + 'static) {
    if !enabled() {
        return;
    }
    let number = PLACES.fetch_add(1, Ordering::Relaxed);
    let name = format!("skep-test-{}-{number}", std::process::id());
    let cgroup = cgroup_root().join(&name);
    fs::create_dir(&cgroup).unwrap();
    let place = Place { pins: PathBuf::from("/sys/fs/bpf/skep"), cgroup: cgroup.clone() };
    let outcome = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let nothing: Option<&str> = None;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
        // Not bpffs, so that the dataplane has to mount it.
        mount(Some("none"), "/sys/fs/bpf", Some("tmpfs"), MsFlags::empty(), nothing).unwrap();
        ip("link set lo up");
        ip("link add up0 type veth peer name up1");
        ip("link add pod0 type veth peer name pod1");
        for interface in ["up0", "up1", "pod0", "pod1"] {
            ip(&format!("link set {interface} up"));
        }
        test(&place);
    })
    .join();
    fs::remove_dir(&cgroup).unwrap();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line =
        mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("cgroup2 is mounted");
    PathBuf::from(line.split(' ').nth(1).unwrap())
}
