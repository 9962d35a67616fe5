//! Which kinds there are: names, scope, verbs, subresources, columns, schema and where objects are stored.
//!
//! One entry per (group, version, resource). The built-in entries are read from `data/discovery.json`, which says what
//! upstream serves; [`served`] says which of them this server does not serve yet. Custom resources add entries of their
//! own: a [`Registry`] is plain data, and one with other custom resources is another registry that shares the entries of
//! those that stayed.

mod order;
mod storage;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::Value;

use crate::custom::Custom;
use crate::schema::{Schema, Types};

pub use storage::StoragePath;

/// A column of a table answer.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Column {
    /// The title.
    pub name: String,
    /// The OpenAPI type of a cell.
    #[serde(rename = "type")]
    pub kind: String,
    /// The OpenAPI format of a cell; `name` marks the object's name.
    #[serde(default)]
    pub format: String,
    /// 0 is always shown, 1 in wide output.
    #[serde(default)]
    pub priority: i32,
}

/// A part of a resource with its own endpoint.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// The name, such as `status`.
    pub name: String,
    /// Group of its kind.
    pub group: String,
    /// Version of its kind.
    pub version: String,
    /// The kind of its body, such as `Scale`.
    pub kind: String,
    /// What can be done with it.
    pub verbs: Vec<String>,
    /// Whether this server answers it.
    pub served: bool,
}

/// One entry of the registry.
#[derive(Clone, Debug)]
pub struct Resource {
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// The name in paths.
    pub plural: String,
    /// The name for one.
    pub singular: String,
    /// The kind.
    pub kind: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// What can be done with it.
    pub verbs: Vec<String>,
    /// Short names for the command line.
    pub short_names: Vec<String>,
    /// Sets of resources that it belongs to, such as `all`.
    pub categories: Vec<String>,
    /// Its subresources, in order of name.
    pub subresources: Vec<Subresource>,
    /// The columns of its table.
    pub columns: Vec<Column>,
    /// Where objects are stored, and in which version.
    pub storage: StoragePath,
    /// What its objects look like.
    pub schema: Schema,
    /// Whether this server answers it.
    pub served: bool,
    /// What a custom resource has beyond built-in ones.
    pub custom: Option<Arc<Custom>>,
}

impl Resource {
    /// The kind of a list of its objects.
    pub fn list_kind(&self) -> String {
        match &self.custom {
            Some(custom) => custom.list_kind.clone(),
            None => format!("{}List", self.kind),
        }
    }

    /// Whether stored objects are served as they lie in the store. Those of a custom resource are brought into the form
    /// of its present schema first.
    pub fn is_served_as_stored(&self) -> bool {
        self.custom.is_none() && !self.needs_conversion()
    }

    /// `v1` or `apps/v1`: what objects carry as `apiVersion`.
    pub fn group_version(&self) -> String {
        join_group_version(&self.group, &self.version)
    }

    /// `pods` or `deployments.apps`: what messages call it.
    pub fn qualified(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// Whether its objects are the namespaces.
    pub fn is_namespaces(&self) -> bool {
        self.group.is_empty() && self.plural == "namespaces"
    }

    /// Whether it has this verb.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|one| one == verb)
    }

    /// The subresource of that name, if it is served.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|one| one.name == name && one.served)
    }

    /// Whether its status is written apart from the rest.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// The key of an object. `namespace` is ignored for cluster scope.
    pub fn store_key(&self, namespace: Option<&str>, name: &str) -> String {
        match namespace.filter(|namespace| self.namespaced && !namespace.is_empty()) {
            Some(namespace) => format!("{}/{namespace}/{name}", self.storage.prefix),
            None => format!("{}/{name}", self.storage.prefix),
        }
    }

    /// The prefix of all objects, or of those in a namespace; ends with `/`.
    pub fn store_prefix(&self, namespace: Option<&str>) -> String {
        match namespace.filter(|namespace| self.namespaced && !namespace.is_empty()) {
            Some(namespace) => format!("{}/{namespace}/", self.storage.prefix),
            None => format!("{}/", self.storage.prefix),
        }
    }

    /// Whether there are objects of it in the store; reviews are answered, and other kinds are only shown.
    pub fn is_stored(&self) -> bool {
        self.has_verb("get") && self.has_verb("create")
    }

    /// Whether objects are stored in the form of another version, see [`crate::convert`].
    pub fn needs_conversion(&self) -> bool {
        (self.storage.group.as_str(), self.storage.version.as_str()) != (&self.group, &self.version)
    }
}

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
    static BUILTIN: LazyLock<Registry> = LazyLock::new(builtin);
    &BUILTIN
}

#[derive(Deserialize)]
struct Facts {
    groups: Vec<GroupFacts>,
    resources: Vec<ResourceFacts>,
}

#[derive(Deserialize)]
struct GroupFacts {
    name: String,
    versions: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceFacts {
    group_version: String,
    name: String,
    #[serde(default)]
    singular_name: String,
    namespaced: bool,
    kind: String,
    verbs: Vec<String>,
    #[serde(default)]
    short_names: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
    group: Option<String>,
    version: Option<String>,
}

fn builtin() -> Registry {
    let facts: Facts = serde_json::from_str(include_str!("../../data/discovery.json"))
        .expect("discovery data is well formed");
    let mut columns: HashMap<String, Vec<Column>> =
        serde_json::from_str(include_str!("../../data/table-columns.json"))
            .expect("column data is well formed");
    let types = Types::builtin();
    let mut registry = Registry::default();
    registry.groups.push(Group { name: String::new(), versions: vec!["v1".into()] });
    for group in facts.groups {
        let versions = group.versions.iter().map(|one| split_group_version(one).1.to_owned()).collect();
        registry.groups.push(Group { name: group.name, versions });
    }
    let (subs, mains): (Vec<_>, Vec<_>) = facts.resources.into_iter().partition(|one| one.name.contains('/'));
    for main in mains {
        let (group, version) = split_group_version(&main.group_version);
        let (group, version) = (group.to_owned(), version.to_owned());
        let name = schema_name(&group, &version, &main.kind);
        let root = types.find(&name).expect("every kind of the discovery data has a type");
        let subresources = subs
            .iter()
            .filter(|sub| sub.group_version == main.group_version)
            .filter_map(|sub| Some((sub, sub.name.strip_prefix(&main.name)?.strip_prefix('/')?)))
            .map(|(sub, name)| subresource(sub, name, &group, &version))
            .collect();
        registry.insert(Resource {
            served: true,
            storage: storage::of(&group, &version, &main.name),
            columns: columns.remove(&format!("{}/{}", main.group_version, main.name)).unwrap_or_default(),
            schema: Schema { types: types.clone(), root },
            singular: main.singular_name,
            plural: main.name,
            kind: main.kind,
            namespaced: main.namespaced,
            verbs: main.verbs,
            short_names: main.short_names,
            categories: main.categories,
            subresources,
            custom: None,
            group,
            version,
        });
    }
    registry
}

fn subresource(facts: &ResourceFacts, name: &str, group: &str, version: &str) -> Subresource {
    Subresource {
        name: name.to_owned(),
        group: facts.group.clone().unwrap_or_else(|| group.to_owned()),
        version: facts.version.clone().unwrap_or_else(|| version.to_owned()),
        kind: facts.kind.clone(),
        verbs: facts.verbs.clone(),
        served: true,
    }
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
