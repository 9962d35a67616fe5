//! Strategic merge patch (`apimachinery/pkg/util/strategicpatch`): objects merge, lists with a merge key merge by that key,
//! other lists are replaced, and directives in the patch change that: `$patch`, `$retainKeys`, `$setElementOrder/…` and
//! `$deleteFromPrimitiveList/…`.

mod list;

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::printed::{Printed, type_name};
use crate::schema::{Field, Schema, Shape, Type, Types};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// Why a patch makes no sense, in upstream's words. What it has a code for is another thing than what it stumbles over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A directive of the wrong form.
    Form(&'static str),
    /// An item or an order that does not suit the list.
    Misfit(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Form(why) => f.write_str(why),
            Self::Misfit(why) => f.write_str(why),
        }
    }
}

const BAD_RETAIN_KEYS: Failure = Failure::Form("invalid patch format of retainKeys");

type Outcome<T> = Result<T, Failure>;

/// The patched document. Both are objects.
///
/// # Errors
/// On the directive or list item that makes no sense.
pub fn merge(schema: &Schema, document: &Value, patch: &Value) -> Outcome<Value> {
    let (Value::Object(document), Value::Object(patch)) = (document, patch) else {
        return Err(Failure::Form("invalid JSON document"));
    };
    let merger = Merger { types: &schema.types };
    merger.object(Some(schema.root_type()), document.clone(), patch).map(Value::Object)
}

struct Merger<'a> {
    types: &'a Types,
}

impl<'a> Merger<'a> {
    fn object(
        &self,
        of: Option<&'a Type>,
        mut target: Map<String, Value>,
        patch: &Map<String, Value>,
    ) -> Outcome<Map<String, Value>> {
        match patch.get(PATCH).map(|directive| directive.as_str()) {
            None => {}
            Some(Some("replace")) => {
                let mut fresh = patch.clone();
                fresh.remove(PATCH);
                return Ok(fresh);
            }
            Some(Some("delete")) => return Ok(Map::new()),
            Some(_) => return Err(unknown_directive(patch)),
        }
        retain_keys(&mut target, patch)?;
        self.check_orders(of, patch)?;
        for (name, value) in patch {
            if let Some(list) = name.strip_prefix(DELETE_PRIMITIVES) {
                list::delete_primitives(&mut target, list, value);
            } else if name == RETAIN_KEYS || name.starts_with(SET_ORDER) {
                // The one is done, the other follows when the lists are merged.
            } else if value.is_null() {
                target.remove(name);
            } else {
                let field = of.and_then(|of| of.field(name));
                let order = patch.get(&format!("{SET_ORDER}{name}"));
                match target.remove(name) {
                    // What is not there, or is something else, is what the patch says it is.
                    Some(old) if type_name(&old) == type_name(value) => {
                        target.insert(name.clone(), self.member(field, old, value, order)?);
                    }
                    _ => target.extend(plain(value).map(|value| (name.clone(), value))),
                }
            }
        }
        self.reorder_untouched(of, &mut target, patch)?;
        Ok(target)
    }

    /// One member that the patch sets.
    fn member(
        &self,
        field: Option<&'a Field>,
        old: Value,
        patch: &Value,
        order: Option<&Value>,
    ) -> Outcome<Value> {
        match (old, patch) {
            (Value::Object(old), Value::Object(patch)) => {
                let old =
                    if field.is_some_and(|field| field.has_strategy("replace")) { Map::new() } else { old };
                self.object(self.type_of(field.map(|field| &field.shape)), old, patch).map(Value::Object)
            }
            (Value::Array(old), Value::Array(patch)) => self.list(field, old, patch, order),
            (_, other) => Ok(other.clone()),
        }
    }

