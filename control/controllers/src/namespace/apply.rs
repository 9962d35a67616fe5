//! Deletes the content, writes the status, finalizes.

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams, PropagationPolicy};
use kube::core::{DynamicObject, ObjectMeta};

use super::plan::{self, FINALIZER, Kind, Remaining, is_pods};
use crate::discovery;
use crate::error::{During, Result};
use crate::runtime::clock::{Clock, until};
use crate::runtime::key::ObjectKey;
use crate::runtime::worker::Requeue;

pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) clock: Clock,
}

impl Writer {
    /// One pass: delete what is there, then say what is left or let the namespace go.
    pub(super) async fn empty(&self, namespace: &Namespace) -> Result<Requeue> {
        let key = ObjectKey::of(&namespace.metadata);
        let mut current = namespace.clone();
        if phase(namespace) != Some("Terminating") {
            current.status.get_or_insert_default().phase = Some("Terminating".to_owned());
            current = self.write_status(&key, &current).await?;
        }
        let remaining = self.delete_content(&key.name).await?;
        if remaining.is_nothing() {
            self.finalize(&key, &current).await?;
            return Ok(Requeue::Done);
        }
        let old = current.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        if let Some(conditions) = plan::merge(&old, remaining.conditions(&self.clock.time())) {
            current.status.get_or_insert_default().conditions = Some(conditions);
            self.write_status(&key, &current).await?;
        }
        Ok(Requeue::After(remaining.look_again(self.pass(namespace))))
    }

    /// How long the namespace has been going away, as the number of the next look.
    fn pass(&self, namespace: &Namespace) -> u32 {
        let Some(since) = namespace.metadata.deletion_timestamp.as_ref() else { return 0 };
        let seconds = until(since.0, self.clock.now()).as_secs();
        seconds.checked_ilog2().unwrap_or(0)
    }

    async fn delete_content(&self, namespace: &str) -> Result<Remaining> {
        let kinds = plan::kinds(discovery::kinds(&self.client).await?);
        let mut remaining = Remaining::default();
        if kinds.is_empty() {
            remaining.undiscovered = Some("the API server names no namespaced kinds".to_owned());
        }
        for kind in &kinds {
            let outcome = self.delete_kind(namespace, kind).await;
            match outcome {
                Ok(left) => remaining.add(kind, &left),
                // A kind that is gone since discovery, or cannot be deleted through its group: nothing to do.
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    remaining.failures.push(format!("{}: {}", kind.resource.plural, error.reason()))
                }
            }
            if is_pods(kind) && !remaining.objects.is_empty() {
                break;
            }
        }
        Ok(remaining)
    }

    /// Deletes the objects of one kind; what is left of them.
    async fn delete_kind(&self, namespace: &str, kind: &Kind) -> Result<Vec<ObjectMeta>> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind.resource);
        let of = || format!("{} in namespace {namespace}", kind.resource.plural);
        let list = async || -> Result<Vec<ObjectMeta>> {
            let objects = api.list_metadata(&ListParams::default()).await.during("list", of())?;
            Ok(objects.items.into_iter().map(|object| object.metadata).collect())
        };
        let there = list().await?;
        if there.is_empty() {
            return Ok(there);
        }
        // Those whose deletion was asked for before need no second request.
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        if there.iter().any(|object| object.deletion_timestamp.is_none()) {
            if kind.collection {
                api.delete_collection(&params, &ListParams::default()).await.during("delete", of())?;
            } else {
                for object in &there {
                    let name = object.name.as_deref().unwrap_or_default();
                    match api.delete(name, &params).await.during("delete", ObjectKey::of(object)) {
                        Err(error) if !error.is_not_found() => return Err(error),
                        _ => {}
                    }
                }
            }
        }
        list().await
    }

    async fn write_status(&self, key: &ObjectKey, namespace: &Namespace) -> Result<Namespace> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.replace_status(&key.name, &PostParams::default(), namespace)
            .await
            .during("update status of namespace", key)
    }

    async fn finalize(&self, key: &ObjectKey, namespace: &Namespace) -> Result<()> {
        let mut namespace = namespace.clone();
        if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|name| name != FINALIZER);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let done = api.replace_subresource("finalize", &key.name, &PostParams::default(), &namespace).await;
        match done.during("finalize namespace", key) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

fn phase(namespace: &Namespace) -> Option<&str> {
    namespace.status.as_ref()?.phase.as_deref()
}
