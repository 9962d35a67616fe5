//! Roles and bindings, indexed by subject, so that a decision costs what the user has and not what the cluster has.
//!
//! The index follows the objects lazily: a decision first compares the generation of each of the four collections with
//! the one it last saw, and where it grew, re-reads what changed (unchanged objects are the same `Arc`).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::{RwLock, RwLockReadGuard};
use serde_json::Value;

use super::rules::{self, Rule};
use crate::gate::{Decision, ObjectReader};
use crate::request::RequestInfo;
use crate::user::UserInfo;

pub(super) const GROUP: &str = "rbac.authorization.k8s.io";

/// Namespace (empty for cluster scope) and name.
type Key = (String, String);
/// By namespace, then by name: looked up without building a key.
type ByName<T> = AHashMap<String, AHashMap<String, T>>;

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
    rules: ByName<Vec<Arc<Rule>>>,
}

#[derive(Default)]
struct Bindings {
    generation: Option<u64>,
    objects: HashMap<Key, Arc<Value>>,
    /// Per namespace of the binding (empty for cluster scope) and subject: what each binding grants, by its name.
    users: ByName<BTreeMap<String, Grant>>,
    groups: ByName<BTreeMap<String, Grant>>,
}

/// What a binding gives to one of its subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    role: RoleRef,
    /// The subject, in the words of decisions.
    subject: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct RoleRef {
    /// Whether it is a ClusterRole; otherwise a Role in the binding's namespace.
    cluster: bool,
    name: String,
}

impl RoleRef {
    fn kind(&self) -> &'static str {
        if self.cluster { "ClusterRole" } else { "Role" }
    }

    fn missing(&self) -> String {
        let resource = if self.cluster { "clusterrole" } else { "role" };
        format!("{resource}.{GROUP} {:?} not found", self.name)
    }
}

/// Where a rule comes from.
struct Source<'i> {
    namespace: &'i str,
    binding: &'i str,
    grant: &'i Grant,
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, binding, grant: Grant { role, subject } } = self;
        if namespace.is_empty() {
            write!(f, "ClusterRoleBinding {binding:?}")?;
        } else {
            write!(f, "RoleBinding \"{binding}/{namespace}\"")?;
        }
        write!(f, " of {} {:?} to {subject}", role.kind(), role.name)
    }
}

/// All rules of a user.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// The rules.
    pub rules: Vec<Arc<Rule>>,
    /// What could not be told: roles that bindings refer to and that are not there, authorizers that know no rules.
    pub errors: Vec<String>,
    /// Whether there may be more, of authorizers that know no rules.
    pub incomplete: bool,
}

impl Rbac {
    pub(super) fn judge(
        &self,
        reader: &dyn ObjectReader,
        user: &UserInfo,
        request: &RequestInfo,
    ) -> Decision {
        let index = self.fresh(reader);
        let namespace = if request.is_resource { request.namespace.as_str() } else { "" };
        let mut reason = None;
        let mut errors = Vec::new();
        index.visit(user, namespace, &mut errors, &mut |source, rule| {
            let found = rule.grants(request);
            if found {
                reason = Some(format!("RBAC: allowed by {source}"));
            }
            found
        });
        match (reason, errors.as_slice()) {
            (Some(reason), _) => Decision::allow(reason),
            (None, []) => Decision::none(String::new()),
            (None, [one]) => Decision::none(format!("RBAC: {one}")),
            (None, several) => Decision::none(format!("RBAC: [{}]", several.join(", "))),
        }
    }

    pub(super) fn rules_for(&self, reader: &dyn ObjectReader, user: &UserInfo, namespace: &str) -> Held {
        let mut held = Held::default();
        self.fresh(reader).visit(user, namespace, &mut held.errors, &mut |_, rule| {
            held.rules.push(Arc::clone(rule));
            false
        });
        held
    }

