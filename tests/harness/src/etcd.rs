//! The etcd of a highly available cluster: one member beside each control plane, behind TLS with certificates of its own
//! authority, as it is run in production.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::command::run;
use crate::layout::{Control, Layout};
use crate::process::{self, Place};

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// What a control plane needs to reach etcd.
#[derive(Clone, Debug)]
pub struct Access {
    /// The members' URLs for clients, separated by commas.
    pub endpoints: String,
    /// The authority of their certificates.
    pub authority: PathBuf,
    /// The certificate that they are shown,
    pub certificate: PathBuf,
    /// and its key.
    pub key: PathBuf,
}

/// How the control planes of `layout` reach their etcd.
pub fn access(layout: &Layout) -> Access {
    let folder = folder(layout);
    let urls: Vec<String> = layout.controls.iter().map(|one| url(one, CLIENT_PORT)).collect();
    Access {
        endpoints: urls.join(","),
        authority: folder.join("ca.crt"),
        certificate: folder.join("apiserver.crt"),
        key: folder.join("apiserver.key"),
    }
}

/// Issues what certificates are missing, and starts the members that do not run. Returns whether anything was missing.
pub fn ensure(layout: &Layout) -> Result<bool> {
    let issued = ensure_certificates(layout)?;
    let mut started = false;
    for control in &layout.controls {
        if process::find(layout, &control.beside("etcd")).is_none() {
            start(layout, control)?;
            started = true;
        }
    }
    Ok(issued || started)
}

/// Starts the member beside a control plane, which must not run.
pub fn start(layout: &Layout, control: &Control) -> Result<()> {
    let (folder, [client, peer]) = (folder(layout), [CLIENT_PORT, PEER_PORT].map(|port| url(control, port)));
    let all: Vec<String> =
        layout.controls.iter().map(|one| format!("{}={}", one.name, url(one, PEER_PORT))).collect();
    let file = |name: &str| folder.join(name).display().to_string();
    let (certificate, key) = (file(&format!("{}.crt", control.name)), file(&format!("{}.key", control.name)));
    let mut command = Place::Network(control.name.clone()).command("etcd");
    command.args(["--name", &control.name, "--logger=zap", "--data-dir"]).arg(folder.join(&control.name));
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &all.join(","), "--client-cert-auth", "--peer-client-cert-auth"]);
    for prefix in ["", "peer-"] {
        command.args([format!("--{prefix}cert-file={certificate}"), format!("--{prefix}key-file={key}")]);
        command.arg(format!("--{prefix}trusted-ca-file={}", file("ca.crt")));
    }
    process::start(layout, &control.beside("etcd"), &mut command)?;
    Ok(())
}

/// Whether the member beside a control plane knows a leader and answers.
pub fn is_healthy(layout: &Layout, control: &Control) -> bool {
    let access = access(layout);
    let [authority, certificate, key] =
        [&access.authority, &access.certificate, &access.key].map(|file| file.display().to_string());
    let health = format!("{}/health", url(control, CLIENT_PORT));
    let arguments = ["--silent", "--max-time", "2", "--cacert", &authority, "--cert", &certificate];
    let arguments = [&arguments[..], &["--key", &key, &health]].concat();
    run("curl", &arguments).is_ok_and(|answer| answer.contains(r#""health":"true""#))
}

fn folder(layout: &Layout) -> PathBuf {
    layout.state.join("etcd")
}

fn url(control: &Control, port: u16) -> String {
    format!("https://{}:{port}", control.ipv4())
}

fn ensure_certificates(layout: &Layout) -> Result<bool> {
    let folder = folder(layout);
    // Written last.
    let authority = folder.join("ca.crt");
    if authority.exists() {
        return Ok(false);
    }
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "etcd-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    for control in &layout.controls {
        issue(&issuer, &folder, &control.name, &[control.ipv4().parse()?])?;
    }
    issue(&issuer, &folder, "apiserver", &[])?;
    fs::write(&authority, issuer.as_ref().pem()).context("cannot write etcd's authority")?;
    Ok(true)
}

/// A certificate for clients, and for servers at these addresses.
fn issue(
    issuer: &CertifiedIssuer<'_, KeyPair>,
    folder: &Path,
    name: &str,
    addresses: &[IpAddr],
) -> Result<()> {
    let names: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let serves = !names.is_empty();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    if serves {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    let key = KeyPair::generate()?;
    fs::write(folder.join(format!("{name}.crt")), params.signed_by(&key, issuer)?.pem())?;
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
    Ok(())
}
