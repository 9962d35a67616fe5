//! The view of the cache for those who decide by objects: authorization, tokens, admission.

use std::sync::Arc;

use serde_json::Value;
use skep_api::registry::Resource;

use super::{Cache, Collection, EventType};
use crate::gate::{Changes, ObjectReader};

/// More changes than a ring can hold.
const ALL: usize = usize::MAX / 2;

impl Cache {
    /// The stored form of (group, plural).
    fn find(&self, group: &str, plural: &str) -> Option<&(&'static Resource, Arc<Collection>)> {
        self.by_name.get(group)?.get(plural)
    }
}

impl ObjectReader for Cache {
    fn generation(&self, group: &str, resource: &str) -> u64 {
        self.find(group, resource).map_or(0, |(_, collection)| collection.generation())
    }

    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let (resource, collection) = self.find(group, resource)?;
        collection.get(&resource.store_key(Some(namespace), name)).map(|object| object.value().clone())
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Value>> {
        let Some((resource, collection)) = self.find(group, resource) else { return Vec::new() };
        let snapshot = self.snapshot(collection);
        let prefix = resource.store_prefix(Some(namespace));
        snapshot.range(&prefix, None).map(|object| object.value().clone()).collect()
    }
    fn changes(&self, group: &str, resource: &str, position: Option<u64>) -> Changes {
        let Some((_, collection)) = self.find(group, resource) else {
            return Changes::Since { position: position.unwrap_or_default(), changed: Vec::new() };
        };
        let later =
            position.and_then(|position| Some((position, collection.changes_after(position, ALL).ok()?)));
        match later {
            Some((position, changes)) => Changes::Since {
                position: changes.last().map_or(position, |last| last.revision),
                changed: changes
                    .iter()
                    .map(|change| (change.object.value().clone(), change.kind != EventType::Deleted))
                    .collect(),
            },
            None => {
                let snapshot = self.snapshot(collection);
                let objects = snapshot.objects.values().map(|object| object.value().clone()).collect();
                Changes::Everything { position: snapshot.revision, objects }
            }
        }
    }
}
