//! The boundary between the request path and the gate: who is it, may they, and the objects that decide it.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use http::request::Parts;
use serde_json::Value;
use skep_api::status::Status;
use tokio::time::Instant;

use crate::authn::{
    self, Anonymous, BootstrapTokens, Chain, FrontProxy, JwtTokens, StaticTokens, Verifier, WebhookTokens,
};
use crate::authz::{AuthorizerChain, Authz};
use crate::metrics::{AccessMetrics, GateMetrics, ImpersonationMetrics, Known, TokenCacheMetrics};
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

/// Credentials as they arrived with a connection and a request.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The client's certificate chain in DER, verified by the TLS layer against the client CA.
    pub certificates: Vec<Vec<u8>>,
    /// Why the chain that the client showed is not among them, if it showed one.
    pub refused: Option<String>,
    /// The bearer token, if any.
    pub bearer: Option<String>,
}

/// Finds out who makes a request.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// `Ok(None)` when there are no credentials, `Err` when those given are not valid (answered with 401).
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<UserInfo>, String>;
}

/// What an authorizer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let it pass.
    Allow,
    /// Refuse it, whatever others say.
    Deny,
    /// Others may decide; where nobody does, it is refused.
    NoOpinion,
}

/// A decision about a request, with what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The decision itself. Only [`Verdict::Allow`] lets a request pass.
    pub verdict: Verdict,
    /// Why, for the 403 body, reviews and audit: `RBAC: allowed by ClusterRoleBinding ...`.
    pub reason: String,
    /// What went wrong on the way, empty if nothing did.
    pub error: String,
}

impl Decision {
    fn new(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self { verdict, reason: reason.into(), error: String::new() }
    }

    /// It may pass.
    pub fn allow(reason: impl Into<String>) -> Self {
        Self::new(Verdict::Allow, reason)
    }

    /// It may not, whatever others say.
    pub fn deny(reason: impl Into<String>) -> Self {
        Self::new(Verdict::Deny, reason)
    }

    /// Others may decide.
    pub fn none(reason: impl Into<String>) -> Self {
        Self::new(Verdict::NoOpinion, reason)
    }

    /// The same, with what went wrong.
    #[must_use]
    pub fn after(mut self, error: impl Into<String>) -> Self {
        self.error = error.into();
        self
    }

    /// Whether the request may pass.
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }

    /// The refusal of a request that may not pass: 403, or 500 where the decision could not be made.
    pub fn refusal(&self, user: &UserInfo, request: &RequestInfo) -> Status {
        if self.error.is_empty() {
            refusal::forbidden(user, request, &self.reason)
        } else {
            refusal::internal(&self.error)
        }
    }
}

/// Decides whether a user may make a request.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// The decision. It is made from memory, unless a webhook is configured and has to be asked.
    async fn authorize(&self, user: &UserInfo, request: &RequestInfo) -> Decision;
}

/// What changed among the objects of a resource.
#[derive(Debug)]
pub enum Changes {
    /// These objects since the position asked about, in order; `false` means that it is gone.
    Since {
        /// Where to go on.
        position: u64,
        /// Objects, and whether they are there.
        changed: Vec<(Arc<Value>, bool)>,
    },
    /// Nobody knows any more; these objects are there.
    Everything {
        /// Where to go on.
        position: u64,
        /// All objects.
        objects: Vec<Arc<Value>>,
    },
}

