//! [`Runtime`] over CRI v1 and containerd's events service, on one Unix socket.
//!
//! The connection is made lazily and again after it broke, so that a runtime that restarts is found again.
//! Owns deadlines; owns no retries.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use containerd_client::services::v1::{SubscribeRequest, events_client::EventsClient};
use futures::StreamExt;
use futures::stream::BoxStream;
use hyper_util::rt::TokioIo;
use k8s_cri::v1 as cri;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{Error, Event, EventKind, Result, Runtime, Streams, events, info};

/// Ordinary calls; those that do more say so.
const CALL: Duration = Duration::from_secs(60);
/// A sandbox needs its network.
const SANDBOX: Duration = Duration::from_secs(240);
/// An image may be large. A pull that makes no progress is ended by the runtime.
const PULL: Duration = Duration::from_secs(3600);
/// What a call with its own deadline is given on top.
const SLACK: Duration = Duration::from_secs(30);
/// Waits between looks for an exit that CRI does not show yet; five seconds together.
const EXIT_SHOWS: [Duration; 8] = [
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(60),
    Duration::from_millis(150),
    Duration::from_millis(350),
    Duration::from_millis(800),
    Duration::from_millis(1600),
    Duration::from_millis(2000),
];
/// Messages carry lists of all containers, and up to 16 MB of a command's output.
const MESSAGE: usize = 32 << 20;

/// containerd behind its socket.
#[derive(Clone, Debug)]
pub struct CriRuntime {
    channel: Channel,
}

impl CriRuntime {
    /// Connects to the socket. The runtime must answer now; later breaks heal by themselves.
    ///
    /// # Errors
    /// [`Error::Connect`] if nothing answers.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let path = socket.to_owned();
        let fail = |source| Error::Connect { socket: socket.display().to_string(), source };
        // The address is not used: the connector dials the socket.
        let endpoint = Endpoint::try_from("http://runtime.invalid").map_err(fail)?;
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        let channel = endpoint.connect_with_connector(connector).await.map_err(fail)?;
        Ok(Self { channel })
    }

    fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE)
    }

    fn image(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE)
    }
}

/// A request with a deadline, which the runtime is told of and which is enforced here too.
fn timed<T>(message: T, deadline: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(deadline);
    request
}

async fn within<T>(
    call: &'static str,
    deadline: Duration,
    answer: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    match tokio::time::timeout(deadline + Duration::from_secs(1), answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Error::from_status(call, status)),
        Err(_) => Err(Error::Timeout { call }),
    }
}

