//! Certificates for keys of others: an authority signs what a request (PKCS #10) asks for.
//!
//! Owns the encodings. Does not own who gets a certificate: that is for those who approve requests, and for the controller
//! that has approved ones signed.
//!
//! The certificate is made by rcgen, for nobody. rcgen writes one value of each kind into a name, and a user may be in
//! several groups; so the subject is then put in as the request has it, and what came of that is signed.

use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose as Extended, IsCa,
    KeyUsagePurpose as Usage, SigningKey as _, SubjectPublicKeyInfo,
};
use x509_parser::asn1_rs::Any;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::prelude::FromDer;

use super::authority::{Authority, BACKDATE, offset};
use super::leaf::parse_certificate;

/// A certificate for less than this keeps its whole life after it was signed, as upstream has it.
const SHORT: Duration = Duration::from_secs(8 * 3600);

impl Authority {
    /// The certificate in PEM for a request in PEM, with these usages (`client auth`) and no others, whatever it asks for.
    ///
    /// # Errors
    ///
    /// When the request is none or not signed with its own key, when a usage is none that a certificate has, or when the
    /// authority's own certificate has expired.
    pub fn sign(
        &self,
        request: &[u8],
        usages: &[String],
        life: Duration,
        now: SystemTime,
    ) -> Result<String, String> {
        let block = match x509_parser::pem::parse_x509_pem(request) {
            Ok((_, block)) if block.label == "CERTIFICATE REQUEST" => block,
            _ => return Err("PEM block type must be CERTIFICATE REQUEST".to_owned()),
        };
        let (_, request) = X509CertificationRequest::from_der(&block.contents).map_err(text)?;
        request.verify_signature().map_err(text)?;
        let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
            .map_err(text)?;
        let params = self.parameters(&request, usages, life, now)?;
        let nameless = params.signed_by(&key, self.issuer()).map_err(text)?;
        let der = self.with_subject(nameless.der(), request.certification_request_info.subject.as_raw())?;
        let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        Ok(pem::encode_config(&pem::Pem::new("CERTIFICATE", der), lines))
    }

