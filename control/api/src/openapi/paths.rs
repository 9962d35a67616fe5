//! The paths of a resource: every verb with its parameters, body and answers.

use serde_json::{Map, Value, json};

use super::{META, base_path};
use crate::registry::{Resource, schema_name};

const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// What a verb is called in `x-kubernetes-action`, and by which method it is asked for.
struct Operation {
    verb: &'static str,
    action: &'static str,
    method: &'static str,
}

const COLLECTION: [Operation; 3] = [
    Operation { verb: "list", action: "list", method: "get" },
    Operation { verb: "create", action: "post", method: "post" },
    Operation { verb: "deletecollection", action: "deletecollection", method: "delete" },
];
const ITEM: [Operation; 4] = [
    Operation { verb: "get", action: "get", method: "get" },
    Operation { verb: "update", action: "put", method: "put" },
    Operation { verb: "patch", action: "patch", method: "patch" },
    Operation { verb: "delete", action: "delete", method: "delete" },
];

/// Adds the paths of a resource and its subresources.
pub(super) fn add(resource: &Resource, paths: &mut Map<String, Value>) {
    let base = base_path(resource);
    let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{base}{scope}/{}", resource.plural);
    let item = format!("{collection}/{{name}}");
    insert(paths, &collection, operations(resource, &COLLECTION, false), resource.namespaced, false);
    if resource.has_verb("get") {
        insert(paths, &item, operations(resource, &ITEM, false), resource.namespaced, true);
    }
    if resource.namespaced && resource.has_verb("list") {
        let mut entry = operations(resource, &COLLECTION[..1], true);
        entry.remove("post");
        insert(paths, &format!("{base}/{}", resource.plural), entry, false, false);
    }
    for sub in resource.subresources.iter().filter(|sub| sub.served) {
        let mut entry = Map::new();
        for (verb, method, action) in [
            ("get", "get", "get"),
            ("create", "post", "post"),
            ("update", "put", "put"),
            ("patch", "patch", "patch"),
        ] {
            if sub.verbs.iter().any(|one| one == verb) {
                let connect = matches!(sub.name.as_str(), "exec" | "attach" | "portforward" | "proxy");
                let schema = match &resource.custom {
                    Some(_) if sub.kind == resource.kind => super::name_of(resource),
                    _ => schema_name(&sub.group, &sub.version, &sub.kind),
                };
                let action = if connect { "connect" } else { action };
                let kind = json!({ "group": sub.group, "version": sub.version, "kind": sub.kind });
                let id = format!("{action}{}{}{}", title(&resource.version), resource.kind, title(&sub.name));
                entry.insert(method.into(), operation(&id, verb, action, &kind, &schema, connect));
            }
        }
        only_taken(resource, &mut entry);
        insert(paths, &format!("{item}/{}", sub.name), entry, resource.namespaced, true);
    }
}

fn insert(
    paths: &mut Map<String, Value>,
    path: &str,
    mut entry: Map<String, Value>,
    namespaced: bool,
    named: bool,
) {
    if entry.is_empty() {
        return;
    }
    let mut parameters = Vec::new();
    if named {
        parameters.push(json!({
            "name": "name", "in": "path", "required": true, "description": "name of the object",
            "schema": { "type": "string", "uniqueItems": true }
        }));
    }
    if namespaced {
        parameters.push(json!({
            "name": "namespace", "in": "path", "required": true,
            "description": "namespace of the object, for scoping of authorization",
            "schema": { "type": "string", "uniqueItems": true }
        }));
    }
    parameters.push(query("pretty", "string", "If 'true', then the output is printed with indentation."));
    entry.insert("parameters".into(), parameters.into());
    paths.insert(path.to_owned(), Value::Object(entry));
}

fn operations(resource: &Resource, all: &[Operation], every_namespace: bool) -> Map<String, Value> {
    let kind = json!({ "group": resource.group, "version": resource.version, "kind": resource.kind });
    let name = super::name_of(resource);
    let mut entry = Map::new();
    for one in all.iter().filter(|one| resource.has_verb(one.verb)) {
        let schema = match one.verb {
            "list" => format!("{name}List"),
            "delete" | "deletecollection" => format!("{META}.Status"),
            _ => name.clone(),
        };
        let place = if every_namespace { "ForAllNamespaces" } else { "" };
        let id = format!(
            "{}{}{}{}{place}",
            one.verb,
            title(&resource.group),
            title(&resource.version),
            resource.kind
        );
        entry.insert(one.method.into(), operation(&id, one.verb, one.action, &kind, &schema, false));
    }
    only_taken(resource, &mut entry);
    entry
}

