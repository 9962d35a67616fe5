//! Flags as upstream has them, together and apart.

use clap::{Args, Parser};

use super::{AuthenticationArguments, AuthorizationArguments};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    authentication: AuthenticationArguments,
    #[command(flatten)]
    authorization: AuthorizationArguments,
}

fn parse(line: &str) -> Result<Line, String> {
    Line::try_parse_from(["x"].into_iter().chain(line.split_whitespace())).map_err(|error| error.to_string())
}

#[test]
fn flags_take_upstreams_names_and_values() {
    let line = parse(
        "--anonymous-auth=false --api-audiences a,b --enable-bootstrap-token-auth=false --oidc-issuer-url https://i \
         --oidc-client-id c --oidc-username-prefix - --oidc-required-claim a=b --oidc-required-claim c=d \
         --service-account-issuer https://x --service-account-issuer https://y --authorization-mode Node,RBAC,Webhook \
         --authorization-webhook-config-file f --authorization-webhook-cache-authorized-ttl 1m30s \
         --requestheader-allowed-names a,b --service-account-max-token-expiration 24h0m0s",
    )
    .unwrap();
    assert_eq!(line.authentication.anonymous_auth, Some(false));
    assert_eq!(line.authentication.oidc.oidc_required_claim.len(), 2);
    assert_eq!(line.authentication.oidc.oidc_username_prefix, "-");
    assert_eq!(line.authorization.authorization_mode, ["Node", "RBAC", "Webhook"]);
    assert_eq!(line.authorization.authorization_webhook_cache_authorized_ttl.as_secs(), 90);
    assert_eq!(line.authentication.accounts.service_account_max_token_expiration.as_secs(), 86_400);
}

#[test]
fn flags_that_exclude_each_other_are_refused() {
    for line in [
        "--authentication-config f --oidc-issuer-url https://i --oidc-client-id c",
        "--oidc-issuer-url https://i",
        "--oidc-client-id c",
        "--authorization-config f --authorization-mode RBAC",
        "--authorization-config f --authorization-webhook-config-file w",
        "--authorization-webhook-version v2",
        "--authentication-token-webhook-cache-ttl soon",
        "--oidc-required-claim a",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn flags_are_consistent() {
    let command = AuthorizationArguments::augment_args(clap::Command::new("x"));
    AuthenticationArguments::augment_args(command).debug_assert();
}
