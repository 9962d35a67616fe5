//! Who this server is before aggregated API servers: a certificate that only its own authority signs, and headers that say
//! for whom a request is. What those servers must know to believe both lies in a ConfigMap.

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::{Value, json};

use crate::pki::{FRONT_PROXY_CLIENT, Leaf};

/// The header with the user's name.
pub const USER: &str = "X-Remote-User";
/// The header with the user's id.
pub const UID: &str = "X-Remote-Uid";
/// The header with a group; there may be several.
pub const GROUP: &str = "X-Remote-Group";
/// What the headers with further attributes start with.
pub const EXTRA_PREFIX: &str = "X-Remote-Extra-";

/// The identity of the front proxy. Clones share it, so that a renewed certificate serves all.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    authority_pem: Arc<str>,
    /// The authorities of clients, as they are now.
    client_authorities: Arc<RwLock<Arc<str>>>,
    /// The certificate, and how often it was renewed.
    leaf: Arc<RwLock<(u64, Arc<Leaf>)>>,
}

impl FrontProxy {
    /// The proxy that shows `leaf`, which `authority_pem` signed. `client_authority_pem` is the authority of the clients of
    /// this server, which aggregated servers may believe, too.
    pub fn new(authority_pem: String, leaf: Leaf, client_authority_pem: String) -> Self {
        Self {
            authority_pem: authority_pem.into(),
            client_authorities: Arc::new(RwLock::new(client_authority_pem.into())),
            leaf: Arc::new(RwLock::new((0, Arc::new(leaf)))),
        }
    }

    /// Shows a renewed certificate on new connections, and other servers are to believe clients of these authorities.
    pub fn reload(&self, leaf: Leaf, client_authority_pem: &str) {
        *self.client_authorities.write() = client_authority_pem.into();
        let mut shown = self.leaf.write();
        *shown = (shown.0 + 1, Arc::new(leaf));
    }

    /// The certificate to show, and the number of its renewals.
    pub(crate) fn shown(&self) -> (u64, Arc<Leaf>) {
        self.leaf.read().clone()
    }

    /// The ConfigMap `kube-system/extension-apiserver-authentication`.
    pub(crate) fn authentication_config(&self) -> Value {
        json!({
            "metadata": { "name": "extension-apiserver-authentication", "namespace": "kube-system" },
            "data": {
                "client-ca-file": &**self.client_authorities.read(),
                "requestheader-client-ca-file": &*self.authority_pem,
                "requestheader-allowed-names": json!([FRONT_PROXY_CLIENT]).to_string(),
                "requestheader-username-headers": json!([USER]).to_string(),
                "requestheader-uid-headers": json!([UID]).to_string(),
                "requestheader-group-headers": json!([GROUP]).to_string(),
                "requestheader-extra-headers-prefix": json!([EXTRA_PREFIX]).to_string(),
            },
        })
    }
}
