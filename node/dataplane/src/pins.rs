//! Where things are pinned: one directory of the BPF file system per node, with `maps/` and `links/` in it.
//!
//! Owns: the names of pins and the mount of bpffs when the machine has none (it is not mounted at boot
//! everywhere). It does not know what a pin holds.
//!
//! | pin | holds |
//! |---|---|
//! | `maps/NAME` | every map of the ABI, by its name |
//! | `links/uplink-IFACE-xdp`, `links/uplink-IFACE-ingress`, `-egress` | programs on an uplink |
//! | `links/pod-IFACE-ingress` | the program on the host side of a pod's veth |
//! | `links/cgroup-HOOK` | a socket hook on the node's cgroup |

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::Error;
use crate::sys;

/// The pin directory of one node.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// The pin directory at `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Makes the directories, mounting bpffs on the parent of the root when it is on another file system.
    ///
    /// # Errors
    /// [`Error::BpfFs`] when the mount or a directory cannot be made.
    pub fn prepare(&self) -> Result<(), Error> {
        let failed = |path: &Path, source: io::Error| Error::BpfFs { path: path.to_owned(), source };
        let base = self.root.parent().unwrap_or(Path::new("/sys/fs/bpf"));
        if !self.on_bpffs().map_err(|source| failed(&self.root, source))? {
            fs::create_dir_all(base).map_err(|source| failed(base, source))?;
            mount(Some("bpf"), base, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
                .map_err(|errno| failed(base, errno.into()))?;
            tracing::info!(path = %base.display(), "mounted the BPF file system");
        }
        for directory in [self.maps(), self.links()] {
            fs::create_dir_all(&directory).map_err(|source| failed(&directory, source))?;
        }
        Ok(())
    }

    /// True when the nearest existing directory at or above the root is on bpffs.
    fn on_bpffs(&self) -> io::Result<bool> {
        for path in self.root.ancestors() {
            match statfs(path) {
                Ok(status) => return Ok(status.filesystem_type() == BPF_FS_MAGIC),
                Err(nix::errno::Errno::ENOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(false)
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of maps.
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// The directory of links.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// The pin of a map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// The pin of a link on the uplink `interface`; `hook` is `xdp`, `ingress` or `egress`.
    pub(crate) fn uplink(&self, interface: &str, hook: &str) -> PathBuf {
        self.links().join(format!("uplink-{}-{hook}", escape(interface)))
    }

    /// The pin of the link on a pod's veth.
    pub(crate) fn pod(&self, interface: &str) -> PathBuf {
        self.links().join(format!("pod-{}-ingress", escape(interface)))
    }

    /// The pin of a socket hook.
    pub(crate) fn cgroup(&self, hook: &str) -> PathBuf {
        self.links().join(format!("cgroup-{}", escape(hook)))
    }

    /// The pins in a directory of ours, sorted by name; none when it does not exist.
    pub(crate) fn list(directory: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
        let failed = |source: io::Error| Error::BpfFs { path: directory.to_owned(), source };
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
        found.sort();
        Ok(found)
    }

    /// Removes every pin and the directories: programs are detached when this returns, and maps go once nothing uses them.
    ///
    /// # Errors
    /// [`Error::BpfFs`] for the first thing that could not be removed.
    pub fn remove_all(&self) -> Result<Vec<PathBuf>, Error> {
        let mut removed = Vec::new();
        // Links first: no program may run on after its maps' pins are gone.
        for directory in [self.links(), self.maps()] {
            let links = directory == self.links();
            for (_, path) in Self::list(&directory)? {
                if links
                    && let Err(error) = sys::open_pin(&path).and_then(|link| sys::link_detach(link.as_fd()))
                {
                    // It goes with its pin, if somewhat later.
                    tracing::debug!(path = %path.display(), %error, "a link cannot be detached");
                }
                remove_pin(&path)?;
                removed.push(path);
            }
            remove_directory(&directory)?;
        }
        remove_directory(&self.root)?;
        Ok(removed)
    }
}

/// Removes one pin; it is no error when it is not there.
pub(crate) fn remove_pin(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::BpfFs { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn remove_directory(path: &Path) -> Result<(), Error> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::BpfFs { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// bpffs refuses names with a dot; interface names may have one (VLANs). `%` stands for it: no interface that
/// the kernel accepts has one, as it is reserved for name patterns.
fn escape(name: &str) -> String {
    name.replace('.', "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_interface_with_dot_gets_a_legal_name() {
        let pins = Pins::new("/sys/fs/bpf/skep");
        assert_eq!(pins.uplink("eth0.5", "xdp"), Path::new("/sys/fs/bpf/skep/links/uplink-eth0%5-xdp"));
        assert_eq!(pins.pod("veth1"), Path::new("/sys/fs/bpf/skep/links/pod-veth1-ingress"));
        assert_eq!(pins.cgroup("connect4"), Path::new("/sys/fs/bpf/skep/links/cgroup-connect4"));
    }

    #[test]
    fn pins_list_of_missing_directory_is_empty() {
        assert_eq!(Pins::list(Path::new("/nonexistent/skep")).unwrap(), Vec::new());
    }
}
