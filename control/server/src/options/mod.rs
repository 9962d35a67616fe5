//! The options of a request: what a list or watch selects and where it reads, how a write is to be done.
//!
//! Owns their reading out of queries, and what upstream says of those that contradict each other. Does not own what comes
//! of them.

mod list;
mod token;
mod write;

use serde_json::Value;
use skep_api::registry::Resource;
use skep_api::select::{FieldSelector, LabelSelector};
use skep_api::status::Status;

use crate::cache::Object;
use crate::query::Query;
use crate::respond::view;

pub(crate) use list::{ListOptions, WatchFrom, WatchOptions, revision};
pub(crate) use token::Token;
pub(crate) use write::{ApplyOptions, WriteOptions, dry_run};

/// Where a list reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadAt {
    /// Everything acknowledged so far.
    Newest,
    /// Whatever is at hand.
    Any,
    /// At this revision or later.
    NotOlderThan(u64),
    /// At this revision.
    Exact(u64),
}

/// Which objects a list, watch or deletion of a collection is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// Reads both selectors.
    pub(crate) fn parse(resource: &Resource, query: &Query) -> Result<Self, Status> {
        let labels = query.get("labelSelector").map(LabelSelector::parse).transpose()?.unwrap_or_default();
        let fields =
            query.get("fieldSelector").map(|text| FieldSelector::parse(resource, text)).transpose()?;
        Ok(Self { labels, fields: fields.unwrap_or_default() })
    }

    /// Whether everything is selected.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether this object is selected by what it is in the version of `resource`.
    pub(crate) fn matches(&self, resource: &Resource, object: &Object) -> bool {
        if !self.labels.is_empty() && !object.is_selected(&self.labels) {
            return false;
        }
        if self.fields.is_empty() {
            true
        } else if resource.is_served_as_stored() {
            self.fields.matches(&object.only(self.fields.paths()))
        } else {
            self.fields.matches(&view(resource, object))
        }
    }

    /// The same of an object that is not stored.
    pub(crate) fn matches_value(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }
}

/// A whole number of a query.
pub(crate) fn number(query: &Query, name: &str) -> Result<Option<i64>, Status> {
    match query.number(name) {
        Ok(number) => Ok(number),
        Err((text, why)) => Err(Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))),
    }
}

#[cfg(test)]
mod tests;
