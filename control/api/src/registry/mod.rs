//! Which kinds there are: names, scope, verbs, subresources, columns, schema and where objects are stored.
//!
//! One entry per (group, version, resource). The built-in entries are read from `data/discovery.json`, which says what
//! upstream serves; [`served`] says which of them this server does not serve yet. Custom resources add entries of their
//! own: a [`Registry`] is plain data, and one with other custom resources is another registry that shares the entries of
//! those that stayed.

mod builtin;
mod order;
mod resource;
mod storage;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

pub use resource::{Column, Resource, Subresource};
pub use storage::StoragePath;

/// `v1` or `apps/v1`.
pub fn join_group_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    }
}

/// (group, version) of `v1` or `apps/v1`.
pub fn split_group_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// A group and its versions, the preferred one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name, empty for core.
    pub name: String,
    /// The versions.
    pub versions: Vec<String>,
}

/// All kinds that a server knows.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    groups: Vec<Group>,
    resources: Vec<Arc<Resource>>,
    by_plural: HashMap<(String, String, String), usize>,
    by_kind: HashMap<(String, String, String), usize>,
}

impl Registry {
    /// This registry with other custom resources: those given instead of those it had. A group version that is built in
    /// stays as it is.
    pub fn with_custom(&self, custom: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        let builtin = registry();
        let mut with = builtin.clone();
        for resource in custom {
            let group = builtin.groups.iter().find(|group| group.name == resource.group);
            if group.is_none_or(|group| !group.versions.contains(&resource.version)) {
                with.insert(resource);
            }
        }
        for group in &mut with.groups {
            if !builtin.groups.iter().any(|one| one.name == group.name) {
                group.versions.sort_by(|a, b| order::versions(a, b));
            }
        }
        let names = builtin.groups.len();
        with.groups[names..].sort_by(|a, b| a.name.cmp(&b.name));
        with
    }

    /// The entries of custom resources.
    pub fn custom(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter().filter(|resource| resource.custom.is_some())
    }

    /// Adds an entry; the last one of a name wins.
    pub fn insert(&mut self, resource: impl Into<Arc<Resource>>) {
        let resource = resource.into();
        let at = self.resources.len();
        let (group, version) = (resource.group.clone(), resource.version.clone());
        match self.groups.iter_mut().find(|one| one.name == group) {
            Some(one) if one.versions.contains(&version) => {}
            Some(one) => one.versions.push(version.clone()),
            None => self.groups.push(Group { name: group.clone(), versions: vec![version.clone()] }),
        }
        self.by_plural.insert((group.clone(), version.clone(), resource.plural.clone()), at);
        self.by_kind.insert((group, version, resource.kind.clone()), at);
        self.resources.push(resource);
    }

    /// A served resource by its name in paths.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let at = self.by_plural.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))?;
        Some(&self.resources[*at]).filter(|resource| resource.served)
    }

    /// The other resources in whose form the same objects are served.
    pub fn equivalents<'a>(&'a self, resource: &'a Resource) -> impl Iterator<Item = &'a Resource> {
        let own = |other: &Resource| (&other.group, &other.version) == (&resource.group, &resource.version);
        let stored = |other: &Resource| other.is_stored() && other.storage.prefix == resource.storage.prefix;
        self.resources().filter(move |other| stored(other) && !own(other))
    }

    /// A resource by its kind, whether served or not.
    pub fn find_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        let at = self.by_kind.get(&(group.to_owned(), version.to_owned(), kind.to_owned()))?;
        Some(&self.resources[*at])
    }

    /// All resources that are served, core first, in the order of discovery.
    pub fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.resources.iter().map(|resource| &**resource).filter(|resource| resource.served)
    }

    /// The resources that are stored: served, not a review, and of the storage version, so that each place comes once.
    pub fn stored(&self) -> impl Iterator<Item = &Resource> {
        self.resources().filter(|resource| resource.is_stored() && !resource.needs_conversion())
    }

    /// Groups with at least one resource that is served, core first, preferred version first.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| self.resources().any(|resource| resource.group == group.name))
    }
}

/// The kinds that are built in.
pub fn registry() -> &'static Registry {
    static BUILTIN: LazyLock<Registry> = LazyLock::new(builtin::registry);
    &BUILTIN
}

/// The full name of the type of a built-in kind.
pub fn schema_name(group: &str, version: &str, kind: &str) -> String {
    let package = match group {
        "" => "api.core".to_owned(),
        "apiextensions.k8s.io" => "apiextensions-apiserver.pkg.apis.apiextensions".to_owned(),
        "apiregistration.k8s.io" => "kube-aggregator.pkg.apis.apiregistration".to_owned(),
        group => format!("api.{}", group.split('.').next().unwrap_or(group)),
    };
    format!("io.k8s.{package}.{version}.{kind}")
}

/// The group and version of an object, from its `apiVersion`.
pub fn group_version_of(object: &Value) -> (&str, &str) {
    split_group_version(object["apiVersion"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_special_resources_follow_upstream() {
        let cases = [
            ("", "v1", "pods", "/registry/pods/ns/x"),
            ("", "v1", "services", "/registry/services/specs/ns/x"),
            ("", "v1", "endpoints", "/registry/services/endpoints/ns/x"),
            ("", "v1", "nodes", "/registry/minions/x"),
            ("apps", "v1", "deployments", "/registry/deployments/ns/x"),
            ("networking.k8s.io", "v1", "ingresses", "/registry/ingress/ns/x"),
            ("events.k8s.io", "v1", "events", "/registry/events/ns/x"),
            ("coordination.k8s.io", "v1", "leases", "/registry/leases/ns/x"),
            ("rbac.authorization.k8s.io", "v1", "clusterroles", "/registry/clusterroles/x"),
        ];
        for (group, version, plural, key) in cases {
            assert_eq!(registry().find(group, version, plural).unwrap().store_key(Some("ns"), "x"), key);
        }
    }

    #[test]
    fn stored_resources_share_no_prefix() {
        let mut prefixes: Vec<_> = registry().stored().map(|one| one.store_prefix(None)).collect();
        prefixes.sort();
        for pair in prefixes.windows(2) {
            assert!(!pair[1].starts_with(&pair[0]), "{pair:?}");
        }
    }

    #[test]
    fn events_of_both_groups_are_stored_once() {
        assert!(registry().find("events.k8s.io", "v1", "events").unwrap().needs_conversion());
        assert_eq!(registry().stored().filter(|one| one.plural == "events").count(), 1);
        assert_eq!(registry().stored().filter(|one| one.plural == "horizontalpodautoscalers").count(), 1);
    }

    #[test]
    fn what_is_only_shown_is_not_stored() {
        assert!(registry().find("", "v1", "componentstatuses").is_some());
        let not_stored = ["bindings", "componentstatuses", "tokenreviews"];
        assert!(registry().stored().all(|one| !not_stored.contains(&one.plural.as_str())));
    }
}
