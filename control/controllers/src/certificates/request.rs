//! What a request for a certificate (PKCS #10) asks for, and when a certificate ends.

use jiff::Timestamp;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::{Pem, parse_x509_pem};
use x509_parser::prelude::FromDer;

/// Whom a certificate is asked for, and under how many names of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The user.
    pub(super) common_name: String,
    /// The user's groups.
    pub(super) organizations: Vec<String>,
    pub(super) dns: usize,
    pub(super) addresses: usize,
    pub(super) emails: usize,
    pub(super) uris: usize,
}

impl Asked {
    /// Reads a request in PEM.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn read(pem: &[u8]) -> Result<Self, String> {
        let block = block(pem, "CERTIFICATE REQUEST").ok_or("PEM block type must be CERTIFICATE REQUEST")?;
        let (_, request) =
            X509CertificationRequest::from_der(&block.contents).map_err(|error| format!("asn1: {error}"))?;
        let subject = &request.certification_request_info.subject;
        let text = |name: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            name.as_str().map(str::to_owned).map_err(|error| format!("subject: {error}"))
        };
        // Of several names the last is meant, as upstream reads them.
        let common_name = subject.iter_common_name().last().map(text).transpose()?.unwrap_or_default();
        let organizations = subject.iter_organization().map(text).collect::<Result<_, _>>()?;
        let mut asked = Self { common_name, organizations, ..Self::default() };
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().for_each(|name| asked.count(name));
            }
        }
        Ok(asked)
    }

    fn count(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(_) => self.dns += 1,
            GeneralName::IPAddress(_) => self.addresses += 1,
            GeneralName::RFC822Name(_) => self.emails += 1,
            GeneralName::URI(_) => self.uris += 1,
            _ => {}
        }
    }
}

/// When the first certificate in this PEM ends; None if there is none.
pub(super) fn end(pem: &[u8]) -> Option<Timestamp> {
    let block = block(pem, "CERTIFICATE")?;
    let certificate = block.parse_x509().ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

fn block(pem: &[u8], label: &str) -> Option<Pem> {
    let (_, block) = parse_x509_pem(pem).ok()?;
    (block.label == label).then_some(block)
}
