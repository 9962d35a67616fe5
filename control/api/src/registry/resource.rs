//! One entry of the registry: a kind with its names, verbs and parts.

use std::sync::Arc;

use serde::Deserialize;

use super::{StoragePath, join_group_version};
use crate::custom::Custom;
use crate::schema::Schema;

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

    /// The name of the type that upstream's server holds its objects in, with this ending: `*core.Pod`. Answers have it.
    pub fn internal_type(&self, ending: &str) -> String {
        if self.custom.is_some() {
            return format!("*unstructured.Unstructured{ending}");
        }
        let package = match self.group.as_str() {
            "" | "events.k8s.io" => "core",
            group => group.split('.').next().unwrap_or(group),
        };
        format!("*{package}.{}{ending}", self.kind)
    }

    /// Whether a deletion is answered with the object that went, as upstream has it, rather than with a `Status`.
    pub fn returns_deleted(&self) -> bool {
        const RETURNED: [&str; 8] = [
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "podtemplates",
            "resourcequotas",
            "serviceaccounts",
            "services",
            "storageclasses",
        ];
        self.custom.is_none() && RETURNED.contains(&self.plural.as_str())
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
