//! Removes every trace of a development cluster, also one that crashed or was half made.
//!
//! Needs no record of what was started: everything is found by the namespaces and cgroups that [`crate::layout`] names.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::command::run;
use crate::layout::{Layout, MACHINE_LINK};
use crate::{cgroups, process};

/// Ends every process and removes namespaces, mounts, pinned maps, cgroups and folders. Returns what was found.
pub fn remove(layout: &Layout) -> Result<Vec<String>> {
    let mut found = Vec::new();
    stop_known(layout, &mut found)?;
    for node in &layout.nodes {
        let inside = cgroups::processes(&node.cgroup());
        if !inside.is_empty() {
            found.push(format!("{} processes in {}", inside.len(), node.cgroup()));
            process::kill_all(&inside);
        }
    }
    for namespace in layout.every_namespace() {
        let file = Path::new("/run/netns").join(&namespace);
        if file.exists() {
            process::kill_all(&process::in_namespace("net", &file));
            run("ip", &["netns", "del", &namespace])?;
            found.push(format!("namespace {namespace}"));
        }
    }
    if Path::new("/sys/class/net").join(MACHINE_LINK).exists() {
        run("ip", &["link", "del", MACHINE_LINK]).ok();
        found.push(format!("link {MACHINE_LINK}"));
    }
    for node in &layout.nodes {
        if !cgroups::present(&node.cgroup()).is_empty() {
            found.push(format!("cgroup {}", node.cgroup()));
            process::wait_until(Duration::from_secs(5), || {
                cgroups::remove(&node.cgroup());
                cgroups::present(&node.cgroup()).is_empty()
            })
            .ok();
        }
    }
    for folder in [&layout.state, &layout.run] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
            found.push(folder.display().to_string());
        }
    }
    let left = traces(layout);
    if !left.is_empty() {
        bail!("could not be removed: {}", left.join(", "));
    }
    Ok(found)
}

/// What there is of a development cluster on this machine.
pub fn traces(layout: &Layout) -> Vec<String> {
    let mut all = Vec::new();
    for namespace in layout.every_namespace() {
        if Path::new("/run/netns").join(&namespace).exists() {
            all.push(format!("namespace {namespace}"));
        }
    }
    for node in &layout.nodes {
        all.extend(cgroups::present(&node.cgroup()).iter().map(|path| path.display().to_string()));
    }
    if Path::new("/sys/class/net").join(MACHINE_LINK).exists() {
        all.push(format!("link {MACHINE_LINK}"));
    }
    all.extend(
        [&layout.state, &layout.run].into_iter().filter(|f| f.exists()).map(|f| f.display().to_string()),
    );
    all
}

/// Ends what has a pid file: agents first, so that they do not start pods again, then containerd, then the rest.
fn stop_known(layout: &Layout, found: &mut Vec<String>) -> Result<()> {
    let Ok(entries) = fs::read_dir(layout.run.join("pids")) else { return Ok(()) };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let rank = |name: &String| match name.rsplit('.').next() {
        Some("agent") => 0,
        Some("containerd") => 1,
        Some("machine") => 3,
        _ => 2,
    };
    names.sort_by_key(rank);
    for name in names.iter().filter(|name| !name.ends_with(".machine")) {
        if process::stop(layout, name, Duration::from_secs(5))? {
            found.push(name.clone());
        }
    }
    Ok(())
}
