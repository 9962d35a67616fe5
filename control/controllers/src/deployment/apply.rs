//! Carries a plan out, in its order, and stops at the first failure: the next look plans anew.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Api, Client};

use super::annotations::REVISION;
use super::hash::same_template;
use super::plan::{Action, Plan, after_collision, after_create_failed, size};
use crate::error::{During, Error, Result};
use crate::informers::Informers;
use crate::runtime::clock::Clock;
use crate::runtime::events::{Recorder, Severity};
use crate::runtime::key::ObjectKey;
use crate::runtime::ownership::{
    Claim, adopt_patch, claim, controller_of, controller_reference, matches, release_patch,
};
use crate::runtime::worker::Requeue;

pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) recorder: Recorder,
    pub(super) clock: Clock,
}

impl Writer {
    /// The ReplicaSets of a Deployment; those that nobody controls are adopted, those that no longer match
    /// are let go.
    pub(super) async fn claim(
        &self,
        deployment: &Deployment,
        informers: &Informers,
    ) -> Result<Vec<Arc<ReplicaSet>>> {
        let (meta, Some(spec)) = (&deployment.metadata, deployment.spec.as_ref()) else {
            return Ok(Vec::new());
        };
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let mut candidates = informers.replica_sets.controlled_by(meta.uid.as_deref().unwrap_or_default());
        candidates.extend(informers.replica_sets.orphans(namespace));
        let mut mine = Vec::new();
        let mut checked = false;
        for set in candidates {
            let fits = matches(&spec.selector, set.metadata.labels.as_ref());
            let patch = match claim(meta, &set.metadata, fits) {
                Claim::Ignore => continue,
                Claim::Keep => {
                    mine.push(set);
                    continue;
                }
                Claim::Adopt => {
                    if !std::mem::replace(&mut checked, true) {
                        self.still_there(deployment).await?;
                    }
                    adopt_patch(&set.metadata, &controller_reference(deployment))
                }
                Claim::Release => release_patch(&set.metadata, meta.uid.as_deref().unwrap_or_default()),
            };
            let name = set.metadata.name.as_deref().unwrap_or_default();
            match self.sets(namespace).patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(set) if controller_of(&set.metadata).is_some() => mine.push(Arc::new(set)),
                Ok(_) => {}
                Err(error) => {
                    match Err::<(), _>(error).during("claim replicaset", ObjectKey::of(&set.metadata)) {
                        Err(error) if error.is_not_found() => {}
                        other => other?,
                    }
                }
            }
        }
        Ok(mine)
    }

    /// Nothing is adopted for a Deployment that has been deleted, or replaced by one of the same name.
    async fn still_there(&self, deployment: &Deployment) -> Result<()> {
        let key = ObjectKey::of(&deployment.metadata);
        let live = self.deployments(&key.namespace).get(&key.name).await.during("get deployment", &key)?;
        if live.metadata.uid != deployment.metadata.uid || live.metadata.deletion_timestamp.is_some() {
            return Err(Error::StaleCache(format!("deployment {key}")));
        }
        Ok(())
    }

    pub(super) async fn apply(&self, deployment: &Deployment, plan: Plan) -> Result<Requeue> {
        if plan.selects_everything {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.record(deployment, Severity::Warning, "SelectingAll", message.to_owned());
        }
        for action in &plan.actions {
            match action {
                Action::Create(set) => {
                    if !self.create(deployment, set).await? {
                        return Ok(Requeue::Done);
                    }
                }
                Action::Update { set, scaled_from } => self.update(deployment, set, *scaled_from).await?,
                Action::Delete { name, uid } => self.delete(deployment, name, uid.clone()).await?,
            }
        }
        let mut current = deployment.clone();
        if let Some(revision) = plan.revision {
            current
                .metadata
                .annotations
                .get_or_insert_default()
                .insert(REVISION.to_owned(), revision.to_string());
            let key = ObjectKey::of(&deployment.metadata);
            let api = self.deployments(&key.namespace);
            current = api
                .replace(&key.name, &PostParams::default(), &current)
                .await
                .during("update revision of deployment", &key)?;
        }
        if let Some(status) = plan.status {
            self.write_status(&current, status).await?;
        }
        Ok(plan.requeue.map_or(Requeue::Done, Requeue::After))
    }

    /// Creates the ReplicaSet of a new template. False when the namespace is going away.
    async fn create(&self, deployment: &Deployment, set: &ReplicaSet) -> Result<bool> {
        let key = ObjectKey::of(&set.metadata);
        let api = self.sets(&key.namespace);
        let created = api.create(&PostParams::default(), set).await.during("create replicaset", &key);
        let error = match created {
            Ok(_) => {
                self.scaled(deployment, &key.name, 0, size(set));
                return Ok(true);
            }
            Err(error) => error,
        };
        if error.is_already_exists() {
            return self.settle_collision(deployment, set, error).await;
        }
        if error.is_namespace_terminating() {
            return Ok(false);
        }
        let why = error.reason();
        let message = format!("Failed to create new replica set \"{}\": {why}", key.name);
        self.recorder.record(deployment, Severity::Warning, super::conditions::SET_CREATE_FAILED, message);
        if let Some(status) = after_create_failed(deployment, &key.name, &why, self.clock.now()) {
            self.write_status(deployment, status).await?;
        }
        Err(error)
    }

    /// The name is taken: by the very set (the cache is behind), or by another one (then it needs another name).
    async fn settle_collision(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
        error: Error,
    ) -> Result<bool> {
        let key = ObjectKey::of(&set.metadata);
        let there = self.sets(&key.namespace).get(&key.name).await.during("get replicaset", &key)?;
        let mine = controller_of(&there.metadata).map(|owner| &owner.uid) == deployment.metadata.uid.as_ref();
        let template =
            |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
        if mine && same_template(&template(&there), &template(set)) {
            return Err(Error::StaleCache(format!("replicaset {key}")));
        }
        self.write_status(deployment, after_collision(deployment)).await?;
        Err(error)
    }

    async fn update(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
        scaled_from: Option<i32>,
    ) -> Result<()> {
        let key = ObjectKey::of(&set.metadata);
        let api = self.sets(&key.namespace);
        api.replace(&key.name, &PostParams::default(), set).await.during("update replicaset", &key)?;
        if let Some(from) = scaled_from {
            self.scaled(deployment, &key.name, from, size(set));
        }
        Ok(())
    }

    async fn delete(&self, deployment: &Deployment, name: &str, uid: Option<String>) -> Result<()> {
        let key = ObjectKey::new(deployment.metadata.namespace.as_deref().unwrap_or_default(), name);
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteParams::default()
        };
        match self.sets(&key.namespace).delete(name, &params).await.during("delete replicaset", &key) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn write_status(&self, deployment: &Deployment, status: DeploymentStatus) -> Result<()> {
        let key = ObjectKey::of(&deployment.metadata);
        let updated = Deployment { status: Some(status), ..deployment.clone() };
        let api = self.deployments(&key.namespace);
        api.replace_status(&key.name, &PostParams::default(), &updated)
            .await
            .during("update status of deployment", &key)?;
        Ok(())
    }

    fn scaled(&self, deployment: &Deployment, set: &str, from: i32, to: i32) {
        if from == to {
            return;
        }
        let direction = if from < to { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {set} from {from} to {to}");
        self.recorder.record(deployment, Severity::Normal, "ScalingReplicaSet", message);
    }

    fn sets(&self, namespace: &str) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn deployments(&self, namespace: &str) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), namespace)
    }
}
