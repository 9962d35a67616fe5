//! Quotas: what each kind of object counts for, which quota an object falls under, and whether there is room left
//! (upstream's quota evaluators and the decision of its `ResourceQuota` admission).
//!
//! The API server decides by it and the quota controller counts by it, so that both agree. Pure; the time comes in as text.

mod check;
mod claims;
mod devices;
mod pods;
mod scope;
mod services;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::Value;

use crate::quantity::Quantity;
use crate::resources::{self, Amounts};

pub use check::{Limited, Quota, Request, check};
pub use scope::Selector;

pub(crate) use pods::COMPUTE;

/// How objects of a kind are measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluator {
    /// Pods: number, requests, limits.
    Pods,
    /// Services: number, node ports, load balancers.
    Services,
    /// Persistent volume claims: number and size, in all and by class.
    Claims,
    /// Resource claims: number and devices by class.
    DeviceClaims,
    /// Anything else: the number of objects, under these names.
    Count(Vec<String>),
}

/// Kinds that are counted under a name of their own besides `count/...`.
const ALIASES: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];

impl Evaluator {
    /// The evaluator of a kind.
    pub fn of(group: &str, plural: &str) -> Self {
        match (group, plural) {
            ("", "pods") => Self::Pods,
            ("", "services") => Self::Services,
            ("", "persistentvolumeclaims") => Self::Claims,
            (devices::GROUP, devices::PLURAL) => Self::DeviceClaims,
            _ => {
                let alias = (group.is_empty() && ALIASES.contains(&plural)).then(|| plural.to_owned());
                Self::Count(std::iter::once(count_name(group, plural)).chain(alias).collect())
            }
        }
    }

    /// Which of these resources this kind of object can use up.
    pub fn matching<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Vec<String> {
        let matches = |name: &str| match self {
            Self::Pods => pods::is_measured(name),
            Self::Services => services::NAMES.contains(&name),
            Self::Claims => claims::is_measured(name),
            Self::DeviceClaims => devices::is_measured(name),
            Self::Count(own) => own.iter().any(|one| one == name),
        };
        names.into_iter().filter(|name| matches(name)).cloned().collect()
    }

    /// Whether an object lies in a scope.
    pub fn in_scope(&self, selector: &Selector, object: &Value) -> bool {
        match self {
            Self::Pods => pods::in_scope(selector, object),
            Self::Claims => claims::in_scope(selector, object),
            _ => false,
        }
    }

    /// What an object counts for. `now` is a time in RFC 3339, to the second in UTC as objects carry it.
    pub fn usage(&self, object: &Value, now: &str) -> Amounts {
        match self {
            Self::Pods => pods::usage(object, now),
            Self::Services => services::usage(object),
            Self::Claims => claims::usage(object),
            Self::DeviceClaims => devices::usage(object),
            Self::Count(names) => names.iter().map(|name| (name.clone(), Quantity::of(1))).collect(),
        }
    }

    /// What is missing in an object that a quota of these resources needs.
    fn missing(&self, required: &[String], object: &Value) -> Option<String> {
        if *self == Self::Pods { pods::missing(required, object) } else { None }
    }

    /// Whether a write can use anything up.
    pub fn handles(&self, creates: bool, subresource: &str, old: Option<&Value>, new: &Value) -> bool {
        match (self, subresource) {
            (Self::Pods, "") => {
                creates || old.is_some_and(|old| pods::is_terminating(old) != pods::is_terminating(new))
            }
            (Self::Pods, "resize") => !creates,
            (Self::Services | Self::Claims | Self::DeviceClaims, "") => true,
            (Self::Claims, "status") => old.is_some_and(|old| claims::changed(old, new)),
            (Self::Count(_), "") => creates,
            _ => false,
        }
    }

    /// Whether a change of an object that has happened may have set something free: then its quotas are counted again.
    pub fn frees(&self, old: &Value, new: &Value, now: &str) -> bool {
        match self {
            Self::Count(_) => false,
            Self::Pods => {
                pods::is_charged(old, now) != pods::is_charged(new, now)
                    || pods::is_terminating(old) != pods::is_terminating(new)
                    || self.usage(old, now) != self.usage(new, now)
            }
            _ => self.usage(old, now) != self.usage(new, now),
        }
    }
}

/// The name under which objects of a kind are counted: `count/deployments.apps`.
pub fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

/// The kinds (group, plural) that the names of a quota can be about.
pub fn kinds_of<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<(String, String)> {
    let special =
        [("", "pods"), ("", "services"), ("", "persistentvolumeclaims"), (devices::GROUP, devices::PLURAL)];
    let mut kinds: Vec<(String, String)> = Vec::new();
    for name in names {
        let counted = name.strip_prefix("count/").map(|rest| rest.split_once('.').unwrap_or((rest, "")));
        let found = match counted {
            Some((plural, group)) => Some((group, plural)),
            None => special.into_iter().chain(ALIASES.map(|plural| ("", plural))).find(|(group, plural)| {
                !Evaluator::of(group, plural).matching(std::iter::once(name)).is_empty()
            }),
        };
        if let Some((group, plural)) = found
            && !kinds.iter().any(|one| one.0 == group && one.1 == plural)
        {
            kinds.push((group.to_owned(), plural.to_owned()));
        }
    }
    kinds
}

/// What all objects together use of what a quota limits. `list` gives the objects of a kind in the quota's namespace,
/// nothing for kinds that there are not: what is only theirs is left out.
pub fn measure<'a>(
    hard: impl IntoIterator<Item = &'a String>,
    selectors: &[Selector],
    mut list: impl FnMut(&str, &str) -> Option<Vec<Arc<Value>>>,
    now: &str,
) -> Amounts {
    let hard: Vec<String> = hard.into_iter().cloned().collect();
    let mut used = Amounts::new();
    for (group, plural) in kinds_of(&hard) {
        let evaluator = Evaluator::of(&group, &plural);
        let Some(objects) = list(&group, &plural) else { continue };
        let names = evaluator.matching(&hard);
        for name in &names {
            used.entry(name.clone()).or_insert(Quantity::of(0));
        }
        let inside = |object: &&Arc<Value>| selectors.iter().all(|one| evaluator.in_scope(one, object));
        for object in objects.iter().filter(inside) {
            let mut own = evaluator.usage(object, now);
            own.retain(|name, _| names.contains(name));
            resources::add(&mut used, &own);
        }
    }
    used
}
