//! Who may call: the API server's client identity, or a cluster administrator.
//!
//! That the certificate is the cluster authority's is checked by TLS before ([`crate::tls`]).

use http::StatusCode;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::refusal::Refusal;

/// Common name of the client certificate that the API server uses towards nodes.
const API_SERVER: &str = "system:kube-apiserver-kubelet-client";
/// Members of this organization may do everything in a cluster.
const ADMINISTRATORS: &str = "system:masters";

/// Lets the caller pass, or says why not: 401 without a certificate, 403 with somebody else's.
pub(crate) fn check(certificates: Option<&[CertificateDer<'_>]>) -> Result<(), Refusal> {
    let unauthorized = |why| Refusal::new(StatusCode::UNAUTHORIZED, format!("Unauthorized: {why}"));
    let Some(certificate) = certificates.and_then(<[_]>::first) else {
        return Err(unauthorized("a client certificate is required"));
    };
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Err(unauthorized("the client certificate cannot be read"));
    };
    let subject = certificate.subject();
    let names: Vec<&str> = subject.iter_common_name().filter_map(|name| name.as_str().ok()).collect();
    let mut groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    if names == [API_SERVER] || groups.any(|group| group == ADMINISTRATORS) {
        return Ok(());
    }
    let who = names.first().copied().unwrap_or_default();
    Err(Refusal::new(StatusCode::FORBIDDEN, format!("Forbidden: {who:?} may not use the node's endpoint")))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn status(name: &str, group: Option<&str>) -> Option<u16> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        check(Some(&[certificate.der().clone()])).err().map(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn caller_by_name_or_group_passes_and_others_do_not() {
        assert_eq!(status("system:kube-apiserver-kubelet-client", None), None);
        assert_eq!(status("kubernetes-admin", Some("system:masters")), None);
        assert_eq!(status("system:node:n1", Some("system:nodes")), Some(403));
        assert_eq!(status("system:masters", None), Some(403), "a group's name as a user's");
        assert_eq!(status("system:kube-apiserver-kubelet-client2", None), Some(403));
    }

    #[test]
    fn caller_without_a_readable_certificate_is_unknown() {
        assert_eq!(check(None).unwrap_err().status, StatusCode::UNAUTHORIZED);
        assert_eq!(check(Some(&[])).unwrap_err().status, StatusCode::UNAUTHORIZED);
        let junk = CertificateDer::from(vec![0x30, 0x82, 0xff]);
        assert_eq!(check(Some(&[junk])).unwrap_err().status, StatusCode::UNAUTHORIZED);
    }
}