/// Stopping or removing what does not exist has reached its aim.
fn gone_is_fine<T: Default>(result: Result<T>) -> Result<()> {
    match result {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

fn image_spec(image: &str) -> Option<cri::ImageSpec> {
    Some(cri::ImageSpec {
        image: image.to_owned(),
        user_specified_image: image.to_owned(),
        ..Default::default()
    })
}

fn missing(call: &'static str) -> Error {
    Error::Call { call, code: tonic::Code::Internal, message: "the answer is empty".into() }
}

#[async_trait]
impl Runtime for CriRuntime {
    async fn version(&self) -> Result<cri::VersionResponse> {
        let request = timed(cri::VersionRequest { version: "v1".into() }, CALL);
        within("Version", CALL, self.runtime().version(request)).await
    }

    async fn status(&self) -> Result<cri::RuntimeStatus> {
        let request = timed(cri::StatusRequest { verbose: false }, CALL);
        let answer = within("Status", CALL, self.runtime().status(request)).await?;
        answer.status.ok_or_else(|| missing("Status"))
    }

    async fn pull_image(&self, image: &str, auth: Option<cri::AuthConfig>) -> Result<String> {
        let message = cri::PullImageRequest { image: image_spec(image), auth, sandbox_config: None };
        let answer = within("PullImage", PULL, self.image().pull_image(timed(message, PULL))).await?;
        Ok(answer.image_ref)
    }

    async fn image_status(&self, image: &str) -> Result<Option<cri::Image>> {
        let message = cri::ImageStatusRequest { image: image_spec(image), verbose: false };
        let answer = within("ImageStatus", CALL, self.image().image_status(timed(message, CALL))).await?;
        Ok(answer.image)
    }

    async fn images(&self) -> Result<Vec<cri::Image>> {
        let request = timed(cri::ListImagesRequest { filter: None }, CALL);
        Ok(within("ListImages", CALL, self.image().list_images(request)).await?.images)
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        let request = timed(cri::RemoveImageRequest { image: image_spec(image) }, CALL);
        gone_is_fine(within("RemoveImage", CALL, self.image().remove_image(request)).await)
    }

    async fn image_fs_info(&self) -> Result<cri::ImageFsInfoResponse> {
        within("ImageFsInfo", CALL, self.image().image_fs_info(timed(cri::ImageFsInfoRequest {}, CALL))).await
    }

    async fn run_sandbox(&self, config: cri::PodSandboxConfig, handler: &str) -> Result<String> {
        let message = cri::RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_owned() };
        let request = timed(message, SANDBOX);
        Ok(within("RunPodSandbox", SANDBOX, self.runtime().run_pod_sandbox(request)).await?.pod_sandbox_id)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let request = timed(cri::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() }, SANDBOX);
        gone_is_fine(within("StopPodSandbox", SANDBOX, self.runtime().stop_pod_sandbox(request)).await)
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let request = timed(cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() }, SANDBOX);
        gone_is_fine(within("RemovePodSandbox", SANDBOX, self.runtime().remove_pod_sandbox(request)).await)
    }

    async fn sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus> {
        let message = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let request = timed(message, CALL);
        let answer = within("PodSandboxStatus", CALL, self.runtime().pod_sandbox_status(request)).await?;
        answer.status.ok_or_else(|| missing("PodSandboxStatus"))
    }

    async fn sandboxes(&self, filter: Option<cri::PodSandboxFilter>) -> Result<Vec<cri::PodSandbox>> {
        let request = timed(cri::ListPodSandboxRequest { filter }, CALL);
        Ok(within("ListPodSandbox", CALL, self.runtime().list_pod_sandbox(request)).await?.items)
    }

    async fn sandbox_netns(&self, id: &str) -> Result<Option<PathBuf>> {
        let message = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
        let request = timed(message, CALL);
        let answer = within("PodSandboxStatus", CALL, self.runtime().pod_sandbox_status(request)).await?;
        Ok(info::network_namespace(&answer.info))
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<String> {
        let message = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        let request = timed(message, SANDBOX);
        Ok(within("CreateContainer", SANDBOX, self.runtime().create_container(request)).await?.container_id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let request = timed(cri::StartContainerRequest { container_id: id.to_owned() }, SANDBOX);
        within("StartContainer", SANDBOX, self.runtime().start_container(request)).await.map(drop)
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let deadline = grace + SLACK;
        let timeout = i64::try_from(grace.as_secs()).unwrap_or(i64::MAX);
        let message = cri::StopContainerRequest { container_id: id.to_owned(), timeout };
        let mut client = self.runtime();
        gone_is_fine(within("StopContainer", deadline, client.stop_container(timed(message, deadline))).await)
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let request = timed(cri::RemoveContainerRequest { container_id: id.to_owned() }, CALL);
        gone_is_fine(within("RemoveContainer", CALL, self.runtime().remove_container(request)).await)
    }

    async fn containers(&self, filter: Option<cri::ContainerFilter>) -> Result<Vec<cri::Container>> {
        let request = timed(cri::ListContainersRequest { filter }, CALL);
        Ok(within("ListContainers", CALL, self.runtime().list_containers(request)).await?.containers)
    }

    async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus> {
        let message = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let request = timed(message, CALL);
        let answer = within("ContainerStatus", CALL, self.runtime().container_status(request)).await?;
        answer.status.ok_or_else(|| missing("ContainerStatus"))
    }

    async fn update_container(&self, id: &str, resources: cri::LinuxContainerResources) -> Result<()> {
        let message = cri::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(resources),
            ..Default::default()
        };
        let request = timed(message, CALL);
        let mut client = self.runtime();
        within("UpdateContainerResources", CALL, client.update_container_resources(request)).await.map(drop)
    }

    async fn container_stats(
        &self,
        filter: Option<cri::ContainerStatsFilter>,
    ) -> Result<Vec<cri::ContainerStats>> {
        let request = timed(cri::ListContainerStatsRequest { filter }, CALL);
        Ok(within("ListContainerStats", CALL, self.runtime().list_container_stats(request)).await?.stats)
    }

    async fn reopen_log(&self, id: &str) -> Result<()> {
        let request = timed(cri::ReopenContainerLogRequest { container_id: id.to_owned() }, CALL);
        within("ReopenContainerLog", CALL, self.runtime().reopen_container_log(request)).await.map(drop)
    }

    async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<cri::ExecSyncResponse> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX).max(1);
        let message = cri::ExecSyncRequest { container_id: id.to_owned(), cmd: command, timeout: seconds };
        let deadline = timeout + SLACK;
        within("ExecSync", deadline, self.runtime().exec_sync(timed(message, deadline))).await
    }

    async fn exec_url(&self, id: &str, command: Vec<String>, streams: Streams) -> Result<String> {
        let message = cri::ExecRequest {
            container_id: id.to_owned(),
            cmd: command,
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        Ok(within("Exec", CALL, self.runtime().exec(timed(message, CALL))).await?.url)
    }

    async fn attach_url(&self, id: &str, streams: Streams) -> Result<String> {
        let message = cri::AttachRequest {
            container_id: id.to_owned(),
            stdin: streams.stdin,
            tty: streams.tty,
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        Ok(within("Attach", CALL, self.runtime().attach(timed(message, CALL))).await?.url)
    }

    async fn port_forward_url(&self, sandbox: &str, ports: Vec<u16>) -> Result<String> {
        let port = ports.into_iter().map(i32::from).collect();
        let message = cri::PortForwardRequest { pod_sandbox_id: sandbox.to_owned(), port };
        Ok(within("PortForward", CALL, self.runtime().port_forward(timed(message, CALL))).await?.url)
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>> {
        let (sender, receiver) = mpsc::channel(256);
        tokio::spawn(forward_events(self.clone(), sender));
        Ok(ReceiverStream::new(receiver).boxed())
    }
}

/// Reads the events service until it or the reader ends. A task of its own, because containerd answers the
/// subscription only with the first event: waiting for the answer would wait for that.
async fn forward_events(runtime: CriRuntime, sender: mpsc::Sender<Event>) {
    let request = tonic::Request::new(SubscribeRequest { filters: events::filters() });
    let mut client = EventsClient::new(runtime.channel.clone());
    let read = async {
        let mut stream = client.subscribe(request).await?.into_inner();
        while let Some(envelope) = stream.message().await? {
            match events::decode(&envelope) {
                Some(event) if event.kind == EventKind::Exited => {
                    tokio::spawn(pass_on_exit(runtime.clone(), event, sender.clone()));
                }
                Some(event) => {
                    let sent = sender.send(event).await;
                    if sent.is_err() {
                        break;
                    }
                }
                None => {}
            }
        }
        Ok::<_, tonic::Status>(())
    };
    tokio::select! {
        result = read => if let Err(status) = result {
            tracing::debug!(%status, "the runtime's event stream broke");
        },
        () = sender.closed() => {}
    }
}

/// Passes an exit on once CRI shows it: its part of containerd hears of exits at the same time as we do, and whoever
/// asks at once may still be told that the container runs.
async fn pass_on_exit(runtime: CriRuntime, event: Event, sender: mpsc::Sender<Event>) {
    for delay in EXIT_SHOWS {
        if !is_running(&runtime, &event.id).await {
            break;
        }
        tokio::time::sleep(delay).await;
    }
    // A reader that is gone wants no events.
    let _ = sender.send(event).await;
}

/// Whether CRI shows the container or sandbox as running. What cannot be asked counts as ended.
async fn is_running(runtime: &CriRuntime, id: &str) -> bool {
    match runtime.container_status(id).await {
        Ok(status) => status.state == cri::ContainerState::ContainerRunning as i32,
        Err(error) if error.is_not_found() => match runtime.sandbox_status(id).await {
            Ok(status) => status.state == cri::PodSandboxState::SandboxReady as i32,
            Err(_) => false,
        },
        Err(_) => false,
    }
}
