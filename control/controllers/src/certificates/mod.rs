//! Certificates that are asked for: requests of nodes are approved where the asker may have them, approved ones are signed,
//! old ones are deleted.
//!
//! Watches CertificateSigningRequests. Three controllers under upstream's names: [`Approving`] owns the condition `Approved`
//! of requests by which kubelets get their first and their next client certificate; [`Signing`] owns the certificate and
//! the condition `Failed` of requests for the cluster's own signers, and is only started with a [`CertificateSigner`];
//! [`Cleaning`] deletes. What they decide is in `plan`, what a request asks for in `request`. A write that fails is tried
//! again with back-off.

mod approve;
mod clean;
mod plan;
mod request;
mod sign;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};

pub use approve::Approving;
pub use clean::Cleaning;
pub use sign::Signing;

use crate::error::{During, Result};
use crate::informers::Informers;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::Requeue;

/// The service account of their rights in kube-system.
const IDENTITY: &str = "certificate-controller";

/// Signs a certificate with the cluster's authority: the certificate in PEM, or why there is none.
pub type CertificateSigner =
    Arc<dyn Fn(&CertificateOf<'_>) -> std::result::Result<String, String> + Send + Sync>;

/// What a certificate is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateOf<'a> {
    /// The request (PKCS #10) in PEM: for whom, under which names, with which key.
    pub request: &'a [u8],
    /// What it is for, as the API names usages: `client auth`.
    pub usages: &'a [String],
    /// How long it lasts.
    pub life: Duration,
}

/// A queue of the requests that are new or changed.
fn queue_of(informers: &Informers) -> Queue<ObjectKey> {
    let queue: Queue<ObjectKey> = Queue::default();
    let to = queue.clone();
    informers.certificate_requests.on_change(move |change| {
        if !change.is_deletion() {
            to.add(ObjectKey::of(&change.object().metadata));
        }
    });
    queue
}

/// Adds a condition, with what else the status has.
fn add(request: &mut CertificateSigningRequest, condition: CertificateSigningRequestCondition) {
    request.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
}

/// What comes after a write: a watch tells of whoever was faster, and of what is gone.
fn written<T>(
    outcome: std::result::Result<T, kube::Error>,
    operation: &'static str,
    key: &ObjectKey,
) -> Result<Requeue> {
    match outcome.during(operation, key) {
        Err(error) if !error.is_conflict() && !error.is_not_found() => Err(error),
        _ => Ok(Requeue::Done),
    }
}
