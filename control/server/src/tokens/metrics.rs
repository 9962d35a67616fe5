//! Which kinds of service-account tokens are used, under upstream's names.

use prometheus::{IntCounter, Opts, Registry};

use crate::metrics::{TokenCacheMetrics, register};

/// The counters.
pub(crate) struct TokenMetrics {
    /// Tokens that Secrets hold, good ones,
    pub(super) legacy: IntCounter,
    /// of them those whose Secret the account lists,
    pub(super) legacy_generated: IntCounter,
    /// and the others.
    pub(super) legacy_manual: IntCounter,
    /// Those that somebody ended.
    pub(super) legacy_invalid: IntCounter,
    /// Tokens that should have been renewed before,
    pub(super) stale: IntCounter,
    /// and those that had not to be.
    pub(super) valid: IntCounter,
    pub(super) cache: TokenCacheMetrics,
}

impl TokenMetrics {
    /// Counters that nobody reads.
    pub(super) fn nowhere() -> Self {
        let registry = Registry::new();
        Self::new(&registry, TokenCacheMetrics::new(&registry))
    }

    pub(crate) fn new(registry: &Registry, cache: TokenCacheMetrics) -> Self {
        let one = |end: &str, help: &str| {
            let options = Opts::new(format!("serviceaccount_{end}_total"), help);
            register(registry, IntCounter::with_opts(options).expect("names of metrics are valid"))
        };
        Self {
            legacy: one("legacy_tokens", "Uses of tokens that Secrets hold."),
            legacy_generated: one(
                "legacy_auto_token_uses",
                "Uses of tokens in Secrets that were made for every account.",
            ),
            legacy_manual: one("legacy_manual_token_uses", "Uses of tokens in Secrets that somebody made."),
            legacy_invalid: one(
                "invalid_legacy_auto_token_uses",
                "Uses of tokens in Secrets that have been marked as invalid.",
            ),
            stale: one("stale_tokens", "Uses of tokens that should have been renewed before."),
            valid: one("valid_tokens", "Uses of tokens before they are to be renewed."),
            cache,
        }
    }
}
