//! A node's own cgroup root in every hierarchy: v1 controllers and cgroup2, whichever the machine has.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// Makes the cgroup in every hierarchy, with the machine's processors and memory nodes where cpuset wants them said.
pub fn ensure(name: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        let path = hierarchy.join(name.trim_start_matches('/'));
        fs::create_dir_all(&path).with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = path.join(file);
            if own.exists()
                && fs::read_to_string(&own)?.trim().is_empty()
                && let Ok(all) = fs::read_to_string(hierarchy.join(file))
            {
                fs::write(&own, all.trim()).ok();
            }
        }
    }
    Ok(())
}

/// The folder that socket programs are attached to.
pub fn unified(name: &str) -> PathBuf {
    let hybrid = Path::new(ROOT).join("unified");
    let root = if hybrid.is_dir() { hybrid } else { PathBuf::from(ROOT) };
    root.join(name.trim_start_matches('/'))
}

/// The processes in the cgroup and below it, in every hierarchy.
pub fn processes(name: &str) -> Vec<i32> {
    let mut pids = Vec::new();
    for hierarchy in hierarchies() {
        for folder in tree(&hierarchy.join(name.trim_start_matches('/'))) {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Removes the cgroup and all below it, in every hierarchy. What still holds processes stays.
pub fn remove(name: &str) {
    for hierarchy in hierarchies() {
        for folder in tree(&hierarchy.join(name.trim_start_matches('/'))).iter().rev() {
            fs::remove_dir(folder).ok();
        }
    }
}

/// The hierarchies that have a cgroup of this name.
pub fn present(name: &str) -> Vec<PathBuf> {
    hierarchies()
        .into_iter()
        .map(|hierarchy| hierarchy.join(name.trim_start_matches('/')))
        .filter(|path| path.exists())
        .collect()
}

fn hierarchies() -> Vec<PathBuf> {
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        return vec![PathBuf::from(ROOT)];
    }
    let Ok(entries) = fs::read_dir(ROOT) else { return Vec::new() };
    let mut all: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists())
        .collect();
    all.sort();
    all
}

/// A folder and all folders below it, parents first.
fn tree(root: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        open.extend(entries.flatten().filter(|e| e.file_type().is_ok_and(|k| k.is_dir())).map(|e| e.path()));
        all.push(folder);
    }
    all
}
