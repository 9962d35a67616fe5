//! What `/api` and `/apis` answer: groups, versions, resources, in the classic and in the aggregated form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::registry::{Group, Registry, Resource, StoragePath, join_group_version};

/// `/api`. `server_address` is host and port as clients reach the server.
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": server_address }],
    })
}

/// `/apis`.
pub fn api_group_list(registry: &Registry) -> Value {
    let groups: Vec<Value> =
        registry.groups().filter(|group| !group.name.is_empty()).map(group_entry).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/GROUP`, if there is such a group.
pub fn api_group(registry: &Registry, name: &str) -> Option<Value> {
    let group = registry.groups().find(|group| group.name == name && !name.is_empty())?;
    let mut entry = group_entry(group);
    entry["kind"] = "APIGroup".into();
    entry["apiVersion"] = "v1".into();
    Some(entry)
}

fn group_entry(group: &Group) -> Value {
    let version = |version: &String| json!({ "groupVersion": join_group_version(&group.name, version), "version": version });
    let versions: Vec<Value> = group.versions.iter().map(version).collect();
    json!({ "name": group.name, "preferredVersion": versions.first(), "versions": versions })
}

/// `/api/VERSION` (empty group) and `/apis/GROUP/VERSION`, if there is such a version.
pub fn api_resource_list(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let mut entries = Vec::new();
    for resource in of_version(registry, group, version) {
        entries.push(resource_entry(resource));
        for sub in resource.subresources.iter().filter(|sub| sub.served) {
            let mut entry = json!({
                "name": format!("{}/{}", resource.plural, sub.name),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": sub.kind,
                "verbs": sub.verbs,
            });
            if (sub.group.as_str(), sub.version.as_str()) != (group, version) {
                entry["group"] = sub.group.clone().into();
                entry["version"] = sub.version.clone().into();
            }
            entries.push(entry);
        }
    }
    if entries.is_empty() {
        return None;
    }
    let mut list = json!({
        "kind": "APIResourceList",
        "groupVersion": join_group_version(group, version),
        "resources": entries,
    });
    if !group.is_empty() {
        // The list of the core group is older than that.
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}

fn of_version<'a>(
    registry: &'a Registry,
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'a Resource> {
    registry.resources().filter(move |one| one.group == group && one.version == version)
}

fn resource_entry(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    lists(&mut entry, resource);
    if resource.is_stored() {
        let hash = storage_version_hash(&resource.storage, &resource.kind);
        entry["storageVersionHash"] = hash.into();
    }
    entry
}

/// What tells the stored form of a kind from another one: clients that migrate stored objects compare it, and read
/// nothing else out of it. The first eight bytes of a digest over the form's name, as upstream makes it.
fn storage_version_hash(storage: &StoragePath, kind: &str) -> String {
    let form = format!("{}/{}/{kind}", storage.group, storage.version);
    STANDARD.encode(&Sha256::digest(form)[..8])
}

fn lists(entry: &mut Value, resource: &Resource) {
    if !resource.short_names.is_empty() {
        entry["shortNames"] = resource.short_names.clone().into();
    }
    if !resource.categories.is_empty() {
        entry["categories"] = resource.categories.clone().into();
    }
}

/// The aggregated form (`apidiscovery.k8s.io/v2`) of `/api` (`core`) or `/apis`.
pub fn aggregated(registry: &Registry, core: bool) -> Value {
    let items: Vec<Value> = registry
        .groups()
        .filter(|group| group.name.is_empty() == core)
        .map(|group| {
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> =
                        of_version(registry, &group.name, version).map(aggregated_resource).collect();
                    json!({ "version": version, "freshness": "Current", "resources": resources })
                })
                .collect();
            let metadata = if core { json!({}) } else { json!({ "name": group.name }) };
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(resource: &Resource) -> Value {
    // Only what is of another group or version than the list says so.
    let kind = |group: &str, version: &str, kind: &str| {
        let own = (group, version) == (resource.group.as_str(), resource.version.as_str());
        let (group, version) = if own { ("", "") } else { (group, version) };
        json!({ "group": group, "version": version, "kind": kind })
    };
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": kind(&resource.group, &resource.version, &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    lists(&mut entry, resource);
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .filter(|sub| sub.served)
        .map(|sub| {
            json!({
                "subresource": sub.name,
                "responseKind": kind(&sub.group, &sub.version, &sub.kind),
                "verbs": sub.verbs,
            })
        })
        .collect();
    if !subresources.is_empty() {
        entry["subresources"] = subresources.into();
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::registry;

    #[test]
    fn classic_list_of_served_resources_is_what_upstream_says() {
        let upstream: Value = serde_json::from_str(include_str!("../data/discovery.json")).unwrap();
        for (group, version) in
            [("apps", "v1"), ("batch", "v1"), ("rbac.authorization.k8s.io", "v1"), ("autoscaling", "v1")]
        {
            let ours = api_resource_list(registry(), group, version).unwrap();
            let ours = ours["resources"].as_array().unwrap();
            let group_version = join_group_version(group, version);
            let theirs: Vec<&Value> = upstream["resources"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|one| one["groupVersion"] == group_version)
                .collect();
            assert_eq!(ours.len(), theirs.len());
            for (ours, theirs) in ours.iter().zip(theirs) {
                let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
                // The recorded answers leave it out; it has a test of its own.
                ours.as_object_mut().unwrap().remove("storageVersionHash");
                theirs.as_object_mut().unwrap().remove("groupVersion");
                assert_eq!(ours, theirs);
            }
        }
    }

    #[test]
    fn storage_version_hash_names_the_stored_form() {
        // As upstream's server answers for these.
        let hash = |group: &str, version: &str, plural: &str| {
            let list = api_resource_list(registry(), group, version).unwrap();
            let entries = list["resources"].as_array().unwrap().clone();
            entries.into_iter().find(|one| one["name"] == plural).unwrap()["storageVersionHash"].clone()
        };
        assert_eq!(hash("", "v1", "pods"), "xPOwRZ+Yhw8=");
        assert_eq!(hash("apps", "v1", "deployments"), "8aSe+NMegvE=");
        assert_eq!(hash("authorization.k8s.io", "v1", "localsubjectaccessreviews"), Value::Null);
        let autoscalers = hash("autoscaling", "v2", "horizontalpodautoscalers");
        assert_eq!(hash("autoscaling", "v1", "horizontalpodautoscalers"), autoscalers);
        assert_eq!(hash("events.k8s.io", "v1", "events"), hash("", "v1", "events"));
    }

    #[test]
    fn versions_that_do_not_exist_have_no_answer() {
        assert!(api_resource_list(registry(), "apps", "v2").is_none());
        assert!(api_group(registry(), "").is_none());
        assert!(api_group(registry(), "nothing.example.com").is_none());
        assert_eq!(api_group(registry(), "autoscaling").unwrap()["preferredVersion"]["version"], "v2");
    }

    #[test]
    fn aggregated_form_has_every_served_resource_once() {
        let count = |core| -> usize {
            let list = aggregated(registry(), core);
            let items = list["items"].as_array().unwrap().clone();
            items
                .iter()
                .flat_map(|item| item["versions"].as_array().unwrap().clone())
                .map(|version| version["resources"].as_array().unwrap().len())
                .sum()
        };
        assert_eq!(count(true) + count(false), registry().resources().count());
    }
}
