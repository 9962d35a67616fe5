//! A key management service for tests: seals with a byte, on a real socket.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::proto::key_management_service_server::{KeyManagementService, KeyManagementServiceServer};
use super::proto::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
};

/// What the service says and counts.
pub(crate) struct Said {
    pub(crate) key_id: String,
    pub(crate) healthz: String,
    pub(crate) decrypted: usize,
}

/// The service. Clones are the same.
#[derive(Clone)]
pub(crate) struct Fake(pub(crate) Arc<Mutex<Said>>);

impl Fake {
    /// A service on the socket at `path`, until `stop`.
    pub(crate) fn start(path: &Path, stop: CancellationToken) -> Self {
        let said = Said { key_id: "key-1".into(), healthz: "ok".into(), decrypted: 0 };
        let fake = Self(Arc::new(Mutex::new(said)));
        let socket = UnixListenerStream::new(UnixListener::bind(path).unwrap());
        let server =
            tonic::transport::Server::builder().add_service(KeyManagementServiceServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming_shutdown(socket, stop.cancelled_owned()));
        fake
    }
}

fn flip(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ 0x5a).collect()
}

#[tonic::async_trait]
impl KeyManagementService for Fake {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let said = self.0.lock();
        let (key_id, healthz) = (said.key_id.clone(), said.healthz.clone());
        Ok(Response::new(StatusResponse { version: "v2".into(), healthz, key_id }))
    }

    async fn decrypt(&self, request: Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        let request = request.into_inner();
        self.0.lock().decrypted += 1;
        if request.annotations.get("version.test").is_none_or(|version| version != b"1") {
            return Err(Status::invalid_argument("the annotation is missing"));
        }
        Ok(Response::new(DecryptResponse { plaintext: flip(&request.ciphertext) }))
    }

    async fn encrypt(&self, request: Request<EncryptRequest>) -> Result<Response<EncryptResponse>, Status> {
        let annotations = [("version.test".to_owned(), b"1".to_vec())].into();
        let (ciphertext, key_id) = (flip(&request.into_inner().plaintext), self.0.lock().key_id.clone());
        Ok(Response::new(EncryptResponse { ciphertext, key_id, annotations }))
    }
}
