//! The parameters of a policy, as a binding refers to them.

use std::sync::Arc;

use serde_json::Value;
use skep_api::object::{at, text};
use skep_api::registry::{Registry, Resource, split_group_version};
use skep_api::select::LabelSelector;

use crate::respond::view;
use crate::storage::Storage;

/// The parameters of a policy under a binding, for a write in a namespace. Each is a reason to evaluate the policy once;
/// null stands for none.
///
/// # Errors
///
/// When the reference leads nowhere, in upstream's words.
pub(super) async fn find(
    storage: &Storage,
    kinds: &Registry,
    policy: &Value,
    binding: &Value,
    namespace: &str,
) -> Result<Vec<Arc<Value>>, String> {
    let none = || Ok(vec![Arc::new(Value::Null)]);
    let Some(kind) = at(policy, &["spec", "paramKind"]) else { return none() };
    let Some(reference) = at(binding, &["spec", "paramRef"]) else { return none() };
    let (group, version) = split_group_version(text(kind, &["apiVersion"]));
    let resource = kinds.find_kind(group, version, text(kind, &["kind"])).filter(|one| one.has_verb("list"));
    let resource = resource.ok_or_else(|| {
        format!("paramKind kind `{}, Kind={}` not known", text(kind, &["apiVersion"]), text(kind, &["kind"]))
    })?;
    let namespace = place(resource, text(reference, &["namespace"]), namespace)?;
    let found = match text(reference, &["name"]) {
        "" => selected(storage, resource, namespace, &reference["selector"]).await?,
        name => named(storage, resource, namespace, name).await?.into_iter().collect(),
    };
    if found.is_empty() && text(reference, &["parameterNotFoundAction"]) == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    Ok(found)
}

/// The namespace in which to look.
fn place<'a>(resource: &Resource, asked: &'a str, own: &'a str) -> Result<&'a str, String> {
    match (resource.namespaced, asked, own) {
        (false, "", _) => Ok(""),
        (false, ..) => {
            Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned())
        }
        (true, "", "") => {
            let why =
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            Err(why.to_owned())
        }
        (true, "", own) => Ok(own),
        (true, asked, _) => Ok(asked),
    }
}

async fn named(
    storage: &Storage,
    resource: &Resource,
    namespace: &str,
    name: &str,
) -> Result<Option<Arc<Value>>, String> {
    let Some(collection) = storage.cache.collection(resource) else { return Ok(None) };
    let Some(object) = collection.get(&resource.store_key(Some(namespace), name)) else { return Ok(None) };
    let object = storage.converter.view(resource, object).await.map_err(|status| status.message)?;
    Ok(Some(view(resource, &object)))
}

async fn selected(
    storage: &Storage,
    resource: &Resource,
    namespace: &str,
    selector: &Value,
) -> Result<Vec<Arc<Value>>, String> {
    let selector = LabelSelector::from_object(selector).ok_or("the selector of the parameters is none")?;
    let Some(collection) = storage.cache.collection(resource) else { return Ok(Vec::new()) };
    let prefix = resource.store_prefix(Some(namespace));
    let all = storage.cache.snapshot(&collection).range(&prefix, None).cloned().collect();
    let all = storage.converter.views(resource, all).await.map_err(|status| status.message)?;
    let all = all.iter().map(|object| view(resource, object));
    Ok(all.filter(|object| selector.matches(object)).collect())
}
