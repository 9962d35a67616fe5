//! Whole requests to a server over a store in memory, in the form of HTTP/1: `METHOD TARGET`, headers line by line, an
//! empty line, the body.
//!
//! Whatever comes, the answer is never that the server failed, and what failed is told by a `Status` of its code.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use skep_server::gate::GateConfig;
use skep_server::pki::{Pki, ServingNames};
use skep_server::streams::NodeClient;
use skep_server::tokens::Keys;
use skep_server::user::UserInfo;
use skep_server::{ApiServer, ServerConfig, in_process};
use skep_store::memory::MemoryStore;
use tower::ServiceExt;

/// After so many requests the server begins anew, so that it does not grow for ever.
const REQUESTS: usize = 2_000;
/// So much of an answer is read; a watch has no end.
const PATIENCE: Duration = Duration::from_millis(50);

/// A server and what it lives in.
struct Served {
    runtime: tokio::runtime::Runtime,
    server: ApiServer,
    requests: usize,
    _directory: tempfile::TempDir,
}

thread_local! {
    static SERVED: RefCell<Option<Served>> = const { RefCell::new(None) };
}

/// Asks.
pub fn run(data: &[u8]) {
    let Some(request) = request(data) else { return };
    SERVED.with_borrow_mut(|served| {
        let served = match served {
            Some(one) if one.requests < REQUESTS => one,
            other => other.insert(Served::start()),
        };
        served.requests += 1;
        served.runtime.block_on(ask(&served.server, request));
    });
}

fn request(data: &[u8]) -> Option<Request<Full<Bytes>>> {
    let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let body = data.get(end + 2..).unwrap_or_default();
    let mut lines = std::str::from_utf8(&data[..end]).ok()?.lines();
    let (method, target) = lines.next()?.split_once(' ')?;
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).ok()?).uri(target);
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        // A connection that changes its protocol is another's business.
        if !name.eq_ignore_ascii_case("upgrade") {
            request = request.header(name, value);
        }
    }
    request.body(Full::new(Bytes::copy_from_slice(body))).ok()
}

async fn ask(server: &ApiServer, request: Request<Full<Bytes>>) {
    let user = UserInfo::new("admin", &["system:masters"]);
    let Ok(response) = in_process::service(server, user).oneshot(request).await;
    let (parts, body) = response.into_parts();
    let mut pieces = body.into_data_stream();
    let mut text = Vec::new();
    let reading = async {
        while let Some(Ok(piece)) = pieces.next().await {
            text.extend_from_slice(&piece);
        }
    };
    let ended = tokio::time::timeout(PATIENCE, reading).await.is_ok();
    let said = String::from_utf8_lossy(&text);
    assert!(!said.contains("the server failed while handling the request"), "a handler panicked: {said}");
    let code = parts.status.as_u16();
    let is_json = parts.headers.get("content-type").is_some_and(|kind| kind == "application/json");
    if code >= 400 && ended && is_json {
        let status: Value = serde_json::from_slice(&text).expect("a failure is JSON");
        assert_eq!(
            (&status["kind"], status["code"].as_u64()),
            (&"Status".into(), Some(code.into())),
            "{said}"
        );
    }
}

impl Served {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be had");
        let directory = tempfile::tempdir().expect("a directory can be made");
        let server = runtime.block_on(server(directory.path()));
        Self { runtime, server, requests: 0, _directory: directory }
    }
}

async fn server(directory: &std::path::Path) -> ApiServer {
    let pki = Pki::open(directory, ServingNames::default(), SystemTime::now()).expect("keys can be made");
    let keys = Keys::from_pem(&pki.token_key_pem().expect("a key"), "").expect("a token key");
    let (authority, client) = (pki.ca_pem().expect("an authority"), pki.kubelet_client().expect("a client"));
    let nodes = NodeClient::new(&authority, &client).expect("a client of nodes");
    let networks = vec!["10.96.0.0/24".parse().expect("a network")];
    let address = "172.30.0.1".parse().expect("an address");
    let config = ServerConfig::new(GateConfig::new(keys, nodes), address, networks);
    ApiServer::new(Arc::new(MemoryStore::new()), config).await.expect("the server starts")
}
