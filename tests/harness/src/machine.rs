//! A node's own mount, network and UTS namespaces, held by one process, as if it were a machine of its own.
//!
//! Inside, `/run` is empty, `/var/lib/containerd`, `/var/lib/skep`, `/var/log/pods` and `/var/log/containers` are the
//! node's own, `/sys/fs/bpf` is a BPF file system of its own, and mounts propagate to containers.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cgroups;
use crate::layout::{Layout, Node};
use crate::process::{self, Place};

/// Folders of the machine that every node has for itself.
const OWN: [&str; 4] = ["/var/lib/containerd", "/var/lib/skep", "/var/log/pods", "/var/log/containers"];

/// Starts the process that holds the node's namespaces unless it runs. Returns whether it was started.
pub fn ensure(layout: &Layout, node: &Node) -> Result<bool> {
    cgroups::ensure(&node.cgroup())?;
    let name = node.process("machine");
    if process::find(layout, &name).is_some() {
        return Ok(false);
    }
    let ready = node.state.join("ready");
    fs::create_dir_all(&node.state)?;
    fs::remove_file(&ready).ok();
    fs::write(node.state.join("resolv.conf"), "# No name server beyond the cluster's own.\n")?;
    let script = script(node, &ready)?;
    let mut command = Place::Network(node.name.clone()).command("unshare");
    command.args(["--mount", "--uts", "--propagation", "private", "sh", "-ec", &script]);
    process::start(layout, &name, &mut command)?;
    process::wait_until(Duration::from_secs(10), || ready.exists()).with_context(|| {
        format!("the namespaces of {} were not made: {}", node.name, process::log_tail(layout, &name, 5))
    })?;
    Ok(true)
}

/// `program` as it runs on the node: in its namespaces and in the `system` cgroup below its root.
pub fn command(layout: &Layout, node: &Node, program: &Path) -> Result<Command> {
    let holder = process::find(layout, &node.process("machine"))
        .with_context(|| format!("{} does not run; `cargo xtask up` starts it", node.name))?;
    let group = cgroups::unified(&node.cgroup()).join("system");
    fs::create_dir_all(&group)?;
    let join = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", group.display());
    let mut command = Command::new("sh");
    command
        .args(["-ec", &join, "sh", "nsenter", "-t", &holder.pid.to_string(), "-m", "-n", "-u"])
        .arg(program);
    Ok(command)
}

fn script(node: &Node, ready: &Path) -> Result<String> {
    let state = node.state.to_str().context("the state folder's path is text")?;
    let mut lines =
        vec!["mount --make-rshared /".to_owned(), "mount -t tmpfs -o mode=755 tmpfs /run".to_owned()];
    lines.push("mkdir -p /run/netns".to_owned());
    for folder in OWN {
        let own = format!("{state}{folder}");
        fs::create_dir_all(&own)?;
        fs::create_dir_all(folder)?;
        lines.push(format!("mount --bind {own} {folder}"));
    }
    lines.push("mount -t bpf bpf /sys/fs/bpf".to_owned());
    lines.push(format!("mount --bind {state}/resolv.conf /etc/resolv.conf"));
    lines.push(format!("hostname {}", node.name));
    lines.push(format!("touch {}", ready.display()));
    lines.push("exec sleep infinity".to_owned());
    Ok(lines.join("\n"))
}
