//! API servers behind this one (`apiregistration.k8s.io APIService`): what such an object may say, the objects that stand
//! for what this server serves itself, whether a server is there, and how its documents join those of this one. Pure.

mod documents;
mod local;
mod rules;
mod status;

use serde_json::Value;

use crate::object::{at, set, text};

pub use documents::{Remote, join_group, join_groups, join_list, join_v2, join_v3};
pub use local::{is_obsolete, local};
pub(crate) use rules::check;
pub use status::{Condition, judge, with_condition};

/// The name of the group.
pub const GROUP: &str = "apiregistration.k8s.io";
/// The plural name of the kind.
pub const PLURAL: &str = "apiservices";

/// Fills in what an object may leave out.
pub(crate) fn default(object: &mut Value) {
    if let Some(service) = object.pointer_mut("/spec/service").filter(|service| service.is_object())
        && at(service, &["port"]).is_none()
    {
        set(service, "port", 443);
    }
}

/// Whether another server answers for the group version.
pub fn is_remote(object: &Value) -> bool {
    at(object, &["spec", "service"]).is_some()
}

/// The name of the object that stands for a group version.
pub fn name_of(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}

/// Group and version that an object is about.
pub fn group_version(object: &Value) -> (&str, &str) {
    (text(object, &["spec", "group"]), text(object, &["spec", "version"]))
}

#[cfg(test)]
mod tests;
