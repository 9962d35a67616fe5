//! A webhook server for tests: real TLS over loopback, answers as the test says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use http::request::Parts;
use http::{Request, Response};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use crate::body::{self, Body};
use crate::pki::{Pki, ServingNames};
use crate::tls::{Limits, Listener, TlsKeys};

/// What a server does with a request: a code and a body, or nothing, forever.
pub(crate) type Answers = dyn Fn(&Parts, Value) -> Option<(u16, String)> + Send + Sync;

/// A running server.
pub(crate) struct Server {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) ca: String,
    pub(crate) calls: Arc<AtomicUsize>,
    shutdown: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Server {
    /// Serves `answers`; the path and the JSON of each request are shown to it.
    pub(crate) async fn start(
        answers: impl Fn(&str, Value) -> Option<(u16, String)> + Send + Sync + 'static,
    ) -> Self {
        Self::seeing(move |parts, body| answers(parts.uri.path(), body)).await
    }

    /// The same; headers and certificates are shown to it, too.
    pub(crate) async fn seeing(
        answers: impl Fn(&Parts, Value) -> Option<(u16, String)> + Send + Sync + 'static,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path(), ServingNames::default(), SystemTime::now()).unwrap();
        let ca = pki.ca_pem().unwrap();
        let keys = TlsKeys::new(&pki.serving().unwrap(), &ca).unwrap();
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), keys, Limits::default()).await.unwrap();
        let (address, shutdown) = (listener.address().unwrap(), CancellationToken::new());
        let (calls, answers): (_, Arc<Answers>) = (Arc::new(AtomicUsize::new(0)), Arc::new(answers));
        let counter = Arc::clone(&calls);
        let service = service_fn(move |request: Request<Body>| {
            let (answers, counter) = (Arc::clone(&answers), Arc::clone(&counter));
            async move {
                counter.fetch_add(1, Ordering::SeqCst);
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await.unwrap().to_bytes();
                match answers(&parts, serde_json::from_slice(&bytes).unwrap_or_default()) {
                    Some((code, text)) => {
                        Ok::<_, Infallible>(Response::builder().status(code).body(body::full(text)).unwrap())
                    }
                    None => std::future::pending().await,
                }
            }
        });
        tokio::spawn(listener.serve(service, shutdown.clone()));
        Self { directory, address, ca, calls, shutdown }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// The address as a URL with that path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.address.port())
    }

    /// A kubeconfig file for it.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        write_kubeconfig(self.directory.path(), &self.url("/hook"), "ca.crt")
    }
}

/// Writes a kubeconfig for that server, which trusts the authority in a file beside it.
pub(crate) fn write_kubeconfig(directory: &Path, url: &str, ca: &str) -> PathBuf {
    let path = directory.join("webhook.kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: '{url}', certificate-authority: {ca}}}}}]\n\
         users: [{{name: u, user: {{token: secret}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
         current-context: x\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}
