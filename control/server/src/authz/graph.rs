//! Which objects the pods of each node need: what the Node authorizer decides by.
//!
//! A pod that is bound to a node leads it to its secrets, config maps, claims, service account and resource claims; a
//! claim leads on to its volume, and a volume to the secrets that mounting it takes. Attachments and resource slices name
//! their node themselves. The graph follows the objects lazily: a question first takes in what changed since the last one,
//! and costs the same whatever the number of pods.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use serde_json::Value;

use super::references::{self, Kind, Needs};
use crate::gate::{Changes, ObjectReader};

/// Namespace (empty for cluster scope) and name.
type Key = (String, String);
/// Learns of an object that says something else: its key, what it said, what it says.
type Tell<'a, T> = &'a mut dyn FnMut(&Key, Option<&T>, Option<&T>);

const PODS: (&str, &str) = ("", "pods");
const VOLUMES: (&str, &str) = ("", "persistentvolumes");
const ATTACHMENTS: (&str, &str) = ("storage.k8s.io", "volumeattachments");
const SLICES: (&str, &str) = ("resource.k8s.io", "resourceslices");

/// The graph of all nodes.
#[derive(Default)]
pub(super) struct Graph {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    pods: Followed<Needs>,
    /// Which nodes have pods that need an object, and how many.
    needed: HashMap<Kind, HashMap<Key, HashMap<String, usize>>>,
    volumes: Followed<references::Volume>,
    /// The volumes that a secret is for.
    secrets_of_volumes: HashMap<Key, HashSet<Key>>,
    attachments: Followed<String>,
    slices: Followed<String>,
}

/// What was read of a resource, and up to where.
struct Followed<T> {
    generation: Option<u64>,
    position: u64,
    read: HashMap<Key, T>,
}

impl<T> Default for Followed<T> {
    fn default() -> Self {
        Self { generation: None, position: 0, read: HashMap::new() }
    }
}

impl Graph {
    /// Whether the node has a pod that needs this object.
    pub(super) fn needs(
        &self,
        reader: &dyn ObjectReader,
        node: &str,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> bool {
        let state = self.fresh(reader);
        let key = (namespace.to_owned(), name.to_owned());
        state.is_needed(node, kind, &key)
            || kind == Kind::Secret
                && state
                    .secrets_of_volumes
                    .get(&key)
                    .is_some_and(|volumes| volumes.iter().any(|volume| state.mounts(node, volume)))
    }

    /// Whether the node has a pod whose claim is bound to this volume.
    pub(super) fn mounts(&self, reader: &dyn ObjectReader, node: &str, volume: &str) -> bool {
        self.fresh(reader).mounts(node, &(String::new(), volume.to_owned()))
    }

    /// Whether the pod is bound to the node.
    pub(super) fn runs(&self, reader: &dyn ObjectReader, node: &str, namespace: &str, name: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        self.fresh(reader).pods.read.get(&key).is_some_and(|pod| pod.node == node)
    }

    /// Whether the attachment is to the node.
    pub(super) fn attaches(&self, reader: &dyn ObjectReader, node: &str, name: &str) -> bool {
        self.fresh(reader)
            .attachments
            .read
            .get(&(String::new(), name.to_owned()))
            .is_some_and(|on| on == node)
    }

    /// Whether the slice is of the node.
    pub(super) fn slices(&self, reader: &dyn ObjectReader, node: &str, name: &str) -> bool {
        self.fresh(reader).slices.read.get(&(String::new(), name.to_owned())).is_some_and(|on| on == node)
    }

    fn fresh(&self, reader: &dyn ObjectReader) -> RwLockReadGuard<'_, State> {
        let state = self.state.read();
        if state.is_current(reader) {
            return state;
        }
        drop(state);
        let mut state = self.state.write();
        state.update(reader);
        RwLockWriteGuard::downgrade(state)
    }
}

