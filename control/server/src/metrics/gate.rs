//! All that the gate counts.

use prometheus::Registry;

use super::{AccessMetrics, AuthorizationMetrics, ImpersonationMetrics, TokenCacheMetrics};
use crate::tokens::TokenMetrics;

/// The counters.
pub(crate) struct GateMetrics {
    pub(crate) access: AccessMetrics,
    pub(crate) authorization: AuthorizationMetrics,
    pub(crate) impersonation: ImpersonationMetrics,
    pub(crate) tokens: TokenMetrics,
}

impl GateMetrics {
    /// Counters in `registry`; those of the cache of tokens, where somebody made them before.
    pub(crate) fn new(registry: &Registry, cache: Option<TokenCacheMetrics>) -> Self {
        let cache = cache.unwrap_or_else(|| TokenCacheMetrics::new(registry));
        Self {
            access: AccessMetrics::new(registry),
            authorization: AuthorizationMetrics::new(registry),
            impersonation: ImpersonationMetrics::new(registry),
            tokens: TokenMetrics::new(registry, cache),
        }
    }
}
