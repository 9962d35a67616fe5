//! Debian's containerd on a node: its configuration, its start, and image archives imported into it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::layout::{Layout, Node};
use crate::{machine, process};

/// The socket, as seen from inside the node.
pub const SOCKET: &str = "/run/containerd/containerd.sock";

/// Where the node's CNI configuration and plugin are, inside and outside of it.
pub fn cni_folders(node: &Node) -> (PathBuf, PathBuf) {
    (node.state.join("cni/net.d"), node.state.join("cni/bin"))
}

/// Starts containerd unless it runs. Returns whether it was started.
pub fn ensure(layout: &Layout, node: &Node, sandbox_image: &str) -> Result<bool> {
    let name = node.process("containerd");
    if process::find(layout, &name).is_some() {
        return Ok(false);
    }
    let (conf, bin) = cni_folders(node);
    fs::create_dir_all(&conf)?;
    fs::create_dir_all(&bin)?;
    let path = node.state.join("containerd.toml");
    fs::write(&path, configuration(&conf, &bin, sandbox_image))?;
    let mut start = machine::command(layout, node, Path::new("containerd"))?;
    start.arg("--config").arg(&path);
    process::start(layout, &name, &mut start)?;
    let answers = || ctr(layout, node).and_then(|mut ctr| command::output(ctr.arg("version"))).is_ok();
    process::wait_until(Duration::from_secs(20), answers).with_context(|| {
        format!("containerd of {} does not answer:\n{}", node.name, process::log_tail(layout, &name, 5))
    })?;
    Ok(true)
}

/// Imports an image archive unless every name in `images` is there already. Returns whether it was imported.
/// `digest` changes with the archive's contents.
pub fn import(layout: &Layout, node: &Node, archive: &Path, digest: &str) -> Result<bool> {
    let stamp = node.state.join(format!(
        "imported-{}",
        archive.file_stem().context("an archive has a name")?.to_string_lossy()
    ));
    if fs::read_to_string(&stamp).is_ok_and(|old| old == digest) {
        return Ok(false);
    }
    let mut import = ctr(layout, node)?;
    import.args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
    let said = command::output(&mut import)?;
    if said.trim().is_empty() {
        bail!("containerd imported nothing from {}", archive.display());
    }
    fs::write(&stamp, digest)?;
    Ok(true)
}

/// containerd's own client, on the node.
pub fn ctr(layout: &Layout, node: &Node) -> Result<std::process::Command> {
    let mut ctr = machine::command(layout, node, Path::new("ctr"))?;
    ctr.args(["--address", SOCKET]);
    Ok(ctr)
}

/// Snapshotters that need what this machine may lack are off; negative OOM scores are not asked for.
fn configuration(conf: &Path, bin: &Path, sandbox_image: &str) -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd/state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox_image}"
  restrict_oom_score_adj = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{}"
    bin_dir = "{}"
"#,
        conf.display(),
        bin.display()
    )
}
