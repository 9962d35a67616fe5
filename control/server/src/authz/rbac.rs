//! Roles and bindings, indexed by subject, so that a decision costs what the user has and not what the cluster has.
//!
//! The index follows the objects lazily: a decision first compares the generation of each of the four collections with
//! the one it last saw, and where it grew, re-reads what changed (unchanged objects are the same `Arc`).

use std::collections::HashMap;
use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::{RwLock, RwLockReadGuard};
use serde_json::Value;

use super::rules::{self, Rule};
use crate::gate::ObjectReader;
use crate::request::RequestInfo;
use crate::user::UserInfo;

pub(super) const GROUP: &str = "rbac.authorization.k8s.io";

/// Namespace (empty for cluster scope) and name.
type Key = (String, String);

#[derive(Default)]
pub(super) struct Rbac {
    index: RwLock<Index>,
}

#[derive(Default)]
struct Index {
    cluster_roles: Roles,
    roles: Roles,
    cluster_bindings: Bindings,
    bindings: Bindings,
}

#[derive(Default)]
struct Roles {
    generation: Option<u64>,
    objects: HashMap<Key, Arc<Value>>,
    rules: AHashMap<Key, Vec<Arc<Rule>>>,
}

#[derive(Default)]
struct Bindings {
    generation: Option<u64>,
    objects: HashMap<Key, Arc<Value>>,
    /// Per namespace of the binding (empty for cluster scope) and subject: binding name to the role it refers to.
    subjects: AHashMap<String, AHashMap<Subject, HashMap<String, RoleRef>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct RoleRef {
    /// Whether it is a ClusterRole; otherwise a Role in the binding's namespace.
    cluster: bool,
    name: String,
}

impl Rbac {
    pub(super) fn allows(&self, reader: &dyn ObjectReader, user: &UserInfo, request: &RequestInfo) -> bool {
        let index = self.fresh(reader);
        let namespace = if request.is_resource { request.namespace.as_str() } else { "" };
        index.visit(user, namespace, &mut |rule| rule.grants(request))
    }

    pub(super) fn rules_for(
        &self,
        reader: &dyn ObjectReader,
        user: &UserInfo,
        namespace: &str,
    ) -> Vec<Arc<Rule>> {
        let mut all = Vec::new();
        self.fresh(reader).visit(user, namespace, &mut |rule| {
            all.push(Arc::clone(rule));
            false
        });
        all
    }

    /// The rules of the role that a `roleRef` in `namespace` means; none where there is no such role.
    pub(super) fn rules_of_role(
        &self,
        reader: &dyn ObjectReader,
        reference: &Value,
        namespace: &str,
    ) -> Vec<Arc<Rule>> {
        let index = self.fresh(reader);
        role_ref(reference).and_then(|role| index.rules_of(&role, namespace)).cloned().unwrap_or_default()
    }

    fn fresh(&self, reader: &dyn ObjectReader) -> RwLockReadGuard<'_, Index> {
        let index = self.index.read();
        if index.is_current(reader) {
            return index;
        }
        drop(index);
        let mut index = self.index.write();
        index.update(reader);
        parking_lot::RwLockWriteGuard::downgrade(index)
    }
}

impl Index {
    fn is_current(&self, reader: &dyn ObjectReader) -> bool {
        let same =
            |resource: &str, generation: Option<u64>| generation == Some(reader.generation(GROUP, resource));
        same("clusterroles", self.cluster_roles.generation)
            && same("roles", self.roles.generation)
            && same("clusterrolebindings", self.cluster_bindings.generation)
            && same("rolebindings", self.bindings.generation)
    }

    fn update(&mut self, reader: &dyn ObjectReader) {
        self.cluster_roles.update(reader, "clusterroles");
        self.roles.update(reader, "roles");
        self.cluster_bindings.update(reader, "clusterrolebindings");
        self.bindings.update(reader, "rolebindings");
    }

