//! The built-in entries, read from what upstream's discovery says.

use std::collections::HashMap;

use serde::Deserialize;

use super::{Column, Group, Registry, Resource, Subresource, schema_name, split_group_version, storage};
use crate::schema::{Schema, Types};

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

pub(super) fn registry() -> Registry {
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
