//! Discovery and OpenAPI documents: made when first asked for and again when kinds came or went, and told apart by their
//! hash, so that a client need not fetch what it has.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use skep_api::aggregation::{self, Remote};
use skep_api::registry::{Registry, registry};
use skep_api::{discovery, openapi};

const JSON: &str = "application/json";
pub(super) const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The form of `/openapi/v2` that kubectl up to 1.26 reads, under the names that it is asked for and answered with.
pub(super) const OPENAPI_PROTOBUF: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];

/// One document.
#[derive(Debug)]
pub(crate) struct Document {
    pub(super) bytes: Bytes,
    pub(super) etag: String,
    pub(super) content_type: &'static str,
}

/// Documents, and the kinds that they tell of.
#[derive(Default)]
struct Made {
    of: Option<(Arc<Registry>, Arc<Vec<Remote>>)>,
    documents: HashMap<String, Arc<Document>>,
}

impl Made {
    /// Forgets what does not hold for these kinds. Documents of single versions of built-in groups always do.
    fn renew(&mut self, kinds: &Arc<Registry>, remotes: &Arc<Vec<Remote>>) {
        if self.are_of(kinds, remotes) {
            return;
        }
        self.documents.retain(|path, _| {
            path.strip_prefix("/openapi/v3/").is_some_and(|path| openapi::is_builtin(registry(), path))
        });
        self.of = Some((kinds.clone(), remotes.clone()));
    }

    fn are_of(&self, kinds: &Arc<Registry>, remotes: &Arc<Vec<Remote>>) -> bool {
        self.of.as_ref().is_some_and(|of| Arc::ptr_eq(&of.0, kinds) && Arc::ptr_eq(&of.1, remotes))
    }
}

/// The documents that somebody has asked for.
pub(crate) struct Documents {
    /// Host and port, as clients reach the server.
    address: String,
    made: Mutex<Made>,
}

impl Documents {
    pub(crate) fn new(address: String) -> Self {
        Self { address, made: Mutex::default() }
    }

    /// The document at a path; `aggregated` is the form that a client of discovery prefers.
    pub(super) fn find(
        &self,
        kinds: &Arc<Registry>,
        remotes: &Arc<Vec<Remote>>,
        path: &str,
        aggregated: bool,
    ) -> Option<Arc<Document>> {
        let aggregated = aggregated && matches!(path, "/api" | "/apis");
        let key = if aggregated { format!("{path}?aggregated") } else { path.to_owned() };
        let content_type = if aggregated { AGGREGATED } else { JSON };
        self.kept(kinds, remotes, &key, content_type, || {
            let value = match (aggregated, path) {
                (true, "/api") => discovery::aggregated(kinds, true),
                (true, _) => aggregation::join_groups(discovery::aggregated(kinds, false), remotes),
                (false, _) => self.make(kinds, remotes, path)?,
            };
            Some(value.to_string().into_bytes())
        })
    }

    /// `/openapi/v2` in protobuf.
    pub(super) fn openapi_in_protobuf(
        &self,
        kinds: &Arc<Registry>,
        remotes: &Arc<Vec<Remote>>,
    ) -> Option<Arc<Document>> {
        self.kept(kinds, remotes, "/openapi/v2?protobuf", OPENAPI_PROTOBUF[1], || {
            Some(openapi::v2_protobuf(&aggregation::join_v2(openapi::v2(kinds), remotes)))
        })
    }

    /// The document kept under `key`, made if there is none for these kinds.
    fn kept(
        &self,
        kinds: &Arc<Registry>,
        remotes: &Arc<Vec<Remote>>,
        key: &str,
        content_type: &'static str,
        make: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Option<Arc<Document>> {
        {
            let mut made = self.made.lock();
            made.renew(kinds, remotes);
            if let Some(found) = made.documents.get(key) {
                return Some(found.clone());
            }
        }
        let bytes = Bytes::from(make()?);
        let etag = format!("\"{}\"", hex(&Sha256::digest(&bytes)));
        let document = Arc::new(Document { bytes, etag, content_type });
        let mut made = self.made.lock();
        // Kinds may have changed while the document was made.
        if made.are_of(kinds, remotes) {
            made.documents.insert(key.to_owned(), document.clone());
        }
        Some(document)
    }

    fn make(&self, kinds: &Registry, remotes: &[Remote], path: &str) -> Option<Value> {
        let mut parts = path.split('/').skip(1);
        match (parts.next()?, parts.next(), parts.next(), parts.next()) {
            ("api", None, ..) => Some(discovery::api_versions(&self.address)),
            ("api", Some(version), None, _) => discovery::api_resource_list(kinds, "", version),
            ("apis", None, ..) => Some(aggregation::join_list(discovery::api_group_list(kinds), remotes)),
            ("apis", Some(group), None, _) => {
                aggregation::join_group(discovery::api_group(kinds, group), group, remotes)
            }
            ("apis", Some(group), Some(version), None) => discovery::api_resource_list(kinds, group, version),
            ("openapi", Some("v2"), None, _) => Some(aggregation::join_v2(openapi::v2(kinds), remotes)),
            ("openapi", Some("v3"), None, _) => Some(aggregation::join_v3(openapi::v3_index(kinds), remotes)),
            ("openapi", Some("v3"), ..) => openapi::v3(kinds, path.strip_prefix("/openapi/v3/")?),
            _ => None,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The paths that the root names.
pub(super) fn roots(kinds: &Registry) -> Vec<String> {
    let mut paths: Vec<String> =
        ["/.well-known/openid-configuration", "/api", "/apis", "/apis/"].map(str::to_owned).into();
    for group in kinds.groups() {
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
        "/metrics/slis",
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
