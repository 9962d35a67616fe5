//! OpenAPI documents: v3, one per group version, and v2, all in one. kubectl explains and validates by them.
//!
//! The definitions were made by `build.rs` and lie compressed in the binary; a document is put together on demand, which
//! takes milliseconds, so that callers keep the bytes they send. Paths come from the registry.

mod parameters;
mod paths;
mod v2;
mod v2_protobuf;
mod watches;

use std::collections::BTreeSet;
use std::hash::{Hash as _, Hasher as _};
use std::io::Read as _;

use serde_json::{Map, Value, json};

use crate::custom;
use crate::registry::{Registry, Resource, join_group_version, schema_name};

pub use v2::v2;
pub use v2_protobuf::v2_protobuf;

/// A name for the present content of all documents, for `hash` parameters and entity tags.
pub fn hash() -> &'static str {
    env!("SKEP_OPENAPI_HASH")
}

/// Whether the document at a path is one of the built-in kinds.
pub fn is_builtin(builtin: &Registry, path: &str) -> bool {
    builtin.resources().any(|one| path_of(&one.group, &one.version) == path)
}

/// A name for the present content of the document of one group version.
fn hash_of(registry: &Registry, group: &str, version: &str) -> String {
    let mut written = registry.custom().filter(|one| one.group == group && one.version == version).peekable();
    if written.peek().is_none() {
        return hash().to_owned();
    }
    let mut hasher = std::hash::DefaultHasher::new();
    hash().hash(&mut hasher);
    for resource in written {
        (&resource.plural, &resource.kind, resource.list_kind(), resource.namespaced).hash(&mut hasher);
        for sub in &resource.subresources {
            sub.name.hash(&mut hasher);
        }
        resource.custom.iter().for_each(|custom| custom.written.to_string().hash(&mut hasher));
    }
    format!("{:016X}", hasher.finish())
}

/// `/openapi/v3`: where the document of each group version is.
pub fn v3_index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for (group, version) in group_versions(registry) {
        let path = path_of(&group, &version);
        let url = format!("/openapi/v3/{path}?hash={}", hash_of(registry, &group, &version));
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
    json!({ "paths": paths })
}

/// `/openapi/v3/PATH`, where the path is `api/v1` or `apis/apps/v1`; `None` when there is no such group version.
pub fn v3(registry: &Registry, path: &str) -> Option<Value> {
    let (group, version) =
        group_versions(registry).into_iter().find(|(group, version)| path_of(group, version) == path)?;
    let resources: Vec<&Resource> =
        registry.resources().filter(|one| one.group == group && one.version == version).collect();
    let definitions = definitions();
    let mut schemas = Map::new();
    for resource in &resources {
        let name = name_of(resource);
        if resource.has_verb("list") {
            schemas.insert(format!("{name}List"), list_schema(resource, &name));
        }
        if let Some(custom) = &resource.custom {
            schemas.insert(name.clone(), custom::openapi::v3(resource, custom));
            collect(&definitions, OBJECT_META, &mut schemas);
        }
        collect(&definitions, &name, &mut schemas);
        for sub in resource.subresources.iter().filter(|sub| sub.served) {
            collect(&definitions, &schema_name(&sub.group, &sub.version, &sub.kind), &mut schemas);
        }
    }
    for name in ["APIResourceList", "DeleteOptions", "ListMeta", "Patch", "Status", "WatchEvent"] {
        collect(&definitions, &format!("{META}.{name}"), &mut schemas);
    }
    let mut all = Map::new();
    for resource in &resources {
        paths::add(resource, &mut all);
        watches::add(resource, &mut all);
    }
    if let Some(first) = resources.first() {
        watches::add_root(first, &mut all);
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "v1.36.0" },
        "paths": all,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "BearerToken": {
                "type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"
            } },
        },
    }))
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
pub(crate) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The name of a resource's schema. That of a custom one is its group backwards, version and kind.
fn name_of(resource: &Resource) -> String {
    if resource.custom.is_none() {
        return schema_name(&resource.group, &resource.version, &resource.kind);
    }
    let group: Vec<&str> = resource.group.rsplit('.').collect();
    format!("{}.{}.{}", group.join("."), resource.version, resource.kind)
}

fn path_of(group: &str, version: &str) -> String {
    match group {
        "" => format!("api/{version}"),
        group => format!("apis/{group}/{version}"),
    }
}

fn group_versions(registry: &Registry) -> BTreeSet<(String, String)> {
    registry.resources().map(|one| (one.group.clone(), one.version.clone())).collect()
}

/// All definitions, as v3 components.
fn definitions() -> Map<String, Value> {
    let packed: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/definitions.json.z"));
    let mut text = Vec::new();
    flate2::read::ZlibDecoder::new(packed).read_to_end(&mut text).expect("build.rs packs what this unpacks");
    serde_json::from_slice(&text).expect("build.rs writes JSON")
}

/// Adds a definition and all that it refers to.
fn collect(definitions: &Map<String, Value>, name: &str, into: &mut Map<String, Value>) {
    let mut open = vec![name.to_owned()];
    while let Some(name) = open.pop() {
        if into.contains_key(&name) {
            continue;
        }
        let Some(definition) = definitions.get(&name) else { continue };
        references(definition, &mut open);
        into.insert(name, definition.clone());
    }
}

fn references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(name) =
                members.get("$ref").and_then(Value::as_str).and_then(|text| text.rsplit('/').next())
            {
                into.push(name.to_owned());
            }
            members.values().for_each(|one| references(one, into));
        }
        Value::Array(items) => items.iter().for_each(|one| references(one, into)),
        _ => {}
    }
}

fn list_schema(resource: &Resource, item: &str) -> Value {
    json!({
        "description": format!("{} is a list of {} objects.", resource.list_kind(), resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {
                "type": "string",
                "description": "The versioned schema of this representation of an object.",
            },
            "kind": { "type": "string", "description": "The kind of this object." },
            "items": {
                "type": "array",
                "description": format!("The {} of the list.", resource.plural),
                "items": { "$ref": format!("#/components/schemas/{item}") },
            },
            "metadata": {
                "description": "Metadata of the list.",
                "allOf": [{ "$ref": format!("#/components/schemas/{META}.ListMeta") }],
            },
        },
        "x-kubernetes-group-version-kind": [
            { "group": resource.group, "version": resource.version, "kind": resource.list_kind() },
        ],
    })
}

/// The base path of a resource's objects.
fn base_path(resource: &Resource) -> String {
    let version = join_group_version(&resource.group, &resource.version);
    if resource.group.is_empty() { format!("/api/{version}") } else { format!("/apis/{version}") }
}

#[cfg(test)]
mod tests;
