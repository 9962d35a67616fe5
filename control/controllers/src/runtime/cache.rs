//! The pure part of an informer: the known objects of one kind, by key, with an index by controlling owner.
//!
//! No I/O, no locking: [`crate::runtime::informer`] adds both.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use kube::Resource;
use kube::core::ObjectMeta;

use super::key::ObjectKey;
use super::ownership::controller_of;

/// How one object of the cache changed.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// It is new.
    Added(Arc<K>),
    /// It was there before, perhaps as another object of the same name.
    Updated(Arc<K>, Arc<K>),
    /// It is gone; this is what was last seen of it.
    Deleted(Arc<K>),
}

impl<K> Change<K> {
    /// The object as it is now, or as it last was.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Change::Added(object) | Change::Updated(_, object) | Change::Deleted(object) => object,
        }
    }

    /// The object as it was before, when it was there before.
    pub fn before(&self) -> Option<&Arc<K>> {
        match self {
            Change::Updated(old, _) => Some(old),
            Change::Added(_) | Change::Deleted(_) => None,
        }
    }

    /// Whether the object is gone.
    pub fn is_deletion(&self) -> bool {
        matches!(self, Change::Deleted(_))
    }
}

/// All known objects of one kind.
#[derive(Debug)]
pub struct Cache<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    by_owner: HashMap<Owner, BTreeSet<ObjectKey>>,
}

/// Who controls an object: an owner by uid, or nobody (then: in which namespace).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Uid(String),
    Nobody(String),
}

impl Owner {
    fn of(meta: &ObjectMeta) -> Self {
        match controller_of(meta) {
            Some(owner) => Owner::Uid(owner.uid.clone()),
            None => Owner::Nobody(meta.namespace.clone().unwrap_or_default()),
        }
    }
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), by_owner: HashMap::new() }
    }
}

impl<K: Resource> Cache<K> {
    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.objects.get(key).cloned()
    }

    /// Every object, in order of namespace and name.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.objects.values().cloned().collect()
    }

    /// The objects of one namespace, in order of name.
    pub fn namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let from = ObjectKey::new(namespace, "");
        self.objects
            .range((Bound::Included(from), Bound::Unbounded))
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// The objects that the owner with this uid controls.
    pub fn controlled_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.owned(&Owner::Uid(uid.to_owned()))
    }

    /// The objects of a namespace that nobody controls.
    pub fn orphans(&self, namespace: &str) -> Vec<Arc<K>> {
        self.owned(&Owner::Nobody(namespace.to_owned()))
    }

    fn owned(&self, owner: &Owner) -> Vec<Arc<K>> {
        let keys = self.by_owner.get(owner);
        keys.into_iter().flatten().filter_map(|key| self.get(key)).collect()
    }

    /// Takes an object in.
    pub fn apply(&mut self, object: K) -> Change<K> {
        let key = ObjectKey::of(object.meta());
        let object = Arc::new(object);
        let owner = Owner::of(object.meta());
        match self.objects.insert(key.clone(), Arc::clone(&object)) {
            None => {
                self.by_owner.entry(owner).or_default().insert(key);
                Change::Added(object)
            }
            Some(old) => {
                let before = Owner::of(old.meta());
                if before != owner {
                    self.unindex(&before, &key);
                    self.by_owner.entry(owner).or_default().insert(key);
                }
                Change::Updated(old, object)
            }
        }
    }

    /// Drops an object; `None` when it was not known.
    pub fn remove(&mut self, key: &ObjectKey) -> Option<Change<K>> {
        let old = self.objects.remove(key)?;
        self.unindex(&Owner::of(old.meta()), key);
        Some(Change::Deleted(old))
    }

    /// Makes the cache hold exactly these objects, and says what that changed.
    pub fn replace(&mut self, objects: Vec<K>) -> Vec<Change<K>> {
        let keep: BTreeSet<ObjectKey> = objects.iter().map(|object| ObjectKey::of(object.meta())).collect();
        let gone: Vec<ObjectKey> = self.objects.keys().filter(|key| !keep.contains(*key)).cloned().collect();
        let mut changes: Vec<Change<K>> = gone.iter().filter_map(|key| self.remove(key)).collect();
        for object in objects {
            let key = ObjectKey::of(object.meta());
            let version = object.meta().resource_version.clone();
            let known = self.objects.get(&key).and_then(|old| old.meta().resource_version.clone());
            if version.is_none() || version != known {
                changes.push(self.apply(object));
            }
        }
        changes
    }

    fn unindex(&mut self, owner: &Owner, key: &ObjectKey) {
        if let Some(keys) = self.by_owner.get_mut(owner) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_owner.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;

    fn pod(namespace: &str, name: &str, version: &str, owner: Option<&str>) -> Pod {
        let owners = owner.map(|uid| {
            vec![OwnerReference { uid: uid.into(), controller: Some(true), ..OwnerReference::default() }]
        });
        Pod {
            metadata: ObjectMeta {
                namespace: Some(namespace.into()),
                name: Some(name.into()),
                resource_version: Some(version.into()),
                owner_references: owners,
                ..ObjectMeta::default()
            },
            ..Pod::default()
        }
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect()
    }

    #[test]
    fn cache_namespace_lists_only_that_namespace() {
        let mut cache = Cache::default();
        for (namespace, name) in [("a", "1"), ("ab", "2"), ("b", "3"), ("a", "4")] {
            cache.apply(pod(namespace, name, "1", None));
        }
        assert_eq!(names(&cache.namespace("a")), ["1", "4"]);
        assert_eq!(names(&cache.namespace("")), Vec::<&str>::new());
    }

    #[test]
    fn cache_owner_change_moves_the_object_between_indexes() {
        let mut cache = Cache::default();
        cache.apply(pod("a", "1", "1", None));
        assert_eq!(names(&cache.orphans("a")), ["1"]);
        let change = cache.apply(pod("a", "1", "2", Some("u1")));
        assert!(change.before().is_some());
        assert_eq!(names(&cache.orphans("a")), Vec::<&str>::new());
        assert_eq!(names(&cache.controlled_by("u1")), ["1"]);
        cache.remove(&ObjectKey::new("a", "1"));
        assert!(cache.by_owner.is_empty());
    }

    #[test]
    fn cache_replace_reports_exactly_the_difference() {
        let mut cache = Cache::default();
        cache.replace(vec![
            pod("a", "same", "1", None),
            pod("a", "old", "1", None),
            pod("a", "gone", "1", None),
        ]);
        let changes = cache.replace(vec![
            pod("a", "same", "1", None),
            pod("a", "old", "2", None),
            pod("a", "new", "3", None),
        ]);
        let mut seen: Vec<String> = changes
            .iter()
            .map(|change| {
                let kind = match change {
                    Change::Added(_) => "added",
                    Change::Updated(..) => "updated",
                    Change::Deleted(_) => "deleted",
                };
                format!("{kind} {}", change.object().metadata.name.as_deref().unwrap())
            })
            .collect();
        seen.sort();
        assert_eq!(seen, ["added new", "deleted gone", "updated old"]);
    }
}
