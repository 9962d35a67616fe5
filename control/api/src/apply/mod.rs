//! Server-side apply: who owns which field, and what an object becomes when somebody applies what they want of it
//! (KEP-555; the semantics of structured-merge-diff).
//!
//! - [`update`] records what any other write changed: the writer takes the fields over.
//! - [`apply`] lays the applied fields over the live object, takes out what the applier owned alone and no longer applies,
//!   and refuses to change what others own unless forced.
//!
//! Both are pure. Defaults, admission and validation come after, as for any write. Owners keep their fields when a schema
//! turns a field from atomic to granular or back; upstream would move them.

mod compare;
mod conflict;
mod entries;
mod extract;
mod fresh;
mod merge;
mod owned;
mod owners;
mod prune;
mod set;
mod side_by_side;
mod spot;
mod step;
mod undeclared;
mod upgrade;
mod versions;

use serde_json::{Map, Value};

use crate::registry::{Registry, Resource};
use crate::schema::Shape;
use crate::status::Status;
use compare::Comparison;
use conflict::Conflict;
use entries::{is_but_for_entries, record, take_entries, write};
use owners::{Operation, Owner, Owners};
use prune::prune;
use spot::Spot;

pub use set::FieldSet;
pub use step::Step;
pub(crate) use undeclared::{UNDECLARED, undeclared};
pub use versions::{Conversions, Wanted};

/// Owns what was there before anybody applied, of an object without entries.
const BEFORE_FIRST: &str = "before-first-apply";

/// Who writes, to what, and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The resource in the version of the request.
    pub resource: &'a Resource,
    /// All resources, for owners that wrote in other versions.
    pub registry: &'a Registry,
    /// The field manager, or what stands for it.
    pub name: &'a str,
    /// The subresource of the request, empty for the whole object.
    pub subresource: &'a str,
    /// RFC 3339.
    pub now: &'a str,
    /// What a webhook has made of objects in other versions. Only it knows them, where there is one.
    pub conversions: &'a Conversions,
}

impl Writer<'_> {
    fn owner(&self, operation: Operation, fields: FieldSet) -> Owner {
        Owner {
            name: self.name.to_owned(),
            operation,
            api_version: self.resource.group_version(),
            subresource: self.subresource.to_owned(),
            time: self.now.to_owned(),
            fields: fields.into(),
        }
    }

    /// The fields that a write through this endpoint does not change, and so nobody gets to own by it.
    fn ignored(&self) -> FieldSet {
        match self.subresource {
            "" if self.resource.kind == "CertificateSigningRequest" && self.resource.custom.is_none() => {
                // What is asked for does not change.
                FieldSet::of_names(&[&["spec"], &["status"]])
            }
            "" if self.resource.has_status() => FieldSet::of_names(&[&["status"]]),
            "status" => {
                let mut ignored =
                    FieldSet::of_names(&[&["metadata", "ownerReferences"], &["metadata", "finalizers"]]);
                for field in &self.resource.schema.root_type().fields {
                    if !matches!(field.name.as_str(), "apiVersion" | "kind" | "metadata" | "status") {
                        ignored.insert(&[Step::field(field.name.as_str())]);
                    }
                }
                ignored
            }
            _ => FieldSet::default(),
        }
    }
}

/// Compares two objects in the version of an owner.
fn differences(
    writer: &Writer<'_>,
    api_version: &str,
    old: &Value,
    new: &Value,
) -> Option<Result<Comparison, String>> {
    if api_version == writer.resource.group_version() {
        let schema = &writer.resource.schema;
        return Some(compare::compare(&Spot::root(schema, &Shape::Object(schema.root)), old, new));
    }
    let ((old, schema), (new, _)) =
        (writer.in_version(api_version, old)?, writer.in_version(api_version, new)?);
    Some(compare::compare(&Spot::root(&schema, &Shape::Object(schema.root)), &old, &new))
}

