//! Which requests are approved, signed and deleted, and what each of the cluster's signers signs: pure, upstream's rules.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::request::{self, Asked};
use crate::runtime::clock::plus_seconds;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// Certificates last no longer, whatever is asked for.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// And no shorter.
const SHORTEST: Duration = Duration::from_secs(600);

/// The conditions of a request.
pub(super) const APPROVED: &str = "Approved";
pub(super) const DENIED: &str = "Denied";
pub(super) const FAILED: &str = "Failed";

/// Seconds that an answered request stays after its answer,
const ANSWERED: i64 = 3600;
/// and one that nobody answers, or that was approved and gets no certificate.
const WAITING: i64 = 24 * 3600;

fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions.unwrap_or_default().iter().any(|one| one.type_ == kind && one.status == "True")
}

/// The certificate, once there is one.
fn certificate(request: &CertificateSigningRequest) -> Option<&[u8]> {
    let pem = request.status.as_ref()?.certificate.as_ref()?;
    (!pem.0.is_empty()).then_some(&pem.0)
}

/// Whether nobody has decided about the request.
pub(super) fn is_open(request: &CertificateSigningRequest) -> bool {
    certificate(request).is_none() && !has(request, APPROVED) && !has(request, DENIED)
}

/// Whether somebody approved the request and it has neither a certificate nor failed, and is for a signer of ours.
pub(super) fn is_due(request: &CertificateSigningRequest) -> bool {
    let ours = [CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY].contains(&request.spec.signer_name.as_str());
    let open = certificate(request).is_none() && !has(request, DENIED) && !has(request, FAILED);
    ours && open && has(request, APPROVED)
}

/// A right by which a request is approved without anybody looking at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// A node's next certificate, of the node itself.
    OfItself,
    /// A node's first one, of whoever may bring nodes.
    OfANode,
}

impl Right {
    /// What the asker must be allowed to create.
    pub(super) fn subresource(self) -> &'static str {
        match self {
            Self::OfItself => "selfnodeclient",
            Self::OfANode => "nodeclient",
        }
    }

    /// What the approval says.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::OfItself => "Auto approving self kubelet client certificate after SubjectAccessReview.",
            Self::OfANode => "Auto approving kubelet client certificate after SubjectAccessReview.",
        }
    }
}

/// Any of these rights is enough for the request. None is, if it is not for the client certificate of a node.
pub(super) fn rights(request: &CertificateSigningRequest, asked: &Asked) -> Vec<Right> {
    let spec = &request.spec;
    let usages = spec.usages.as_deref().unwrap_or_default();
    if spec.signer_name != KUBELET_CLIENT || check(KUBELET_CLIENT, asked, usages).is_err() {
        return Vec::new();
    }
    let own = spec.username.as_deref() == Some(asked.common_name.as_str());
    own.then_some(Right::OfItself).into_iter().chain([Right::OfANode]).collect()
}

/// When a request is deleted. None without the times to reckon from.
pub(super) fn end(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let conditions =
        request.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    if conditions.is_empty() {
        let created = request.metadata.creation_timestamp.as_ref()?;
        return Some(plus_seconds(created.0, WAITING));
    }
    let certificate = certificate(request);
    let ends = conditions.iter().flat_map(|one| {
        let approved = one.type_ == APPROVED;
        let stays = match one.type_.as_str() {
            DENIED | FAILED => Some(ANSWERED),
            _ if approved && certificate.is_some() => Some(ANSWERED),
            _ if approved => Some(WAITING),
            _ => None,
        };
        let since = one.last_update_time.as_ref();
        let old = stays.and_then(|stays| Some(plus_seconds(since?.0, stays)));
        [old, certificate.filter(|_| approved).and_then(request::end)]
    });
    ends.flatten().min()
}

/// How long a certificate lasts.
pub(super) fn life(asked_seconds: Option<i32>) -> Duration {
    let seconds = asked_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(LONGEST, |seconds| Duration::from_secs(seconds).clamp(SHORTEST, LONGEST))
}

/// Whether a signer signs such a request.
///
/// # Errors
/// Why not.
pub(super) fn check(signer: &str, asked: &Asked, usages: &[String]) -> Result<(), String> {
    match signer {
        CLIENT => client_usages(usages),
        KUBELET_CLIENT => {
            node_group(asked)?;
            none(asked.dns, "DNS")?;
            none(asked.emails, "Email")?;
            none(asked.addresses, "IP")?;
            none(asked.uris, "URI")?;
            node_name(asked)?;
            node_usages(usages, "client auth")
        }
        KUBELET_SERVING => {
            node_group(asked)?;
            if asked.dns + asked.addresses == 0 {
                return Err("DNS or IP subjectAltName is required".to_owned());
            }
            none(asked.emails, "Email")?;
            none(asked.uris, "URI")?;
            node_usages(usages, "server auth")?;
            node_name(asked)
        }
        _ => Ok(()),
    }
}

fn client_usages(usages: &[String]) -> Result<(), String> {
    let other = usages
        .iter()
        .find(|usage| !matches!(usage.as_str(), "digital signature" | "key encipherment" | "client auth"));
    if let Some(other) = other {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if !usages.iter().any(|usage| usage == "client auth") {
        return Err("missing required usage for client certificate: client auth".to_owned());
    }
    Ok(())
}

fn node_group(asked: &Asked) -> Result<(), String> {
    match asked.organizations.as_slice() {
        [only] if only == "system:nodes" => Ok(()),
        _ => Err("subject organization is not system:nodes".to_owned()),
    }
}

fn node_name(asked: &Asked) -> Result<(), String> {
    match asked.common_name.starts_with("system:node:") {
        true => Ok(()),
        false => Err("subject common name does not begin with system:node:".to_owned()),
    }
}

fn none(count: usize, kind: &str) -> Result<(), String> {
    if count == 0 { Ok(()) } else { Err(format!("{kind} subjectAltNames are not allowed")) }
}

fn node_usages(usages: &[String], role: &str) -> Result<(), String> {
    let given: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    // Keys that are not RSA encipher none.
    let least = BTreeSet::from(["digital signature", role]);
    let most = BTreeSet::from(["digital signature", "key encipherment", role]);
    if given == least || given == most {
        return Ok(());
    }
    let mut listed: Vec<&str> = most.into_iter().collect();
    listed.sort_unstable();
    Err(format!("usages did not match [{}]", listed.join(" ")))
}
