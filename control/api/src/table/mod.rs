//! Objects as rows of a table (`meta.k8s.io/v1` `Table`), which is what `kubectl get` prints.
//!
//! The columns are data of the registry; the cells of each kind are code, one file per group. A kind without code of its
//! own has its name and age, and for the rest what the column's name points to.

mod admission;
mod age;
mod apps;
mod autoscaling;
mod cells;
mod core;
mod groups;
mod node;
mod pod;
mod service;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::registry::{Column, Resource};

pub use age::human_duration;
pub(crate) use age::since;

/// What each row carries of its object (`includeObject` of a request).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; empty is the default, and so is `None` for other words.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// The table of some objects. `list_meta` is the metadata of the list or object that it stands for; `now` gives the ages.
pub fn render(
    resource: &Resource,
    objects: &[&Value],
    list_meta: Option<&Value>,
    include: IncludeObject,
    now: Timestamp,
) -> Value {
    let columns = columns(resource);
    let rows: Vec<Value> = objects.iter().map(|object| row(resource, object, include, now)).collect();
    let definitions: Vec<Value> = columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.kind,
                "format": column.format,
                "description": description(resource, column),
                "priority": column.priority,
            })
        })
        .collect();
    let mut metadata = json!({});
    for name in ["resourceVersion", "continue", "remainingItemCount"] {
        if let Some(value) = list_meta.and_then(|meta| meta.get(name)).filter(|value| !value.is_null()) {
            metadata[name] = value.clone();
        }
    }
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

/// The metadata of an object alone (`PartialObjectMetadata`).
pub fn partial_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

fn columns(resource: &Resource) -> Vec<Column> {
    if let Some(custom) = &resource.custom {
        let own = custom.columns.iter().map(|column| column.column.clone());
        return std::iter::once(column("Name", "name")).chain(own).collect();
    }
    if !resource.columns.is_empty() {
        return resource.columns.clone();
    }
    vec![column("Name", "name"), column("Age", "")]
}

fn column(name: &str, format: &str) -> Column {
    Column { name: name.to_owned(), kind: "string".to_owned(), format: format.to_owned(), priority: 0 }
}

fn description(resource: &Resource, column: &Column) -> String {
    let written = resource.custom.iter().flat_map(|custom| &custom.columns).find(|one| one.column == *column);
    if let Some(written) = written.filter(|written| !written.description.is_empty()) {
        return written.description.clone();
    }
    match column.name.as_str() {
        "Name" => "Name of the object, unique within its namespace and kind.".to_owned(),
        "Age" => "Time since the object was created.".to_owned(),
        name => format!("{name} of the {}.", resource.singular),
    }
}

/// The row of an object, as in the table of several.
pub fn row(resource: &Resource, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let cells: Vec<Value> = cells(resource, object, now);
    let mut row = json!({ "cells": cells });
    match include {
        IncludeObject::None => {}
        IncludeObject::Metadata => row["object"] = partial_metadata(object),
        IncludeObject::Object => row["object"] = object.clone(),
    }
    row
}

/// The cells of an object, one for each column.
fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    if let Some(custom) = &resource.custom {
        return crate::custom::cells(custom, object, now);
    }
    let special = match resource.group.as_str() {
        "" => core::cells(resource, object, now),
        "apps" | "batch" => apps::cells(resource, object, now),
        _ => groups::cells(resource, object, now),
    };
    let wanted = columns(resource);
    match special {
        Some(cells) if cells.len() == wanted.len() => cells,
        _ => wanted.iter().map(|column| cells::generic(column, object, now)).collect(),
    }
}

#[cfg(test)]
mod tests;