/// Custom kinds take no strategic patches, and `kubectl apply` sends them wherever they are said to be taken.
fn only_taken(resource: &Resource, entry: &mut Map<String, Value>) {
    if resource.custom.is_none() {
        return;
    }
    for operation in entry.values_mut() {
        let content = operation.pointer_mut("/requestBody/content").and_then(Value::as_object_mut);
        content.map(|content| content.remove(STRATEGIC));
    }
}

fn title(text: &str) -> String {
    let mut chars = text.split('.').next().unwrap_or_default().chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn operation(id: &str, verb: &str, action: &str, kind: &Value, schema: &str, connect: bool) -> Value {
    let content = |schema: &str| json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{schema}") } } });
    let answer = if connect {
        json!({ "description": "OK", "content": { "*/*": { "schema": { "type": "string" } } } })
    } else {
        json!({ "description": "OK", "content": content(schema) })
    };
    let mut responses = json!({ "200": answer, "401": { "description": "Unauthorized" } });
    if verb == "create" && !connect {
        responses["201"] = json!({ "description": "Created", "content": content(schema) });
    }
    let mut operation = json!({
        "operationId": id,
        "responses": responses,
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": kind,
    });
    // Readers that write what they read leave empty lists out, so that these would not come back the same.
    let parameters = parameters(verb, connect);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    match verb {
        _ if connect => {}
        "create" | "update" => {
            operation["requestBody"] = json!({ "required": true, "content": content(schema) })
        }
        "delete" | "deletecollection" => {
            operation["requestBody"] = json!({ "content": content(&format!("{META}.DeleteOptions")) });
        }
        "patch" => {
            let patch = json!({ "schema": { "$ref": format!("#/components/schemas/{META}.Patch") } });
            operation["requestBody"] = json!({ "required": true, "content": {
                "application/json-patch+json": patch,
                "application/merge-patch+json": patch,
                STRATEGIC: patch,
                "application/apply-patch+yaml": patch,
            } });
        }
        _ => {}
    }
    operation
}

fn query(name: &str, kind: &str, description: &str) -> Value {
    json!({
        "name": name, "in": "query", "description": description,
        "schema": { "type": kind, "uniqueItems": true }
    })
}

/// Name, type and meaning of the parameters in a query.
const LIST: [(&str, &str, &str); 10] = [
    ("allowWatchBookmarks", "boolean", "Ask for bookmark events in a watch."),
    ("continue", "string", "The token of the answer that this request continues."),
    ("fieldSelector", "string", "Only objects whose fields meet these conditions."),
    ("labelSelector", "string", "Only objects whose labels meet these conditions."),
    ("limit", "integer", "The most objects that one answer may have."),
    ("resourceVersion", "string", "The version that the answer must have, as resourceVersionMatch says."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "Start a watch with the objects that are there."),
    ("timeoutSeconds", "integer", "Seconds after which the call ends."),
    ("watch", "boolean", "Send changes instead of a list."),
];
const WRITE: [(&str, &str, &str); 3] = [
    ("dryRun", "string", "With 'All', nothing is stored."),
    ("fieldManager", "string", "The name of the one who makes the change."),
    ("fieldValidation", "string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict."),
];
const DELETE: [(&str, &str, &str); 3] = [
    ("dryRun", "string", "With 'All', nothing is deleted."),
    ("gracePeriodSeconds", "integer", "Seconds until the object is deleted."),
    ("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
];

fn parameters(verb: &str, connect: bool) -> Vec<Value> {
    let of =
        |all: &[(&str, &str, &str)]| all.iter().map(|(name, kind, text)| query(name, kind, text)).collect();
    match verb {
        _ if connect => Vec::new(),
        "list" => of(&LIST),
        "deletecollection" => of(&[&DELETE[..], &LIST[1..7]].concat()),
        "create" | "update" => of(&WRITE),
        "patch" => of(&[&WRITE[..], &[("force", "boolean", "Take over fields that others own.")]].concat()),
        "delete" => of(&DELETE),
        _ => Vec::new(),
    }
}
