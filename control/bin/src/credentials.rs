//! `skep-control node-credentials`.

use std::time::SystemTime;

use anyhow::{Context, bail};
use skep_server::pki::issue_node_credentials;

use crate::flags::CredentialsArguments;

pub(crate) fn issue(arguments: &CredentialsArguments) -> anyhow::Result<()> {
    let CredentialsArguments { data_dir, node, ip, out, server } = arguments;
    if !server.starts_with("https://") {
        bail!("--server must be an https:// URL, not {server}");
    }
    let pki = data_dir.join("pki");
    if !pki.join("ca.crt").exists() {
        bail!(
            "{} has no cluster authority: start `skep-control run` with that --data-dir first",
            data_dir.display()
        );
    }
    issue_node_credentials(&pki, node, ip, server, out, SystemTime::now())
        .with_context(|| format!("cannot issue the credentials of {node}"))
}
