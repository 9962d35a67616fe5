//! Client certificates that are wrong in one way each: with none of them a request comes from anybody.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair,
};

use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A good client certificate, for the test to spoil.
fn good() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "kubernetes-admin");
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    let now = SystemTime::now();
    (params.not_before, params.not_after) = ((now - DAY).into(), (now + DAY).into());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn signed(server: &Server, params: &CertificateParams) -> Leaf {
    let read = |name: &str| std::fs::read_to_string(server.directory.path().join(name)).unwrap();
    let key = KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca.crt"), key).unwrap();
    let own = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&own, &issuer).unwrap();
    Leaf { certificate_pem: certificate.pem(), key_pem: own.serialize_pem() }
}

/// A client that shows a certificate whatever it thinks of it.
pub(super) fn shows(server: &Server, leaf: &Leaf) -> TlsConnector {
    let key = private_key(&leaf.key_pem).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let certified = CertifiedKey::new(certificates(&leaf.certificate_pem).unwrap(), key);
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(&server.pki.ca_pem().unwrap()).unwrap())
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    TlsConnector::from(Arc::new(config))
}

/// Whether a request comes with this certificate. If not, it is known that it had another one, or the connection ends: some
/// are such that not even the signature of the handshake can be held against them.
async fn passes(server: &Server, leaf: &Leaf) -> bool {
    let answer = match connect(server, &shows(server, leaf), "localhost").await {
        Ok(stream) => get(stream, false).await.ok(),
        Err(_) => None,
    };
    let passes = answer.as_ref().is_some_and(|answer| !answer.starts_with("0 "));
    assert_eq!(answer.is_none_or(|answer| answer.ends_with(" refused")), !passes);
    passes
}

#[tokio::test]
async fn certificate_that_is_wrong_in_one_way_gets_nothing() {
    let server = server(Limits::default()).await;
    assert!(passes(&server, &signed(&server, &good())).await);
    let now = SystemTime::now();
    let spoiled = |how: &dyn Fn(&mut CertificateParams)| {
        let mut params = good();
        how(&mut params);
        params
    };
    let wrong = [
        ("expired", spoiled(&|params| params.not_after = (now - DAY / 2).into())),
        ("not yet valid", spoiled(&|params| params.not_before = (now + DAY / 2).into())),
        (
            "for servers",
            spoiled(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ),
        (
            "for signing code",
            spoiled(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]),
        ),
        ("an authority", spoiled(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        (
            "a critical extension that nobody knows",
            spoiled(&|params| {
                let mut extension =
                    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
                extension.set_criticality(true);
                params.custom_extensions = vec![extension];
            }),
        ),
    ];
    for (what, params) in wrong {
        assert!(!passes(&server, &signed(&server, &params)).await, "{what}");
    }
    let own = KeyPair::generate().unwrap();
    let alone = good().self_signed(&own).unwrap();
    let alone = Leaf { certificate_pem: alone.pem(), key_pem: own.serialize_pem() };
    assert!(!passes(&server, &alone).await, "signed by itself");
}

#[tokio::test]
async fn certificate_of_a_client_signs_no_other() {
    let server = server(Limits::default()).await;
    let middle = KeyPair::generate().unwrap();
    let signer = signed(&server, &good());
    assert!(certificates(&signer.certificate_pem).is_ok());
    let params = good();
    let issuer = Issuer::from_params(&params, &middle);
    let own = KeyPair::generate().unwrap();
    let forged = good().signed_by(&own, &issuer).unwrap();
    let chain = format!("{}{}", forged.pem(), signer.certificate_pem);
    let leaf = Leaf { certificate_pem: chain, key_pem: own.serialize_pem() };
    assert!(!passes(&server, &leaf).await);
}
