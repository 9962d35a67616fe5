//! Requests that nobody needs any more are deleted.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};

use super::{IDENTITY, plan};
use crate::Context;
use crate::error::Result;
use crate::informers::Informers;
use crate::runtime::clock::{self, Clock};
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// The controller that deletes.
pub struct Cleaning {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
    clock: Clock,
}

impl Cleaning {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, _) = context.identity(IDENTITY);
        let queue = super::queue_of(&context.informers);
        Self { queue, informers: context.informers.clone(), client, clock: context.clock.clone() }
    }
}

impl Reconcile for Cleaning {
    const NAME: &'static str = "certificatesigningrequest-cleaner-controller";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let Some(request) = self.informers.certificate_requests.get(&key) else { return Ok(Requeue::Done) };
        let Some(end) = plan::end(&request) else { return Ok(Requeue::Done) };
        let now = self.clock.now();
        if now < end {
            return Ok(Requeue::After(clock::until(now, end)));
        }
        let this_one = Preconditions {
            uid: request.metadata.uid.clone(),
            resource_version: request.metadata.resource_version.clone(),
        };
        let how = DeleteParams { preconditions: Some(this_one), ..DeleteParams::default() };
        let api: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        super::written(api.delete(&key.name, &how).await, "delete certificatesigningrequest", &key)
    }
}
