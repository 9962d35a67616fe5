//! The container runtime as the node sees it: one trait, its implementation over CRI, and a fake.
//!
//! Owns the calls (CRI v1), the runtime's events and the translation of their errors. It does not own any
//! policy: what should run, when to restart, which image to pull is decided in `skep-pods`.
//!
//! Messages are CRI's own ([`cri`]); they are plain data and complete, a second set would only lag behind.

pub mod cri_client;
pub mod events;
pub mod fake;
mod info;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

pub use cri_client::CriRuntime;
pub use events::{Event, EventKind};
pub use fake::FakeRuntime;
/// The messages of CRI v1.
pub use k8s_cri::v1 as cri;

/// What can go wrong in a call to the runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket cannot be reached, or the connection broke.
    #[error("container runtime at {socket} cannot be reached")]
    Connect {
        /// Path of the runtime's socket.
        socket: String,
        /// What the transport said.
        #[source]
        source: tonic::transport::Error,
    },
    /// The runtime does not know the sandbox, container or image.
    #[error("{call}: not found: {message}")]
    NotFound {
        /// Name of the CRI call.
        call: &'static str,
        /// The runtime's words.
        message: String,
    },
    /// A call did not end in its time.
    #[error("{call}: deadline exceeded")]
    Timeout {
        /// Name of the CRI call.
        call: &'static str,
    },
    /// The runtime refused the call.
    #[error("{call}: {message}")]
    Call {
        /// Name of the CRI call.
        call: &'static str,
        /// gRPC code, for those that tell apart what may be tried again.
        code: tonic::Code,
        /// The runtime's words.
        message: String,
    },
}

impl Error {
    /// Whether the object named in the call does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::NotFound { .. })
    }

    pub(crate) fn from_status(call: &'static str, status: tonic::Status) -> Self {
        match status.code() {
            tonic::Code::NotFound => Error::NotFound { call, message: status.message().to_owned() },
            tonic::Code::DeadlineExceeded => Error::Timeout { call },
            code => Error::Call { call, code, message: status.message().to_owned() },
        }
    }
}

/// Result of a call to the runtime.
pub type Result<T> = std::result::Result<T, Error>;

/// Which ends of a process's streams an exec or attach session uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; not with a terminal.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

/// A container runtime (CRI v1). Every call may be repeated; stopping or removing what is gone succeeds.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Name and version of the runtime.
    async fn version(&self) -> Result<cri::VersionResponse>;
    /// Whether runtime and network are ready, as the runtime sees it.
    async fn status(&self) -> Result<cri::RuntimeStatus>;

    /// Pulls an image and returns its reference (a digest).
    async fn pull_image(&self, image: &str, auth: Option<cri::AuthConfig>) -> Result<String>;
    /// The image, or `None` if it is not on the node.
    async fn image_status(&self, image: &str) -> Result<Option<cri::Image>>;
    /// All images on the node.
    async fn images(&self) -> Result<Vec<cri::Image>>;
    /// Removes an image.
    async fn remove_image(&self, image: &str) -> Result<()>;
    /// Usage of the file system that holds the images.
    async fn image_fs_info(&self) -> Result<cri::ImageFsInfoResponse>;

    /// Makes and starts a sandbox, its network included, and returns its id.
    async fn run_sandbox(&self, config: cri::PodSandboxConfig, handler: &str) -> Result<String>;
    /// Ends what runs in the sandbox and takes its network down.
    async fn stop_sandbox(&self, id: &str) -> Result<()>;
    /// Removes the sandbox and all its containers.
    async fn remove_sandbox(&self, id: &str) -> Result<()>;
    /// The sandbox's state and addresses.
    async fn sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus>;
    /// Sandboxes that match.
    async fn sandboxes(&self, filter: Option<cri::PodSandboxFilter>) -> Result<Vec<cri::PodSandbox>>;
    /// Path of the sandbox's network namespace, `None` for one on the node's network.
    async fn sandbox_netns(&self, id: &str) -> Result<Option<PathBuf>>;

    /// Makes a container and returns its id.
    async fn create_container(
        &self,
        sandbox: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<String>;
    /// Starts a container that was made.
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Asks the container to end, and kills it after `grace`.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()>;
    /// Removes a container; a running one is killed.
    async fn remove_container(&self, id: &str) -> Result<()>;
    /// Containers that match.
    async fn containers(&self, filter: Option<cri::ContainerFilter>) -> Result<Vec<cri::Container>>;
    /// The container's state in full.
    async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus>;
    /// Changes the limits of a container.
    async fn update_container(&self, id: &str, resources: cri::LinuxContainerResources) -> Result<()>;
    /// Usage of the containers that match.
    async fn container_stats(
        &self,
        filter: Option<cri::ContainerStatsFilter>,
    ) -> Result<Vec<cri::ContainerStats>>;
    /// Opens the container's log file anew, after the old one was moved away.
    async fn reopen_log(&self, id: &str) -> Result<()>;

    /// Runs a command in a container to its end. [`Error::Timeout`] if it takes longer.
    async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<cri::ExecSyncResponse>;
    /// Address of a stream to a new command in the container.
    async fn exec_url(&self, id: &str, command: Vec<String>, streams: Streams) -> Result<String>;
    /// Address of a stream to the container's main process.
    async fn attach_url(&self, id: &str, streams: Streams) -> Result<String>;
    /// Address of a stream to ports inside the sandbox.
    async fn port_forward_url(&self, sandbox: &str, ports: Vec<u16>) -> Result<String>;

    /// What happens from now on. What an event says is seen by calls made after it. The stream ends when the connection to the runtime breaks; whoever reads it
    /// lists afresh and subscribes again.
    async fn events(&self) -> Result<BoxStream<'static, Event>>;
}
