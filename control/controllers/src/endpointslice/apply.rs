//! Writes slices: creations first, deletions last, so that no endpoint is missing in between.

use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, Resource};

use super::plan::Plan;
use super::tracker::Tracker;
use crate::error::{During, Error, Result};
use crate::runtime::events::{Recorder, Severity};
use crate::runtime::key::ObjectKey;

pub(crate) struct Writer {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    pub(crate) tracker: Arc<Tracker>,
}

impl Writer {
    /// Applies the plan for a Service or an Endpoints object, to which a failure is told as an event.
    pub(crate) async fn apply<K>(&self, owner: &K, plan: Plan) -> Result<()>
    where
        K: Resource<DynamicType = ()>,
    {
        let key = ObjectKey::of(owner.meta());
        match self.write(&key, plan).await {
            Err(error) if error.is_namespace_terminating() => Ok(()),
            Err(error) => {
                if !error.is_conflict() {
                    let kind = K::kind(&());
                    let message =
                        format!("Error updating Endpoint Slices for {kind} {key}: {}", error.reason());
                    self.recorder.record(owner, Severity::Warning, "FailedToUpdateEndpointSlices", message);
                }
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    /// As [`Writer::apply`], without an object to tell.
    pub(crate) async fn write(&self, key: &ObjectKey, plan: Plan) -> Result<()> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.namespace);
        for slice in &plan.create {
            let created = api.create(&PostParams::default(), slice).await;
            self.tracker.written(key, &created.during("create endpointslice of service", key)?);
        }
        for slice in &plan.update {
            let of = ObjectKey::of(&slice.metadata);
            let updated = api.replace(&of.name, &PostParams::default(), slice).await;
            self.tracker.written(key, &updated.during("update endpointslice", &of)?);
        }
        for slice in &plan.delete {
            let of = ObjectKey::of(&slice.metadata);
            let preconditions = Preconditions { uid: slice.metadata.uid.clone(), resource_version: None };
            let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match api.delete(&of.name, &params).await.during("delete endpointslice", &of) {
                Err(error @ Error::Call { .. }) if !error.is_not_found() => return Err(error),
                _ => self.tracker.deleted(key, slice),
            }
        }
        Ok(())
    }
}
