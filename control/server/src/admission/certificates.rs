//! CertificateApproval, CertificateSigning, ClusterTrustBundleAttest: who acts for a signer needs the right to that
//! signer; and CertificateSubjectRestriction: nobody becomes a member of `system:masters` by a certificate.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use skep_api::object::text;
use skep_api::status::Status;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::x509::AttributeTypeAndValue;

use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::authz::Authz;
use crate::gate::Authorizer;
use crate::pki::MASTERS;
use crate::request::RequestInfo;
use crate::user::UserInfo;

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// What somebody does in a signer's place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Approve,
    Sign,
    Attest,
}

struct Signers {
    authorizer: Arc<Authz>,
    act: Act,
}

struct SubjectRestriction;

pub(super) fn make_approval(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(Signers { authorizer: from.authorizer.clone(), act: Act::Approve }))
}

pub(super) fn make_signing(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(Signers { authorizer: from.authorizer.clone(), act: Act::Sign }))
}

pub(super) fn make_attest(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(Signers { authorizer: from.authorizer.clone(), act: Act::Attest }))
}

pub(super) fn make_restriction(_: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(SubjectRestriction))
}

#[async_trait]
impl Plugin for Signers {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match self.act {
            Act::Approve => attributes.updates() && attributes.is_part(GROUP, REQUESTS, "approval"),
            Act::Sign => attributes.updates() && attributes.is_part(GROUP, REQUESTS, "status"),
            Act::Attest => !attributes.deletes() && attributes.concerns(GROUP, "clustertrustbundles"),
        }
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some((signer, verb, why)) = self.question(attributes, object) else { return Ok(()) };
        if may(&*self.authorizer, attributes.user(), verb, signer).await {
            return Ok(());
        }
        Err(attributes.forbid(&format!("user not permitted to {why} signerName {signer:?}")))
    }
}

impl Signers {
    /// The signer, and the verb that is needed for it.
    fn question<'a>(
        &self,
        attributes: &Attributes<'a>,
        object: Option<&'a Value>,
    ) -> Option<(&'a str, &'static str, &'static str)> {
        let signer = |object: &'a Value| text(object, &["spec", "signerName"]);
        let (old, new) = (attributes.old, object?);
        match self.act {
            Act::Approve => Some((signer(old?), "approve", "approve requests with")),
            Act::Sign => {
                let same =
                    |member: &str| old.is_some_and(|old| old["status"][member] == new["status"][member]);
                let changed = !same("certificate") || !same("conditions");
                changed.then_some((signer(old?), "sign", "sign requests with"))
            }
            Act::Attest => {
                let same = old.is_some_and(|old| old["spec"] == new["spec"]);
                let concerns = !signer(new).is_empty() && !same;
                concerns.then_some((signer(new), "attest", "attest for"))
            }
        }
    }
}

/// Whether a user may act for a signer: by its name, or for all of its domain.
async fn may(authorizer: &dyn Authorizer, user: &UserInfo, verb: &str, signer: &str) -> bool {
    let all = signer.split_once('/').map(|(domain, _)| format!("{domain}/*"));
    for name in [Some(signer.to_owned()), all].into_iter().flatten() {
        let request = RequestInfo {
            is_resource: true,
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            version: "*".to_owned(),
            resource: "signers".to_owned(),
            name,
            ..RequestInfo::default()
        };
        if authorizer.authorize(user, &request).await.is_allowed() {
            return true;
        }
    }
    false
}

#[async_trait]
impl Plugin for SubjectRestriction {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.creates() && attributes.is(GROUP, REQUESTS)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(request) = object.filter(|one| text(one, &["spec", "signerName"]) == CLIENT_SIGNER) else {
            return Ok(());
        };
        match Subject::of(request) {
            Err(why) => Err(attributes.forbid(&format!("failed to parse CSR: {why}"))),
            Ok(subject) if subject.organizations.iter().any(|one| one == MASTERS) => Err(attributes
                .forbid(&format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"))),
            Ok(_) => Ok(()),
        }
    }
}

/// Whom a certificate would be for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
}

