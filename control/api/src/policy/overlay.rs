//! An apply configuration laid over an object: the merge of server-side apply, without anybody owning anything by it.

use serde_json::{Value, json};

use crate::apply::{self, Conversions, Writer};
use crate::object::set;
use crate::registry::{Registry, Resource};
use crate::schema::{Field, ListType, Shape, Types};

/// The object with the configuration laid over it.
///
/// # Errors
/// When the configuration is not one of the resource, or would replace something that is only ever one whole: policies
/// that each add to it would undo each other's work.
pub fn lay(
    resource: &Resource,
    kinds: &Registry,
    object: &Value,
    configuration: &Value,
) -> Result<Value, String> {
    let mut whole = Vec::new();
    atomics(&resource.schema.types, resource.schema.root, configuration, "", &mut whole);
    if !whole.is_empty() {
        return Err(format!(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            whole.join(", ")
        ));
    }
    let mut configuration = configuration.clone();
    set(&mut configuration, "apiVersion", resource.group_version());
    set(&mut configuration, "kind", resource.kind.as_str());
    if !configuration["metadata"].is_object() {
        set(&mut configuration, "metadata", json!({}));
    }
    for member in ["name", "namespace"] {
        if let Some(value) = object["metadata"].get(member) {
            set(&mut configuration["metadata"], member, value.clone());
        }
    }
    // The object has no owners here, who could have written in other versions.
    let conversions = &Conversions::default();
    let (name, subresource, now) = ("admission", "", "1970-01-01T00:00:00Z");
    let writer = Writer { resource, registry: kinds, name, subresource, now, conversions };
    let mut bare = object.clone();
    let owners = bare["metadata"].as_object_mut().and_then(|metadata| metadata.remove("managedFields"));
    let mut laid = apply::apply(&writer, &bare, &configuration, true)
        .map_err(|status| format!("error applying patch: {}", status.message))?;
    if let Some(metadata) = laid["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        metadata.extend(owners.map(|owners| ("managedFields".to_owned(), owners)));
    }
    Ok(laid)
}

/// The paths of what is set and only ever one whole.
fn atomics(types: &Types, id: usize, value: &Value, path: &str, found: &mut Vec<String>) {
    let Some(members) = value.as_object() else { return };
    for (name, inner) in members.iter().filter(|(_, inner)| !inner.is_null()) {
        let Some(field) = types.get(id).field(name) else { continue };
        let path = format!("{path}.{name}");
        if is_atomic(types, field) {
            found.push(path);
            continue;
        }
        within(types, &field.shape, inner, &path, found);
    }
}

fn within(types: &Types, shape: &Shape, value: &Value, path: &str, found: &mut Vec<String>) {
    match (shape, value) {
        (Shape::Object(id), _) => atomics(types, *id, value, path, found),
        (Shape::List(inner), Value::Array(items)) => {
            for item in items {
                within(types, inner, item, &format!("{path}[*]"), found);
            }
        }
        (Shape::Map(inner), Value::Object(members)) => {
            for (name, value) in members {
                within(types, inner, value, &format!("{path}.{name}"), found);
            }
        }
        _ => {}
    }
}

fn is_atomic(types: &Types, field: &Field) -> bool {
    let atomic = field.map_type.as_deref() == Some("atomic");
    match &field.shape {
        Shape::List(_) => field.list_type == ListType::Atomic,
        Shape::Object(id) => atomic || types.get(*id).atomic,
        Shape::Map(_) => atomic,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::registry;

    fn lay(configuration: Value) -> Result<Value, String> {
        let pods = registry().find("", "v1", "pods").unwrap();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "p", "managedFields": [{ "manager": "m" }] },
            "spec": { "containers": [{ "name": "a", "image": "i", "args": ["x"] }] },
        });
        super::lay(pods, registry(), &pod, &configuration)
    }

    #[test]
    fn configuration_is_merged_by_the_schema() {
        let container = json!({ "name": "a", "env": [{ "name": "E", "value": "1" }] });
        let sidecar = json!({ "name": "b", "image": "j" });
        let laid = lay(json!({
            "metadata": { "labels": { "l": "1" } }, "spec": { "containers": [container, sidecar] },
        }))
        .unwrap();
        assert_eq!(laid["metadata"]["labels"], json!({ "l": "1" }));
        assert_eq!(laid["metadata"]["managedFields"], json!([{ "manager": "m" }]));
        let expected = json!([
            { "name": "a", "image": "i", "args": ["x"], "env": [{ "name": "E", "value": "1" }] },
            { "name": "b", "image": "j" },
        ]);
        assert_eq!(laid["spec"]["containers"], expected);
    }

    #[test]
    fn configuration_that_would_replace_something_whole_is_refused() {
        let container = json!({ "name": "a", "args": ["y"] });
        let why = lay(json!({ "spec": { "containers": [container] } })).unwrap_err();
        assert!(
            why.ends_with("may not mutate atomic arrays, maps or structs: .spec.containers[*].args"),
            "{why}"
        );
    }
}
