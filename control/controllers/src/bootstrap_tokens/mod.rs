//! Bootstrap tokens: expired ones are deleted, and `kube-public/cluster-info` is signed with those that may sign.
//!
//! Watches the Secrets of the type `bootstrap.kubernetes.io/token` in kube-system, and that ConfigMap. Two controllers,
//! under upstream's names: [`TokenCleaner`] owns the end of the Secrets, [`BootstrapSigner`] owns the keys
//! `jws-kubeconfig-ID` of the ConfigMap. The signature lets a node that only knows a token believe the cluster's address
//! and authority (JWS, detached, HS256). Without that ConfigMap nothing is signed.

mod plan;

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};

use crate::Context;
use crate::error::{During, Result};
use crate::informers::{Informers, TOKENS};
use crate::runtime::clock::Clock;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// Where the address and authority of the cluster are published.
const PUBLIC: &str = "kube-public";
/// The ConfigMap there.
pub(crate) const CLUSTER_INFO: &str = "cluster-info";
/// Its key that is signed.
const KUBECONFIG: &str = "kubeconfig";

/// Deletes bootstrap tokens that have expired.
pub struct TokenCleaner {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
    clock: Clock,
}

impl TokenCleaner {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, _) = context.identity(Self::NAME);
        let queue: Queue<ObjectKey> = Queue::default();
        let to = queue.clone();
        context.informers.bootstrap_tokens.on_change(move |change| {
            to.add(ObjectKey::of(&change.object().metadata));
        });
        Self { queue, informers: context.informers.clone(), client, clock: context.clock.clone() }
    }
}

impl Reconcile for TokenCleaner {
    const NAME: &'static str = "token-cleaner";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let Some(secret) = self.informers.bootstrap_tokens.get(&key) else { return Ok(Requeue::Done) };
        let Some(left) = plan::left(&secret, self.clock.now().as_second()) else { return Ok(Requeue::Done) };
        if left > 0 {
            return Ok(Requeue::After(Duration::from_secs(left)));
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), TOKENS);
        let this_one = Preconditions { uid: secret.metadata.uid.clone(), resource_version: None };
        let how = DeleteParams { preconditions: Some(this_one), ..DeleteParams::default() };
        match api.delete(&key.name, &how).await.during("delete secret", &key) {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(Requeue::Done),
        }
    }
}

/// Signs `cluster-info`.
pub struct BootstrapSigner {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
    clock: Clock,
}

impl BootstrapSigner {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, _) = context.identity(Self::NAME);
        let queue: Queue<ObjectKey> = Queue::default();
        let to = queue.clone();
        context.informers.bootstrap_tokens.on_change(move |_| to.add(ObjectKey::new(PUBLIC, CLUSTER_INFO)));
        let to = queue.clone();
        context.informers.cluster_info.on_change(move |_| to.add(ObjectKey::new(PUBLIC, CLUSTER_INFO)));
        Self { queue, informers: context.informers.clone(), client, clock: context.clock.clone() }
    }
}

impl Reconcile for BootstrapSigner {
    const NAME: &'static str = "bootstrap-signer";
    const WORKERS: usize = 1;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let Some(there) = self.informers.cluster_info.get(&key) else { return Ok(Requeue::Done) };
        let tokens = self.informers.bootstrap_tokens.all();
        let now = self.clock.now().as_second();
        let secrets: BTreeMap<String, String> =
            tokens.iter().filter_map(|secret| plan::signing_token(secret, now)).collect();
        let Some(map) = plan::signed(&there, &secrets) else { return Ok(Requeue::Done) };
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), PUBLIC);
        match api.replace(CLUSTER_INFO, &PostParams::default(), &map).await.during("update configmap", &key) {
            // The watch tells of whoever was faster.
            Err(error) if !error.is_conflict() && !error.is_not_found() => Err(error),
            _ => Ok(Requeue::Done),
        }
    }
}
