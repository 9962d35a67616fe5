//! Service networks: a ServiceCIDR stays as long as addresses of services depend on it, and says that it is ready.
//!
//! Watches ServiceCIDRs and IPAddresses. Writes the finalizer and the `Ready` condition of ServiceCIDRs. One that is
//! being deleted says so in its condition, which keeps API servers from giving out its addresses; its finalizer goes
//! when every address is covered by another network and [`plan::GRACE`] has passed, so that all servers have heard.
//! Every change of one network, or of an address in it, brings all networks that overlap back.

mod plan;
#[cfg(test)]
mod tests;

use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::Context;
use crate::error::{During, Result};
use crate::informers::Informers;
use crate::runtime::clock::Clock;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};
use plan::{Network, Step};

/// The controller's name, and its service account in kube-system.
pub const NAME: &str = "service-cidrs-controller";
/// What keeps a network.
pub const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// The controller.
pub struct ServiceCidrs {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
    clock: Clock,
}

impl ServiceCidrs {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, _) = context.identity(NAME);
        let informers = context.informers.clone();
        let queue: Queue<ObjectKey> = Queue::default();
        let (to, all) = (queue.clone(), informers.service_cidrs.clone());
        informers.service_cidrs.on_change(move |change| {
            to.add(ObjectKey::of(&change.object().metadata));
            // What it covers, or covers no longer, may be what another one waits for.
            let own = plan::networks(change.object());
            let others = all.all().into_iter().filter(|one| {
                plan::networks(one).iter().any(|other| own.iter().any(|own| own.overlaps(other)))
            });
            others.for_each(|one| to.add(ObjectKey::of(&one.metadata)));
        });
        let (to, all) = (queue.clone(), informers.service_cidrs.clone());
        informers.ip_addresses.on_change(move |change| {
            let Some(address) = plan::address(change.object()) else { return };
            let around = all.all().into_iter().filter(|one| {
                one.metadata.deletion_timestamp.is_some()
                    && plan::networks(one).iter().any(|network| network.contains(address))
            });
            around.for_each(|one| to.add(ObjectKey::of(&one.metadata)));
        });
        Self { queue, informers, client, clock: context.clock.clone() }
    }

    async fn say(&self, name: &str, condition: serde_json::Value) -> Result<Requeue> {
        let api: Api<ServiceCIDR> = Api::all(self.client.clone());
        let patch = json!({ "status": { "conditions": [condition] } });
        let written = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
        done(written.during("say the state of service network", name).map(drop))
    }

    async fn mark(&self, name: &str, list: &str) -> Result<Requeue> {
        let api: Api<ServiceCIDR> = Api::all(self.client.clone());
        let patch = json!({ "metadata": { list: [FINALIZER] } });
        let written = api.patch(name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
        done(written.during("write the finalizer of service network", name).map(drop))
    }
}

/// A network that is gone needs nothing.
fn done(outcome: Result<()>) -> Result<Requeue> {
    match outcome {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(Requeue::Done),
    }
}

impl Reconcile for ServiceCidrs {
    const NAME: &'static str = NAME;
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let Some(object) = self.informers.service_cidrs.get(&key) else { return Ok(Requeue::Done) };
        let others: Vec<Network> = self
            .informers
            .service_cidrs
            .all()
            .iter()
            .filter(|one| one.metadata.name != object.metadata.name)
            .flat_map(|one| plan::networks(one))
            .collect();
        let addresses = self.informers.ip_addresses.all();
        let addresses = addresses.iter().filter_map(|one| plan::address(one));
        let now = self.clock.time();
        match plan::plan(&object, &others, addresses, now.0) {
            Step::Protect => self.mark(&key.name, "finalizers").await,
            Step::Say(condition) => {
                let mut condition = serde_json::to_value(&condition).unwrap_or_default();
                condition["lastTransitionTime"] = json!(now);
                self.say(&key.name, condition).await
            }
            Step::Wait(time) => Ok(Requeue::After(time)),
            Step::Release => self.mark(&key.name, "$deleteFromPrimitiveList/finalizers").await,
            Step::Nothing => Ok(Requeue::Done),
        }
    }
}
