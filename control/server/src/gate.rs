//! The boundary between the request path and the gate: who is it, may they, and the objects that decide it.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::request::RequestInfo;
use crate::user::UserInfo;

/// Credentials as they arrived with a connection and a request.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The client's certificate chain in DER, verified by the TLS layer against the client CA.
    pub certificates: Vec<Vec<u8>>,
    /// The bearer token, if any.
    pub bearer: Option<String>,
}

/// Finds out who makes a request.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// `Ok(None)` when there are no credentials, `Err` when those given are not valid (answered with 401).
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<UserInfo>, String>;
}

/// A decision about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let it pass.
    Allow,
    /// Refuse it, with the reason for the 403 body.
    Deny(String),
}

/// Decides whether a user may make a request.
pub trait Authorizer: Send + Sync + 'static {
    /// The decision, from memory, without I/O.
    fn authorize(&self, user: &UserInfo, request: &RequestInfo) -> Decision;
}

/// Reads objects from the watch cache: what RBAC, token checks and admission decide by.
pub trait ObjectReader: Send + Sync + 'static {
    /// A number that grows with every change to the objects of (group, plural). Cheap: asked on every decision.
    fn generation(&self, group: &str, resource: &str) -> u64;
    /// One object by (group, plural), namespace (empty for cluster scope) and name.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// All objects of (group, plural), in one namespace or (empty) in all. An unchanged object is the same `Arc` each time.
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>>;
}
