//! A pod's volumes and other files on the node: made before its containers, kept current, removed after them.
//!
//! Layout below the node's state folder, as upstream's kubelet has it:
//! `pods/UID/volumes/kubernetes.io~KIND/NAME`, `pods/UID/etc-hosts`, `pods/UID/containers/NAME/ATTEMPT`.
//! Owns files and mounts there; what is in the files comes from [`source`]. Volumes of storage drivers are not owned.

mod host_path;
pub mod mounter;
mod mounts;
pub mod source;
mod subpath;
mod writer;

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Pod, Volume};
use skep_runtime::cri;

use crate::Error;
use crate::cluster::Cluster;
use crate::spec::fields::PodFacts;
use crate::spec::{self, quantity};
use mounter::Mounter;
use source::Sources;

/// Volumes of the pods of this node.
#[derive(Clone)]
pub struct Volumes {
    pods: PathBuf,
    mounter: Arc<dyn Mounter>,
}

/// Volumes that are ready for containers.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// Path on the node by volume name.
    pub paths: HashMap<String, PathBuf>,
    /// When contents must be made anew, for tokens that expire.
    pub refresh_at: Option<Timestamp>,
}

impl Volumes {
    /// Volumes below the node's state folder.
    pub fn new(state: &Path, mounter: Arc<dyn Mounter>) -> Self {
        Self { pods: state.join("pods"), mounter }
    }

    /// The pod's folder.
    pub fn pod_folder(&self, uid: &str) -> PathBuf {
        self.pods.join(uid)
    }