impl State {
    fn is_current(&self, reader: &dyn ObjectReader) -> bool {
        let same = |(group, resource): (&str, &str), seen: Option<u64>| {
            seen == Some(reader.generation(group, resource))
        };
        same(PODS, self.pods.generation)
            && same(VOLUMES, self.volumes.generation)
            && same(ATTACHMENTS, self.attachments.generation)
            && same(SLICES, self.slices.generation)
    }

    fn update(&mut self, reader: &dyn ObjectReader) {
        let needed = &mut self.needed;
        self.pods.update(reader, PODS, references::needs, &mut |key, old, new| {
            if let Some(old) = old {
                count(needed, key, old, false);
            }
            if let Some(new) = new {
                count(needed, key, new, true);
            }
        });
        let secrets = &mut self.secrets_of_volumes;
        self.volumes.update(reader, VOLUMES, references::volume, &mut |key, old, new| {
            for secret in old.into_iter().flat_map(|volume| &volume.secrets) {
                if let Some(volumes) = secrets.get_mut(secret) {
                    volumes.remove(key);
                    if volumes.is_empty() {
                        secrets.remove(secret);
                    }
                }
            }
            for secret in new.into_iter().flat_map(|volume| &volume.secrets) {
                secrets.entry(secret.clone()).or_default().insert(key.clone());
            }
        });
        self.attachments.update(reader, ATTACHMENTS, references::node_name, &mut |_, _, _| {});
        self.slices.update(reader, SLICES, references::node_name, &mut |_, _, _| {});
    }

    fn is_needed(&self, node: &str, kind: Kind, key: &Key) -> bool {
        self.needed
            .get(&kind)
            .and_then(|objects| objects.get(key))
            .is_some_and(|nodes| nodes.contains_key(node))
    }

    fn mounts(&self, node: &str, volume: &Key) -> bool {
        self.volumes.read.get(volume).is_some_and(|volume| self.is_needed(node, Kind::Claim, &volume.claim))
    }
}

/// Takes the needs of a pod into account, or out of it.
fn count(
    needed: &mut HashMap<Kind, HashMap<Key, HashMap<String, usize>>>,
    pod: &Key,
    needs: &Needs,
    more: bool,
) {
    for (kind, name) in &needs.objects {
        let objects = needed.entry(*kind).or_default();
        let key = (pod.0.clone(), name.clone());
        let nodes = objects.entry(key.clone()).or_default();
        let pods = nodes.entry(needs.node.clone()).or_default();
        *pods = if more { *pods + 1 } else { pods.saturating_sub(1) };
        if *pods == 0 {
            nodes.remove(&needs.node);
        }
        if nodes.is_empty() {
            objects.remove(&key);
        }
    }
}

impl<T: PartialEq> Followed<T> {
    /// Takes in what changed; `tell` learns of every object that says something else than before.
    fn update(
        &mut self,
        reader: &dyn ObjectReader,
        (group, resource): (&str, &str),
        read: fn(&Value) -> Option<T>,
        tell: Tell<'_, T>,
    ) {
        // The generation is read first: a change in between is seen again next time.
        let generation = reader.generation(group, resource);
        if self.generation == Some(generation) {
            return;
        }
        let since = self.generation.map(|_| self.position);
        match reader.changes(group, resource, since) {
            Changes::Since { position, changed } => {
                for (object, there) in changed {
                    self.set(key(&object), if there { read(&object) } else { None }, tell);
                }
                self.position = position;
            }
            Changes::Everything { position, objects } => {
                let mut gone: HashSet<Key> = self.read.keys().cloned().collect();
                for object in objects {
                    let key = key(&object);
                    gone.remove(&key);
                    self.set(key, read(&object), tell);
                }
                gone.into_iter().for_each(|key| self.set(key, None, tell));
                self.position = position;
            }
        }
        self.generation = Some(generation);
    }

    fn set(&mut self, key: Key, new: Option<T>, tell: Tell<'_, T>) {
        let old = self.read.remove(&key);
        if old != new {
            tell(&key, old.as_ref(), new.as_ref());
        }
        if let Some(new) = new {
            self.read.insert(key, new);
        }
    }
}

fn key(object: &Arc<Value>) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}
