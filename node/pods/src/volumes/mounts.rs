//! Mounts in the runtime's terms.

use std::path::Path;

use k8s_openapi::api::core::v1::VolumeMount;
use skep_runtime::cri::{Mount, MountPropagation};

/// Where the pod's hosts file goes.
pub(super) const HOSTS: &str = "/etc/hosts";

/// A volume's mount. `path` is its place on the node.
pub(super) fn volume(mount: &VolumeMount, path: &Path) -> Mount {
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        _ => MountPropagation::PropagationPrivate,
    };
    let inside = &mount.mount_path;
    Mount {
        // The API takes paths relative to the root too.
        container_path: if inside.starts_with('/') { inside.clone() } else { format!("/{inside}") },
        host_path: path.display().to_string(),
        readonly: mount.read_only == Some(true),
        propagation: propagation as i32,
        ..Mount::default()
    }
}

/// A single file's mount.
pub(super) fn file(inside: &str, path: &Path, readonly: bool) -> Mount {
    Mount {
        container_path: inside.to_owned(),
        host_path: path.display().to_string(),
        readonly,
        ..Mount::default()
    }
}
