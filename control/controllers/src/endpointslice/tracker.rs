//! Which writes of ours the cache of slices must show before we plan from it again.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;

use crate::runtime::key::ObjectKey;

/// Per service (or Endpoints object): the generation that was last written, by slice uid.
#[derive(Debug, Default)]
pub(crate) struct Tracker(Mutex<HashMap<ObjectKey, HashMap<String, i64>>>);

impl Tracker {
    /// The API answered a write with this slice.
    pub(crate) fn written(&self, service: &ObjectKey, slice: &EndpointSlice) {
        let (Some(uid), generation) = (slice.metadata.uid.clone(), slice.metadata.generation.unwrap_or(0))
        else {
            return;
        };
        self.0.lock().entry(service.clone()).or_default().insert(uid, generation);
    }

    /// A slice is gone, by our hand or another's.
    pub(crate) fn deleted(&self, service: &ObjectKey, slice: &EndpointSlice) {
        if let (Some(slices), Some(uid)) = (self.0.lock().get_mut(service), slice.metadata.uid.as_ref()) {
            slices.remove(uid);
        }
    }

    pub(crate) fn forget(&self, service: &ObjectKey) {
        self.0.lock().remove(service);
    }

    /// Whether a written slice is missing in the cache, or older there.
    pub(crate) fn is_behind(&self, service: &ObjectKey, cached: &[Arc<EndpointSlice>]) -> bool {
        let tracked = self.0.lock();
        let Some(expected) = tracked.get(service) else { return false };
        let seen = |uid: &String| cached.iter().find(|slice| slice.metadata.uid.as_ref() == Some(uid));
        expected.iter().any(|(uid, generation)| {
            seen(uid).is_none_or(|slice| slice.metadata.generation.unwrap_or(0) < *generation)
        })
    }
}
