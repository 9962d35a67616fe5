//! How much the node has: processors, memory, disk, and what identifies it. Read once, from `/proc` and its kin.

use std::path::Path;

use crate::{Error, PodsConfig};

/// What the node has and is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Processors in thousandths.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Disk for images, containers and volumes in bytes.
    pub disk: i64,
    /// Most pods.
    pub pods: u32,
    /// Kernel release.
    pub kernel: String,
    /// Name of the operating system.
    pub os_image: String,
    /// Id of the machine.
    pub machine_id: String,
    /// Id of the machine's firmware.
    pub system_uuid: String,
    /// Id of this boot.
    pub boot_id: String,
}

impl Capacity {
    /// Reads everything; what is only informative may be missing.
    ///
    /// # Errors
    /// [`Error::File`] if the memory's size cannot be read.
    pub fn read(proc: &Path, config: &PodsConfig) -> Result<Self, Error> {
        let meminfo = proc.join("meminfo");
        let text = std::fs::read_to_string(&meminfo)
            .map_err(|source| Error::File { path: meminfo.clone(), source })?;
        let total = memory_total(&text).ok_or_else(|| Error::File {
            path: meminfo,
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, "it has no MemTotal"),
        })?;
        let limit = cgroup_memory_limit(&config.cgroup_parent).unwrap_or(i64::MAX);
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let text =
            |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let machine_id = text("/etc/machine-id");
        let product = text("/sys/class/dmi/id/product_uuid");
        Ok(Self {
            cpu_milli: i64::try_from(processors).unwrap_or(1) * 1000,
            memory: total.min(limit),
            disk: disk(&config.state_dir),
            pods: config.max_pods,
            kernel: text("/proc/sys/kernel/osrelease"),
            os_image: os_name(&text("/etc/os-release")),
            system_uuid: if product.is_empty() { machine_id.clone() } else { product },
            machine_id,
            boot_id: text("/proc/sys/kernel/random/boot_id"),
        })
    }
}

/// Bytes of memory in total, and those that can be had without swapping, now.
pub(super) fn memory_usage() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let bytes = |name| field(&text, name).and_then(|bytes| u64::try_from(bytes).ok());
    Some((bytes("MemTotal:")?, bytes("MemAvailable:")?))
}

/// Bytes in total and bytes free of the file system at `path`, or of the nearest folder above that exists.
pub(super) fn disk_usage(path: &Path) -> Option<(u64, u64)> {
    let found = path.ancestors().find_map(|path| nix::sys::statvfs::statvfs(path).ok())?;
    let block = found.fragment_size();
    Some((found.blocks() * block, found.blocks_available() * block))
}

fn disk(path: &Path) -> i64 {
    disk_usage(path).and_then(|(total, _)| i64::try_from(total).ok()).unwrap_or(0)
}

fn memory_total(meminfo: &str) -> Option<i64> {
    field(meminfo, "MemTotal:")
}

fn field(meminfo: &str, name: &str) -> Option<i64> {
    let line = meminfo.lines().find(|line| line.starts_with(name))?;
    let kilobytes: i64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

fn cgroup_memory_limit(parent: &str) -> Option<i64> {
    let parent = parent.trim_matches('/');
    let candidates = [
        format!("/sys/fs/cgroup/memory/{parent}/memory.limit_in_bytes"),
        format!("/sys/fs/cgroup/{parent}/memory.max"),
    ];
    let text = candidates.iter().find_map(|path| std::fs::read_to_string(path).ok())?;
    text.trim().parse().ok()
}

fn os_name(release: &str) -> String {
    let line = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_names_are_read_from_their_files() {
        let meminfo = "MemTotal:       16384 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(memory_total(meminfo), Some(16 << 20));
        assert_eq!(field(meminfo, "MemAvailable:"), Some(1 << 20));
        assert_eq!(memory_total("MemFree: 1 kB\n"), None);
        assert_eq!(os_name("ID=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!(os_name(""), "Linux");
    }

    #[test]
    fn disk_of_a_folder_to_be_is_that_of_its_parent() {
        let root = tempfile::tempdir().expect("a folder");
        let (total, free) = disk_usage(&root.path().join("not/yet")).expect("a file system");
        assert!(total >= free && total > 0);
    }
}