/// Reads objects from the watch cache: what RBAC, token checks and admission decide by.
pub trait ObjectReader: Send + Sync + 'static {
    /// A number that grows with every change to the objects of (group, plural). Cheap: asked on every decision.
    fn generation(&self, group: &str, resource: &str) -> u64;
    /// One object by (group, plural), namespace (empty for cluster scope) and name.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// All objects of (group, plural), in one namespace or (empty) in all. An unchanged object is the same `Arc` each time.
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>>;
    /// What changed since `position`, which an earlier answer told; everything where there is none.
    fn changes(&self, group: &str, resource: &str, position: Option<u64>) -> Changes {
        let _ = position;
        Changes::Everything { position: 0, objects: self.list(group, resource, "") }
    }
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
    /// Who may come without credentials.
    pub anonymous: Anonymous,
    /// Issuers of service-account tokens that are accepted besides.
    pub further_issuers: Vec<String>,
    /// Where the keys of those tokens are published, if not below the issuer.
    pub jwks_uri: Option<String>,
    /// The longest life of those tokens, in seconds.
    pub longest_token_life: Option<i64>,
    /// Whether the tokens that admission gives to pods are accepted for longer than they say.
    pub extend_token_life: bool,
    /// Whether bootstrap tokens are accepted.
    pub bootstrap_tokens: bool,
    /// Tokens of other issuers.
    pub jwt_tokens: Option<Arc<JwtTokens>>,
    /// Tokens that a webhook knows.
    pub webhook_tokens: Option<Arc<WebhookTokens>>,
    /// Counts what is remembered of tokens; for who made `webhook_tokens` with the same.
    pub token_cache: Option<TokenCacheMetrics>,
    /// A proxy that says for whom it asks.
    pub front_proxy: Option<Arc<FrontProxy>>,
    /// The client CA, where the TLS layer accepts the certificates of others, too.
    pub client_authority: Option<Arc<Verifier>>,
    /// Who decides what a user may do, in order.
    pub authorizers: AuthorizerChain,
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
            anonymous: Anonymous::default(),
            further_issuers: Vec::new(),
            jwks_uri: None,
            longest_token_life: None,
            extend_token_life: true,
            bootstrap_tokens: true,
            jwt_tokens: None,
            webhook_tokens: None,
            token_cache: None,
            front_proxy: None,
            client_authority: None,
            authorizers: AuthorizerChain::default(),
        }
    }
}

impl std::fmt::Debug for GateConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GateConfig").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// An identity that somebody assumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumed {
    /// Whom the request acts as.
    pub user: UserInfo,
    /// The verb that allowed it, where that was a constrained one (KEP-5284); audit tells it.
    pub constraint: &'static str,
}

/// Everything between a request and its handler that decides about the person behind it, and the handlers that
/// belong to it: reviews, token requests, streams to nodes.
#[derive(Clone)]
pub struct Gate {
    authenticator: Arc<Chain>,
    authorizer: Arc<Authz>,
    anonymous: Anonymous,
    front_proxy: Option<Arc<FrontProxy>>,
    clock: Clock,
    metrics: AccessMetrics,
    impersonation: ImpersonationMetrics,
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
    pub(crate) fn new(config: GateConfig, reader: Arc<dyn ObjectReader>, metrics: GateMetrics) -> Self {
        let tokens = Tokens::new(
            config.token_keys,
            config.issuer,
            config.audiences,
            Arc::clone(&reader),
            Arc::clone(&config.clock),
            config.new_id,
        );
        let tokens = tokens
            .with_further_issuers(config.further_issuers)
            .with_jwks_uri(config.jwks_uri)
            .with_lifetimes(config.longest_token_life, config.extend_token_life)
            .counting(metrics.tokens);
        let tokens = Arc::new(tokens);
        let authorizer = Authz::counting(Arc::clone(&reader), metrics.authorization);
        authorizer.set_chain(config.authorizers);
        let authorizer = Arc::new(authorizer);
        let mut chain = Chain::new(Arc::clone(&tokens), config.static_tokens, Arc::clone(&config.clock));
        if config.bootstrap_tokens {
            let bootstrap = BootstrapTokens::new(Arc::clone(&reader), Arc::clone(&config.clock));
            chain = chain.with(Arc::new(bootstrap));
        }
        chain = config.jwt_tokens.into_iter().fold(chain, |chain, kind| chain.with(kind));
        chain = config.webhook_tokens.into_iter().fold(chain, |chain, kind| chain.with(kind));
        if let Some(authority) = config.client_authority {
            chain = chain.with_client_authority(authority);
        }
        let authenticator = Arc::new(chain);
        let reviews = Arc::new(Reviews::new(Arc::clone(&authorizer), Arc::clone(&authenticator)));
        let streams = Arc::new(Streams::new(config.nodes, reader, Arc::clone(&authorizer) as _));
        let (anonymous, front_proxy, clock) = (config.anonymous, config.front_proxy, config.clock);
        let (metrics, impersonation) = (metrics.access, metrics.impersonation);
        Self {
            authenticator,
            authorizer,
            anonymous,
            front_proxy,
            clock,
            metrics,
            impersonation,
            tokens,
            reviews,
            streams,
        }
    }

