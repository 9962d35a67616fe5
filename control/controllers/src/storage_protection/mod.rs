//! Claims, volumes and classes of volume attributes stay as long as they are used: each carries a finalizer, which is
//! taken off when its deletion has been asked for and nobody uses it any more.
//!
//! Three controllers of one shape, under upstream's three identities. Watches claims, volumes, classes and pods; writes
//! finalizers only. The API server sets them on new objects; who was made without gets them here. Before a claim is let
//! go, the API is asked for pods once more, since one may be too new for the cache.

mod plan;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::plan::{CLAIM, CLASS, Step, VOLUME};
use crate::Context;
use crate::error::{During, Result};
use crate::informers::Informers;
use crate::pod::Pod;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// Writes an object as it was seen, but with these finalizers; nothing if it is gone.
async fn write<K>(api: &Api<K>, key: &ObjectKey, object: &K, finalizers: Vec<String>) -> Result<Requeue>
where
    K: Resource + Clone + DeserializeOwned + Serialize + Debug,
{
    let mut object = object.clone();
    object.meta_mut().finalizers = Some(finalizers);
    match api.replace(&key.name, &PostParams::default(), &object).await.during("update finalizers", key) {
        Err(error) if error.is_not_found() => Ok(Requeue::Done),
        other => other.map(|_| Requeue::Done),
    }
}

/// The controller of claims.
pub struct ClaimProtection {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
}

impl ClaimProtection {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, _) = context.identity(Self::NAME);
        let informers = context.informers.clone();
        let queue: Queue<ObjectKey> = Queue::default();
        let to = queue.clone();
        informers.claims.on_change(move |change| {
            if !change.is_deletion() {
                to.add(ObjectKey::of(&change.object().metadata));
            }
        });
        let to = queue.clone();
        informers.pods.on_change(move |change| {
            // What a pod uses becomes free when it goes, or comes to its end.
            let pod = change.object();
            let names = change.before().into_iter().chain([pod]).flat_map(|pod| plan::claims_of(pod));
            let namespace = pod.metadata.namespace.clone().unwrap_or_default();
            if change.is_deletion() || pod.metadata.deletion_timestamp.is_some() {
                names.for_each(|name| to.add(ObjectKey::new(&namespace, name)));
            }
        });
        Self { queue, informers, client }
    }

    async fn is_used(&self, key: &ObjectKey, claim: &PersistentVolumeClaim) -> Result<bool> {
        let pods = self.informers.pods.namespace(&key.namespace);
        if pods.iter().any(|pod| plan::uses(pod, claim)) {
            return Ok(true);
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let pods = api.list(&ListParams::default()).await.during("list pods that may use a claim", key)?;
        Ok(pods.iter().any(|pod| plan::uses(pod, claim)))
    }
}

impl Reconcile for ClaimProtection {
    const NAME: &'static str = "pvc-protection-controller";
    const WORKERS: usize = 2;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let Some(claim) = self.informers.claims.get(&key) else { return Ok(Requeue::Done) };
        let step = plan::step(&claim.metadata, CLAIM);
        let release = matches!(step, Step::Release(_));
        let (Step::Protect(finalizers) | Step::Release(finalizers)) = step else { return Ok(Requeue::Done) };
        if release && self.is_used(&key, &claim).await? {
            return Ok(Requeue::Done);
        }
        let api = Api::namespaced(self.client.clone(), &key.namespace);
        write::<PersistentVolumeClaim>(&api, &key, &claim, finalizers).await
    }
}

/// The controller of volumes.
pub struct VolumeProtection {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
}

impl VolumeProtection {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, _) = context.identity(Self::NAME);
        let informers = context.informers.clone();
        let queue: Queue<ObjectKey> = Queue::default();
        let to = queue.clone();
        informers.volumes.on_change(move |change| {
            if !change.is_deletion() {
                to.add(ObjectKey::of(&change.object().metadata));
            }
        });
        Self { queue, informers, client }
    }
}

impl Reconcile for VolumeProtection {
    const NAME: &'static str = "pv-protection-controller";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let Some(volume) = self.informers.volumes.get(&key) else { return Ok(Requeue::Done) };
        let finalizers = match plan::step(&volume.metadata, VOLUME) {
            Step::Release(_) if plan::is_bound(&volume) => return Ok(Requeue::Done),
            Step::Nothing => return Ok(Requeue::Done),
            Step::Protect(finalizers) | Step::Release(finalizers) => finalizers,
        };
        let api = Api::all(self.client.clone());
        write::<PersistentVolume>(&api, &key, &volume, finalizers).await
    }
}

/// The controller of classes of volume attributes.
pub struct ClassProtection {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
}

impl ClassProtection {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, _) = context.identity(Self::NAME);
        let informers = context.informers.clone();
        let queue: Queue<ObjectKey> = Queue::default();
        let to = queue.clone();
        informers.attribute_classes.on_change(move |change| {
            if !change.is_deletion() {
                to.add(ObjectKey::of(&change.object().metadata));
            }
        });
        let to = queue.clone();
        informers.claims.on_change(move |change| {
            // Whoever left a class may have been the last to use it.
            for name in change.before().into_iter().flat_map(|claim| plan::classes_of_claim(claim)) {
                to.add(ObjectKey::cluster(name));
            }
        });
        let to = queue.clone();
        informers.volumes.on_change(move |change| {
            for name in change.before().into_iter().filter_map(|volume| plan::class_of_volume(volume)) {
                to.add(ObjectKey::cluster(name));
            }
        });
        Self { queue, informers, client }
    }

    fn is_used(&self, name: &str) -> bool {
        let claims = self.informers.claims.all();
        claims.iter().any(|claim| plan::classes_of_claim(claim).contains(&name))
            || self.informers.volumes.all().iter().any(|volume| plan::class_of_volume(volume) == Some(name))
    }
}

impl Reconcile for ClassProtection {
    const NAME: &'static str = "volumeattributesclass-protection-controller";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let Some(class) = self.informers.attribute_classes.get(&key) else { return Ok(Requeue::Done) };
        let finalizers = match plan::step(&class.metadata, CLASS) {
            Step::Release(_) if self.is_used(&key.name) => return Ok(Requeue::Done),
            Step::Nothing => return Ok(Requeue::Done),
            Step::Protect(finalizers) | Step::Release(finalizers) => finalizers,
        };
        let api = Api::all(self.client.clone());
        write::<VolumeAttributesClass>(&api, &key, &class, finalizers).await
    }
}
