//! From flags and files to the gate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use prometheus::Registry;
use skep_server::authn::{
    Anonymous, AuthenticationConfiguration, FrontProxy, Issuer, JwtTokens, OidcFlags, ProxyHeaders,
    ReviewVersion, StaticTokens, Verifier, WebhookTokens,
};
use skep_server::authz::{AuthorizerChain, ModeWebhook};
use skep_server::gate::GateConfig;
use skep_server::pki::read_text;
use skep_server::{IssuerMetrics, TokenCacheMetrics};

use super::{AuthenticationArguments, AuthorizationArguments, ProxyArguments};

/// What was set up by flags, and the files to follow.
pub(crate) struct Setup {
    authentication: AuthenticationArguments,
    authorization: AuthorizationArguments,
    pub(super) tokens: Arc<JwtTokens>,
    /// Issuers of this server's own tokens.
    pub(super) issuers: Vec<String>,
    pub(super) anonymous_of_file: Option<Anonymous>,
    /// Those at start, of which some stay whatever the file says later.
    pub(super) authorizers: AuthorizerChain,
}

/// Whose certificates clients show.
pub(crate) struct ClientAuthority {
    pub(crate) pem: String,
    /// The same, and what it becomes.
    pub(crate) verifier: Arc<Verifier>,
    /// Whose certificates front proxies show, if there are any.
    pub(crate) proxies: Option<Arc<Verifier>>,
}

/// A file of configuration and its text.
pub(super) type Read = (PathBuf, String);

impl Setup {
    /// Puts into `gate` what the flags say, and counts in `metrics`. Needs a runtime.
    pub(crate) fn apply(
        authentication: &AuthenticationArguments,
        authorization: &AuthorizationArguments,
        token_file: Option<&Path>,
        clients: &ClientAuthority,
        gate: &mut GateConfig,
        metrics: &Registry,
    ) -> anyhow::Result<Self> {
        if let Some(path) = token_file {
            gate.static_tokens = StaticTokens::parse(&read_text(path)?, path)?;
        }
        let accounts = &authentication.accounts;
        if let Some((first, others)) = accounts.service_account_issuer.split_first() {
            gate.issuer = first.clone();
            gate.further_issuers = others.to_vec();
        }
        let issuers: Vec<String> = [&gate.issuer].into_iter().chain(&gate.further_issuers).cloned().collect();
        gate.audiences = authentication.api_audiences.clone();
        gate.jwks_uri = accounts.service_account_jwks_uri.clone();
        let longest = accounts.service_account_max_token_expiration.as_secs();
        gate.longest_token_life = (longest > 0).then(|| i64::try_from(longest).unwrap_or(i64::MAX));
        gate.extend_token_life = accounts.service_account_extend_token_expiration;
        gate.bootstrap_tokens = authentication.enable_bootstrap_token_auth;
        proxy(&authentication.proxy, clients, gate)?;
        let cache = TokenCacheMetrics::new(metrics);
        webhook(authentication, &issuers, &cache, gate)?;
        gate.token_cache = Some(cache);
        let counted = IssuerMetrics::new(metrics, &super::server_name());
        let mut setup = Self {
            authentication: authentication.clone(),
            authorization: authorization.clone(),
            tokens: Arc::new(JwtTokens::new(Vec::new(), Arc::clone(&gate.clock), counted)?),
            issuers,
            anonymous_of_file: None,
            authorizers: AuthorizerChain::default(),
        };
        let configuration =
            setup.read_authentication()?.map(|read| setup.authentication(&read)).transpose()?;
        let (followed, anonymous) = match configuration {
            Some(configuration) => (configuration.issuers, configuration.anonymous),
            None => (setup.oidc()?, None),
        };
        setup.tokens.replace(followed)?;
        setup.anonymous_of_file.clone_from(&anonymous);
        gate.jwt_tokens = Some(Arc::clone(&setup.tokens));
        gate.anonymous = match (authentication.anonymous_auth, anonymous) {
            (Some(_), Some(_)) => {
                bail!(
                    "--anonymous-auth cannot be set when the authentication configuration says who may come"
                )
            }
            (Some(true), None) => Anonymous::Everything,
            (Some(false), None) => Anonymous::Nothing,
            (None, Some(anonymous)) => anonymous,
            (None, None) => Anonymous::default(),
        };
        gate.authorizers = match setup.read_authorization()? {
            Some((path, text)) => {
                let policies = setup.authorization.authorization_policy_file.as_deref();
                AuthorizerChain::of_file(&text, &path, policies)?
            }
            None => setup.modes()?,
        };
        setup.authorizers = gate.authorizers.clone();
        Ok(setup)
    }

    pub(super) fn read_authentication(&self) -> anyhow::Result<Option<Read>> {
        read(self.authentication.authentication_config.as_ref())
    }