    fn type_of(&self, shape: Option<&Shape>) -> Option<&'a Type> {
        match shape? {
            Shape::Object(id) => Some(self.types.get(*id)),
            _ => None,
        }
    }

    fn list(
        &self,
        field: Option<&'a Field>,
        old: Vec<Value>,
        patch: &[Value],
        order: Option<&Value>,
    ) -> Outcome<Value> {
        let key = field.and_then(|field| field.merge_key.as_deref());
        let Some(field) = field.filter(|field| field.has_strategy("merge")) else {
            return Ok(Value::Array(patch.to_vec()));
        };
        // Without an order of its own a patch has that of its items.
        let in_patch = patch.iter().filter(|item| item.get(PATCH).is_none()).cloned().collect();
        let Some(key) = key else {
            let merged = list::merge_primitives(old.clone(), patch)?;
            return Ok(Value::Array(list::sorted(None, merged, &old, order.or(Some(&in_patch)))?));
        };
        let of = match &field.shape {
            Shape::List(inner) => self.type_of(Some(inner)),
            _ => None,
        };
        let server = old.clone();
        let merged = self.keyed(of, key, old, patch)?;
        Ok(Value::Array(list::sorted(Some(key), merged, &server, order.or(Some(&in_patch)))?))
    }

    /// A list whose items have a key.
    fn keyed(
        &self,
        of: Option<&'a Type>,
        key: &str,
        list: Vec<Value>,
        patch: &[Value],
    ) -> Outcome<Vec<Value>> {
        let directive = |item: &Value| item.get(PATCH).map(|one| one.as_str().unwrap_or_default().to_owned());
        if patch.iter().any(|item| directive(item).as_deref() == Some("replace")) {
            return Ok(patch.iter().filter(|item| directive(item).is_none()).cloned().collect());
        }
        // Hostile lists are long: items are found by their keys, not one by one.
        let mut places: HashMap<Value, Vec<usize>> = HashMap::new();
        for (at, item) in list.iter().enumerate() {
            places.entry(item.get(key).cloned().unwrap_or_default()).or_default().push(at);
        }
        let mut list: Vec<Option<Value>> = list.into_iter().map(Some).collect();
        for item in patch {
            let Value::Object(item) = item else { return Err(list::no_object(item)) };
            let directive = item.get(PATCH).map(|one| one.as_str().unwrap_or_default());
            let value = list::key_of(item, key)?;
            match directive {
                Some("delete") => places.remove(value).into_iter().flatten().for_each(|at| list[at] = None),
                Some("merge") => {
                    return Err(Failure::Misfit("merging lists cannot yet be specified in the patch".into()));
                }
                Some(_) => return Err(unknown_directive(item)),
                None => {
                    let at = places.get(value).and_then(|places| places.first()).copied();
                    let old = match at.and_then(|at| list[at].take()) {
                        Some(Value::Object(old)) => old,
                        _ => Map::new(),
                    };
                    let merged = Some(Value::Object(self.object(of, old, item)?));
                    match at {
                        Some(at) => list[at] = merged,
                        None => {
                            places.entry(value.clone()).or_default().push(list.len());
                            list.push(merged);
                        }
                    }
                }
            }
        }
        Ok(list.into_iter().flatten().collect())
    }

    /// Checks that what has an order in the patch is a list, and keeps to it.
    fn check_orders(&self, of: Option<&'a Type>, patch: &Map<String, Value>) -> Outcome<()> {
        for (name, order) in patch {
            let Some(list) = name.strip_prefix(SET_ORDER) else { continue };
            let items = patch.get(list).unwrap_or(&Value::Null);
            if !items.is_null() && !items.is_array() {
                return Err(list::bad_type("[]interface {}", items));
            }
            let field = of.and_then(|of| of.field(list));
            if let (Some(of), None) = (of, field) {
                let of = of.short_name();
                return Err(Failure::Misfit(format!(
                    "unable to find api field in struct {of} for the json field {list:?}"
                )));
            }
            let key = field.and_then(|field| field.merge_key.as_deref());
            let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
            list::check_order(key, items, order)?;
        }
        Ok(())
    }

    /// Lists for which the patch has an order but no items.
    fn reorder_untouched(
        &self,
        of: Option<&'a Type>,
        target: &mut Map<String, Value>,
        patch: &Map<String, Value>,
    ) -> Outcome<()> {
        for (name, order) in patch {
            let Some(list) = name.strip_prefix(SET_ORDER).filter(|list| !patch.contains_key(*list)) else {
                continue;
            };
            let key = of.and_then(|of| of.field(list)).and_then(|field| field.merge_key.as_deref());
            if let Some(Value::Array(items)) = target.get_mut(list) {
                let old = std::mem::take(items);
                *items = list::sorted(key, old.clone(), &old, Some(order))?;
            }
        }
        Ok(())
    }
}

/// A value as a patch means it where there was none: without what directs merging, and without nulls. Nothing of what is
/// itself a directive.
fn plain(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Object(members) if members.contains_key(PATCH) => return None,
        Value::Object(members) => members
            .iter()
            .filter(|(name, value)| !name.starts_with('$') && !value.is_null())
            .filter_map(|(name, value)| Some((name.clone(), plain(value)?)))
            .collect(),
        Value::Array(items) => items.iter().filter_map(plain).collect(),
        other => other.clone(),
    })
}

/// A directive that nobody knows, or that is no word.
fn unknown_directive(patch: &Map<String, Value>) -> Failure {
    let word = match &patch[PATCH] {
        Value::String(word) => word.clone(),
        other => format!("%!s({}={})", type_name(other), Printed(other)),
    };
    Failure::Misfit(format!("unknown patch type: {word} in map: {}", Printed(&Value::Object(patch.clone()))))
}

/// `$retainKeys` leaves nothing in the target but the keys that it names.
fn retain_keys(target: &mut Map<String, Value>, patch: &Map<String, Value>) -> Outcome<()> {
    let Some(directive) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let keys = directive.as_array().ok_or(BAD_RETAIN_KEYS)?;
    let retains = |name: &str| keys.iter().any(|key| key == name);
    let is_order = |name: &str| name.starts_with(DELETE_PRIMITIVES) || name.starts_with(SET_ORDER);
    for (name, value) in patch {
        if name != RETAIN_KEYS && !value.is_null() && !is_order(name) && !retains(name) {
            return Err(BAD_RETAIN_KEYS);
        }
    }
    target.retain(|name, _| retains(name));
    Ok(())
}

/// Takes out the directives, and the lists that have an order.
pub(super) fn take_directives(patch: &mut Value) {
    let Some(members) = patch.as_object_mut() else { return };
    let names: Vec<String> = members.keys().cloned().collect();
    for name in &names {
        if let Some(list) = name.strip_prefix(SET_ORDER) {
            members.remove(name);
            members.remove(list);
        }
    }
    members.remove(RETAIN_KEYS);
    members.values_mut().for_each(take_directives);
}
