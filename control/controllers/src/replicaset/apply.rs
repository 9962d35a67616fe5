//! Creates, deletes, adopts and releases pods, and writes the status.

use std::marker::PhantomData;
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};

use super::keeper::Keeper;
use super::plan::{Change, new_pod};
use crate::error::{During, Error, Result, first_of};
use crate::informers::Informers;
use crate::pod::Pod;
use crate::pod_state;
use crate::runtime::clock::Clock;
use crate::runtime::events::{Recorder, Severity};
use crate::runtime::expectations::Expectations;
use crate::runtime::key::ObjectKey;
use crate::runtime::ownership::{
    Claim, adopt_patch, claim, controller_of, controller_reference, matches, release_patch,
};

pub(super) struct Writer<K> {
    pub(super) kind: PhantomData<K>,
    pub(super) client: Client,
    pub(super) recorder: Recorder,
    pub(super) clock: Clock,
    pub(super) expectations: Arc<Expectations>,
}

impl<K: Keeper> Writer<K> {
    /// The pods of a set; adopts and releases as its selector says.
    pub(super) async fn claim(
        &self,
        object: &K,
        set: &ReplicaSet,
        informers: &Informers,
    ) -> Result<Vec<Arc<Pod>>> {
        let (meta, Some(spec)) = (&set.metadata, set.spec.as_ref()) else { return Ok(Vec::new()) };
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let uid = meta.uid.as_deref().unwrap_or_default();
        let mut candidates = informers.pods.controlled_by(uid);
        candidates
            .extend(informers.pods.orphans(namespace).into_iter().filter(|pod| pod_state::is_active(pod)));
        let (mut mine, mut checked) = (Vec::new(), false);
        for pod in candidates {
            let patch =
                match claim(meta, &pod.metadata, matches(&spec.selector, pod.metadata.labels.as_ref())) {
                    Claim::Ignore => continue,
                    Claim::Keep => {
                        mine.push(pod);
                        continue;
                    }
                    Claim::Adopt => {
                        if !std::mem::replace(&mut checked, true) {
                            self.still_there(object).await?;
                        }
                        adopt_patch(&pod.metadata, &controller_reference(object))
                    }
                    Claim::Release => release_patch(&pod.metadata, uid),
                };
            let key = ObjectKey::of(&pod.metadata);
            let api = self.pods(namespace);
            let patched = api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            match patched.during("claim pod", &key) {
                Ok(pod) if controller_of(&pod.metadata).is_some() => mine.push(Arc::new(pod)),
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(mine)
    }

    /// Nothing is adopted for a set that has been deleted, or replaced by one of the same name.
    async fn still_there(&self, object: &K) -> Result<()> {
        let key = ObjectKey::of(object.meta());
        let live = self.sets(&key.namespace).get(&key.name).await.during("get the owner of pods", &key)?;
        if live.meta().uid != object.meta().uid || live.meta().deletion_timestamp.is_some() {
            return Err(Error::StaleCache(format!("{} {key}", K::plural(&()))));
        }
        Ok(())
    }

    pub(super) async fn change_pods(&self, object: &K, set: &ReplicaSet, change: &Change) -> Result<()> {
        match change {
            Change::Keep => Ok(()),
            Change::Create(count) => self.create(object, set, *count).await,
            Change::Delete(pods) => self.delete(object, pods).await,
        }
    }

    /// Creates in batches of 1, 2, 4, ...: what is refused is refused a few times, not hundreds of times.
    async fn create(&self, object: &K, set: &ReplicaSet, count: usize) -> Result<()> {
        let key = ObjectKey::of(object.meta());
        self.expectations.expect_creations(&key, count);
        let pod = new_pod(set, controller_reference(object));
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let size = batch.min(left);
            let results = join_all((0..size).map(|_| self.create_one(object, &pod))).await;
            left -= size;
            let failures: Vec<Error> = results.into_iter().filter_map(Result::err).collect();
            if !failures.is_empty() {
                // Neither the failed ones nor those not tried will ever be seen.
                (0..failures.len() + left).for_each(|_| self.expectations.creation_observed(&key));
                if failures.iter().all(Error::is_namespace_terminating) {
                    return Ok(());
                }
                return first_of(size, failures, &key);
            }
            batch *= 2;
        }
        Ok(())
    }

    async fn create_one(&self, object: &K, pod: &ApiPod) -> Result<()> {
        let key = ObjectKey::of(object.meta());
        let pods: Api<ApiPod> = Api::namespaced(self.client.clone(), &key.namespace);
        let created = pods.create(&PostParams::default(), pod).await;
        match created.during("create pod of", &key) {
            Ok(pod) => {
                let message = format!("Created pod: {}", pod.metadata.name.unwrap_or_default());
                self.recorder.record(object, Severity::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) => {
                if !error.is_namespace_terminating() {
                    let message = format!("Error creating: {}", error.reason());
                    self.recorder.record(object, Severity::Warning, "FailedCreate", message);
                }
                Err(error)
            }
        }
    }

    async fn delete(&self, object: &K, pods: &[Arc<Pod>]) -> Result<()> {
        let key = ObjectKey::of(object.meta());
        self.expectations.expect_deletions(&key, pods.iter().filter_map(|pod| pod.metadata.uid.clone()));
        let results = join_all(pods.iter().map(|pod| self.delete_one(object, &key, pod))).await;
        first_of(pods.len(), results.into_iter().filter_map(Result::err).collect(), &key)
    }

    async fn delete_one(&self, object: &K, of: &ObjectKey, pod: &Pod) -> Result<()> {
        let key = ObjectKey::of(&pod.metadata);
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        match self.pods(&key.namespace).delete(&key.name, &params).await.during("delete pod", &key) {
            Ok(_) => {
                let message = format!("Deleted pod: {}", key.name);
                self.recorder.record(object, Severity::Normal, "SuccessfulDelete", message);
                Ok(())
            }
            Err(error) => {
                self.expectations.deletion_observed(of, pod.metadata.uid.as_deref().unwrap_or_default());
                if error.is_not_found() {
                    return Ok(());
                }
                let message = format!("Error deleting: {}", error.reason());
                self.recorder.record(object, Severity::Warning, "FailedDelete", message);
                Err(error)
            }
        }
    }

    pub(super) async fn write_status(&self, updated: &K) -> Result<()> {
        let key = ObjectKey::of(updated.meta());
        let api = self.sets(&key.namespace);
        api.replace_status(&key.name, &PostParams::default(), updated)
            .await
            .during("update status of the owner of pods", &key)?;
        Ok(())
    }

    fn sets(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }
}
