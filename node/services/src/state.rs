//! What has been seen of Services and EndpointSlices, indexed by service, and which services a change touches.
//!
//! Owns: the observed state and the notion of "dirty". A change that the planner cannot tell from what was
//! there before (a new annotation, a status that we do not read) touches nothing. Does not plan and does no I/O.
//!
//! A watch that starts anew lists everything again: [`Relist`] remembers what the list named, and at its end
//! whatever was not named is gone.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use litemap::LiteMap;

use crate::model::{Service, ServiceName, Slice};
use crate::names::Names;

/// Namespace and name of an EndpointSlice.
type SliceKey = (Arc<str>, Arc<str>);

/// What one list names, while it runs.
#[derive(Debug)]
struct Relist<K> {
    seen: Option<HashSet<K>>,
    complete: bool,
}

impl<K> Default for Relist<K> {
    fn default() -> Self {
        Self { seen: None, complete: false }
    }
}

/// The observed Services and EndpointSlices.
#[derive(Debug, Default)]
pub struct Observed {
    services: HashMap<ServiceName, Service>,
    // Sorted by their names; most services have one.
    slices: HashMap<ServiceName, LiteMap<Arc<str>, Slice>>,
    owners: HashMap<SliceKey, ServiceName>,
    service_list: Relist<ServiceName>,
    slice_list: Relist<SliceKey>,
    dirty: BTreeSet<ServiceName>,
    // Names of namespaces and nodes, of which there are few while many objects have them.
    names: Names,
    // Sum over all slices, kept up to date so that a change does not count them all.
    endpoints: usize,
}

impl Observed {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// True once both kinds have been listed completely: before that, what is missing here may exist.
    pub fn is_complete(&self) -> bool {
        self.service_list.complete && self.slice_list.complete
    }

    /// The services touched since the last call, in order.
    pub fn take_dirty(&mut self) -> BTreeSet<ServiceName> {
        std::mem::take(&mut self.dirty)
    }

    /// How many services have been touched since the last [`Observed::take_dirty`].
    pub fn dirty_count(&self) -> usize {
        self.dirty.len()
    }

    /// Marks every known service as touched.
    pub fn touch_all(&mut self) {
        self.dirty.extend(self.services.keys().cloned());
    }

    /// The service of that name, when it is proxied here.
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.services.get(name)
    }

    /// The slices of that service.
    pub fn slices(&self, name: &ServiceName) -> impl Iterator<Item = &Slice> + Clone {
        self.slices.get(name).into_iter().flat_map(|slices| slices.values())
    }

    /// How many services are proxied here.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// How many endpoints all slices hold.
    pub fn endpoint_count(&self) -> usize {
        self.endpoints
    }

    /// Takes in one event of the Service watch.
    pub fn on_service(&mut self, event: Event<core::Service>) {
        match event {
            Event::Init => self.service_list.seen = Some(HashSet::new()),
            Event::InitApply(object) => {
                let name = service_name(&object);
                if let Some(seen) = self.service_list.seen.as_mut() {
                    seen.insert(name.clone());
                }
                self.set_service(name, Service::from_api(&object));
            }
            Event::Apply(object) => self.set_service(service_name(&object), Service::from_api(&object)),
            Event::Delete(object) => self.set_service(service_name(&object), None),
            Event::InitDone => {
                if let Some(seen) = self.service_list.seen.take() {
                    let gone: Vec<_> =
                        self.services.keys().filter(|name| !seen.contains(*name)).cloned().collect();
                    for name in gone {
                        self.set_service(name, None);
                    }
                }
                self.service_list.complete = true;
            }
        }
    }

    /// Takes in one event of the EndpointSlice watch.
    pub fn on_slice(&mut self, event: Event<discovery::EndpointSlice>) {
        match event {
            Event::Init => self.slice_list.seen = Some(HashSet::new()),
            Event::InitApply(object) => {
                let key = slice_key(&object);
                if let Some(seen) = self.slice_list.seen.as_mut() {
                    seen.insert(key.clone());
                }
                self.set_slice(key, Slice::from_api(&object));
            }
            Event::Apply(object) => self.set_slice(slice_key(&object), Slice::from_api(&object)),
            Event::Delete(object) => self.set_slice(slice_key(&object), None),
            Event::InitDone => {
                if let Some(seen) = self.slice_list.seen.take() {
                    let gone: Vec<_> =
                        self.owners.keys().filter(|key| !seen.contains(*key)).cloned().collect();
                    for key in gone {
                        self.set_slice(key, None);
                    }
                }
                self.slice_list.complete = true;
                self.names.sweep();
            }
        }
    }

    fn set_service(&mut self, mut name: ServiceName, service: Option<Service>) {
        if self.services.get(&name) == service.as_ref() {
            return;
        }
        match service {
            Some(mut service) => {
                self.share(&mut name);
                service.name = name.clone();
                self.services.insert(name.clone(), service)
            }
            None => self.services.remove(&name),
        };
        self.dirty.insert(name);
    }

    /// A slice may change the service that it belongs to: then both are touched.
    fn set_slice(&mut self, key: SliceKey, slice: Option<Slice>) {
        let before = self.owners.get(&key).cloned();
        if let Some(owner) = &before {
            let known = self.slices.get(owner).and_then(|slices| slices.get(&key.1));
            if known == slice.as_ref() {
                return;
            }
            if slice.as_ref().is_none_or(|slice| slice.service != *owner) {
                self.drop_slice(owner, &key);
            }
        }
        if let Some(mut slice) = slice {
            self.share(&mut slice.service);
            for node in slice.endpoints.iter_mut().filter_map(|endpoint| endpoint.node.as_mut()) {
                self.names.share(node);
            }
            slice.endpoints.shrink_to_fit();
            let owner = slice.service.clone();
            let key = (owner.namespace.clone(), key.1);
            self.owners.insert(key.clone(), owner.clone());
            self.endpoints += slice.endpoints.len();
            if let Some(old) = self.slices.entry(owner.clone()).or_default().insert(key.1, slice) {
                self.endpoints -= old.endpoints.len();
            }
            self.dirty.insert(owner);
        }
    }

    /// Makes `name` a copy of one that is there already, if any is.
    fn share(&mut self, name: &mut ServiceName) {
        let known = self.services.get_key_value(name).map(|(known, _)| known);
        match known.or_else(|| self.slices.get_key_value(name).map(|(known, _)| known)) {
            Some(known) => *name = known.clone(),
            None => self.names.share(&mut name.namespace),
        }
    }

    fn drop_slice(&mut self, owner: &ServiceName, key: &SliceKey) {
        self.owners.remove(key);
        if let Some(slices) = self.slices.get_mut(owner) {
            if let Some(old) = slices.remove(&key.1) {
                self.endpoints -= old.endpoints.len();
            }
            if slices.is_empty() {
                self.slices.remove(owner);
            }
        }
        self.dirty.insert(owner.clone());
    }
}

fn service_name(object: &core::Service) -> ServiceName {
    ServiceName::new(object.namespace().unwrap_or_default(), object.name_any())
}

fn slice_key(object: &discovery::EndpointSlice) -> SliceKey {
    (object.namespace().unwrap_or_default().into(), object.name_any().into())
}
