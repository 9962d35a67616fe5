//! Flags as upstream has them, together and apart.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use clap::{Args, Parser};
use prometheus::Registry;
use skep_server::authn::{Anonymous, Verifier};
use skep_server::gate::GateConfig;
use skep_server::pki::{Pki, ServingNames};
use skep_server::streams::NodeClient;
use skep_server::tokens::Keys;

use super::{AuthenticationArguments, AuthorizationArguments, ClientAuthority, Setup};

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
        "--client-ca-file c --anonymous-auth=false --api-audiences a,b --enable-bootstrap-token-auth=false --oidc-issuer-url https://i \
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

struct Fixture {
    directory: tempfile::TempDir,
    authority: String,
    gate: GateConfig,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path(), ServingNames::default(), SystemTime::now()).unwrap();
    let authority = pki.ca_pem().unwrap();
    let nodes = NodeClient::new(&authority, &pki.kubelet_client().unwrap()).unwrap();
    let keys = Keys::from_pem(&pki.token_key_pem().unwrap(), "").unwrap();
    Fixture { directory, authority, gate: GateConfig::new(keys, nodes) }
}

impl Fixture {
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn apply(&mut self, line: &str) -> Result<Setup, String> {
        let line = parse(line)?;
        let verifier = Arc::new(Verifier::new(&self.authority).unwrap());
        let proxies = line.authentication.proxy.requestheader_client_ca_file.as_ref();
        let proxies = proxies.map(|path| std::fs::read_to_string(path).unwrap());
        let proxies = proxies.map(|pem| Arc::new(Verifier::new(&pem).unwrap()));
        let clients = ClientAuthority { pem: self.authority.clone(), verifier, proxies };
        Setup::apply(
            &line.authentication,
            &line.authorization,
            None,
            &clients,
            &mut self.gate,
            &Registry::new(),
        )
        .map_err(|error| format!("{error:#}"))
    }
}

const WHO: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";
const MAY: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n";

#[tokio::test]
async fn anonymous_user_comes_as_flag_or_file_says() {
    let mut fixture = fixture();
    fixture.apply("").unwrap();
    assert_eq!(fixture.gate.anonymous, Anonymous::Health);
    fixture.apply("--anonymous-auth").unwrap();
    assert_eq!(fixture.gate.anonymous, Anonymous::Everything);
    fixture.apply("--anonymous-auth=false").unwrap();
    assert_eq!(fixture.gate.anonymous, Anonymous::Nothing);
    let text = format!("{WHO}anonymous: {{enabled: true, conditions: [{{path: /livez}}]}}\n");
    let file = fixture.write("who", &text);
    fixture.apply(&format!("--authentication-config {file}")).unwrap();
    assert_eq!(fixture.gate.anonymous, Anonymous::Paths(vec!["/livez".into()]));
    assert!(fixture.apply(&format!("--authentication-config {file} --anonymous-auth=true")).is_err());
}

#[tokio::test]
async fn issuers_and_audiences_are_as_the_flags_say() {
    let mut fixture = fixture();
    let line = "--service-account-issuer https://a --service-account-issuer https://b --service-account-max-token-expiration 1h";
    fixture.apply(line).unwrap();
    assert_eq!(
        (fixture.gate.issuer.as_str(), fixture.gate.further_issuers.join(",")),
        ("https://a", "https://b".into())
    );
    assert_eq!(fixture.gate.longest_token_life, Some(3600));
    // No other issuer can have the name of an own one.
    let clash = "--service-account-issuer https://a --oidc-issuer-url https://a --oidc-client-id c";
    assert!(fixture.apply(clash).err().unwrap().contains("must not overlap with disallowed issuers"));
}

#[tokio::test]
async fn front_proxy_of_all_clients_needs_names() {
    let mut fixture = fixture();
    let ca = fixture.directory.path().join("ca.crt").display().to_string();
    assert!(
        fixture
            .apply(&format!("--requestheader-client-ca-file {ca}"))
            .err()
            .unwrap()
            .contains("allowed-names")
    );
    fixture
        .apply(&format!("--requestheader-client-ca-file {ca} --requestheader-allowed-names front"))
        .unwrap();
    assert!(fixture.gate.front_proxy.is_some() && fixture.gate.client_authority.is_some());
}

#[tokio::test]
async fn modes_and_files_make_the_chain_or_are_refused() {
    let mut fixture = fixture();
    let file = fixture.write("may", &format!("{MAY}- {{type: RBAC, name: rbac}}\n"));
    let bad = fixture.write("bad", MAY);
    let abac = fixture.write("abac.yaml", &format!("{MAY}- {{type: ABAC, name: abac}}\n"));
    let policies = fixture.write("abac", "{\"user\":\"alice\"}\n");
    for line in [
        "",
        "--authorization-mode Node,RBAC",
        &format!("--authorization-config {file}"),
        &format!("--authorization-mode ABAC --authorization-policy-file {policies}"),
        &format!("--authorization-config {abac} --authorization-policy-file {policies}"),
    ] {
        fixture.apply(line).unwrap();
    }
    for line in [
        "--authorization-mode Magic",
        "--authorization-mode Webhook",
        "--authorization-mode ABAC",
        "--authorization-mode ABAC --authorization-policy-file /nowhere",
        &format!("--authorization-mode RBAC --authorization-policy-file {policies}"),
        "--authorization-webhook-config-file f",
        "--authorization-config /nowhere",
        &format!("--authorization-config {bad}"),
        &format!("--authorization-config {abac}"),
    ] {
        assert!(fixture.apply(line).is_err(), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn configuration_that_changes_is_taken_up_and_a_wrong_one_is_not() {
    let mut fixture = fixture();
    let issuer = |url: &str| {
        format!(
            "{WHO}jwt: [{{issuer: {{url: '{url}', audiences: [a]}}, claimMappings: {{username: {{claim: sub, prefix: ''}}}}}}]\n"
        )
    };
    let file = fixture.write("who", &issuer("https://a"));
    let setup = fixture.apply(&format!("--authentication-config {file}")).unwrap();
    let replace = |text: String| setup.replace_authentication((PathBuf::from(&file), text));
    replace(format!("{WHO}jwt: []\n")).await.unwrap();
    for (text, why) in [
        (issuer("http://b"), "jwt[0].issuer.url"),
        (issuer("https://127.0.0.1:1"), "the keys of https://127.0.0.1:1 cannot be fetched"),
        (
            format!("{WHO}anonymous: {{enabled: true}}\n"),
            "anonymous: Forbidden: changed from initial configuration file",
        ),
    ] {
        let error = replace(text).await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
