//! Finds what a request names: the pod among the node's pods, its runs of a container and its sandbox in the runtime.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use skep_runtime::{Runtime, cri};

use crate::PodSource;
use crate::refusal::Refusal;

const UID: &str = "io.kubernetes.pod.uid";
const CONTAINER: &str = "io.kubernetes.container.name";

/// The pod of this name, and of this uid if one is given.
pub(crate) fn pod(
    source: &dyn PodSource,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<Arc<Pod>, Refusal> {
    let wanted = |pod: &Arc<Pod>| {
        pod.metadata.name.as_deref() == Some(name)
            && pod.metadata.namespace.as_deref() == Some(namespace)
            && uid.is_none_or(|uid| pod.metadata.uid.as_deref() == Some(uid))
    };
    // Of two with one name the one that stays is meant.
    let found =
        source.pods().into_iter().filter(wanted).min_by_key(|pod| pod.metadata.deletion_timestamp.is_some());
    found.ok_or_else(|| Refusal::not_found(format!("pod {name:?} not found in namespace {namespace:?}")))
}

/// Whether the pod's spec has a container of this name, of whichever sort.
pub(crate) fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.containers.iter().any(|container| container.name == name)
        || spec.init_containers.iter().flatten().any(|container| container.name == name)
        || spec.ephemeral_containers.iter().flatten().any(|container| container.name == name)
}

/// The reported status of a container.
pub(crate) fn status<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all =
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    all.into_iter().flatten().flatten().find(|status| status.name == name)
}

/// Runs of a container that the runtime knows, the newest first.
pub(crate) async fn runs(
    runtime: &dyn Runtime,
    pod: &Pod,
    container: &str,
) -> Result<Vec<cri::Container>, Refusal> {
    if !has_container(pod, container) {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        return Err(Refusal::not_found(format!("container {container:?} not found in pod {name:?}")));
    }
    let mut label_selector = HashMap::from([(CONTAINER.to_owned(), container.to_owned())]);
    label_selector.insert(UID.to_owned(), pod.metadata.uid.clone().unwrap_or_default());
    let filter = cri::ContainerFilter { label_selector, ..Default::default() };
    let mut runs = runtime.containers(Some(filter)).await?;
    runs.sort_by_key(|run| std::cmp::Reverse((run.created_at, attempt(run))));
    Ok(runs)
}

fn attempt(run: &cri::Container) -> u32 {
    run.metadata.as_ref().map_or(0, |metadata| metadata.attempt)
}

/// Id of the container's run that is running.
pub(crate) async fn running(runtime: &dyn Runtime, pod: &Pod, container: &str) -> Result<String, Refusal> {
    let running = cri::ContainerState::ContainerRunning as i32;
    let run = runs(runtime, pod, container).await?.into_iter().find(|run| run.state == running);
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    run.map(|run| run.id).ok_or_else(|| {
        Refusal::bad_request(format!("container {container:?} in pod {name:?} is not running"))
    })
}

/// Id of the pod's sandbox.
pub(crate) async fn sandbox(runtime: &dyn Runtime, pod: &Pod) -> Result<String, Refusal> {
    let label_selector = HashMap::from([(UID.to_owned(), pod.metadata.uid.clone().unwrap_or_default())]);
    let state = cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxReady as i32 };
    let filter = cri::PodSandboxFilter { label_selector, state: Some(state), ..Default::default() };
    let newest = runtime.sandboxes(Some(filter)).await?.into_iter().max_by_key(|sandbox| sandbox.created_at);
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    newest
        .map(|sandbox| sandbox.id)
        .ok_or_else(|| Refusal::bad_request(format!("pod {name:?} is not running")))
}
