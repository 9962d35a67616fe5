//! Rules that the schema carries: text that must be there, and values that must be among the choices.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::field::FieldError;
use crate::schema::{Field, Schema, Shape, Type, Types};

/// Checks the whole object but its status and metadata, which have rules of their own.
pub(super) fn check(schema: &Schema, object: &Value, errors: &mut Vec<FieldError>) {
    let mut walk = Walk { types: &schema.types, path: String::new(), errors };
    let own = |name: &str| matches!(name, "metadata" | "status" | "apiVersion" | "kind");
    for field in schema.root_type().fields.iter().filter(|field| !own(&field.name)) {
        walk.field(field, object.get(&field.name));
    }
}

struct Walk<'a> {
    types: &'a Types,
    /// The path of the value at hand, grown and cut back on the way.
    path: String,
    errors: &'a mut Vec<FieldError>,
}

impl Walk<'_> {
    fn object(&mut self, of: &Type, members: &Map<String, Value>) {
        // Both fields and members are in order of their names.
        let mut members = members.iter().peekable();
        for field in &of.fields {
            while members.next_if(|(name, _)| **name < field.name).is_some() {}
            let found = members.next_if(|(name, _)| **name == field.name);
            self.field(field, found.map(|(_, value)| value));
        }
    }

    fn field(&mut self, field: &Field, found: Option<&Value>) {
        let matters = match found {
            None => is_required(field),
            Some(Value::String(text)) => text.is_empty() || !field.choices.is_empty(),
            Some(value) => value.is_object() || value.is_array(),
        };
        if !matters {
            return;
        }
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(&field.name);
        match found {
            Some(Value::String(text)) if text.is_empty() => self.missing(field),
            Some(Value::String(text)) if !field.choices.is_empty() && !field.choices.contains(text) => {
                if !is_judged_elsewhere(&self.path) {
                    self.errors.push(FieldError::not_supported(&self.path, text.as_str(), &field.choices));
                }
            }
            Some(value) => self.value(&field.shape, value),
            None => self.missing(field),
        }
        self.path.truncate(length);
    }

    fn value(&mut self, shape: &Shape, value: &Value) {
        let length = self.path.len();
        match (shape, value) {
            (Shape::Object(id), Value::Object(members)) => {
                let types = self.types;
                self.object(types.get(*id), members);
            }
            (Shape::List(inner), Value::Array(items)) if holds_objects(inner) => {
                for (index, item) in items.iter().enumerate() {
                    let _ = write!(self.path, "[{index}]");
                    self.value(inner, item);
                    self.path.truncate(length);
                }
            }
            (Shape::Map(inner), Value::Object(members)) if holds_objects(inner) => {
                for (key, item) in members {
                    let _ = write!(self.path, "[{key}]");
                    self.value(inner, item);
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
    }

    fn missing(&mut self, field: &Field) {
        if is_required(field) && !may_be_empty(&self.path) && !is_judged_elsewhere(&self.path) {
            self.errors.push(FieldError::required(&self.path, ""));
        }
    }
}

/// Whether the field must not be empty. Other shapes have a zero that may well be meant; text that is required is never
/// meant to be empty.
fn is_required(field: &Field) -> bool {
    field.required && field.shape == Shape::String
}

fn holds_objects(shape: &Shape) -> bool {
    matches!(shape, Shape::Object(_) | Shape::List(_) | Shape::Map(_))
}

/// What upstream judges as a part of something else and names by another path, or takes as it is. Indices left out.
const ELSEWHERE: [&str; 27] = [
    "spec.strategy.type",
    "spec.updateStrategy.type",
    ".metric.selector.matchExpressions.key",
    ".metric.selector.matchExpressions.operator",
    "spec.taints.key",
    "spec.taints.effect",
    "scopeSelector.matchExpressions.operator",
    "scopeSelector.matchExpressions.scopeName",
    ".httpHeaders.name",
    ".resizePolicy.resourceName",
    ".resizePolicy.restartPolicy",
    ".volumeMounts.mountPropagation",
    ".os.name",
    ".schedulingGates.name",
    "downwardAPI.items.fieldRef.fieldPath",
    "downwardAPI.items.resourceFieldRef.resource",
    "downwardAPI.items.path",
    ".clusterTrustBundle.path",
    ".serviceAccountToken.path",
    ".hints.forZones.name",
    ".hints.forNodes.name",
    ".limitResponse.type",
    "clientConfig.service.name",
    "clientConfig.service.namespace",
    ".devices.requests.name",
    ".firstAvailable.name",
    ".cel.expression",
];

fn is_judged_elsewhere(path: &str) -> bool {
    // What definitions say of their versions.
    if path.starts_with("spec.versions[") {
        return true;
    }
    let mut plain = String::with_capacity(path.len());
    let mut inside = false;
    for char in path.chars() {
        match char {
            '[' => inside = true,
            ']' => inside = false,
            _ if !inside => plain.push(char),
            _ => {}
        }
    }
    ELSEWHERE.iter().any(|known| plain.ends_with(known))
}

/// Text that the schema calls required only because upstream always writes it, or that may be meant to be empty.
fn may_be_empty(path: &str) -> bool {
    path.ends_with(".value") || path.ends_with(".audience") || path.contains("imagePullSecrets[")
}
