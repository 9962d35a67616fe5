//! The agent's Unix socket for the plugin, and the plugin's end of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Response, Status};

use crate::attacher::{Attacher, Request};
use crate::error::NetworkError;

/// Generated from `proto/network.proto`.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("skep.network.v1");
}

use proto::network_client::NetworkClient;
use proto::network_server::{Network, NetworkServer};
use proto::{Attached, Attachment, Checked, Deleted};

/// Binds the socket, readable by root alone. A socket that a crashed agent left is replaced.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, NetworkError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(NetworkError::file("cannot make", folder))?;
    }
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(NetworkError::file("cannot replace", path)(error));
    }
    let listener = UnixListener::bind(path).map_err(NetworkError::file("cannot listen on", path))?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, private).map_err(NetworkError::file("cannot protect", path))?;
    Ok(listener)
}

/// Serves the plugin until shutdown.
pub(crate) async fn serve(
    listener: UnixListener,
    attacher: Arc<Attacher>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), NetworkError> {
    let ended = async move {
        shutdown.wait_for(|ended| *ended).await.ok();
    };
    Server::builder()
        .add_service(NetworkServer::new(Service { attacher }))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), ended)
        .await
        .map_err(NetworkError::Serve)
}

/// A client on the agent's socket.
///
/// # Errors
/// Nobody listens there: the agent does not run.
pub async fn connect(socket: &Path) -> Result<NetworkClient<Channel>, tonic::transport::Error> {
    let path: PathBuf = socket.to_owned();
    // The address is never looked at: the connector below knows the way.
    let channel = Endpoint::from_static("http://agent")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await?;
    Ok(NetworkClient::new(channel))
}

struct Service {
    attacher: Arc<Attacher>,
}

#[tonic::async_trait]
impl Network for Service {
    async fn add(&self, request: tonic::Request<Attachment>) -> Result<Response<Attached>, Status> {
        let link = self.attacher.add(&validated(request)?).await.map_err(status)?;
        Ok(Response::new(Attached {
            addresses: link.addresses.iter().map(ToString::to_string).collect(),
            host_mac: mac(link.host_mac),
            pod_mac: mac(link.pod_mac),
            host_interface: link.host_interface,
        }))
    }

    async fn delete(&self, request: tonic::Request<Attachment>) -> Result<Response<Deleted>, Status> {
        self.attacher.delete(&validated(request)?).await.map_err(status)?;
        Ok(Response::new(Deleted {}))
    }

    async fn check(&self, request: tonic::Request<Attachment>) -> Result<Response<Checked>, Status> {
        self.attacher.check(&validated(request)?).await.map_err(status)?;
        Ok(Response::new(Checked {}))
    }
}

fn validated(request: tonic::Request<Attachment>) -> Result<Request, Status> {
    let Attachment { container_id, namespace, interface } = request.into_inner();
    Request::new(container_id, namespace, interface).map_err(status)
}

/// What went wrong and why, in one line; what may pass when it is tried again is `unavailable`.
fn status(error: NetworkError) -> Status {
    let code = match &error {
        NetworkError::BadRequest { .. } => Code::InvalidArgument,
        NetworkError::NoRange => Code::Unavailable,
        NetworkError::Exhausted { .. } => Code::ResourceExhausted,
        _ => Code::Internal,
    };
    let mut message = error.to_string();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(source) = cause {
        message = format!("{message}: {source}");
        cause = source.source();
    }
    tracing::warn!(error = message, "a request of the CNI plugin failed");
    Status::new(code, message)
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
