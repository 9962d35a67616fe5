//! What the runtime knows of one pod, in the terms that planning needs.
//!
//! Owns the reading of sandboxes, containers and termination messages. Owns no decision.

use std::collections::HashMap;
use std::path::Path;

use jiff::Timestamp;
use skep_runtime::{Runtime, cri};

use crate::Error;
use crate::spec::container::{DEFAULT_TERMINATION_PATH, HASH, TERMINATION_PATH, TERMINATION_POLICY};
use crate::spec::sandbox::{CONTAINER_NAME, POD_UID};

/// Most bytes of a termination message (Kubernetes API convention).
const MESSAGE_MAX: u64 = 4096;
/// Most bytes taken from a log in its place.
const LOG_MAX: u64 = 2048;

/// A sandbox of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Id in the runtime.
    pub id: String,
    /// Number of sandboxes the pod had before it.
    pub attempt: u32,
    /// Whether it runs.
    pub ready: bool,
    /// Its addresses, empty for the node's network.
    pub ips: Vec<String>,
}

/// How far a container has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, not started.
    Created,
    /// Runs.
    Running {
        /// Since when.
        started_at: Timestamp,
    },
    /// Ended.
    Exited {
        /// When it was started. The epoch if it never was.
        started_at: Timestamp,
        /// When it ended.
        finished_at: Timestamp,
        /// Its exit code, or 128 and the signal.
        code: i32,
        /// One word of the runtime's, such as `OOMKilled`.
        reason: String,
        /// What it left in its termination message.
        message: String,
    },
    /// The runtime lost track of it.
    Unknown,
}

/// One run of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Id in the runtime.
    pub id: String,
    /// Container's name in the pod.
    pub name: String,
    /// Id of its sandbox.
    pub sandbox: String,
    /// Number of runs before it.
    pub attempt: u32,
    /// How far it has come.
    pub state: State,
    /// Name of its image.
    pub image: String,
    /// Digest of its image.
    pub image_ref: String,
    /// Hash of the spec it was made from, see [`crate::spec::container::hash`].
    pub hash: Option<u32>,
    created_at: i64,
}

impl Instance {
    /// Whether its process runs or may run.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    #[cfg(test)]
    pub(crate) fn for_test(name: &str, attempt: u32, state: State) -> Self {
        Self {
            id: format!("{name}-{attempt}"),
            name: name.to_owned(),
            sandbox: "s".to_owned(),
            attempt,
            state,
            image: String::new(),
            image_ref: String::new(),
            hash: None,
            created_at: i64::from(attempt),
        }
    }

    /// Whether its process ended.
    pub fn is_exited(&self) -> bool {
        matches!(self.state, State::Exited { .. })
    }
}

/// Everything the runtime has of one pod, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its sandboxes.
    pub sandboxes: Vec<Sandbox>,
    /// The runs of its containers.
    pub instances: Vec<Instance>,
}

impl Observed {
    /// The sandbox in which containers run: the newest, if it is ready.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// All runs of a container, newest first.
    pub fn runs<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Instance> {
        self.instances.iter().filter(move |instance| instance.name == name)
    }

    /// The newest run of a container.
    pub fn newest(&self, name: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.name == name)
    }

    /// The newest run of a container in the sandbox given.
    pub fn newest_in(&self, sandbox: &str, name: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.name == name && instance.sandbox == sandbox)
    }

    /// Whether any process of the pod's containers runs.
    pub fn any_running(&self) -> bool {
        self.instances.iter().any(Instance::is_running)
    }
}

/// What need not be asked for twice: addresses of sandboxes, states of containers that ended.
#[derive(Debug, Default)]
pub struct Cache {
    addresses: HashMap<String, Vec<String>>,
    ended: HashMap<String, Instance>,
}

