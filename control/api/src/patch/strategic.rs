//! Strategic merge patch (`apimachinery/pkg/util/strategicpatch`): objects merge, lists with a merge key merge by that key,
//! other lists are replaced, and directives in the patch change that: `$patch`, `$retainKeys`, `$setElementOrder/…` and
//! `$deleteFromPrimitiveList/…`.

use serde_json::{Map, Value};

use crate::schema::{Field, Schema, Shape, Type, Types};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

type Outcome<T> = Result<T, String>;

/// The patched document. Both are objects.
///
/// # Errors
/// A sentence on the directive or list item that makes no sense.
pub fn merge(schema: &Schema, document: &Value, patch: &Value) -> Outcome<Value> {
    let (Value::Object(document), Value::Object(patch)) = (document, patch) else {
        return Err("a strategic merge patch applies to an object".into());
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
            Some(other) => return Err(format!("unknown patch type: {:?}", other.unwrap_or_default())),
        }
        retain_keys(&mut target, patch)?;
        for (name, value) in patch {
            if let Some(list) = name.strip_prefix(DELETE_PRIMITIVES) {
                delete_primitives(&mut target, list, value)?;
            } else if name == RETAIN_KEYS || name.starts_with(SET_ORDER) {
                // The one is done, the other follows when the lists are merged.
            } else if value.is_null() {
                target.remove(name);
            } else {
                let field = of.and_then(|of| of.field(name));
                let order = patch.get(&format!("{SET_ORDER}{name}"));
                let merged = self.member(field, target.remove(name), value, order)?;
                target.insert(name.clone(), merged);
            }
        }
        self.reorder_untouched(of, &mut target, patch)?;
        Ok(target)
    }

    /// One member that the patch sets.
    fn member(
        &self,
        field: Option<&'a Field>,
        old: Option<Value>,
        patch: &Value,
        order: Option<&Value>,
    ) -> Outcome<Value> {
        match (old, patch) {
            (Some(Value::Object(old)), Value::Object(patch)) => {
                let old =
                    if field.is_some_and(|field| field.has_strategy("replace")) { Map::new() } else { old };
                self.object(self.type_of(field.map(|field| &field.shape)), old, patch).map(Value::Object)
            }
            (_, Value::Object(patch)) => self
                .object(self.type_of(field.map(|field| &field.shape)), Map::new(), patch)
                .map(Value::Object),
            (Some(Value::Array(old)), Value::Array(patch)) => self.list(field, old, patch, order),
            (_, Value::Array(patch)) => self.list(field, Vec::new(), patch, order),
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
        let Some(field) = field.filter(|field| field.has_strategy("merge")) else {
            return Ok(Value::Array(patch.to_vec()));
        };
        // Without an order of its own a patch has that of its items.
        let in_patch = patch.iter().filter(|item| item.get(PATCH).is_none()).cloned().collect();
        let Some(key) = &field.merge_key else {
            let merged = merge_primitives(old.clone(), patch)?;
            return Ok(Value::Array(order_list(None, merged, &old, order.or(Some(&in_patch)))?));
        };
        let of = match &field.shape {
            Shape::List(inner) => self.type_of(Some(inner)),
            _ => None,
        };
        let server = old.clone();
        let merged = self.keyed(of, key, old, patch)?;
        Ok(Value::Array(order_list(Some(key), merged, &server, order.or(Some(&in_patch)))?))
    }

    /// A list whose items have a key.
    fn keyed(
        &self,
        of: Option<&'a Type>,
        key: &str,
        mut list: Vec<Value>,
        patch: &[Value],
    ) -> Outcome<Vec<Value>> {
        let directive = |item: &Value| item.get(PATCH).map(|one| one.as_str().unwrap_or_default().to_owned());
        if patch.iter().any(|item| directive(item).as_deref() == Some("replace")) {
            return Ok(patch.iter().filter(|item| directive(item).is_none()).cloned().collect());
        }
        for item in patch {
            let Value::Object(item) = item else {
                return Err(format!(
                    "invalid JSON document: a list that merges by {key:?} has an item that is no object"
                ));
            };
            let directive = item.get(PATCH).map(|one| one.as_str().unwrap_or_default());
            let value = item.get(key).ok_or_else(|| {
                format!("map: {} does not contain declared merge key: {key}", Value::Object(item.clone()))
            })?;
            let at = list.iter().position(|old| old.get(key) == Some(value));
            match (directive, at) {
                (Some("delete"), _) => list.retain(|old| old.get(key) != Some(value)),
                (Some("merge"), _) => return Err("merging lists cannot yet be specified in the patch".into()),
                (Some(other), _) => return Err(format!("unknown patch type: {other:?}")),
                (None, Some(at)) => {
                    let old = match list[at].take() {
                        Value::Object(old) => old,
                        _ => Map::new(),
                    };
                    list[at] = Value::Object(self.object(of, old, item)?);
                }
                (None, None) => list.push(Value::Object(self.object(of, Map::new(), item)?)),
            }
        }
        Ok(list)
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
                *items = order_list(key, old.clone(), &old, Some(order))?;
            }
        }
        Ok(())
    }
}