/// Takes from the other owners what changed, and gives what they would lose by it. The owner at `except` is not looked at.
fn settle(
    writer: &Writer<'_>,
    owners: &mut Owners,
    except: Option<&Owner>,
    old: &Value,
    new: &Value,
) -> Result<(Comparison, Vec<Conflict>), String> {
    let mut ignored = writer.ignored();
    // One of the two may have entries: they are no change.
    ignored.insert(&[Step::field("metadata"), Step::field("managedFields")]);
    let own_version = writer.resource.group_version();
    let mut known: Vec<(String, Comparison, FieldSet)> = Vec::new();
    let know = |version: String, found: Comparison, changes: bool| {
        let found = found.outside(&ignored);
        let changed = if changes { found.set() } else { FieldSet::default() };
        (version, found, changed)
    };
    let own = differences(writer, &own_version, old, new).unwrap_or_else(|| Ok(Comparison::default()))?;
    // A new object has no owners that could lose anything.
    known.push(know(own_version, own, !owners.0.is_empty()));
    let mut conflicts = Vec::new();
    let mut gone = Vec::new();
    for (at, owner) in owners.0.iter_mut().enumerate() {
        if except.is_some_and(|except| except.is(owner)) {
            continue;
        }
        let found = known.iter().position(|(version, ..)| *version == owner.api_version);
        let found = match found {
            Some(found) => found,
            None => match differences(writer, &owner.api_version, old, new) {
                Some(comparison) => {
                    known.push(know(owner.api_version.clone(), comparison?, true));
                    known.len() - 1
                }
                // Nobody can say any more what it owned.
                None => {
                    gone.push(at);
                    continue;
                }
            },
        };
        let (_, comparison, changed) = &known[found];
        let lost = owner.fields.lose(changed, &comparison.removed);
        if !lost.is_empty() {
            conflicts.push(Conflict { owner: owner.title(), fields: lost });
        }
    }
    for at in gone.into_iter().rev() {
        owners.0.remove(at);
    }
    owners.drop_empty();
    Ok((known.swap_remove(0).1, conflicts))
}

/// Records in `new` that the writer changed the object from `old` to `new`; `old` is one in which nothing
/// is set for a new one ([`crate::decode::nothing_set`]).
///
/// What the client sent as `managedFields` of the whole object counts, so that entries can be put right by hand; `[{}]`
/// resets them. An object that cannot be taken apart keeps the entries it had.
pub fn update(writer: &Writer<'_>, old: &Value, new: &mut Value) {
    let before = old["metadata"].get("managedFields");
    let sent = take_entries(new);
    let mut owners = match writer.subresource {
        "" => Owners::sent(sent, old),
        // As a rule they are those of the old object, and need not be copied.
        _ if sent.as_ref() == before => Owners::of(sent).unwrap_or_default(),
        _ => Owners::read(old).unwrap_or_default(),
    };
    if owners.0.is_empty() && !crate::object::uid(old).is_empty() {
        // Whoever took all entries away wants none, until somebody applies.
        return;
    }
    let mut owner = writer.owner(Operation::Update, FieldSet::default());
    if owners.0.is_empty()
        && let Some(fields) = of_new(writer, old, new)
    {
        owner.fields = fields.into();
        owners.0.push(owner);
        owners.drop_empty();
        return record(owners, before, new);
    }
    let Ok((mut found, _)) = settle(writer, &mut owners, Some(&owner), old, new) else {
        return write(new, before.cloned());
    };
    let removed = std::mem::take(&mut found.removed);
    let changed = found.into_set();
    let own = owners.same(&owner);
    if let Some(at) = own {
        owners.0[at].fields.subtract(&removed);
    }
    if !changed.is_empty() {
        match own {
            Some(at) => {
                let own = &mut owners.0[at];
                own.fields.absorb(changed);
                own.time = owner.time;
            }
            None => {
                owner.fields = changed.into();
                owners.0.push(owner);
            }
        }
    }
    owners.drop_empty();
    record(owners, before, new);
}

/// What the author of a new object owns, if that is found the short way.
fn of_new(writer: &Writer<'_>, nothing: &Value, new: &Value) -> Option<Map<String, Value>> {
    let schema = &writer.resource.schema;
    let but = fresh::But { outside: Some(&writer.ignored()), themselves: Some(&owners::OF_THE_SERVER) };
    fresh::fields(&Spot::root(schema, &Shape::Object(schema.root)), nothing, new, but)
}

