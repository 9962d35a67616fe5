//! Removal of what is left on the node of a pod that the API does not know any more.

use std::collections::HashMap;
use std::time::Duration;

use skep_runtime::cri;

use crate::spec::container::GRACE;
use crate::spec::sandbox::{CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID};
use crate::worker::Context;
use crate::{Error, logs};

/// Ends its containers with the grace they were made with, and removes everything.
pub(super) async fn remove(context: &Context, uid: &str) -> Result<(), Error> {
    tracing::info!(uid, "removing what is left of a pod that the API does not know");
    let label_selector = HashMap::from([(POD_UID.to_owned(), uid.to_owned())]);
    let filter = cri::ContainerFilter { label_selector: label_selector.clone(), ..Default::default() };
    let containers = context.runtime.containers(Some(filter)).await?;
    let running = cri::ContainerState::ContainerRunning as i32;
    let stops = containers.iter().filter(|container| container.state == running).map(|container| {
        let seconds = container.annotations.get(GRACE).and_then(|text| text.parse().ok()).unwrap_or(30);
        context.runtime.stop_container(&container.id, Duration::from_secs(seconds))
    });
    for stopped in futures::future::join_all(stops).await {
        stopped?;
    }
    for container in &containers {
        let label = |key: &str| container.labels.get(key).map(String::as_str).unwrap_or_default();
        let link = format!(
            "{}_{}_{}-{}.log",
            label(POD_NAME),
            label(POD_NAMESPACE),
            label(CONTAINER_NAME),
            container.id
        );
        // It may never have been made.
        let _ = std::fs::remove_file(context.config.link_dir.join(link));
    }
    let filter = cri::PodSandboxFilter { label_selector, ..Default::default() };
    for sandbox in context.runtime.sandboxes(Some(filter)).await? {
        context.runtime.stop_sandbox(&sandbox.id).await?;
        context.runtime.remove_sandbox(&sandbox.id).await?;
    }
    context.volumes.remove(uid).await?;
    remove_logs(context, uid);
    remove_cgroups(context, uid);
    Ok(())
}

fn remove_logs(context: &Context, uid: &str) {
    let Ok(entries) = std::fs::read_dir(&context.config.log_dir) else { return };
    for entry in entries.flatten() {
        if logs::uid_of_folder(&entry.file_name().to_string_lossy()) == Some(uid)
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::debug!(uid, %error, "logs of an orphan are still there");
        }
    }
}

fn remove_cgroups(context: &Context, uid: &str) {
    let parent = context.config.cgroup_parent.trim_end_matches('/');
    // Its class is not known any more.
    for class in ["", "/burstable", "/besteffort"] {
        let path = format!("{parent}/kubepods{class}/pod{uid}");
        if let Err(error) = context.cgroups.remove(&path) {
            tracing::debug!(path, %error, "a cgroup of an orphan is still there");
        }
    }
}
