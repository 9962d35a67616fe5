//! Discovery and OpenAPI of other servers, joined with those of this one. What this server serves itself wins.

use serde_json::{Map, Value, json};

use crate::object::{items, text};
use crate::registry::join_group_version;

/// A group version that another server answers for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remote {
    /// Its group.
    pub group: String,
    /// Its version.
    pub version: String,
    /// The least priority of the group, among all groups.
    pub group_priority: i64,
    /// The priority of the version within the group.
    pub version_priority: i64,
    /// Whether the server is there.
    pub available: bool,
    /// What it answered when it was asked last: an `APIResourceList`, or null.
    pub resources: Value,
    /// Its OpenAPI document of version 2, or null.
    pub openapi: Value,
    /// A name for the content of its OpenAPI document.
    pub hash: String,
}

impl Remote {
    fn group_version(&self) -> String {
        join_group_version(&self.group, &self.version)
    }
}

/// The groups that others answer for, and their versions, both by priority.
fn groups(remotes: &[Remote]) -> Vec<(&str, Vec<&Remote>)> {
    let mut groups: Vec<(&str, Vec<&Remote>)> = Vec::new();
    for remote in remotes {
        match groups.iter_mut().find(|(name, _)| *name == remote.group) {
            Some((_, versions)) => versions.push(remote),
            None => groups.push((&remote.group, vec![remote])),
        }
    }
    for (_, versions) in &mut groups {
        versions.sort_by(|a, b| {
            b.version_priority.cmp(&a.version_priority).then_with(|| a.version.cmp(&b.version))
        });
    }
    let priority =
        |versions: &[&Remote]| versions.iter().map(|one| one.group_priority).max().unwrap_or_default();
    groups.sort_by(|a, b| priority(&b.1).cmp(&priority(&a.1)).then_with(|| a.0.cmp(b.0)));
    groups
}

fn version_entry(remote: &Remote) -> Value {
    json!({ "groupVersion": remote.group_version(), "version": remote.version })
}

/// The entry of a group with the versions that others answer for, too.
fn joined(own: Option<Value>, name: &str, remotes: &[&Remote]) -> Value {
    let mut entry = own.unwrap_or_else(|| json!({ "name": name, "versions": [] }));
    let mut versions = items(&entry, &["versions"]).to_vec();
    let fresh = remotes.iter().map(|one| version_entry(one)).filter(|one| !versions.contains(one));
    let fresh: Vec<Value> = fresh.collect();
    versions.extend(fresh);
    if entry["preferredVersion"].is_null() {
        entry["preferredVersion"] = versions.first().cloned().unwrap_or_default();
    }
    entry["versions"] = json!(versions);
    entry
}

/// `/apis` with the groups of others.
pub fn join_list(mut list: Value, remotes: &[Remote]) -> Value {
    let Some(all) = list["groups"].as_array_mut() else { return list };
    for (name, versions) in groups(remotes) {
        match all.iter_mut().find(|one| one["name"] == name) {
            Some(own) => *own = joined(Some(own.take()), name, &versions),
            None => all.push(joined(None, name, &versions)),
        }
    }
    list
}

/// `/apis/GROUP`, if this server or another one has it.
pub fn join_group(own: Option<Value>, name: &str, remotes: &[Remote]) -> Option<Value> {
    let groups = groups(remotes);
    let Some((_, versions)) = groups.iter().find(|(one, _)| *one == name) else { return own };
    let mut group = joined(own, name, versions);
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    Some(group)
}

/// The aggregated form of `/apis` with the groups of others.
pub fn join_groups(mut list: Value, remotes: &[Remote]) -> Value {
    let Some(all) = list["items"].as_array_mut() else { return list };
    for (name, versions) in groups(remotes) {
        let entries: Vec<Value> = versions.iter().map(|one| aggregated_version(one)).collect();
        match all.iter_mut().find(|one| one["metadata"]["name"] == name) {
            Some(own) => {
                if let Some(own) = own["versions"].as_array_mut() {
                    let known: Vec<Value> = own.iter().map(|one| one["version"].clone()).collect();
                    own.extend(entries.into_iter().filter(|one| !known.contains(&one["version"])));
                }
            }
            None => all.push(json!({
                "metadata": { "name": name }, "versions": entries,
            })),
        }
    }
    list
}

fn aggregated_version(remote: &Remote) -> Value {
    let freshness = if remote.available { "Current" } else { "Stale" };
    let all = items(&remote.resources, &["resources"]);
    let kind = |one: &Value| {
        let or = |member: &str, other: &str| match text(one, &[member]) {
            "" => other.to_owned(),
            given => given.to_owned(),
        };
        json!({
            "group": or("group", &remote.group), "version": or("version", &remote.version),
            "kind": text(one, &["kind"]),
        })
    };
    let mut resources = Vec::new();
    for one in all.iter().filter(|one| !text(one, &["name"]).contains('/')) {
        let name = text(one, &["name"]);
        let mut entry = json!({
            "resource": name,
            "responseKind": kind(one),
            "scope": if one["namespaced"] == true { "Namespaced" } else { "Cluster" },
            "singularResource": text(one, &["singularName"]),
            "verbs": one["verbs"],
        });
        for member in ["shortNames", "categories"] {
            if !items(one, &[member]).is_empty() {
                entry[member] = one[member].clone();
            }
        }
        let parts = all.iter().filter_map(|part| {
            let (resource, part_name) = text(part, &["name"]).split_once('/')?;
            let entry =
                json!({ "subresource": part_name, "responseKind": kind(part), "verbs": part["verbs"] });
            (resource == name).then_some(entry)
        });
        let parts: Vec<Value> = parts.collect();
        if !parts.is_empty() {
            entry["subresources"] = json!(parts);
        }
        resources.push(entry);
    }
    json!({ "version": remote.version, "freshness": freshness, "resources": resources })
}

/// The index of OpenAPI v3 with the documents of others.
pub fn join_v3(mut index: Value, remotes: &[Remote]) -> Value {
    if let Some(paths) = index["paths"].as_object_mut() {
        for remote in remotes.iter().filter(|remote| !remote.hash.is_empty()) {
            let path = format!("apis/{}", remote.group_version());
            let url = format!("/openapi/v3/{path}?hash={}", remote.hash);
            paths.entry(path).or_insert_with(|| json!({ "serverRelativeURL": url }));
        }
    }
    index
}

/// OpenAPI v2 with what others have under the paths of their groups, and the definitions that this needs.
pub fn join_v2(mut document: Value, remotes: &[Remote]) -> Value {
    for remote in remotes.iter().filter(|remote| remote.openapi.is_object()) {
        let start = format!("/apis/{}/", remote.group_version());
        let whole = start.trim_end_matches('/');
        let theirs = |member: &str| remote.openapi[member].as_object().into_iter().flatten();
        let paths: Map<String, Value> = theirs("paths")
            .filter(|(path, _)| path.starts_with(&start) || *path == whole)
            .map(|(path, value)| (path.clone(), value.clone()))
            .collect();
        for (member, all) in [("paths", paths), ("definitions", theirs("definitions").map(owned).collect())] {
            if let Some(own) = document[member].as_object_mut() {
                for (key, value) in all {
                    own.entry(key).or_insert(value);
                }
            }
        }
    }
    document
}

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}