    /// The rules of the role that a `roleRef` in `namespace` means, or why there are none.
    pub(super) fn rules_of_role(
        &self,
        reader: &dyn ObjectReader,
        reference: &Value,
        namespace: &str,
    ) -> Result<Vec<Arc<Rule>>, (&'static str, String)> {
        let role = role_ref(reference).ok_or_else(|| ("roles", String::new()))?;
        let index = self.fresh(reader);
        match index.rules_of(&role, namespace) {
            Some(rules) => Ok(rules.clone()),
            None => Err((if role.cluster { "clusterroles" } else { "roles" }, role.name)),
        }
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
    fn visit(
        &self,
        user: &UserInfo,
        namespace: &str,
        errors: &mut Vec<String>,
        found: &mut dyn FnMut(&Source<'_>, &Arc<Rule>) -> bool,
    ) {
        let scopes = [
            Some((&self.cluster_bindings, "")),
            (!namespace.is_empty()).then_some((&self.bindings, namespace)),
        ];
        for (bindings, scope) in scopes.into_iter().flatten() {
            for (binding, grant) in bindings.of(user, scope) {
                let Some(rules) = self.rules_of(&grant.role, scope) else {
                    errors.push(grant.role.missing());
                    continue;
                };
                let source = Source { namespace: scope, binding, grant };
                if rules.iter().any(|rule| found(&source, rule)) {
                    return;
                }
            }
        }
    }

    fn rules_of(&self, role: &RoleRef, namespace: &str) -> Option<&Vec<Arc<Rule>>> {
        let (roles, namespace) =
            if role.cluster { (&self.cluster_roles, "") } else { (&self.roles, namespace) };
        roles.rules.get(namespace)?.get(&role.name)
    }
}

impl Roles {
    fn update(&mut self, reader: &dyn ObjectReader, resource: &str) {
        // The generation is read first: a change in between is seen again next time.
        let generation = reader.generation(GROUP, resource);
        if self.generation == Some(generation) {
            return;
        }
        for ((namespace, name), _, new) in difference(&mut self.objects, reader.list(GROUP, resource, "")) {
            match new {
                Some(role) => {
                    let rules = rules::compile(&role["rules"]);
                    self.rules.entry(namespace).or_default().insert(name, rules);
                }
                None => {
                    self.rules.get_mut(&namespace).and_then(|roles| roles.remove(&name));
                }
            }
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
            for Subject { group, name: subject, described } in subjects(&new, &namespace) {
                let grants = self.table(group).entry(namespace.clone()).or_default().entry(subject);
                let grant = Grant { role: role.clone(), subject: described };
                // The first subject that applies is the one that is named.
                grants.or_default().entry(name.clone()).or_insert(grant);
            }
        }
        self.generation = Some(generation);
    }

    fn table(&mut self, group: bool) -> &mut ByName<BTreeMap<String, Grant>> {
        if group { &mut self.groups } else { &mut self.users }
    }

    fn remove(&mut self, namespace: &str, name: &str, old: &Value) {
        for Subject { group, name: subject, .. } in subjects(old, namespace) {
            let table = self.table(group);
            let Some(by_subject) = table.get_mut(namespace) else { continue };
            if let Some(bindings) = by_subject.get_mut(&subject) {
                bindings.remove(name);
                if bindings.is_empty() {
                    by_subject.remove(&subject);
                }
            }
            if by_subject.is_empty() {
                table.remove(namespace);
            }
        }
    }

    /// The bindings of a scope that apply to a user.
    fn of<'i>(&'i self, user: &'i UserInfo, scope: &str) -> impl Iterator<Item = (&'i str, &'i Grant)> {
        let users = self.users.get(scope).and_then(|table| table.get(&user.name));
        let groups = self.groups.get(scope);
        let groups = user.groups.iter().filter_map(move |group| groups?.get(group));
        users.into_iter().chain(groups).flatten().map(|(name, grant)| (name.as_str(), grant))
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

struct Subject {
    group: bool,
    name: String,
    described: String,
}

fn subjects(binding: &Value, namespace: &str) -> Vec<Subject> {
    let subject = |value: &Value| {
        let name = value["name"].as_str()?;
        match value["kind"].as_str()? {
            kind @ ("User" | "Group") => {
                let described = format!("{kind} {name:?}");
                Some(Subject { group: kind == "Group", name: name.to_owned(), described })
            }
            "ServiceAccount" => {
                let namespace = value["namespace"].as_str().filter(|ns| !ns.is_empty()).unwrap_or(namespace);
                Some(Subject {
                    group: false,
                    name: format!("system:serviceaccount:{namespace}:{name}"),
                    described: format!("ServiceAccount \"{name}/{namespace}\""),
                })
            }
            _ => None,
        }
    };
    binding["subjects"].as_array().into_iter().flatten().filter_map(subject).collect()
}