    /// Uids of pods that have a folder here.
    pub fn known(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.pods) else { return Vec::new() };
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Makes what is missing and brings contents up to date.
    ///
    /// # Errors
    /// [`Error::Volume`] names the first volume that cannot be made.
    pub async fn prepare(
        &self,
        pod: &Pod,
        facts: &PodFacts,
        cluster: &dyn Cluster,
        sources: &mut Sources,
        now: Timestamp,
    ) -> Result<Prepared, Error> {
        let mut prepared = Prepared::default();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let fail = |message: String| Error::Volume { volume: volume.name.clone(), message };
            let (kind, memory) = match kind(volume) {
                Some(found) => found,
                None => {
                    if let Some(source) = &volume.host_path {
                        host_path::check(source).map_err(fail)?;
                        prepared.paths.insert(volume.name.clone(), PathBuf::from(&source.path));
                        continue;
                    }
                    return Err(fail("this kind of volume is not supported by this node".into()));
                }
            };
            let folder = self.pod_folder(spec::uid(pod)).join("volumes").join(kind).join(&volume.name);
            let size = volume.empty_dir.as_ref().and_then(size_limit);
            self.make_folder(pod, &folder, memory, size).await.map_err(fail)?;
            if volume.empty_dir.is_none() {
                let (payload, refresh) =
                    sources.payload(pod, volume, facts, cluster, now).await.map_err(fail)?;
                prepared.refresh_at = [prepared.refresh_at, refresh].into_iter().flatten().min();
                let (group, target) = (fs_group(pod), folder.clone());
                let written =
                    tokio::task::spawn_blocking(move || writer::write(&target, &payload, group, now)).await;
                written.map_err(|error| fail(error.to_string()))?.map_err(|error| fail(error.to_string()))?;
            }
            prepared.paths.insert(volume.name.clone(), folder);
        }
        Ok(prepared)
    }

    async fn make_folder(
        &self,
        pod: &Pod,
        folder: &Path,
        memory: bool,
        size: Option<i64>,
    ) -> Result<(), String> {
        let (folder, mounter, group) = (folder.to_owned(), self.mounter.clone(), fs_group(pod));
        let make = move || -> std::io::Result<()> {
            let fresh = !folder.exists();
            std::fs::create_dir_all(&folder)?;
            if memory && !mounter.is_mounted(&folder)? {
                mounter.mount_tmpfs(&folder, size)?;
            } else if !fresh {
                return Ok(());
            }
            let set_group_id = if group.is_some() { 0o2000 } else { 0 };
            if let Some(group) = group {
                std::os::unix::fs::chown(&folder, None, Some(group))?;
            }
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777 | set_group_id))
        };
        match tokio::task::spawn_blocking(make).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Writes the pod's `/etc/hosts`. Returns its path on the node.
    ///
    /// # Errors
    /// [`Error::File`].
    pub async fn write_hosts(&self, pod: &Pod, text: &str) -> Result<PathBuf, Error> {
        let path = self.pod_folder(spec::uid(pod)).join("etc-hosts");
        let fail = |source| Error::File { path: path.clone(), source };
        if tokio::fs::read_to_string(&path).await.is_ok_and(|old| old == text) {
            return Ok(path);
        }
        tokio::fs::create_dir_all(self.pod_folder(spec::uid(pod))).await.map_err(fail)?;
        // In place: containers have this very file mounted.
        tokio::fs::write(&path, text).await.map_err(fail)?;
        Ok(path)
    }

    /// The container's mounts: its volumes, `/etc/hosts`, and the file for its termination message.
    ///
    /// # Errors
    /// [`Error::Volume`] for a mount of a volume that does not exist or whose `subPath` cannot be reached;
    /// [`Error::File`].
    pub async fn mounts(
        &self,
        pod: &Pod,
        container: &Container,
        prepared: &Prepared,
        subpath: impl Fn(&str) -> String,
        hosts: &Path,
        attempt: u32,
    ) -> Result<Vec<cri::Mount>, Error> {
        let folder = self.pod_folder(spec::uid(pod));
        let mut list = Vec::new();
        for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let volume = prepared.paths.get(&mount.name).cloned();
            let Some(mut path) = volume else {
                return Err(Error::Volume { volume: mount.name.clone(), message: "no such volume".into() });
            };
            let below = match (&mount.sub_path, &mount.sub_path_expr) {
                (Some(below), _) if !below.is_empty() => Some(below.clone()),
                (_, Some(expression)) if !expression.is_empty() => Some(subpath(expression)),
                _ => None,
            };
            if let Some(below) = below {
                let place = folder.join("volume-subpaths").join(&mount.name).join(&container.name);
                path = self.bind_subpath(&mount.name, path, below, place.join(index.to_string())).await?;
            }
            list.push(mounts::volume(mount, &path));
        }
        let wants_hosts = !list.iter().any(|mount| mount.container_path == mounts::HOSTS);
        if wants_hosts {
            list.push(mounts::file(mounts::HOSTS, hosts, false));
        }
        let message = folder.join("containers").join(&container.name).join(attempt.to_string());
        make_message_file(&message).await?;
        let wanted = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
        let path = wanted.unwrap_or(spec::container::DEFAULT_TERMINATION_PATH);
        list.push(mounts::file(path, &message, false));
        Ok(list)
    }

    async fn bind_subpath(
        &self,
        volume: &str,
        root: PathBuf,
        below: String,
        place: PathBuf,
    ) -> Result<PathBuf, Error> {
        let mounter = self.mounter.clone();
        let target = place.clone();
        let bound =
            tokio::task::spawn_blocking(move || subpath::bind(&*mounter, &root, &below, &target)).await;
        let message = match bound {
            Ok(Ok(())) => return Ok(place),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(Error::Volume {
            volume: volume.to_owned(),
            message: format!("failed to prepare subPath: {message}"),
        })
    }

    /// Removes everything of the pod. What is mounted below is unmounted first; nothing is removed through a mount.
    ///
    /// # Errors
    /// [`Error::File`]; may be repeated.
    pub async fn remove(&self, uid: &str) -> Result<(), Error> {
        let (folder, mounter) = (self.pod_folder(uid), self.mounter.clone());
        let path = folder.clone();
        let remove = move || -> std::io::Result<()> {
            if !folder.exists() {
                return Ok(());
            }
            mounter.unmount_below(&folder)?;
            std::fs::remove_dir_all(&folder)
        };
        let result = tokio::task::spawn_blocking(remove).await.map_err(std::io::Error::other);
        result.flatten().map_err(|source| Error::File { path, source })
    }
}

/// Folder for the kind of volume, and whether it is kept in memory. `None` for those that need no folder.
fn kind(volume: &Volume) -> Option<(&'static str, bool)> {
    if let Some(source) = &volume.empty_dir {
        return Some(("kubernetes.io~empty-dir", source.medium.as_deref() == Some("Memory")));
    }
    if volume.config_map.is_some() {
        return Some(("kubernetes.io~configmap", false));
    }
    if volume.secret.is_some() {
        return Some(("kubernetes.io~secret", true));
    }
    if volume.projected.is_some() {
        return Some(("kubernetes.io~projected", true));
    }
    volume.downward_api.is_some().then_some(("kubernetes.io~downward-api", false))
}

fn size_limit(source: &EmptyDirVolumeSource) -> Option<i64> {
    source.size_limit.as_ref().and_then(quantity::units).filter(|size| *size > 0)
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let security = pod.spec.as_ref()?.security_context.as_ref()?;
    security.fs_group.and_then(|group| u32::try_from(group).ok())
}

async fn make_message_file(path: &Path) -> Result<(), Error> {
    let fail = |source| Error::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(fail)?;
    }
    tokio::fs::write(path, b"").await.map_err(fail)?;
    // The container may run as any user.
    let mode = std::fs::Permissions::from_mode(0o666);
    tokio::fs::set_permissions(path, mode).await.map_err(fail)
}

#[cfg(test)]
mod tests;