/// The live object with what is applied, owned by the writer; `live` is an empty object when there is none yet.
///
/// # Errors
/// 409 with a cause for each field that somebody else owns with another value, unless `force`; 400 when the applied object
/// has an item without key, or twice.
pub fn apply(writer: &Writer<'_>, live: &Value, applied: &Value, force: bool) -> Result<Value, Status> {
    let (mut object, mut owners, conflicts) = lay_over(writer, live, applied)?;
    if !force && !conflicts.is_empty() {
        upgrade::allow(writer, live, conflicts).map_err(|conflicts| conflict::status(&conflicts))?;
    }
    let before = live["metadata"].get("managedFields");
    if is_but_for_entries(live, &object) {
        // Nothing changed but, perhaps, who owns what: since when somebody owns what they own is kept.
        let applier = writer.owner(Operation::Apply, FieldSet::default());
        let time = Owners::read(live).and_then(|old| old.same(&applier).map(|at| old.0[at].time.clone()));
        if let Some(at) = owners.same(&applier) {
            // Who comes to own something without a change has done so at no time.
            owners.0[at].time = time.unwrap_or_default();
        }
    }
    upgrade::annotate(writer, applied, &mut object);
    record(owners, before, &mut object);
    Ok(object)
}

/// 400: what is applied does not suit the types of its kind. Upstream has no code for it, and answers 500; so do we where
/// fields are not known, as its clients are used to it.
pub fn untyped(resource: &Resource, applied: &Value, why: &str) -> Status {
    let (namespace, name) = (crate::object::namespace(applied), crate::object::name(applied));
    let (group, version, kind) = (&resource.group, &resource.version, &resource.kind);
    let message = format!(
        "failed to create typed patch object ({namespace}/{name}; {group}/{version}, Kind={kind}): {why}"
    );
    let is_unknown = why.ends_with(UNDECLARED);
    if is_unknown { Status::new(500, "", message) } else { Status::bad_request(message) }
}

/// The merged object without its entries, the owners after it, and what others lose by it.
fn lay_over(
    writer: &Writer<'_>,
    live: &Value,
    applied: &Value,
) -> Result<(Value, Owners, Vec<Conflict>), Status> {
    let refuse = |why: String| untyped(writer.resource, applied, &why);
    let schema = &writer.resource.schema;
    let shape = Shape::Object(schema.root);
    let spot = Spot::root(schema, &shape);
    extract::check(&spot, applied, &mut Vec::new()).map_err(refuse)?;
    let fields = extract::fields(&spot, applied).map_err(refuse)?.outside(&writer.ignored());
    let mut merged = merge::merge(&spot, live, applied).map_err(refuse)?;
    let mut owners = Owners::of(take_entries(&mut merged)).unwrap_or_default();
    if owners.0.is_empty() && !crate::object::uid(live).is_empty() {
        owners = before_first(writer, live).map_err(refuse)?;
    }
    let applied_now = fields.clone();
    let applier = writer.owner(Operation::Apply, fields);
    let last = owners.same(&applier).map(|at| owners.0.remove(at));
    owners.0.push(applier.clone());
    // Who applies all that it applied last gives nothing up.
    let gives_up =
        |last: &Owner| last.api_version != applier.api_version || !last.fields.is_within(&applied_now);
    if let Some(last) = last.filter(gives_up) {
        merged = prune(writer, &merged, &owners, &last).map_err(refuse)?;
    }
    let (_, conflicts) = settle(writer, &mut owners, Some(&applier), live, &merged).map_err(refuse)?;
    Ok((merged, owners, conflicts))
}

/// The owner of all that is in an object without entries, when somebody applies to it for the first time.
fn before_first(writer: &Writer<'_>, live: &Value) -> Result<Owners, String> {
    let schema = &writer.resource.schema;
    let shape = Shape::Object(schema.root);
    let nothing = crate::decode::nothing_set(writer.resource);
    let mut bare = live.clone();
    take_entries(&mut bare);
    let all = compare::compare(&Spot::root(schema, &shape), &nothing, &bare)?;
    let mut owner = writer.owner(Operation::Update, all.set().outside(&writer.ignored()));
    owner.name = BEFORE_FIRST.to_owned();
    Ok(Owners(vec![owner]))
}

#[cfg(test)]
mod tests;
