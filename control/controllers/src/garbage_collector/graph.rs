//! Who owns whom, by uid. Holds a lock for moments only; knows nothing of the API.
//!
//! An object that others name as owner and that no watch has shown is *virtual*: it may be gone, or its
//! event may still be on its way. Only the API's answer about it decides.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;
use parking_lot::Mutex;

use super::{FOREGROUND, ORPHAN};

/// What an object is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// API group, empty for core.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace; of a virtual object that of whoever names it.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
}

impl Identity {
    /// The owner that a reference in an object of this namespace names.
    pub fn of_owner(owner: &OwnerReference, namespace: &str) -> Self {
        Self {
            group: group_of(&owner.api_version).to_owned(),
            kind: owner.kind.clone(),
            namespace: namespace.to_owned(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
        }
    }
}

/// The group in an `apiVersion`.
pub fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// An object as the graph has it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// What it is called.
    pub identity: Identity,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
    /// Uids of those that name it as owner.
    pub dependents: HashSet<String>,
    /// No watch has shown it.
    pub is_virtual: bool,
    /// Its deletion was asked for.
    pub deleting: bool,
    /// Its deletion waits for its dependents.
    pub foreground: bool,
    /// Its deletion waits until its dependents are let go.
    pub orphaning: bool,
}

/// The graph.
#[derive(Debug, Default)]
pub struct Graph(Mutex<HashMap<String, Node>>);

impl Graph {
    /// A copy of a node.
    pub fn get(&self, uid: &str) -> Option<Node> {
        self.0.lock().get(uid).cloned()
    }

    /// Copies of the nodes that name this one as owner.
    pub fn dependents(&self, uid: &str) -> Vec<Node> {
        let nodes = self.0.lock();
        let Some(node) = nodes.get(uid) else { return Vec::new() };
        node.dependents.iter().filter_map(|uid| nodes.get(uid).cloned()).collect()
    }

    /// An object was seen. The uids that have to be looked at because of it.
    pub fn apply(&self, group: &str, kind: &str, meta: &ObjectMeta) -> Vec<String> {
        let Some(uid) = meta.uid.clone().filter(|uid| !uid.is_empty()) else { return Vec::new() };
        let has = |name: &str| meta.finalizers.iter().flatten().any(|finalizer| finalizer == name);
        let deleting = meta.deletion_timestamp.is_some();
        let owners = meta.owner_references.clone().unwrap_or_default();
        let mut nodes = self.0.lock();
        let before = nodes.get(&uid).cloned();
        let fresh = before.as_ref().is_none_or(|node| node.is_virtual);
        let old = before.unwrap_or_default();
        let node = Node {
            identity: Identity {
                group: group.to_owned(),
                kind: kind.to_owned(),
                namespace: meta.namespace.clone().unwrap_or_default(),
                name: meta.name.clone().unwrap_or_default(),
                uid: uid.clone(),
            },
            owners: owners.clone(),
            dependents: old.dependents,
            is_virtual: false,
            deleting,
            foreground: deleting && has(FOREGROUND),
            orphaning: deleting && has(ORPHAN),
        };
        let mut look = Vec::new();
        if (node.foreground && !old.foreground) || (node.orphaning && !old.orphaning) {
            look.push(uid.clone());
            look.extend(node.dependents.iter().filter(|_| node.foreground).cloned());
        }
        // Dependents that named another object by mistake are judged by what it really is.
        if fresh && old.is_virtual && old.identity != node.identity {
            look.extend(node.dependents.iter().cloned());
        }
        let namespace = node.identity.namespace.clone();
        nodes.insert(uid.clone(), node);
        for owner in old.owners.iter().filter(|old| !owners.iter().any(|new| new.uid == old.uid)) {
            unlink(&mut nodes, owner, &uid, &mut look);
        }
        for owner in &owners {
            if let Some(virtual_owner) = link(&mut nodes, owner, &uid, &namespace) {
                look.push(virtual_owner);
            } else if nodes.get(&owner.uid).is_some_and(|owner| owner.foreground) {
                // A reference that no longer blocks may let the owner go; a new dependent may hold it.
                look.extend([owner.uid.clone(), uid.clone()]);
            }
        }
        look
    }

    /// An object is gone. The uids that have to be looked at because of it.
    pub fn remove(&self, uid: &str) -> Vec<String> {
        let mut nodes = self.0.lock();
        let Some(node) = nodes.remove(uid) else { return Vec::new() };
        let mut look: Vec<String> = node.dependents.iter().cloned().collect();
        for owner in &node.owners {
            unlink(&mut nodes, owner, uid, &mut look);
        }
        look
    }
}

/// Makes `uid` a dependent of the owner; the owner's uid when that had to be made up.
fn link(
    nodes: &mut HashMap<String, Node>,
    owner: &OwnerReference,
    uid: &str,
    namespace: &str,
) -> Option<String> {
    let mut made = None;
    let node = nodes.entry(owner.uid.clone()).or_insert_with(|| {
        made = Some(owner.uid.clone());
        Node { identity: Identity::of_owner(owner, namespace), is_virtual: true, ..Node::default() }
    });
    node.dependents.insert(uid.to_owned());
    made
}

fn unlink(nodes: &mut HashMap<String, Node>, owner: &OwnerReference, uid: &str, look: &mut Vec<String>) {
    let Some(node) = nodes.get_mut(&owner.uid) else { return };
    node.dependents.remove(uid);
    if node.foreground {
        look.push(owner.uid.clone());
    }
    if node.is_virtual && node.dependents.is_empty() {
        nodes.remove(&owner.uid);
    }
}
