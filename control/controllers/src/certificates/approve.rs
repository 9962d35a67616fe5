//! Requests for the client certificates of nodes are approved where the authorizers say that the asker may have them.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use kube::api::PostParams;
use kube::{Api, Client};

use super::IDENTITY;
use super::plan::{self, Right};
use super::request::Asked;
use crate::Context;
use crate::error::{During, Result};
use crate::informers::Informers;
use crate::runtime::clock::Clock;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// When a request is looked at again whose asker has no right: it may be given one.
const AGAIN: Duration = Duration::from_secs(60);

/// The controller that approves.
pub struct Approving {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
    clock: Clock,
}

impl Approving {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, _) = context.identity(IDENTITY);
        let queue = super::queue_of(&context.informers);
        Self { queue, informers: context.informers.clone(), client, clock: context.clock.clone() }
    }

    /// Whether the asker may have such a certificate.
    async fn may(&self, request: &CertificateSigningRequest, right: Right, key: &ObjectKey) -> Result<bool> {
        let asker = request.spec.clone();
        let attributes = ResourceAttributes {
            group: Some("certificates.k8s.io".to_owned()),
            resource: Some("certificatesigningrequests".to_owned()),
            subresource: Some(right.subresource().to_owned()),
            verb: Some("create".to_owned()),
            version: Some("*".to_owned()),
            ..ResourceAttributes::default()
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: asker.username,
                uid: asker.uid,
                groups: asker.groups,
                extra: asker.extra,
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await.during("review access for", key)?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn approve(
        &self,
        request: &CertificateSigningRequest,
        right: Right,
        key: &ObjectKey,
    ) -> Result<Requeue> {
        let (mut new, now) = (request.clone(), Some(self.clock.time()));
        super::add(
            &mut new,
            CertificateSigningRequestCondition {
                type_: plan::APPROVED.to_owned(),
                status: "True".to_owned(),
                reason: Some("AutoApproved".to_owned()),
                message: Some(right.message().to_owned()),
                last_update_time: now.clone(),
                last_transition_time: now,
            },
        );
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let outcome = api.replace_subresource("approval", &key.name, &PostParams::default(), &new).await;
        super::written(outcome, "approve certificatesigningrequest", key)
    }
}

impl Reconcile for Approving {
    const NAME: &'static str = "certificatesigningrequest-approving-controller";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let request = self.informers.certificate_requests.get(&key);
        let Some(request) = request.filter(|request| plan::is_open(request)) else {
            return Ok(Requeue::Done);
        };
        // What cannot be read is left to people.
        let Ok(asked) = Asked::read(&request.spec.request.0) else { return Ok(Requeue::Done) };
        let rights = plan::rights(&request, &asked);
        for right in &rights {
            if self.may(&request, *right, &key).await? {
                return self.approve(&request, *right, &key).await;
            }
        }
        Ok(if rights.is_empty() { Requeue::Done } else { Requeue::After(AGAIN) })
    }
}