impl Subject {
    /// That of a `CertificateSigningRequest`.
    pub(super) fn of(request: &Value) -> Result<Self, String> {
        let pem = STANDARD
            .decode(text(request, &["spec", "request"]))
            .map_err(|_| "the request is not base64".to_owned())?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem)
            .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
        if pem.label != "CERTIFICATE REQUEST" {
            return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
        }
        let (_, parsed) =
            X509CertificationRequest::from_der(&pem.contents).map_err(|error| format!("asn1: {error}"))?;
        let subject = &parsed.certification_request_info.subject;
        // One attribute that cannot be read must not hide another one's name or group.
        let all = |names: &mut dyn Iterator<Item = &AttributeTypeAndValue<'_>>| {
            let texts = names.map(|name| name.as_str().map(str::to_owned));
            texts.collect::<Result<Vec<_>, _>>().map_err(|error| format!("subject: {error}"))
        };
        Ok(Self {
            // Of several names the last is meant, as whoever is shown the certificate reads them.
            common_name: all(&mut subject.iter_common_name())?.pop().unwrap_or_default(),
            organizations: all(&mut subject.iter_organization())?,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::string::BmpString;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};
    use serde_json::json;

    use super::*;
    use crate::gate::Decision;

    /// A `CertificateSigningRequest` for this subject.
    pub(in crate::admission) fn request(common_name: &str, group: &str, signer: &str) -> Value {
        of_subject(
            &[(DnType::CommonName, common_name.into()), (DnType::OrganizationName, group.into())],
            signer,
        )
    }

    /// One whose subject has these attributes in this order.
    fn of_subject(attributes: &[(DnType, DnValue)], signer: &str) -> Value {
        let mut params = CertificateParams::default();
        for (kind, value) in attributes {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        json!({ "spec": { "request": STANDARD.encode(pem), "signerName": signer } })
    }

    /// A common name beside the usual one.
    fn another_name() -> DnType {
        DnType::CustomDnType(vec![2, 5, 4, 3])
    }

    #[test]
    fn subject_is_read_from_the_request() {
        let subject = Subject::of(&request("system:node:n1", "system:nodes", "x")).unwrap();
        assert_eq!(subject.common_name, "system:node:n1");
        assert_eq!(subject.organizations, ["system:nodes"]);
        for bad in ["", "%", "aGVsbG8=", "LS0tLS1CRUdJTiBYLS0tLS0K"] {
            assert!(Subject::of(&json!({ "spec": { "request": bad } })).is_err(), "{bad}");
        }
    }

    #[test]
    fn subject_of_several_names_has_the_last() {
        let two = [(DnType::CommonName, "system:node:n1".into()), (another_name(), "system:node:n2".into())];
        assert_eq!(Subject::of(&of_subject(&two, "x")).unwrap().common_name, "system:node:n2");
        // One that cannot be read is no reason to go by the other.
        let unreadable = DnValue::BmpString(BmpString::try_from("system:node:n2").unwrap());
        let two = [(DnType::CommonName, "system:node:n1".into()), (another_name(), unreadable)];
        assert!(Subject::of(&of_subject(&two, "x")).unwrap_err().starts_with("subject: "));
    }

    struct Only(&'static str, &'static str);

    #[async_trait]
    impl Authorizer for Only {
        async fn authorize(&self, _: &UserInfo, request: &RequestInfo) -> Decision {
            let granted = request.group == GROUP
                && request.resource == "signers"
                && (request.verb.as_str(), request.name.as_str()) == (self.0, self.1);
            if granted { Decision::allow("") } else { Decision::none("") }
        }
    }

    #[tokio::test]
    async fn right_to_a_signer_is_that_to_its_name_or_its_domain() {
        let user = UserInfo::new("u", &[]);
        assert!(may(&Only("approve", "example.com/a"), &user, "approve", "example.com/a").await);
        assert!(may(&Only("approve", "example.com/*"), &user, "approve", "example.com/a").await);
        assert!(!may(&Only("approve", "example.com/b"), &user, "approve", "example.com/a").await);
        assert!(!may(&Only("sign", "example.com/a"), &user, "approve", "example.com/a").await);
    }
}
