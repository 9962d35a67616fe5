//! etcd behind TLS that asks clients for certificates, as it is run in production; needs the tier `etcd`.

use std::sync::Arc;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

use super::EtcdStore;
use super::tests::{Etcd, create, events, keys, tier};
use crate::{Store, StoreError, suite};

/// An authority that issues certificates for tests.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in PEM.
struct Issued {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "etcd-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.as_ref().pem()
    }

    /// A certificate for `name`; what serves on 127.0.0.1 is also a client, of itself.
    fn issue(&self, name: &str, serves: bool) -> Issued {
        let names = if serves { vec!["127.0.0.1".to_owned()] } else { Vec::new() };
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        if serves {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}

/// etcd with a certificate of `authority`, which wants one of its clients as well.
fn secure(authority: &Authority) -> (Etcd, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let server = authority.issue("etcd", true);
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).display().to_string()
    };
    let flags = [
        format!("--trusted-ca-file={}", file("ca.crt", &authority.pem())),
        format!("--cert-file={}", file("server.crt", &server.certificate)),
        format!("--key-file={}", file("server.key", &server.key)),
        "--client-cert-auth=true".to_owned(),
    ];
    (Etcd::start_with("https", &flags), folder)
}

fn options(authority: &Authority, client: Option<&Issued>) -> ConnectOptions {
    let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(authority.pem()));
    if let Some(client) = client {
        tls = tls.identity(Identity::from_pem(&client.certificate, &client.key));
    }
    ConnectOptions::new().with_tls(tls)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_store_behind_tls_passes_the_suite_and_survives_a_restart() {
    if !tier() {
        return;
    }
    let authority = Authority::new();
    let (mut etcd, _folder) = secure(&authority);
    let client = authority.issue("skep", false);
    let store =
        EtcdStore::connect(&etcd.endpoints(), Some(options(&authority, Some(&client)))).await.unwrap();
    let store = Arc::new(store);
    suite::run(store.clone()).await;
    let mut watch = store.watch("/r/", store.current_revision().await.unwrap()).await.unwrap();
    etcd.restart();
    create(&store, "/r/a").await;
    assert_eq!(keys(&events(&mut watch, 1).await), ["/r/a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn stranger_and_strange_etcd_are_refused() {
    if !tier() {
        return;
    }
    let (authority, other) = (Authority::new(), Authority::new());
    let (etcd, _folder) = secure(&authority);
    let (client, stranger) = (authority.issue("skep", false), other.issue("skep", false));
    let endpoints = etcd.endpoints();
    let plain = vec![endpoints[0].replace("https", "http")];
    let cases = [
        ("no certificate", endpoints.clone(), Some(options(&authority, None))),
        ("a certificate of another authority", endpoints.clone(), Some(options(&authority, Some(&stranger)))),
        ("an etcd of another authority", endpoints.clone(), Some(options(&other, Some(&client)))),
        ("no TLS", plain, None),
    ];
    let tried = cases.map(|(case, endpoints, options)| async move {
        let connected = EtcdStore::connect(&endpoints, options).await.map(drop);
        assert!(matches!(connected, Err(StoreError::Backend { .. })), "{case}: {connected:?}");
    });
    futures::future::join_all(tried).await;
    // And it was not etcd that was out of order.
    EtcdStore::connect(&endpoints, Some(options(&authority, Some(&client)))).await.unwrap();
}
