//! A server over a store in memory, and a client that speaks HTTP to it without a socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use skep_server::aggregation::FrontProxy;
use skep_server::body::Body;
use skep_server::gate::GateConfig;
use skep_server::pki::{Pki, ServingNames};
use skep_server::streams::NodeClient;
use skep_server::tokens::Keys;
use skep_server::user::UserInfo;
use skep_server::{AdmissionConfig, ApiServer, ServerConfig, StartError, in_process};
use skep_store::Store;
use skep_store::memory::MemoryStore;
use tower::ServiceExt;

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) store: Arc<MemoryStore>,
    seconds: Arc<AtomicU64>,
    pub(crate) directory: tempfile::TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|_| panic!("not JSON: {:?}", self.bytes))
    }

    /// The object, of an answer with this code.
    #[track_caller]
    pub(crate) fn expect(&self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }

    /// The message of a failure with this code and reason.
    #[track_caller]
    pub(crate) fn failure(&self, code: u16, reason: &str) -> String {
        let status = self.expect(code);
        assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Failure")));
        // A failure without a reason does not say so.
        let found = status["reason"].as_str().unwrap_or_default();
        assert_eq!((found, &status["code"]), (reason, &json!(code)), "{status}");
        status["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// Changes the configuration of a server before it starts. Files of its own may go to the directory.
type Configure<'a> = &'a (dyn Fn(&mut ServerConfig, &std::path::Path) + Sync);

async fn server_over(
    store: Arc<MemoryStore>,
    seconds: Arc<AtomicU64>,
    configure: Configure<'_>,
) -> (ApiServer, tempfile::TempDir) {
    let (server, directory) = try_server(store, seconds, configure).await;
    (server.unwrap(), directory)
}

/// A cluster whose server sees its store through what `wrap` makes of it.
pub(crate) async fn cluster_over(
    wrap: &(dyn Fn(Arc<MemoryStore>) -> Arc<dyn Store> + Sync),
    configure: Configure<'_>,
) -> Cluster {
    let (store, seconds) = (Arc::new(MemoryStore::new()), Arc::new(AtomicU64::new(1_800_000_000)));
    let (server, directory) = try_server(wrap(store.clone()), seconds.clone(), configure).await;
    Cluster { server: server.unwrap(), store, seconds, directory }
}

/// A server at this address that shares its store with others; with the one given, if any.
pub(crate) async fn sharing(with: Option<&Cluster>, address: &str) -> Cluster {
    let (store, seconds) = match with {
        Some(other) => (other.store.clone(), other.seconds.clone()),
        None => (Arc::new(MemoryStore::new()), Arc::new(AtomicU64::new(1_800_000_000))),
    };
    let address = address.parse().unwrap();
    let (server, directory) = try_server(store.clone(), seconds.clone(), &|config, _| {
        config.advertise_address = address;
        config.shared = true;
    })
    .await;
    Cluster { server: server.unwrap(), store, seconds, directory }
}

/// A server whose settings are those of most tests, but for what `configure` does to them.
async fn try_server(
    store: Arc<dyn Store>,
    seconds: Arc<AtomicU64>,
    configure: Configure<'_>,
) -> (Result<ApiServer, StartError>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path(), ServingNames::default(), SystemTime::now()).unwrap();
    let keys = Keys::from_pem(&pki.token_key_pem().unwrap(), "").unwrap();
    let nodes = NodeClient::new(&pki.ca_pem().unwrap(), &pki.kubelet_client().unwrap()).unwrap();
    let networks = vec!["10.96.0.0/24".parse().unwrap(), "fd96::/120".parse().unwrap()];
    let mut config = ServerConfig::new(GateConfig::new(keys, nodes), "172.30.0.1".parse().unwrap(), networks);
    config.ids.clock = Arc::new(move || UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::SeqCst)));
    let (authority, proxy) = (pki.front_proxy_ca_pem().unwrap(), pki.front_proxy_client().unwrap());
    config.front_proxy = Some(FrontProxy::new(authority, proxy, pki.ca_pem().unwrap()));
    configure(&mut config, directory.path());
    (ApiServer::new(store, config).await, directory)
}

pub(crate) async fn cluster() -> Cluster {
    cluster_with(&|_, _| {}).await
}

/// A cluster whose server is configured otherwise.
pub(crate) async fn cluster_with(configure: Configure<'_>) -> Cluster {
    let (store, seconds) = (Arc::new(MemoryStore::new()), Arc::new(AtomicU64::new(1_800_000_000)));
    let (server, directory) = server_over(store.clone(), seconds.clone(), configure).await;
    let cluster = Cluster { server, store, seconds, directory };
    let account = json!({ "metadata": { "name": "default" } });
    cluster.post("/api/v1/namespaces/default/serviceaccounts", "ServiceAccount", account).await.expect(201);
    cluster
}