    /// Who makes a request. A `UserInfo` among the request's extensions is taken as it is: only this process can put it
    /// there. What the user may do, [`Gate::authorize`] says.
    ///
    /// # Errors
    ///
    /// 401 for credentials that are not valid, and for none where the anonymous user may not come.
    pub async fn authenticate(&self, parts: &mut Parts, info: &RequestInfo) -> Result<UserInfo, Status> {
        if let Some(user) = parts.extensions.get::<UserInfo>() {
            return Ok(user.clone());
        }
        let started = Instant::now();
        let found = match authn::credentials(parts) {
            Ok(credentials) => self.known(&credentials, parts).await,
            Err(reason) => Err(reason),
        };
        let (known, found) = match found {
            Ok(Some(user)) => (Known::Somebody, Ok(user)),
            Ok(None) if self.anonymous.may_ask(info) => (Known::Somebody, Ok(UserInfo::anonymous())),
            Ok(None) => (Known::Nobody, Err(refusal::unauthorized())),
            Err(reason) => {
                tracing::warn!(%reason, "refused credentials");
                (Known::Pretender, Err(refusal::unauthorized()))
            }
        };
        let name = found.as_ref().ok().map(|user| user.name.as_str());
        self.metrics.authenticated(known, name, started.elapsed());
        found
    }

    async fn known(&self, credentials: &Credentials, parts: &mut Parts) -> Result<Option<UserInfo>, String> {
        let proxied = self.front_proxy.as_ref().map(|proxy| {
            let found = proxy.user(&credentials.certificates, &parts.headers, (self.clock)());
            // What a proxy says is for this server, and of anybody else it is worth nothing.
            proxy.strip(&mut parts.headers);
            found
        });
        match proxied {
            Some(Ok(Some(user))) => Ok(Some(user)),
            Some(Err(reason)) => self
                .authenticator
                .authenticate(credentials)
                .await
                .map_err(|other| format!("[{reason}, {other}]")),
            _ => {
                let found = self.authenticator.authenticate(credentials).await?;
                if let Some(left) = found.as_ref().and_then(|user| self.left(user, credentials)) {
                    self.metrics.certificate(left);
                }
                Ok(found)
            }
        }
    }

    /// For how many seconds the certificate is still good by which a client was known.
    fn left(&self, user: &UserInfo, credentials: &Credentials) -> Option<i64> {
        let by = user.extra.get(authn::CREDENTIAL_ID)?.first()?;
        let leaf = credentials.certificates.first().filter(|_| by.starts_with(authn::BY_CERTIFICATE))?;
        authn::seconds_left(leaf, (self.clock)())
    }

    /// As whom `user` makes a request, if not as itself.
    ///
    /// # Errors
    ///
    /// 400 for parts of an identity without a name, 403 without the right to assume it.
    pub async fn impersonate(
        &self,
        user: &UserInfo,
        parts: &Parts,
        info: &RequestInfo,
    ) -> Result<Option<Assumed>, Status> {
        authn::impersonated(user, &parts.headers, info, self.authorizer.as_ref(), &self.impersonation).await
    }

    /// What the authorizers say of a request of `user`.
    pub async fn decide(&self, user: &UserInfo, request: &RequestInfo) -> Decision {
        let started = Instant::now();
        let decision = self.authorizer.authorize(user, request).await;
        self.metrics.decided(&decision, started.elapsed());
        decision
    }

    /// Whether `user` may make `request`.
    ///
    /// # Errors
    ///
    /// 403 for who may not, 500 where that cannot be told.
    pub async fn authorize(&self, user: &UserInfo, request: &RequestInfo) -> Result<(), Status> {
        let decision = self.decide(user, request).await;
        if decision.is_allowed() { Ok(()) } else { Err(decision.refusal(user, request)) }
    }

    /// The authorizer, for checks that go beyond the request's own.
    pub fn authorizer(&self) -> Arc<Authz> {
        Arc::clone(&self.authorizer)
    }
}