    fn parameters(
        &self,
        request: &X509CertificationRequest<'_>,
        usages: &[String],
        life: Duration,
        now: SystemTime,
    ) -> Result<CertificateParams, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        (params.key_usages, params.extended_key_usages) = purposes(usages)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions = names(request).into_iter().collect();
        let end = self.end()?;
        if offset(now) >= end {
            return Err(format!("refusing to sign a certificate that expired in the past: NotAfter={end}"));
        }
        let until = if life < SHORT { now + life } else { now - BACKDATE + life };
        params.not_before = offset(now - BACKDATE);
        params.not_after = offset(until).min(end);
        Ok(params)
    }

    /// When the authority's own certificate ends: nothing that it signs lasts longer.
    fn end(&self) -> Result<time::OffsetDateTime, String> {
        let block = parse_certificate(self.certificate_pem()).map_err(text)?;
        let certificate = block.parse_x509().map_err(text)?;
        Ok(certificate.validity().not_after.to_datetime())
    }

    /// The same certificate for another subject.
    fn with_subject(&self, certificate: &[u8], subject: &[u8]) -> Result<Vec<u8>, String> {
        let parts = elements(certificate)?;
        let &[signed, algorithm, _] = parts.as_slice() else { return Err("not a certificate".to_owned()) };
        let mut parts = elements(signed)?;
        *parts.get_mut(SUBJECT).ok_or("a certificate without a subject")? = subject;
        let signed = sequence(&parts);
        let signature = self.issuer().key().sign(&signed).map_err(text)?;
        let signature = yasna::construct_der(|to| to.write_bitvec_bytes(&signature, signature.len() * 8));
        Ok(sequence(&[&signed, algorithm, &signature]))
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The place of the subject in what is signed of a certificate (RFC 5280, 4.1): version, serial number, algorithm, issuer
/// and validity come before.
const SUBJECT: usize = 5;

/// The parts of a sequence, each with its header.
fn elements(sequence: &[u8]) -> Result<Vec<&[u8]>, String> {
    let (_, whole) = Any::from_der(sequence).map_err(text)?;
    let (mut rest, mut found) = (whole.data, Vec::new());
    while !rest.is_empty() {
        let (behind, _) = Any::from_der(rest).map_err(text)?;
        found.push(&rest[..rest.len() - behind.len()]);
        rest = behind;
    }
    Ok(found)
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    yasna::construct_der(|to| {
        to.write_sequence(|to| parts.iter().for_each(|part| to.next().write_der(part)));
    })
}

/// The names of the host that a request asks for, as it writes them.
fn names(request: &X509CertificationRequest<'_>) -> Option<CustomExtension> {
    let attributes = request.certification_request_info.iter_attributes();
    let asked = attributes.filter_map(|attribute| match attribute.parsed_attribute() {
        ParsedCriAttribute::ExtensionRequest(asked) => Some(&asked.extensions),
        _ => None,
    });
    let names = asked.flatten().find(|extension| extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME)?;
    // 2.5.29.17
    let mut copy = CustomExtension::from_oid_content(&[2, 5, 29, 17], names.value.to_vec());
    copy.set_criticality(names.critical);
    Some(copy)
}

/// What a certificate is for, of usages as the API names them.
fn purposes(usages: &[String]) -> Result<(Vec<Usage>, Vec<Extended>), String> {
    let (mut plain, mut extended) = (Vec::new(), Vec::new());
    for usage in usages {
        match usage.as_str() {
            "signing" | "digital signature" => plain.push(Usage::DigitalSignature),
            "content commitment" => plain.push(Usage::ContentCommitment),
            "key encipherment" => plain.push(Usage::KeyEncipherment),
            "data encipherment" => plain.push(Usage::DataEncipherment),
            "key agreement" => plain.push(Usage::KeyAgreement),
            "cert sign" => plain.push(Usage::KeyCertSign),
            "crl sign" => plain.push(Usage::CrlSign),
            "encipher only" => plain.push(Usage::EncipherOnly),
            "decipher only" => plain.push(Usage::DecipherOnly),
            "any" => extended.push(Extended::Any),
            "server auth" => extended.push(Extended::ServerAuth),
            "client auth" => extended.push(Extended::ClientAuth),
            "code signing" => extended.push(Extended::CodeSigning),
            "email protection" | "s/mime" => extended.push(Extended::EmailProtection),
            "timestamping" => extended.push(Extended::TimeStamping),
            "ocsp signing" => extended.push(Extended::OcspSigning),
            other => return Err(format!("unrecognized usage {other:?}")),
        }
    }
    plain.dedup();
    Ok((plain, extended))
}

#[cfg(test)]
mod tests {
    use rcgen::{DnType, KeyPair};
    use yasna::models::ObjectIdentifier;

    use x509_parser::prelude::X509Certificate;

    use super::super::Role;
    use super::*;

    fn request(subject: &[(DnType, &str)], names: &[&str], key: &KeyPair) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn authority() -> (Authority, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        (Authority::open_or_create(directory.path(), Role::Cluster, now()).unwrap(), directory)
    }

    fn usages(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn certificate_is_for_whom_and_what_was_approved() {
        let (authority, _directory) = authority();
        let key = KeyPair::generate().unwrap();
        let subject = [(DnType::OrganizationName, "dev"), (DnType::CommonName, "bob")];
        let pem = request(&subject, &["n1.example", "10.0.0.1"], &key);
        let of = usages(&["digital signature", "client auth"]);
        let signed = authority.sign(pem.as_bytes(), &of, HOUR, now()).unwrap();
        assert!(signed.starts_with("-----BEGIN CERTIFICATE-----\n"), "{signed}");
        let block = parse_certificate(&signed).unwrap();
        let certificate: X509Certificate<'_> = block.parse_x509().unwrap();
        let subject = certificate.subject();
        assert_eq!(subject.iter_common_name().next().unwrap().as_str().unwrap(), "bob");
        assert_eq!(subject.iter_organization().next().unwrap().as_str().unwrap(), "dev");
        assert!(!certificate.is_ca());
        assert_eq!(certificate.public_key().raw, rcgen::PublicKeyData::subject_public_key_info(&key));
        let extended = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.client_auth && !extended.server_auth);
        let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(certificate.validity().not_after.timestamp(), 1_800_003_600);
        let of_authority = parse_certificate(authority.certificate_pem()).unwrap();
        let issuer = of_authority.parse_x509().unwrap();
        certificate.verify_signature(Some(issuer.public_key())).unwrap();
        assert_eq!(certificate.issuer().as_raw(), issuer.subject().as_raw());
        // Nothing outlives the authority.
        let signed = authority.sign(pem.as_bytes(), &of, HOUR * 24 * 36_500, now()).unwrap();
        let block = parse_certificate(&signed).unwrap();
        assert_eq!(block.parse_x509().unwrap().validity().not_after, issuer.validity().not_after);
        let late = now() + HOUR * 24 * 36_500;
        assert!(authority.sign(pem.as_bytes(), &of, HOUR, late).unwrap_err().contains("expired in the past"));
    }

    /// A request as Go writes it: all groups in one set.
    fn of_groups(groups: &[&str], key: &KeyPair) -> Vec<u8> {
        let attribute = |to: yasna::DERWriter<'_>, kind: u64, value: &str| {
            to.write_sequence(|to| {
                to.next().write_oid(&ObjectIdentifier::from_slice(&[2, 5, 4, kind]));
                to.next().write_utf8_string(value);
            });
        };
        let info = yasna::construct_der(|to| {
            to.write_sequence(|to| {
                to.next().write_u8(0);
                to.next().write_sequence(|to| {
                    to.next().write_set_of(|to| {
                        groups.iter().for_each(|group| attribute(to.next(), 10, group));
                    });
                    to.next().write_set(|to| attribute(to.next(), 3, "bob"));
                });
                to.next().write_der(&rcgen::PublicKeyData::subject_public_key_info(key));
                to.next().write_tagged_implicit(yasna::Tag::context(0), |to| to.write_set_of(|_| {}));
            });
        });
        let signature = key.sign(&info).unwrap();
        yasna::construct_der(|to| {
            to.write_sequence(|to| {
                to.next().write_der(&info);
                // ecdsa-with-SHA256
                to.next().write_sequence(|to| {
                    to.next().write_oid(&ObjectIdentifier::from_slice(&[1, 2, 840, 10045, 4, 3, 2]));
                });
                to.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        })
    }

    fn in_pem(der: &[u8]) -> String {
        pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der))
    }

    #[test]
    fn every_group_of_a_subject_is_in_the_certificate() {
        let (authority, _directory) = authority();
        let pem = in_pem(&of_groups(&["dev", "ops", "qa"], &KeyPair::generate().unwrap()));
        let signed = authority.sign(pem.as_bytes(), &usages(&["client auth"]), HOUR, now()).unwrap();
        let block = parse_certificate(&signed).unwrap();
        let certificate = block.parse_x509().unwrap();
        let mut groups: Vec<_> =
            certificate.subject().iter_organization().map(|group| group.as_str().unwrap()).collect();
        groups.sort_unstable();
        assert_eq!(groups, ["dev", "ops", "qa"]);
    }

    #[test]
    fn request_that_was_changed_or_asks_too_much_gets_none() {
        let (authority, _directory) = authority();
        let der = of_groups(&["dev"], &KeyPair::generate().unwrap());
        let sign =
            |der: &[u8], names: &[&str]| authority.sign(in_pem(der).as_bytes(), &usages(names), HOUR, now());
        assert!(sign(&der, &["client auth"]).is_ok());
        assert_eq!(sign(&der, &["netscape sgc"]).unwrap_err(), "unrecognized usage \"netscape sgc\"");
        let forged: Vec<u8> = der.iter().map(|byte| if *byte == b'b' { b'r' } else { *byte }).collect();
        assert!(sign(&forged, &["client auth"]).is_err());
        for end in 0..der.len() {
            assert!(sign(&der[..end], &["client auth"]).is_err(), "{end} bytes");
        }
        let error = authority.sign(b"nothing", &[], HOUR, now()).unwrap_err();
        assert_eq!(error, "PEM block type must be CERTIFICATE REQUEST");
    }
}