impl Cluster {
    /// Another server over the same store, with other admission plug-ins.
    pub(crate) async fn with_admission(&self, admission: AdmissionConfig) -> Result<Self, StartError> {
        let (server, directory) = try_server(self.store.clone(), self.seconds.clone(), &|config, _| {
            config.admission = admission.clone()
        })
        .await;
        Ok(Self { server: server?, store: self.store.clone(), seconds: self.seconds.clone(), directory })
    }

    /// Sends a request as somebody else.
    pub(crate) async fn call_as(
        &self,
        user: UserInfo,
        method: Method,
        path: &str,
        kind: &str,
        body: impl Into<Bytes>,
    ) -> Answer {
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let request = request.body(Full::new(body.into())).unwrap();
        let (parts, body) =
            in_process::service(&self.server, user).oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    /// Another server over the same store, as after a restart.
    pub(crate) async fn restarted(&self) -> Self {
        self.restarted_with(&|_, _| {}).await
    }

    /// The same, configured otherwise.
    pub(crate) async fn restarted_with(&self, configure: Configure<'_>) -> Self {
        let (server, directory) = server_over(self.store.clone(), self.seconds.clone(), configure).await;
        Self { server, store: self.store.clone(), seconds: self.seconds.clone(), directory }
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) async fn open(&self, request: Request<Full<Bytes>>) -> http::Response<Body> {
        let user = UserInfo::new("admin", &["system:masters"]);
        in_process::service(&self.server, user).oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let (parts, body) = self.open(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        self.send(request.body(Full::new(body.into())).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "", "").await
    }

    pub(crate) async fn accepting(&self, path: &str, accept: &str) -> Answer {
        self.send(Request::get(path).header("accept", accept).body(Full::default()).unwrap()).await
    }

    /// Posts an object whose kind and version are filled in from the path.
    pub(crate) async fn post(&self, path: &str, kind: &str, mut object: Value) -> Answer {
        let parts: Vec<_> = path.split('/').collect();
        object["kind"] = json!(kind);
        object["apiVersion"] =
            if parts[1] == "api" { json!(parts[2]) } else { json!(format!("{}/{}", parts[2], parts[3])) };
        self.call(Method::POST, path, "application/json", object.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, object: &Value) -> Answer {
        self.call(Method::PUT, path, "application/json", object.to_string()).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, patch: Value) -> Answer {
        self.call(Method::PATCH, path, &format!("application/{kind}-patch+json"), patch.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str, options: Value) -> Answer {
        let body = if options.is_null() { String::new() } else { options.to_string() };
        self.call(Method::DELETE, path, "application/json", body).await
    }

    pub(crate) async fn config_map(&self, name: &str, data: Value) -> Value {
        let object = json!({ "metadata": { "name": name, "labels": { "app": name } }, "data": data });
        self.post("/api/v1/namespaces/default/configmaps", "ConfigMap", object).await.expect(201)
    }

    pub(crate) async fn pod(&self, name: &str) -> Value {
        let pod = json!({
            "metadata": { "name": name },
            "spec": { "containers": [{ "name": "c", "image": "echo" }] },
        });
        self.post("/api/v1/namespaces/default/pods", "Pod", pod).await.expect(201)
    }

    /// Gives a pod to a node.
    pub(crate) async fn bind(&self, pod: &str, node: &str) -> Answer {
        let binding = json!({ "metadata": { "name": pod }, "target": { "kind": "Node", "name": node } });
        self.post(&format!("/api/v1/namespaces/default/pods/{pod}/binding"), "Binding", binding).await
    }

    pub(crate) async fn watch(&self, path: &str) -> Watch {
        self.watch_as(path, "application/json").await
    }

    pub(crate) async fn watch_as(&self, path: &str, accept: &str) -> Watch {
        let request = Request::get(path).header("accept", accept);
        let response = self.open(request.body(Full::default()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        Watch { body: response.into_body(), buffer: Vec::new() }
    }
}

/// An open watch.
pub(crate) struct Watch {
    body: Body,
    buffer: Vec<u8>,
}

impl Watch {
    /// The next event: its type and object; nothing at the end.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let mut event: Value = serde_json::from_slice(&line).unwrap();
                let kind = event["type"].as_str().unwrap().to_owned();
                return Some((kind, event["object"].take()));
            }
            let frame = self.body.frame().await?.unwrap();
            self.buffer.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// The next event, as type and name, or type and code of an error.
    pub(crate) async fn name(&mut self) -> String {
        match self.next().await {
            Some((kind, object)) if kind == "ERROR" => format!("ERROR {}", object["code"]),
            Some((kind, object)) => format!("{kind} {}", object["metadata"]["name"].as_str().unwrap_or("-")),
            None => "end".to_owned(),
        }
    }
}
