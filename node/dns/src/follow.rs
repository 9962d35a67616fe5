//! Keeps the zone up to date with the Services and EndpointSlices of the API server.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::view::{ServiceView, SliceView};
use crate::zone::Zone;

/// Follows both kinds until shutdown.
pub(crate) async fn follow(zone: Arc<RwLock<Zone>>, client: Client, shutdown: watch::Receiver<bool>) {
    let services = {
        let zone = zone.clone();
        follow_kind::<Service>(client.clone(), shutdown.clone(), move |change| {
            let mut zone = zone.write();
            match change {
                Change::Set(service) => match ServiceView::of(service) {
                    Some(view) => zone.set_service(view),
                    None => {
                        zone.remove_service(&service.namespace().unwrap_or_default(), &service.name_any())
                    }
                },
                Change::Remove(namespace, name) => zone.remove_service(namespace, name),
                Change::Listed => zone.services_listed(),
            }
        })
    };
    let slices = follow_kind::<EndpointSlice>(client, shutdown, move |change| {
        let mut zone = zone.write();
        match change {
            Change::Set(slice) => match SliceView::of(slice) {
                Some(view) => zone.set_slice(view),
                None => zone.remove_slice(&slice.namespace().unwrap_or_default(), &slice.name_any()),
            },
            Change::Remove(namespace, name) => zone.remove_slice(namespace, name),
            Change::Listed => zone.slices_listed(),
        }
    });
    tokio::join!(services, slices);
}

/// One change to take into the zone.
enum Change<'a, K> {
    Set(&'a K),
    Remove(&'a str, &'a str),
    /// Everything that exists was set.
    Listed,
}

/// Watches one kind. After a new list, what the list did not hold is removed.
async fn follow_kind<K>(
    client: Client,
    mut shutdown: watch::Receiver<bool>,
    mut take: impl FnMut(Change<'_, K>),
) where
    K: Resource<DynamicType: Default + Eq + Hash + Debug + Clone>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    let mut events = watcher(Api::<K>::all(client), watcher::Config::default().streaming_lists())
        .default_backoff()
        .boxed();
    let mut known = std::collections::BTreeSet::new();
    let mut listed = std::collections::BTreeSet::new();
    let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = shutdown.wait_for(|ended| *ended) => return,
        };
        match event {
            Some(Ok(watcher::Event::Init)) => listed.clear(),
            Some(Ok(watcher::Event::InitApply(object))) => {
                listed.insert(key(&object));
                take(Change::Set(&object));
            }
            Some(Ok(watcher::Event::InitDone)) => {
                for (namespace, name) in known.difference(&listed) {
                    take(Change::Remove(namespace, name));
                }
                known = std::mem::take(&mut listed);
                take(Change::Listed);
            }
            Some(Ok(watcher::Event::Apply(object))) => {
                known.insert(key(&object));
                take(Change::Set(&object));
            }
            Some(Ok(watcher::Event::Delete(object))) => {
                let (namespace, name) = key(&object);
                take(Change::Remove(&namespace, &name));
                known.remove(&(namespace, name));
            }
            Some(Err(error)) => tracing::warn!(%error, "the cluster's names may be behind"),
            None => return,
        }
    }
}
