//! ClusterRole aggregation: a role with an `aggregationRule` has the rules of all roles that it selects.
//!
//! Watches ClusterRoles, writes `rules` of those that gather (by server-side apply, which takes them over). Every change
//! of any role requeues all that gather: there are few, and which ones a label concerns only they can tell. A write that
//! fails is tried again with back-off.

mod plan;

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::Context;
use crate::error::{During, Result};
use crate::informers::Informers;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// The controller's name, and its service account in kube-system.
pub const NAME: &str = "clusterrole-aggregation-controller";

/// The controller.
pub struct AggregatedRoles {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
}

impl AggregatedRoles {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, _) = context.identity(NAME);
        let queue: Queue<ObjectKey> = Queue::default();
        let informers = context.informers.clone();
        let (to, roles) = (queue.clone(), informers.cluster_roles.clone());
        informers.cluster_roles.on_change(move |_| {
            let gathering = roles.all().into_iter().filter(|role| plan::gathers(role));
            gathering.for_each(|role| to.add(ObjectKey::of(&role.metadata)));
        });
        Self { queue, informers, client }
    }
}

impl Reconcile for AggregatedRoles {
    const NAME: &'static str = NAME;
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let Some(role) = self.informers.cluster_roles.get(&key) else { return Ok(Requeue::Done) };
        let Some(rules) = plan::rules(&role, &self.informers.cluster_roles.all()) else {
            return Ok(Requeue::Done);
        };
        let applied = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": { "name": key.name },
            "rules": rules,
        });
        let how = PatchParams::apply(NAME).force();
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        let written = api.patch(&key.name, &how, &Patch::Apply(applied)).await;
        written.during("apply clusterrole", &key).map(|_| Requeue::Done)
    }
}
