//! Objects in the versions of other owners, and back.
//!
//! What versions of built-in kinds, and of custom resources without a webhook, make of each other is known here. Where a
//! webhook converts, apply is told what it made of objects before, and notes what it would have to know still: whoever
//! calls it has that converted, and calls it again. So apply stays a function of what is known.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::{Writer, take_entries};
use crate::convert;
use crate::custom::review;
use crate::object::set as put;
use crate::registry::{Resource, split_group_version};
use crate::schema::Schema;

/// An object, and the version that it is wanted in.
pub type Wanted = (String, Value);

/// What a webhook has made of objects, and what is still wanted of it.
#[derive(Debug, Default)]
pub struct Conversions {
    known: Mutex<HashMap<Wanted, Value>>,
    wanted: Mutex<Vec<Wanted>>,
}

impl Conversions {
    /// What was wanted since this was asked last, each once.
    pub fn take_wanted(&self) -> Vec<Wanted> {
        std::mem::take(&mut *self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the webhook made of something that was wanted.
    pub fn know(&self, wanted: Wanted, converted: Value) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(wanted, converted);
    }

    fn find(&self, wanted: Wanted) -> Option<Value> {
        if let Some(found) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&wanted) {
            return Some(found.clone());
        }
        let mut all = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains(&wanted) {
            all.push(wanted);
        }
        None
    }
}

impl Writer<'_> {
    /// An object of this resource in the version of an owner, with the schema of that version; `None` if there is no
    /// such version any more, or it is not known yet.
    pub(super) fn in_version(&self, api_version: &str, object: &Value) -> Option<(Value, Schema)> {
        if api_version == self.resource.group_version() {
            return Some((object.clone(), self.resource.schema.clone()));
        }
        let other = self.other(api_version)?;
        Some((self.converted(self.resource, other, object.clone())?, other.schema.clone()))
    }

    /// An object of another version of the resource in that of the request.
    ///
    /// # Errors
    /// When the version is gone, or the object is not known yet.
    pub(super) fn back(&self, api_version: &str, object: Value) -> Result<Value, String> {
        if api_version == self.resource.group_version() {
            return Ok(object);
        }
        let other = self.other(api_version).ok_or_else(|| format!("version {api_version} is gone"))?;
        let converted = self.converted(other, self.resource, object);
        converted.ok_or_else(|| format!("an object of version {api_version} is still to be converted"))
    }

    fn other(&self, api_version: &str) -> Option<&Resource> {
        let (group, version) = split_group_version(api_version);
        self.registry.find_kind(group, version, &self.resource.kind).map(|other| &**other)
    }

    fn converted(&self, from: &Resource, to: &Resource, mut object: Value) -> Option<Value> {
        let api_version = to.group_version();
        if review::webhook(self.resource).is_some() {
            // Entries are none of the webhook's business.
            take_entries(&mut object);
            return self.conversions.find((api_version, object));
        }
        convert::to_storage(from, &mut object);
        convert::from_storage(to, &mut object);
        put(&mut object, "apiVersion", api_version);
        Some(object)
    }
}
