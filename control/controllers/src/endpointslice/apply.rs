//! Writes slices: creations first, deletions last, so that no endpoint is missing in between.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};

use super::plan::Plan;
use super::tracker::Tracker;
use crate::error::{During, Error, Result};
use crate::runtime::events::{Recorder, Severity};
use crate::runtime::key::ObjectKey;

pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) recorder: Recorder,
    pub(super) tracker: Arc<Tracker>,
}

impl Writer {
    pub(super) async fn apply(&self, service: &Service, plan: Plan) -> Result<()> {
        let key = ObjectKey::of(&service.metadata);
        match self.write(&key, plan).await {
            Err(error) if error.is_namespace_terminating() => Ok(()),
            Err(error) => {
                if !error.is_conflict() {
                    let message =
                        format!("Error updating Endpoint Slices for Service {key}: {}", error.reason());
                    self.recorder.record(service, Severity::Warning, "FailedToUpdateEndpointSlices", message);
                }
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    async fn write(&self, key: &ObjectKey, plan: Plan) -> Result<()> {
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