/// Reads the pod's state from the runtime. `logs` is the pod's log folder.
///
/// # Errors
/// [`Error::Runtime`] if a call fails; what vanishes between two calls is left out.
pub async fn observe(
    runtime: &dyn Runtime,
    uid: &str,
    logs: &Path,
    cache: &mut Cache,
) -> Result<Observed, Error> {
    let label_selector = HashMap::from([(POD_UID.to_owned(), uid.to_owned())]);
    let filter = cri::PodSandboxFilter { label_selector: label_selector.clone(), ..Default::default() };
    let mut listed = runtime.sandboxes(Some(filter)).await?;
    listed
        .sort_by_key(|item| std::cmp::Reverse((item.created_at, item.metadata.as_ref().map(|m| m.attempt))));
    let mut observed = Observed::default();
    for item in listed {
        let ready = item.state == cri::PodSandboxState::SandboxReady as i32;
        let ips = if ready { addresses(runtime, &item.id, cache).await? } else { Vec::new() };
        let attempt = item.metadata.map_or(0, |metadata| metadata.attempt);
        observed.sandboxes.push(Sandbox { id: item.id, attempt, ready, ips });
    }
    let filter = cri::ContainerFilter { label_selector, ..Default::default() };
    for item in runtime.containers(Some(filter)).await? {
        observed.instances.extend(instance(runtime, item, logs, cache).await?);
    }
    observed.instances.sort_by_key(|instance| std::cmp::Reverse((instance.created_at, instance.attempt)));
    let known = |id: &String| observed.instances.iter().any(|instance| instance.id == *id);
    cache.ended.retain(|id, _| known(id));
    cache.addresses.retain(|id, _| observed.sandboxes.iter().any(|sandbox| sandbox.id == *id));
    Ok(observed)
}

async fn addresses(runtime: &dyn Runtime, id: &str, cache: &mut Cache) -> Result<Vec<String>, Error> {
    if let Some(known) = cache.addresses.get(id) {
        return Ok(known.clone());
    }
    let status = match runtime.sandbox_status(id).await {
        Ok(status) => status,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let network = status.network.unwrap_or_default();
    let all = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|ip| ip.ip));
    let ips: Vec<String> = all.filter(|ip| !ip.is_empty()).collect();
    if !ips.is_empty() {
        cache.addresses.insert(id.to_owned(), ips.clone());
    }
    Ok(ips)
}

async fn instance(
    runtime: &dyn Runtime,
    item: cri::Container,
    logs: &Path,
    cache: &mut Cache,
) -> Result<Option<Instance>, Error> {
    if let Some(known) = cache.ended.get(&item.id) {
        return Ok(Some(known.clone()));
    }
    let status = match runtime.container_status(&item.id).await {
        Ok(status) => status,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some(name) = item.labels.get(CONTAINER_NAME).cloned() else { return Ok(None) };
    let attempt = item.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
    let state = match cri::ContainerState::try_from(status.state) {
        Ok(cri::ContainerState::ContainerCreated) => State::Created,
        Ok(cri::ContainerState::ContainerRunning) => State::Running { started_at: time(status.started_at) },
        Ok(cri::ContainerState::ContainerExited) => exited(&status, logs, &name, attempt).await,
        _ => State::Unknown,
    };
    let instance = Instance {
        id: item.id,
        sandbox: item.pod_sandbox_id,
        attempt,
        state,
        image: status.image.map(|image| image.image).unwrap_or_default(),
        image_ref: status.image_ref,
        hash: item.annotations.get(HASH).and_then(|text| u32::from_str_radix(text, 16).ok()),
        created_at: status.created_at,
        name,
    };
    if instance.is_exited() {
        cache.ended.insert(instance.id.clone(), instance.clone());
    }
    Ok(Some(instance))
}

async fn exited(status: &cri::ContainerStatus, logs: &Path, name: &str, attempt: u32) -> State {
    let mut message = status.message.clone();
    let policy = status.annotations.get(TERMINATION_POLICY).map(String::as_str);
    let path = status.annotations.get(TERMINATION_PATH).map_or(DEFAULT_TERMINATION_PATH, String::as_str);
    if let Some(mount) = status.mounts.iter().find(|mount| mount.container_path == path) {
        let left = read_end(Path::new(&mount.host_path), MESSAGE_MAX).await.unwrap_or_default();
        if !left.is_empty() {
            message = left;
        }
    }
    if message.is_empty() && policy == Some("FallbackToLogsOnError") && status.exit_code != 0 {
        let log = logs.join(crate::spec::container::log_path(name, attempt));
        message = crate::logs::last_lines(&read_end(&log, LOG_MAX * 4).await.unwrap_or_default(), LOG_MAX);
    }
    let fallback = if status.exit_code == 0 { "Completed" } else { "Error" };
    let reason = if status.reason.is_empty() { fallback } else { &status.reason };
    State::Exited {
        started_at: time(status.started_at),
        finished_at: time(status.finished_at),
        code: status.exit_code,
        reason: reason.to_owned(),
        message,
    }
}

/// The last `max` bytes of a file, as text.
async fn read_end(path: &Path, max: u64) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncSeekExt};
    let mut file = tokio::fs::File::open(path).await?;
    let length = file.metadata().await?.len();
    file.seek(std::io::SeekFrom::Start(length.saturating_sub(max))).await?;
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}
