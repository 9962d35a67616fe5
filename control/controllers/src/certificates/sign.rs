//! Approved requests for the cluster's own signers get their certificates.

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use kube::api::PostParams;
use kube::{Api, Client};

use super::request::Asked;
use super::{CertificateOf, CertificateSigner, IDENTITY, plan};
use crate::Context;
use crate::error::{Error, Result};
use crate::informers::Informers;
use crate::runtime::clock::Clock;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// The controller that signs.
pub struct Signing {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
    clock: Clock,
    sign: CertificateSigner,
}

impl Signing {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>, sign: CertificateSigner) -> Self {
        let (client, _) = context.identity(IDENTITY);
        let queue = super::queue_of(&context.informers);
        Self { queue, informers: context.informers.clone(), client, clock: context.clock.clone(), sign }
    }

    /// The request with its certificate, or with what is wrong with it.
    fn answered(&self, request: &CertificateSigningRequest) -> Result<CertificateSigningRequest> {
        let (spec, mut new) = (&request.spec, request.clone());
        let usages = spec.usages.as_deref().unwrap_or_default();
        let checked =
            Asked::read(&spec.request.0).and_then(|asked| plan::check(&spec.signer_name, &asked, usages));
        if let Err(why) = checked {
            let now = Some(self.clock.time());
            super::add(
                &mut new,
                CertificateSigningRequestCondition {
                    type_: plan::FAILED.to_owned(),
                    status: "True".to_owned(),
                    reason: Some("SignerValidationFailure".to_owned()),
                    message: Some(why),
                    last_update_time: now.clone(),
                    last_transition_time: now,
                },
            );
            return Ok(new);
        }
        let life = plan::life(spec.expiration_seconds);
        let signed = (self.sign)(&CertificateOf { request: &spec.request.0, usages, life });
        let pem = signed
            .map_err(|why| Error::Certificate { object: ObjectKey::of(&request.metadata).name, why })?;
        new.status.get_or_insert_default().certificate = Some(ByteString(pem.into_bytes()));
        Ok(new)
    }
}

impl Reconcile for Signing {
    const NAME: &'static str = "certificatesigningrequest-signing-controller";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let request = self.informers.certificate_requests.get(&key);
        let Some(request) = request.filter(|request| plan::is_due(request)) else { return Ok(Requeue::Done) };
        let new = self.answered(&request)?;
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let outcome = api.replace_status(&key.name, &PostParams::default(), &new).await;
        super::written(outcome, "update status of certificatesigningrequest", &key)
    }
}
