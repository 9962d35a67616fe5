//! Containers' logs for clients: which file, from where, and following it as it grows.
//!
//! The runtime writes the files (CRI log format), the agent rotates them; both are only read here.

mod ending;
mod file;
mod follow;
mod line;
mod options;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use skep_runtime::{Runtime, cri};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::containers;
use crate::refusal::Refusal;

pub(crate) use options::{LogOptions, parse as options};

/// Pieces of a log that wait for a slow client.
const PIECES: usize = 8;

/// Opens a container's log and reads it in a task of its own, until its end or the reader's.
///
/// # Errors
/// 404 and 400 if there is no such container or log (yet).
pub(crate) async fn open(
    runtime: &Arc<dyn Runtime>,
    log_dir: &Path,
    pod: &Pod,
    container: &str,
    options: LogOptions,
    cancel: CancellationToken,
) -> Result<mpsc::Receiver<Bytes>, Refusal> {
    let run = select(runtime.as_ref(), log_dir, pod, container, options.previous).await?;
    let file = file::LogFile::open(&run.path).await.map_err(|error| {
        tracing::debug!(path = %run.path.display(), %error, "a log cannot be opened");
        Refusal::not_found(format!("the log of container {container:?} cannot be read: {error}"))
    })?;
    let (sender, receiver) = mpsc::channel(PIECES);
    let runtime = Arc::clone(runtime);
    tokio::spawn(async move {
        let ending = async {
            if let Some(id) = run.id {
                ending::wait(runtime, id).await;
            }
        };
        let copy = follow::copy(file, options, ending, sender);
        if let Some(Err(error)) = cancel.run_until_cancelled(copy).await {
            tracing::debug!(path = %run.path.display(), %error, "reading a log failed");
        }
    });
    Ok(receiver)
}

/// One run of a container and its log.
struct Run {
    /// Id in the runtime; none for one that the runtime has forgotten.
    id: Option<String>,
    path: PathBuf,
}

async fn select(
    runtime: &dyn Runtime,
    log_dir: &Path,
    pod: &Pod,
    container: &str,
    previous: bool,
) -> Result<Run, Refusal> {
    let created = cri::ContainerState::ContainerCreated as i32;
    let mut runs = containers::runs(runtime, pod, container).await?;
    runs.retain(|run| run.state != created);
    let Some(latest) = runs.first() else { return Err(absent(pod, container, previous)) };
    let exited = latest.state == cri::ContainerState::ContainerExited as i32;
    let wanted = match previous {
        false => Some(latest),
        // One that waits for its next run is reported with its latest as the previous.
        true if exited && waits(pod, container) => Some(latest),
        true => runs.get(1),
    };
    if let Some(run) = wanted {
        return Ok(Run { path: path(runtime, log_dir, pod, &run.id).await?, id: Some(run.id.clone()) });
    }
    // The runtime has forgotten the run before; its file may still be there.
    match path_before(&path(runtime, log_dir, pod, &latest.id).await?) {
        Some(path) if tokio::fs::try_exists(&path).await.unwrap_or(false) => Ok(Run { id: None, path }),
        _ => Err(absent(pod, container, true)),
    }
}

/// Whether the container is reported as waiting for its next run.
fn waits(pod: &Pod, container: &str) -> bool {
    let state = containers::status(pod, container).and_then(|status| status.state.as_ref());
    state.is_some_and(|state| state.waiting.is_some())
}

fn absent(pod: &Pod, container: &str, previous: bool) -> Refusal {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if previous {
        let message = format!("previous terminated container {container:?} in pod {name:?} not found");
        return Refusal::bad_request(message);
    }
    let state = containers::status(pod, container).and_then(|status| status.state.as_ref());
    let reason = state.and_then(|state| state.waiting.as_ref()).and_then(|waiting| waiting.reason.as_deref());
    let why = match reason {
        Some(reason @ ("ErrImagePull" | "ImagePullBackOff")) => {
            format!("trying and failing to pull image ({reason})")
        }
        reason => reason.unwrap_or("ContainerCreating").to_owned(),
    };
    Refusal::bad_request(format!("container {container:?} in pod {name:?} is waiting to start: {why}"))
}

/// Path of a run's log. containerd answers an absolute one.
async fn path(runtime: &dyn Runtime, log_dir: &Path, pod: &Pod, id: &str) -> Result<PathBuf, Refusal> {
    let log_path = runtime.container_status(id).await?.log_path;
    if log_path.is_empty() {
        return Err(Refusal::not_found("the runtime keeps no log of this container"));
    }
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let meta = &pod.metadata;
    let folder = format!("{}_{}_{}", part(&meta.namespace), part(&meta.name), part(&meta.uid));
    Ok(log_dir.join(folder).join(log_path))
}

/// `3.log` -> `2.log`.
fn path_before(path: &Path) -> Option<PathBuf> {
    let run: u32 = path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()?;
    Some(path.with_file_name(format!("{}.log", run.checked_sub(1)?)))
}
