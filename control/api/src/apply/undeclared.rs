//! What an applied object has that its schema does not: who applies may not own what does not exist.

use serde_json::Value;

use super::spot::{Kind, Spot};
use super::step::{Step, path_text};
use crate::schema::{Schema, Shape};

/// So many are told.
const TOLD: usize = 64;

/// The paths of all fields that the types do not have.
pub(crate) fn undeclared(schema: &Schema, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(&Spot::root(schema, &Shape::Object(schema.root)), value, &mut Vec::new(), &mut found);
    found
}

fn walk(spot: &Spot<'_>, value: &Value, path: &mut Vec<Step>, found: &mut Vec<String>) {
    if found.len() >= TOLD {
        return;
    }
    match value {
        Value::Object(members) => {
            for (name, inner) in members {
                path.push(Step::field(name.as_str()));
                if spot.has_member(name) {
                    walk(&spot.member(name).0, inner, path, found);
                } else {
                    found.push(path_text(path));
                }
                path.pop();
            }
        }
        Value::Array(items) => {
            let kind = spot.kind(value);
            for (index, item) in items.iter().enumerate() {
                let place = Step::Index(i64::try_from(index).unwrap_or(i64::MAX));
                let step = match &kind {
                    Kind::Items(by) => spot.step(by, item).unwrap_or(place),
                    Kind::Whole | Kind::Members => place,
                };
                path.push(step);
                walk(&spot.item(), item, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::registry;

    #[test]
    fn fields_without_a_type_are_told_by_their_paths() {
        let pods = registry().find("", "v1", "pods").unwrap();
        let value = json!({
            "apiVersion": "v1", "kind": "Pod", "colour": 1,
            "metadata": {"name": "a", "labels": {"any": "b"}, "managedFields": [{"fieldsV1": {"f:x": {}}}]},
            "spec": {"containers": [{"name": "c", "imag": "x", "args": ["a"]}, {"image": "y"}],
                "tolerations": [{"keey": "k"}]},
        });
        let expected = [".colour", ".spec.containers[name=\"c\"].imag", ".spec.tolerations[0].keey"];
        assert_eq!(undeclared(&pods.schema, &value), expected);
    }
}