    /// Shows every rule that applies to `user` in `namespace` until `found` says that it is enough.
    fn visit(&self, user: &UserInfo, namespace: &str, found: &mut dyn FnMut(&Arc<Rule>) -> bool) -> bool {
        let mut subjects = vec![Subject::User(user.name.clone())];
        subjects.extend(user.groups.iter().map(|group| Subject::Group(group.clone())));
        let scopes = [
            Some((&self.cluster_bindings, "")),
            (!namespace.is_empty()).then_some((&self.bindings, namespace)),
        ];
        for (bindings, scope) in scopes.into_iter().flatten() {
            let Some(by_subject) = bindings.subjects.get(scope) else { continue };
            for role in
                subjects.iter().filter_map(|subject| by_subject.get(subject)).flat_map(HashMap::values)
            {
                if self.rules_of(role, scope).into_iter().flatten().any(&mut *found) {
                    return true;
                }
            }
        }
        false
    }

    fn rules_of(&self, role: &RoleRef, namespace: &str) -> Option<&Vec<Arc<Rule>>> {
        if role.cluster {
            self.cluster_roles.rules.get(&(String::new(), role.name.clone()))
        } else {
            self.roles.rules.get(&(namespace.to_owned(), role.name.clone()))
        }
    }
}

impl Roles {
    fn update(&mut self, reader: &dyn ObjectReader, resource: &str) {
        // The generation is read first: a change in between is seen again next time.
        let generation = reader.generation(GROUP, resource);
        if self.generation == Some(generation) {
            return;
        }
        let changes = difference(&mut self.objects, reader.list(GROUP, resource, ""));
        for (key, _, new) in changes {
            match new {
                Some(role) => self.rules.insert(key, rules::compile(&role["rules"])),
                None => self.rules.remove(&key),
            };
        }
        self.generation = Some(generation);
    }
}

impl Bindings {
    fn update(&mut self, reader: &dyn ObjectReader, resource: &str) {
        let generation = reader.generation(GROUP, resource);
        if self.generation == Some(generation) {
            return;
        }
        for ((namespace, name), old, new) in difference(&mut self.objects, reader.list(GROUP, resource, "")) {
            if let Some(old) = old {
                self.remove(&namespace, &name, &old);
            }
            let Some(new) = new else { continue };
            let Some(role) = role_ref(&new["roleRef"]) else { continue };
            let by_subject = self.subjects.entry(namespace.clone()).or_default();
            for subject in subjects(&new, &namespace) {
                by_subject.entry(subject).or_default().insert(name.clone(), role.clone());
            }
        }
        self.generation = Some(generation);
    }

    fn remove(&mut self, namespace: &str, name: &str, old: &Value) {
        let Some(by_subject) = self.subjects.get_mut(namespace) else { return };
        for subject in subjects(old, namespace) {
            if let Some(bindings) = by_subject.get_mut(&subject) {
                bindings.remove(name);
                if bindings.is_empty() {
                    by_subject.remove(&subject);
                }
            }
        }
        if by_subject.is_empty() {
            self.subjects.remove(namespace);
        }
    }
}

type Change = (Key, Option<Arc<Value>>, Option<Arc<Value>>);

/// Brings `known` to `now` and tells what changed: key, before, after.
fn difference(known: &mut HashMap<Key, Arc<Value>>, now: Vec<Arc<Value>>) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut gone = std::mem::take(known);
    for object in now {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = (text("namespace"), text("name"));
        let old = gone.remove(&key);
        if !old.as_ref().is_some_and(|old| Arc::ptr_eq(old, &object)) {
            changes.push((key.clone(), old, Some(Arc::clone(&object))));
        }
        known.insert(key, object);
    }
    changes.extend(gone.into_iter().map(|(key, old)| (key, Some(old), None)));
    changes
}

fn role_ref(value: &Value) -> Option<RoleRef> {
    let name = value["name"].as_str()?.to_owned();
    match value["kind"].as_str()? {
        "ClusterRole" => Some(RoleRef { cluster: true, name }),
        "Role" => Some(RoleRef { cluster: false, name }),
        _ => None,
    }
}

fn subjects(binding: &Value, namespace: &str) -> Vec<Subject> {
    let subject = |value: &Value| {
        let name = value["name"].as_str()?;
        match value["kind"].as_str()? {
            "User" => Some(Subject::User(name.to_owned())),
            "Group" => Some(Subject::Group(name.to_owned())),
            "ServiceAccount" => {
                let namespace = value["namespace"].as_str().filter(|ns| !ns.is_empty()).unwrap_or(namespace);
                Some(Subject::User(format!("system:serviceaccount:{namespace}:{name}")))
            }
            _ => None,
        }
    };
    binding["subjects"].as_array().into_iter().flatten().filter_map(subject).collect()
}
