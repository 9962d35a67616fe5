//! The boundary between the request path and the gate: who is it, may they, and the objects that decide it.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use http::request::Parts;
use serde_json::Value;
use skep_api::status::Status;

use crate::authn::{self, Chain, StaticTokens};
use crate::authz::Authz;
use crate::refusal;
use crate::request::RequestInfo;
use crate::reviews::Reviews;
use crate::streams::{NodeClient, Streams};
use crate::tokens::{DEFAULT_ISSUER, Keys, Tokens};
use crate::user::UserInfo;

/// Tells the time; passed in so that tests can.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;
/// Makes an id that nobody has had before.
pub type NewId = Arc<dyn Fn() -> String + Send + Sync>;

/// Paths that a request without credentials may ask for.
const ANONYMOUS_PATHS: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];

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

/// What the gate is made of.
#[derive(Clone)]
pub struct GateConfig {
    /// The keys of service-account tokens.
    pub token_keys: Arc<Keys>,
    /// The issuer in those tokens.
    pub issuer: String,
    /// Audiences that the server answers to; empty means the issuer.
    pub audiences: Vec<String>,
    /// Tokens from a file.
    pub static_tokens: StaticTokens,
    /// How nodes are reached for logs, exec and the like.
    pub nodes: NodeClient,
    /// The time.
    pub clock: Clock,
    /// Ids of tokens.
    pub new_id: NewId,
}

impl GateConfig {
    /// A gate with upstream's issuer, the system's clock and random ids.
    pub fn new(token_keys: Keys, nodes: NodeClient) -> Self {
        Self {
            token_keys: Arc::new(token_keys),
            issuer: DEFAULT_ISSUER.to_owned(),
            audiences: Vec::new(),
            static_tokens: StaticTokens::default(),
            nodes,
            clock: Arc::new(SystemTime::now),
            new_id: Arc::new(|| uuid::Uuid::new_v4().to_string()),
        }
    }
}

impl std::fmt::Debug for GateConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GateConfig").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Everything between a request and its handler that decides about the person behind it, and the handlers that
/// belong to it: reviews, token requests, streams to nodes.
#[derive(Clone)]
pub struct Gate {
    authenticator: Arc<dyn Authenticator>,
    authorizer: Arc<Authz>,
    /// Issues and verifies service-account tokens.
    pub tokens: Arc<Tokens>,
    /// Answers the review APIs.
    pub reviews: Arc<Reviews>,
    /// Connects clients to nodes, pods and services.
    pub streams: Arc<Streams>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate that decides by the objects that `reader` shows.
    pub fn new(config: GateConfig, reader: Arc<dyn ObjectReader>) -> Self {
        let GateConfig { token_keys, issuer, audiences, static_tokens, nodes, clock, new_id } = config;
        let tokens = Arc::new(Tokens::new(
            token_keys,
            issuer,
            audiences,
            Arc::clone(&reader),
            Arc::clone(&clock),
            new_id,
        ));
        let authorizer = Arc::new(Authz::new(Arc::clone(&reader)));
        let authenticator = Arc::new(Chain::new(Arc::clone(&tokens), static_tokens, clock));
        let reviews =
            Arc::new(Reviews::new(Arc::clone(&authorizer), authenticator.clone() as _, Arc::clone(&tokens)));
        let streams = Arc::new(Streams::new(nodes, reader, Arc::clone(&authorizer) as _));
        Self { authenticator, authorizer, tokens, reviews, streams }
    }

    /// Who makes a request. A `UserInfo` among the request's extensions is taken as it is: only this process can put it
    /// there. The anonymous user is a user; what it may do, [`Gate::authorize`] says.
    ///
    /// # Errors
    ///
    /// 401 for credentials that are not valid.
    pub async fn authenticate(&self, parts: &Parts) -> Result<UserInfo, Status> {
        if let Some(user) = parts.extensions.get::<UserInfo>() {
            return Ok(user.clone());
        }
        let found = match authn::credentials(parts) {
            Ok(credentials) => self.authenticator.authenticate(&credentials).await,
            Err(reason) => Err(reason),
        };
        let found = found.map_err(|reason| {
            tracing::warn!(%reason, "refused credentials");
            refusal::unauthorized()
        })?;
        Ok(found.unwrap_or_else(UserInfo::anonymous))
    }

    /// As whom `user` makes a request, if not as itself.
    ///
    /// # Errors
    ///
    /// 400 for parts of an identity without a name, 403 without the right to assume it.
    pub fn impersonate(&self, user: &UserInfo, parts: &Parts) -> Result<Option<UserInfo>, Status> {
        authn::impersonated(user, &parts.headers, self.authorizer.as_ref())
    }

    /// Whether `user` may make `request`.
    ///
    /// # Errors
    ///
    /// 401 for the anonymous user outside of the health and version paths, 403 for others who may not.
    pub fn authorize(&self, user: &UserInfo, request: &RequestInfo) -> Result<(), Status> {
        let anonymous = user.groups.iter().any(|group| group == "system:unauthenticated");
        if anonymous && (request.is_resource || !open_to_all(&request.path)) {
            return Err(refusal::unauthorized());
        }
        match self.authorizer.authorize(user, request) {
            Decision::Allow => Ok(()),
            Decision::Deny(reason) => Err(refusal::forbidden(user, request, &reason)),
        }
    }

    /// The authorizer, for checks that go beyond the request's own.
    pub fn authorizer(&self) -> Arc<Authz> {
        Arc::clone(&self.authorizer)
    }
}

/// `/livez` and its single checks `/livez/NAME`, and the like.
fn open_to_all(path: &str) -> bool {
    ANONYMOUS_PATHS
        .iter()
        .any(|open| path.strip_prefix(open).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}