/// `$retainKeys` leaves nothing in the target but the keys that it names.
fn retain_keys(target: &mut Map<String, Value>, patch: &Map<String, Value>) -> Outcome<()> {
    let Some(directive) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let bad = || format!("invalid patch format of retainKeys: {RETAIN_KEYS} must be a list of field names");
    let keys: Vec<&str> = directive
        .as_array()
        .ok_or_else(bad)?
        .iter()
        .map(Value::as_str)
        .collect::<Option<_>>()
        .ok_or_else(bad)?;
    for (name, value) in patch {
        if !name.starts_with('$') && !value.is_null() && !keys.contains(&name.as_str()) {
            return Err(format!(
                "invalid patch format of retainKeys: {name:?} is not among the retained keys"
            ));
        }
    }
    target.retain(|name, _| keys.contains(&name.as_str()));
    Ok(())
}

fn delete_primitives(target: &mut Map<String, Value>, list: &str, values: &Value) -> Outcome<()> {
    let values = values.as_array().ok_or_else(|| {
        format!("invalid patch format of primitive list: {DELETE_PRIMITIVES}{list} must be a list")
    })?;
    if let Some(Value::Array(items)) = target.get_mut(list) {
        items.retain(|item| !values.contains(item));
    }
    Ok(())
}

fn merge_primitives(mut list: Vec<Value>, patch: &[Value]) -> Outcome<Vec<Value>> {
    for item in patch {
        if item.is_object() || item.is_array() {
            return Err("invalid JSON document: a list of plain values has an item that is none".into());
        }
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
    Ok(list)
}

/// Items that the order names come in that order, those that the server does not know before the others; the others keep
/// their place among them as far as the server knows it.
fn order_list(
    key: Option<&str>,
    merged: Vec<Value>,
    server: &[Value],
    order: Option<&Value>,
) -> Outcome<Vec<Value>> {
    let Some(order) = order else { return Ok(merged) };
    let order = order.as_array().ok_or("invalid patch format of setElementOrder list")?;
    let identity = |item: &Value| match key {
        Some(key) => item.get(key).cloned().unwrap_or(Value::Null),
        None => item.clone(),
    };
    let order: Vec<Value> = order.iter().map(&identity).collect();
    let server: Vec<Value> = server.iter().map(&identity).collect();
    let rank = |list: &[Value], item: &Value| list.iter().position(|one| *one == identity(item));
    let (mut named, others): (Vec<_>, Vec<_>) =
        merged.into_iter().partition(|item| rank(&order, item).is_some());
    named.sort_by_key(|item| rank(&order, item));
    let mut named = named.into_iter().peekable();
    let mut others = others.into_iter().peekable();
    let mut out = Vec::new();
    loop {
        let named_first = match (named.peek(), others.peek()) {
            (None, None) => return Ok(out),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(left), Some(right)) => match (rank(&server, left), rank(&server, right)) {
                (Some(left), Some(right)) => left < right,
                _ => true,
            },
        };
        out.extend(if named_first { named.next() } else { others.next() });
    }
}
