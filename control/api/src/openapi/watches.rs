//! The older paths of watches, which upstream's documents still name, and the path that tells what a version holds.

use serde_json::{Map, Value, json};

use super::parameters::{LIST, query};
use super::paths::{About, id, insert_with, operation, tag};
use super::{META, base_path};
use crate::registry::Resource;

/// Adds the paths below `watch/` of a built-in kind. Custom kinds are published without them.
pub(super) fn add(resource: &Resource, paths: &mut Map<String, Value>) {
    if resource.custom.is_some() || !resource.has_verb("watch") {
        return;
    }
    let base = format!("{}/watch", base_path(resource));
    let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{base}{scope}/{}", resource.plural);
    let item = format!("{collection}/{{name}}");
    let namespaced = resource.namespaced;
    insert(resource, paths, &collection, ["watchlist", "List", ""], namespaced, false);
    insert(resource, paths, &item, ["watch", "", ""], namespaced, true);
    if namespaced {
        let everywhere = format!("{base}/{}", resource.plural);
        insert(resource, paths, &everywhere, ["watchlist", "List", "ForAllNamespaces"], false, false);
    }
}

fn insert(
    resource: &Resource,
    paths: &mut Map<String, Value>,
    path: &str,
    [action, part, ending]: [&str; 3],
    namespaced: bool,
    named: bool,
) {
    let kind = json!({ "group": resource.group, "version": resource.version, "kind": resource.kind });
    let id = id(resource, "watch", part, ending);
    let about = About { resource, id, kind: &kind, schema: &format!("{META}.WatchEvent") };
    let mut get = operation(&about, "list", action, false);
    // They are those of the path.
    get.as_object_mut().map(|get| get.remove("parameters"));
    get["description"] = "deprecated: ask for the list with the parameter 'watch' instead".into();
    let entry = Map::from_iter([("get".to_owned(), get)]);
    let parameters = LIST.iter().map(|(name, kind, text)| query(name, kind, text)).collect();
    insert_with(paths, path, entry, namespaced, named, parameters);
}

/// Adds the path of a group version itself, which these resources are of.
pub(super) fn add_root(resource: &Resource, paths: &mut Map<String, Value>) {
    let schema = json!({ "schema": { "$ref": format!("#/components/schemas/{META}.APIResourceList") } });
    let content: Map<String, Value> =
        ["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"]
            .into_iter()
            .map(|media| (media.to_owned(), schema.clone()))
            .collect();
    let get = json!({
        "description": "get available resources",
        "operationId": format!("get{}APIResources", super::paths::versioned_title(resource)),
        "responses": { "200": { "description": "OK", "content": content }, "401": { "description": "Unauthorized" } },
        "tags": [tag(resource)],
    });
    paths.insert(format!("{}/", base_path(resource)), json!({ "get": get }));
}