    pub(super) fn read_authorization(&self) -> anyhow::Result<Option<Read>> {
        read(self.authorization.authorization_config.as_ref())
    }

    pub(super) fn authentication(&self, (path, text): &Read) -> anyhow::Result<AuthenticationConfiguration> {
        Ok(AuthenticationConfiguration::of_file(text, path, &self.issuers)?)
    }

    fn oidc(&self) -> anyhow::Result<Vec<Issuer>> {
        let flags = &self.authentication.oidc;
        let (Some(issuer), Some(client_id)) = (&flags.oidc_issuer_url, &flags.oidc_client_id) else {
            return Ok(Vec::new());
        };
        let authority = flags.oidc_ca_file.as_deref().map(read_text).transpose()?.unwrap_or_default();
        let issuer = OidcFlags {
            issuer: issuer.clone(),
            client_id: client_id.clone(),
            authority,
            username_claim: flags.oidc_username_claim.clone(),
            username_prefix: flags.oidc_username_prefix.clone(),
            groups_claim: flags.oidc_groups_claim.clone(),
            groups_prefix: flags.oidc_groups_prefix.clone(),
            algorithms: flags.oidc_signing_algs.clone(),
            required: flags.oidc_required_claim.clone(),
        };
        Ok(vec![issuer.issuer(&self.issuers)?])
    }

    fn modes(&self) -> anyhow::Result<AuthorizerChain> {
        let flags = &self.authorization;
        let is_webhook = flags.authorization_mode.iter().any(|mode| mode == "Webhook");
        if flags.authorization_webhook_config_file.is_some() && !is_webhook {
            bail!("cannot specify --authorization-webhook-config-file without mode Webhook");
        }
        let is_abac = flags.authorization_mode.iter().any(|mode| mode == "ABAC");
        if flags.authorization_policy_file.is_some() && !is_abac {
            bail!("cannot specify --authorization-policy-file without mode ABAC");
        }
        if flags.authorization_mode.is_empty() {
            return Ok(AuthorizerChain::default());
        }
        let webhook = flags.authorization_webhook_config_file.as_ref().map(|kubeconfig| ModeWebhook {
            kubeconfig: kubeconfig.clone(),
            version: ReviewVersion::parse(&flags.authorization_webhook_version).unwrap_or_default(),
            authorized: flags.authorization_webhook_cache_authorized_ttl,
            unauthorized: flags.authorization_webhook_cache_unauthorized_ttl,
        });
        let policies = flags.authorization_policy_file.as_deref();
        Ok(AuthorizerChain::of_modes(&flags.authorization_mode, webhook.as_ref(), policies)?)
    }
}

fn read(path: Option<&PathBuf>) -> anyhow::Result<Option<Read>> {
    path.map(|path| Ok((path.clone(), read_text(path)?))).transpose()
}

/// Believes front proxies, whose certificates are told from those of clients.
fn proxy(flags: &ProxyArguments, clients: &ClientAuthority, gate: &mut GateConfig) -> anyhow::Result<()> {
    let (Some(path), Some(verifier)) = (&flags.requestheader_client_ca_file, &clients.proxies) else {
        return Ok(());
    };
    let authority = read_text(path)?;
    if authority.trim() == clients.pem.trim() && flags.requestheader_allowed_names.is_empty() {
        bail!(
            "--requestheader-client-ca-file is the authority of all clients: pass --requestheader-allowed-names, or each \
             of them could say to be anybody"
        );
    }
    let headers = ProxyHeaders {
        user: flags.requestheader_username_headers.clone(),
        uid: flags.requestheader_uid_headers.clone(),
        groups: flags.requestheader_group_headers.clone(),
        extra_prefixes: flags.requestheader_extra_headers_prefix.clone(),
    };
    let names = flags.requestheader_allowed_names.clone();
    gate.front_proxy = Some(Arc::new(FrontProxy::new(Arc::clone(verifier), names, headers)));
    gate.client_authority = Some(Arc::clone(&clients.verifier));
    Ok(())
}

fn webhook(
    flags: &AuthenticationArguments,
    issuers: &[String],
    cache: &TokenCacheMetrics,
    gate: &mut GateConfig,
) -> anyhow::Result<()> {
    let Some(path) = &flags.authentication_token_webhook_config_file else { return Ok(()) };
    let version = ReviewVersion::parse(&flags.authentication_token_webhook_version).unwrap_or_default();
    let audiences = if flags.api_audiences.is_empty() { issuers } else { &flags.api_audiences };
    let life = flags.authentication_token_webhook_cache_ttl;
    let tokens = WebhookTokens::new(path, version, life, audiences.to_vec(), cache.clone())?;
    gate.webhook_tokens = Some(Arc::new(tokens));
    Ok(())
}
