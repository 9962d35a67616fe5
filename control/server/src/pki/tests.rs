//! The life of keys and certificates, with the clock in the test's hand.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Pki, ServingNames, issue_node_credentials};
use crate::error::Error;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn names() -> ServingNames {
    let addresses =
        vec!["172.30.0.1".parse().unwrap(), "10.96.0.1".parse().unwrap(), "fd30::1".parse().unwrap()];
    ServingNames { dns: vec!["api.example".into()], addresses }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn open_empty_directory_creates_files_only_the_owner_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pki");
    Pki::open(&path, names(), start()).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for key in [
        "ca.key",
        "apiserver.key",
        "apiserver-kubelet-client.key",
        "admin.key",
        "sa.key",
        "front-proxy-ca.key",
        "front-proxy-client.key",
    ] {
        assert_eq!(mode(&path.join(key)), 0o600, "{key}");
    }
}

#[test]
fn open_again_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    Pki::open(path, names(), start()).unwrap();
    let before: Vec<String> =
        ["ca.crt", "apiserver.crt", "admin.crt", "sa.key"].map(|f| text(&path.join(f))).into();
    let pki = Pki::open(path, names(), start() + DAY).unwrap();
    let after: Vec<String> =
        ["ca.crt", "apiserver.crt", "admin.crt", "sa.key"].map(|f| text(&path.join(f))).into();
    assert_eq!(before, after);
    assert!(!pki.refresh(start() + DAY).unwrap());
}

#[test]
fn refresh_near_expiry_renews_leaves_and_keeps_the_authority() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path(), names(), start()).unwrap();
    let (ca, leaf) = (pki.ca_pem().unwrap(), pki.serving().unwrap().certificate_pem);
    assert!(!pki.refresh(start() + 300 * DAY).unwrap());
    assert!(pki.refresh(start() + 310 * DAY).unwrap());
    assert_ne!(pki.serving().unwrap().certificate_pem, leaf);
    assert_eq!(pki.ca_pem().unwrap(), ca);
}

#[test]
fn open_with_other_names_issues_the_serving_certificate_anew() {
    let directory = tempfile::tempdir().unwrap();
    let first = Pki::open(directory.path(), names(), start()).unwrap();
    let (serving, admin) =
        (first.serving().unwrap().certificate_pem, text(&directory.path().join("admin.crt")));
    let mut more = names();
    more.dns.push("other.example".into());
    let second = Pki::open(directory.path(), more, start()).unwrap();
    assert_ne!(second.serving().unwrap().certificate_pem, serving);
    assert_eq!(text(&directory.path().join("admin.crt")), admin);
}

#[test]
fn open_after_crash_between_key_and_certificate_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    Pki::open(path, names(), start()).unwrap();
    // A key that was written without its certificate.
    std::fs::copy(path.join("admin.key"), path.join("apiserver.key")).unwrap();
    std::fs::remove_file(path.join("ca.crt")).unwrap();
    let pki = Pki::open(path, names(), start()).unwrap();
    let key = rcgen::KeyPair::from_pem(&pki.serving().unwrap().key_pem).unwrap();
    let block = super::leaf::parse_certificate(&pki.serving().unwrap().certificate_pem).unwrap();
    let public = rcgen::PublicKeyData::subject_public_key_info(&key);
    assert_eq!(block.parse_x509().unwrap().public_key().raw, public);
}

#[test]
fn open_with_authority_without_its_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    Pki::open(directory.path(), names(), start()).unwrap();
    std::fs::remove_file(directory.path().join("ca.key")).unwrap();
    assert!(matches!(Pki::open(directory.path(), names(), start()), Err(Error::Read { .. })));
    std::fs::copy(directory.path().join("admin.key"), directory.path().join("ca.key")).unwrap();
    assert!(matches!(Pki::open(directory.path(), names(), start()), Err(Error::KeyMismatch { .. })));
}

#[test]
fn node_credentials_bad_name_is_refused_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pki");
    Pki::open(&path, names(), start()).unwrap();
    for name in ["", "N1", "a b", "a/../b", "-a", "a..b", "x\ny"] {
        let out = directory.path().join("out");
        let result = issue_node_credentials(&path, name, &[], "https://172.30.0.1:6443", &out, start());
        assert!(matches!(result, Err(Error::NodeName { .. })), "{name:?}");
        assert!(!out.exists());
    }
}

#[test]
fn node_credentials_name_the_node_and_its_group() {
    let directory = tempfile::tempdir().unwrap();
    let (path, out) = (directory.path().join("pki"), directory.path().join("out"));
    Pki::open(&path, names(), start()).unwrap();
    let address = "172.30.0.11".parse().unwrap();
    issue_node_credentials(&path, "n1", &[address], "https://172.30.0.1:6443", &out, start()).unwrap();
    let block = super::leaf::parse_certificate(&text(&out.join("serving.crt"))).unwrap();
    let subject = block.parse_x509().unwrap().subject().to_string();
    assert!(subject.contains("CN=system:node:n1") && subject.contains("O=system:nodes"), "{subject}");
    let kubeconfig = text(&out.join("kubeconfig"));
    assert!(kubeconfig.contains("server: \"https://172.30.0.1:6443\""));
    assert_eq!(text(&out.join("ca.crt")), text(&path.join("ca.crt")));
}

#[test]
fn front_proxy_has_an_authority_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path(), names(), start()).unwrap();
    assert_ne!(pki.front_proxy_ca_pem().unwrap(), pki.ca_pem().unwrap());
    let client = pki.front_proxy_client().unwrap();
    let block = super::leaf::parse_certificate(&client.certificate_pem).unwrap();
    let certificate = block.parse_x509().unwrap();
    let signed_by = |pem: &str| {
        let block = super::leaf::parse_certificate(pem).unwrap();
        let authority = block.parse_x509().unwrap();
        certificate.verify_signature(Some(authority.public_key())).is_ok()
    };
    assert!(signed_by(&pki.front_proxy_ca_pem().unwrap()));
    assert!(!signed_by(&pki.ca_pem().unwrap()), "the cluster's authority does not vouch for the front proxy");
    assert_eq!(certificate.subject().to_string(), "CN=front-proxy-client");
}
