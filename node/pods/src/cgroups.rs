//! cgroups of pods: their paths, their limits, and their removal.
//!
//! Layout and values are upstream's (`kubepods/burstable/podUID`), below the node's own cgroup. The runtime makes
//! the containers' cgroups below a pod's. Owns both hierarchies: v1 controllers, and cgroup2 alone or beside them.

use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::spec::resources::{CPU_PERIOD, Needs, QosClass, qos_class};
use crate::spec::uid;

/// Where cgroup file systems are mounted.
pub const MOUNT: &str = "/sys/fs/cgroup";

/// Path of a pod's cgroup in every hierarchy, below the node's own (`/` for the root).
pub fn pod_path(parent: &str, pod: &Pod) -> String {
    let class = match qos_class(pod) {
        QosClass::Guaranteed => "",
        QosClass::Burstable => "/burstable",
        QosClass::BestEffort => "/besteffort",
    };
    format!("{}/kubepods{class}/pod{}", parent.trim_end_matches('/'), uid(pod))
}

/// Values for the pod's files: hierarchy (empty for cgroup2), file, value.
pub fn pod_limits(pod: &Pod, unified: bool) -> Vec<(&'static str, &'static str, String)> {
    let needs = Needs::of_pod(pod);
    let quota = needs.quota();
    if unified {
        // The two scales, 2..262144 and 1..10000, are mapped onto each other as the runtimes do.
        let weight = 1 + (needs.shares() - 2) * 9999 / 262_142;
        let max = quota.map_or("max".to_owned(), |quota| quota.to_string());
        let memory = needs.memory_limit.filter(|limit| *limit > 0);
        return vec![
            ("", "cpu.weight", weight.to_string()),
            ("", "cpu.max", format!("{max} {CPU_PERIOD}")),
            ("", "memory.max", memory.map_or("max".to_owned(), |limit| limit.to_string())),
        ];
    }
    let mut values = vec![("cpu", "cpu.shares", needs.shares().to_string())];
    if let Some(quota) = quota {
        values.push(("cpu", "cpu.cfs_period_us", CPU_PERIOD.to_string()));
        values.push(("cpu", "cpu.cfs_quota_us", quota.to_string()));
    }
    if let Some(limit) = needs.memory_limit.filter(|limit| *limit > 0) {
        values.push(("memory", "memory.limit_in_bytes", limit.to_string()));
    }
    values
}

/// The cgroup file systems of this machine.
#[derive(Clone, Debug)]
pub struct Cgroups {
    mount: PathBuf,
}

impl Cgroups {
    /// Those below `mount`, usually [`MOUNT`].
    pub fn new(mount: &Path) -> Self {
        Self { mount: mount.to_owned() }
    }

    fn unified_only(&self) -> bool {
        self.mount.join("cgroup.controllers").exists()
    }

    fn hierarchies(&self) -> Vec<PathBuf> {
        if self.unified_only() {
            return vec![self.mount.clone()];
        }
        let Ok(entries) = std::fs::read_dir(&self.mount) else { return Vec::new() };
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.map(|entry| entry.path()).filter(|path| path.join("cgroup.procs").exists()).collect()
    }

    /// Makes the pod's cgroup and sets its limits. Without cgroup file systems nothing is done.
    ///
    /// # Errors
    /// The first file that could not be written.
    pub fn prepare(&self, path: &str, pod: &Pod) -> io::Result<()> {
        let below = path.trim_start_matches('/');
        let unified = self.unified_only();
        if unified {
            self.delegate(below)?;
        }
        for (hierarchy, file, value) in pod_limits(pod, unified) {
            let root = self.mount.join(hierarchy);
            if !root.join("cgroup.procs").exists() {
                continue;
            }
            let folder = root.join(below);
            std::fs::create_dir_all(&folder)?;
            let target = folder.join(file);
            if target.exists() {
                std::fs::write(target, value)?;
            }
        }
        Ok(())
    }

    /// In cgroup2, every folder above must hand the controllers down.
    fn delegate(&self, below: &str) -> io::Result<()> {
        let mut folder = self.mount.clone();
        for part in Path::new(below).components() {
            for controller in ["+cpu", "+memory", "+pids", "+cpuset", "+io"] {
                // A controller that the kernel lacks, or that is in use by processes here, is left out.
                let _ = std::fs::write(folder.join("cgroup.subtree_control"), controller);
            }
            folder.push(part);
            match std::fs::create_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes a pod's cgroup in every hierarchy, with what the runtime left below. Busy ones stay for the next try.
    ///
    /// # Errors
    /// The last folder that is still there.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let mut result = Ok(());
        for hierarchy in self.hierarchies() {
            if let Err(error) = remove_tree(&hierarchy.join(path.trim_start_matches('/'))) {
                result = Err(error);
            }
        }
        result
    }
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_tree(&entry.path())?;
    }
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(resources: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": "u1"},
            "spec": {"containers": [{"name": "a", "resources": resources}]}}))
        .expect("a pod")
    }

    #[test]
    fn pod_path_follows_the_quality_class() {
        let check = |parent: &str, resources: Value, expected: &str| {
            assert_eq!(pod_path(parent, &pod(resources)), expected);
        };
        let full = json!({"limits": {"cpu": "1", "memory": "1Mi"}});
        check("/skep-n1", json!({}), "/skep-n1/kubepods/besteffort/podu1");
        check("/", json!({"requests": {"cpu": "1"}}), "/kubepods/burstable/podu1");
        check("/skep-n1/", full, "/skep-n1/kubepods/podu1");
    }

    #[test]
    fn pod_limits_are_those_of_each_hierarchy() {
        let limited = pod(json!({"limits": {"cpu": "500m", "memory": "1Mi"}}));
        let text = |unified| {
            let values = pod_limits(&limited, unified);
            values.into_iter().map(|(h, file, value)| format!("{h}/{file}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(
            text(false),
            [
                "cpu/cpu.shares=512",
                "cpu/cpu.cfs_period_us=100000",
                "cpu/cpu.cfs_quota_us=50000",
                "memory/memory.limit_in_bytes=1048576"
            ]
        );
        assert_eq!(text(true), ["/cpu.weight=20", "/cpu.max=50000 100000", "/memory.max=1048576"]);
        let best_effort = pod_limits(&pod(json!({})), false);
        assert_eq!(best_effort, [("cpu", "cpu.shares", "2".to_owned())]);
    }

    #[test]
    fn remove_takes_what_is_below_and_may_be_repeated() {
        let root = tempfile::tempdir().expect("a folder");
        for hierarchy in ["cpu", "memory"] {
            std::fs::create_dir_all(root.path().join(hierarchy).join("n/podu/c1")).expect("a folder");
            std::fs::write(root.path().join(hierarchy).join("cgroup.procs"), "").expect("a file");
        }
        let cgroups = Cgroups::new(root.path());
        cgroups.remove("/n/podu").expect("removed");
        cgroups.remove("/n/podu").expect("removed twice");
        assert!(root.path().join("cpu/n").exists() && !root.path().join("cpu/n/podu").exists());
    }
}
