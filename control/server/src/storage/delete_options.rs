//! The options of a deletion: how long to wait, what becomes of dependents, and on which condition.

use serde_json::{Value, json};
use skep_api::registry::Resource;
use skep_api::status::Status;
use skep_api::validation::FieldError;

use super::metadata;
use crate::failure::invalid_options;
use crate::options;
use crate::query::Query;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What becomes of the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// `DeleteOptions` of Kubernetes' API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub(super) grace: Option<i64>,
    propagation: Option<Propagation>,
    uid: Option<String>,
    resource_version: Option<String>,
    pub(crate) dry_run: bool,
    /// `orphanDependents: false`, which asks for another status code.
    pub(crate) cascading: bool,
}

impl DeleteOptions {
    /// Reads the options from a body, or from the query when there is none. Who asks in the query for a dry run gets one
    /// beside a body, too: upstream overlooks that, and deletes.
    pub(crate) fn parse(body: Option<&Value>, query: &Query) -> Result<Self, Status> {
        let is_of_query = body.is_none();
        let from_query;
        let body = match body {
            Some(body) => body,
            None => {
                from_query = of_query(query)?;
                &from_query
            }
        };
        let beside = query.all("dryRun").filter(|_| !is_of_query);
        let dry: Vec<&str> = items(&body["dryRun"]).filter_map(Value::as_str).chain(beside).collect();
        let orphan = body["orphanDependents"].as_bool();
        let policy = body["propagationPolicy"].as_str();
        let mut errors = Vec::new();
        if let (Some(policy), Some(_)) = (policy, orphan) {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid("propagationPolicy", policy, why));
        }
        let propagation = match (policy, orphan) {
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (Some(other), _) => {
                let choices = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported("propagationPolicy", other, &choices));
                None
            }
            (None, None) => None,
        };
        errors.extend(options::dry_run(&dry));
        if !errors.is_empty() {
            return Err(invalid_options("DeleteOptions", &errors));
        }
        let text = |member: &str| body["preconditions"][member].as_str().map(str::to_owned);
        // As upstream: a negative period means the shortest.
        let grace = body["gracePeriodSeconds"].as_i64().map(|grace| if grace < 0 { 1 } else { grace });
        Ok(Self {
            grace,
            propagation,
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            dry_run: !dry.is_empty(),
            cascading: orphan == Some(false),
        })
    }

    /// The options as an object.
    pub(super) fn to_value(&self) -> Value {
        let mut value = json!({ "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1" });
        if let Some(grace) = self.grace {
            value["gracePeriodSeconds"] = grace.into();
        }
        if let Some(propagation) = self.propagation {
            value["propagationPolicy"] = format!("{propagation:?}").into();
        }
        for (member, wanted) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(wanted) = wanted {
                value["preconditions"][member] = wanted.clone().into();
            }
        }
        if self.dry_run {
            value["dryRun"] = json!(["All"]);
        }
        value
    }

    /// Deletes the object only in this state.
    pub(crate) fn only_at(&mut self, revision: u64) {
        self.resource_version = Some(revision.to_string());
    }

    /// Whether any state of the object will do.
    pub(crate) fn is_unconditional(&self) -> bool {
        self.resource_version.is_none() && self.uid.is_none()
    }

    pub(crate) fn check(&self, resource: &Resource, name: &str, object: &Value) -> Result<(), Status> {
        let wanted =
            [("UID", "uid", &self.uid), ("ResourceVersion", "resourceVersion", &self.resource_version)];
        for (title, member, wanted) in wanted {
            let found = metadata::text(object, member);
            if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
                let fate = if member == "uid" { "deleted and then recreated" } else { "modified" };
                let why = format!(
                    "the {title} in the precondition ({wanted}) does not match the {title} in record ({found}). The object \
                     might have been {fate}"
                );
                return Err(conflict(resource, name, &why));
            }
        }
        Ok(())
    }

    /// The finalizers that the object has from now on, if that changes.
    pub(super) fn finalizers(&self, resource: &Resource, object: &Value) -> Option<Vec<String>> {
        let found = metadata::finalizers(object);
        let kind = match self.propagation {
            Some(kind) => kind,
            None if found.iter().any(|one| matches!(*one, ORPHAN | FOREGROUND)) => return None,
            None if resource.group.is_empty() && resource.plural == "replicationcontrollers" => {
                Propagation::Orphan
            }
            None => Propagation::Background,
        };
        let wanted = match kind {
            Propagation::Orphan => Some(ORPHAN),
            Propagation::Foreground => Some(FOREGROUND),
            Propagation::Background => None,
        };
        let others = found.iter().copied().filter(|one| !matches!(*one, ORPHAN | FOREGROUND));
        let new: Vec<String> = others.chain(wanted).map(str::to_owned).collect();
        let same = new.len() == found.len() && found.iter().all(|one| new.iter().any(|other| other == one));
        (!same).then_some(new)
    }
}

/// 409, in which upstream calls the resource by its kind.
fn conflict(resource: &Resource, name: &str, why: &str) -> Status {
    let (group, kind) = (&resource.group, &resource.kind);
    let qualified = if group.is_empty() { kind.clone() } else { format!("{kind}.{group}") };
    let message = format!("Operation cannot be fulfilled on {qualified} {name:?}: {why}");
    Status::new(409, "Conflict", message).about(group, kind, name)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The options as a query says them, in the form of a body.
fn of_query(query: &Query) -> Result<Value, Status> {
    let mut body = json!({ "dryRun": query.all("dryRun").collect::<Vec<_>>() });
    if let Some(grace) = options::number(query, "gracePeriodSeconds")? {
        body["gracePeriodSeconds"] = grace.into();
    }
    if let Some(policy) = query.all("propagationPolicy").next() {
        body["propagationPolicy"] = policy.into();
    }
    if let Some(orphan) = query.optional_flag("orphanDependents") {
        body["orphanDependents"] = orphan.into();
    }
    for member in ["uid", "resourceVersion"] {
        if let Some(wanted) = query.get(member).filter(|wanted| !wanted.is_empty()) {
            body["preconditions"][member] = wanted.into();
        }
    }
    Ok(body)
}
