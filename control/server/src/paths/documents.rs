//! Discovery and OpenAPI documents: made once, when first asked for, and told apart by their hash, so that a client need
//! not fetch what it has.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use skep_api::registry::registry;
use skep_api::{discovery, openapi};

const JSON: &str = "application/json";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// One document.
#[derive(Debug)]
pub(crate) struct Document {
    pub(super) json: Bytes,
    pub(super) etag: String,
    pub(super) content_type: &'static str,
}

/// The documents that somebody has asked for.
pub(crate) struct Documents {
    /// Host and port, as clients reach the server.
    address: String,
    made: Mutex<HashMap<String, Arc<Document>>>,
}

impl Documents {
    pub(crate) fn new(address: String) -> Self {
        Self { address, made: Mutex::default() }
    }

    /// The document at a path; `aggregated` is the form that a client of discovery prefers.
    pub(super) fn find(&self, path: &str, aggregated: bool) -> Option<Arc<Document>> {
        let aggregated = aggregated && matches!(path, "/api" | "/apis");
        let key = if aggregated { format!("{path}?aggregated") } else { path.to_owned() };
        if let Some(found) = self.made.lock().get(&key) {
            return Some(found.clone());
        }
        let value =
            if aggregated { discovery::aggregated(registry(), path == "/api") } else { self.make(path)? };
        let json = Bytes::from(value.to_string());
        let etag = format!("\"{}\"", hex(&Sha256::digest(&json)));
        let content_type = if aggregated { AGGREGATED } else { JSON };
        let document = Arc::new(Document { json, etag, content_type });
        self.made.lock().insert(key, document.clone());
        Some(document)
    }

    fn make(&self, path: &str) -> Option<Value> {
        let mut parts = path.split('/').skip(1);
        match (parts.next()?, parts.next(), parts.next(), parts.next()) {
            ("api", None, ..) => Some(discovery::api_versions(&self.address)),
            ("api", Some(version), None, _) => discovery::api_resource_list(registry(), "", version),
            ("apis", None, ..) => Some(discovery::api_group_list(registry())),
            ("apis", Some(group), None, _) => discovery::api_group(registry(), group),
            ("apis", Some(group), Some(version), None) => {
                discovery::api_resource_list(registry(), group, version)
            }
            ("openapi", Some("v2"), None, _) => Some(openapi::v2(registry())),
            ("openapi", Some("v3"), None, _) => Some(openapi::v3_index(registry())),
            ("openapi", Some("v3"), ..) => openapi::v3(registry(), path.strip_prefix("/openapi/v3/")?),
            _ => None,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The paths that the root names.
pub(super) fn roots() -> Vec<String> {
    let mut paths: Vec<String> =
        ["/.well-known/openid-configuration", "/api", "/apis"].map(str::to_owned).into();
    for group in registry().groups() {
        if group.name.is_empty() {
            paths.extend(group.versions.iter().map(|version| format!("/api/{version}")));
        } else {
            paths.push(format!("/apis/{}", group.name));
            paths.extend(group.versions.iter().map(|version| format!("/apis/{}/{version}", group.name)));
        }
    }
    let others = [
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ];
    paths.extend(others.map(str::to_owned));
    paths.sort();
    paths
}
