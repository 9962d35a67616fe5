//! ServiceAccount controller: every active namespace has the service account `default`.
//!
//! Watches namespaces and service accounts, creates what is missing.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};

use crate::Context;
use crate::error::{During, Result};
use crate::informers::Informers;
use crate::root_ca::is_active;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// The controller's name, and its service account in kube-system.
pub const NAME: &str = "service-account-controller";
/// The service account that every namespace has.
pub const DEFAULT: &str = "default";

/// The ServiceAccount controller.
pub struct ServiceAccounts {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
}

impl ServiceAccounts {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, _) = context.identity(NAME);
        let queue: Queue<ObjectKey> = Queue::default();
        let informers = context.informers.clone();
        let to = queue.clone();
        informers.namespaces.on_change(move |change| to.add(ObjectKey::of(&change.object().metadata)));
        let to = queue.clone();
        informers.service_accounts.on_change(move |change| {
            let meta = &change.object().metadata;
            if change.is_deletion() && meta.name.as_deref() == Some(DEFAULT) {
                to.add(ObjectKey::cluster(meta.namespace.clone().unwrap_or_default()));
            }
        });
        Self { queue, informers, client }
    }
}

impl Reconcile for ServiceAccounts {
    const NAME: &'static str = NAME;
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        if !self.informers.namespaces.get(&key).is_some_and(|namespace| is_active(&namespace)) {
            return Ok(Requeue::Done);
        }
        let of = ObjectKey::new(&key.name, DEFAULT);
        if self.informers.service_accounts.get(&of).is_some() {
            return Ok(Requeue::Done);
        }
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.name);
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(DEFAULT.to_owned()),
                namespace: Some(key.name.clone()),
                ..ObjectMeta::default()
            },
            ..ServiceAccount::default()
        };
        match api.create(&PostParams::default(), &account).await.during("create serviceaccount", &of) {
            Ok(_) => Ok(Requeue::Done),
            Err(error)
                if error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found() =>
            {
                Ok(Requeue::Done)
            }
            Err(error) => Err(error),
        }
    }
}
