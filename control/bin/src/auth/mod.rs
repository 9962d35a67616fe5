//! Who is let in and to what: the flags of authentication and authorization, under upstream's names, and the files that
//! they name. Configuration files are read again when they change.

mod follow;
mod setup;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};

pub(crate) use setup::{ClientAuthority, Setup};

/// The name of this server, by which what it counts is told from what others count.
pub(crate) fn server_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn duration(text: &str) -> Result<Duration, String> {
    skep_server::authz::parse_duration(text).ok_or_else(|| "expected a duration such as 5m0s".to_owned())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected key=value")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Authentication")]
pub(crate) struct AuthenticationArguments {
    /// Authorities whose certificates clients may show, besides that of the data directory; followed while the server runs.
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca_file: Option<PathBuf>,
    /// Let requests without credentials ask for anything (roles still decide), or for nothing; without the flag they may
    /// ask for health and version.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) anonymous_auth: Option<bool>,
    /// A file with an AuthenticationConfiguration (apiserver.config.k8s.io): issuers of tokens, and the anonymous user.
    #[arg(long, value_name = "FILE", conflicts_with = "oidc_issuer_url")]
    pub(crate) authentication_config: Option<PathBuf>,
    /// What tokens must be for, to be accepted by this server; the issuer of service-account tokens if nothing else.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) api_audiences: Vec<String>,
    /// Accept the tokens of nodes that join: Secrets of the type bootstrap.kubernetes.io/token in kube-system.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) enable_bootstrap_token_auth: bool,
    /// A kubeconfig file that names the webhook to ask about tokens.
    #[arg(long, value_name = "FILE")]
    pub(crate) authentication_token_webhook_config_file: Option<PathBuf>,
    /// The version of TokenReview that it speaks.
    #[arg(long, value_name = "VERSION", default_value = "v1beta1", value_parser = ["v1beta1", "v1"])]
    pub(crate) authentication_token_webhook_version: String,
    /// How long its answers are remembered.
    #[arg(long, value_name = "DURATION", default_value = "2m0s", value_parser = duration)]
    pub(crate) authentication_token_webhook_cache_ttl: Duration,
    #[command(flatten)]
    pub(crate) proxy: ProxyArguments,
    #[command(flatten)]
    pub(crate) oidc: OidcArguments,
    #[command(flatten)]
    pub(crate) accounts: AccountArguments,
}

/// A proxy that says for whom it asks.
#[derive(Clone, Debug, Args)]
pub(crate) struct ProxyArguments {
    /// The authority of front proxies, which say in headers for whom they ask.
    #[arg(long, value_name = "FILE")]
    pub(crate) requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of front proxies; any that the authority signed, if there are none.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) requestheader_allowed_names: Vec<String>,
    /// Headers with the name of the user.
    #[arg(long, value_name = "HEADER", value_delimiter = ',', default_value = "X-Remote-User")]
    pub(crate) requestheader_username_headers: Vec<String>,
    /// Headers with the uid.
    #[arg(long, value_name = "HEADER", value_delimiter = ',', default_value = "X-Remote-Uid")]
    pub(crate) requestheader_uid_headers: Vec<String>,
    /// Headers with the groups.
    #[arg(long, value_name = "HEADER", value_delimiter = ',', default_value = "X-Remote-Group")]
    pub(crate) requestheader_group_headers: Vec<String>,
    /// How headers with further attributes begin.
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', default_value = "X-Remote-Extra-")]
    pub(crate) requestheader_extra_headers_prefix: Vec<String>,
}

/// One issuer by flags.
#[derive(Clone, Debug, Args)]
pub(crate) struct OidcArguments {
    /// The URL of an OpenID issuer whose tokens are accepted.
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    pub(crate) oidc_issuer_url: Option<String>,
    /// What its tokens must be for.
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    pub(crate) oidc_client_id: Option<String>,
    /// The authority of its certificate; what the machine trusts if there is none.
    #[arg(long, value_name = "FILE", requires = "oidc_issuer_url")]
    pub(crate) oidc_ca_file: Option<PathBuf>,
    /// The claim that is the user's name.
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    pub(crate) oidc_username_claim: String,
    /// What comes before it: the issuer and # if nothing is said, nothing for -.
    #[arg(long, value_name = "TEXT", default_value = "", allow_hyphen_values = true)]
    pub(crate) oidc_username_prefix: String,
    /// The claim with the user's groups.
    #[arg(long, value_name = "CLAIM", default_value = "")]
    pub(crate) oidc_groups_claim: String,
    /// What comes before each.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) oidc_groups_prefix: String,
    /// Algorithms that tokens may be signed with.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "RS256")]
    pub(crate) oidc_signing_algs: Vec<String>,
    /// A claim that must have a certain value; may be given several times.
    #[arg(long, value_name = "CLAIM=VALUE", value_parser = pair)]
    pub(crate) oidc_required_claim: Vec<(String, String)>,
}

/// Tokens of service accounts.
#[derive(Clone, Debug, Args)]
pub(crate) struct AccountArguments {
    /// Who issues service-account tokens; the first one signs, tokens of the others are accepted, too.
    #[arg(long, value_name = "URL")]
    pub(crate) service_account_issuer: Vec<String>,
    /// A file of keys that verify them; may be given several times. Those of the data directory always do.
    #[arg(long, value_name = "FILE")]
    pub(crate) service_account_key_file: Vec<PathBuf>,
    /// The key that signs them, in place of that of the data directory.
    #[arg(long, value_name = "FILE")]
    pub(crate) service_account_signing_key_file: Option<PathBuf>,
    /// Where the keys are published, if not below the issuer.
    #[arg(long, value_name = "URL")]
    pub(crate) service_account_jwks_uri: Option<String>,
    /// The longest life of such a token; 0s for no limit.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub(crate) service_account_max_token_expiration: Duration,
    /// Accept the tokens that admission gives to pods for a year, for clients that do not read them again.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true,
        default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) service_account_extend_token_expiration: bool,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Authorization")]
pub(crate) struct AuthorizationArguments {
    /// Who decides what a user may do, in order: Node, RBAC, ABAC, Webhook, AlwaysAllow, AlwaysDeny; Node,RBAC if nothing is
    /// said.
    #[arg(long, value_name = "MODE", value_delimiter = ',')]
    pub(crate) authorization_mode: Vec<String>,
    /// A file with an AuthorizationConfiguration (apiserver.config.k8s.io) in its place.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["authorization_mode", "authorization_webhook_config_file"])]
    pub(crate) authorization_config: Option<PathBuf>,
    /// The policies of ABAC, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) authorization_policy_file: Option<PathBuf>,
    /// A kubeconfig file that names the webhook of the mode Webhook.
    #[arg(long, value_name = "FILE")]
    pub(crate) authorization_webhook_config_file: Option<PathBuf>,
    /// The version of SubjectAccessReview that it speaks.
    #[arg(long, value_name = "VERSION", default_value = "v1beta1", value_parser = ["v1beta1", "v1"])]
    pub(crate) authorization_webhook_version: String,
    /// How long it is remembered that a request is allowed.
    #[arg(long, value_name = "DURATION", default_value = "5m0s", value_parser = duration)]
    pub(crate) authorization_webhook_cache_authorized_ttl: Duration,
    /// How long it is remembered that a request is not allowed.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) authorization_webhook_cache_unauthorized_ttl: Duration,
}
