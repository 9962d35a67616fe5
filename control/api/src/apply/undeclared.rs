//! What an applied object has that its schema does not, or has otherwise: who applies may not own what cannot exist.

use serde_json::Value;

use super::spot::{Kind, Spot};
use super::step::{Step, path_text};
use crate::schema::{Schema, Shape};

/// So many are told.
const TOLD: usize = 64;

/// What is said of a field that the types do not have.
pub(crate) const UNDECLARED: &str = "field not declared in schema";

/// A sentence for each field that the types do not have, and for each value of another type than theirs.
pub(crate) fn undeclared(schema: &Schema, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(&Spot::root(schema, &Shape::Object(schema.root)), value, &mut Vec::new(), &mut found);
    found
}

fn walk(spot: &Spot<'_>, value: &Value, path: &mut Vec<Step>, found: &mut Vec<String>) {
    if found.len() >= TOLD {
        return;
    }
    if let Some((wanted, found_one)) = spot.mismatch(value) {
        return found.push(format!("{}: expected {wanted}, got {found_one}", path_text(path)));
    }
    match value {
        Value::Object(members) => {
            for (name, inner) in members {
                path.push(Step::field(name.as_str()));
                if spot.has_member(name) {
                    walk(&spot.member(name).0, inner, path, found);
                } else {
                    found.push(format!("{}: {UNDECLARED}", path_text(path)));
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
        let expected = expected.map(|path| format!("{path}: field not declared in schema"));
        assert_eq!(undeclared(&pods.schema, &value), expected);
    }

    #[test]
    fn values_of_another_type_are_told_in_upstreams_words() {
        let maps = registry().find("", "v1", "configmaps").unwrap();
        let told = |value: Value| undeclared(&maps.schema, &value);
        assert_eq!(told(json!({"data": []})), [".data: expected map, got &{[]}"]);
        let number = ".data.a: expected string, got &value.valueUnstructured{Value:1}";
        assert_eq!(told(json!({"data": {"a": 1}})), [number]);
        assert_eq!(told(json!({"metadata": "x"})), [".metadata: expected map, got &{x}"]);
        assert_eq!(
            told(json!({"metadata": {"finalizers": {}}})),
            [".metadata.finalizers: expected list, got &{map[]}"]
        );
        assert_eq!(told(json!({"data": null, "immutable": true})), [""; 0]);
    }
}
