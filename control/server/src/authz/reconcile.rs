//! The roles and bindings that every cluster has, brought up to date at start: what is missing is added, what somebody
//! added stays (upstream's `component-helpers/auth/rbac/reconciliation`).
//!
//! Pure: what is there and what is expected in, what is to be written out. An object with the annotation
//! `rbac.authorization.kubernetes.io/autoupdate: "false"` is left alone.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::cover;
use super::rules;

const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What is to be done with an object that is there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing.
    Leave,
    /// It becomes this.
    Update(Value),
    /// It is deleted and made anew, as a binding cannot change its role.
    Recreate,
}

/// What brings `existing` to where `expected` is contained in it.
pub(crate) fn step(existing: &Value, expected: &Value) -> Step {
    if existing["metadata"]["annotations"][AUTO_UPDATE] == "false" {
        return Step::Leave;
    }
    let is_binding = expected["roleRef"].is_object();
    if is_binding && role(&existing["roleRef"]) != role(&expected["roleRef"]) {
        return Step::Recreate;
    }
    let mut new = existing.clone();
    for field in ["annotations", "labels"] {
        merge(&mut new["metadata"], &expected["metadata"], field);
    }
    if is_binding {
        add(&mut new, expected, "subjects", subject);
    } else {
        // What a role gathers is up to its controller.
        if !expected["aggregationRule"].is_object() {
            add_rules(&mut new, expected);
        }
        aggregate(&mut new, expected);
    }
    if new == *existing { Step::Leave } else { Step::Update(new) }
}

fn role(reference: &Value) -> (&Value, &Value) {
    (&reference["kind"], &reference["name"])
}

/// What tells subjects apart; the group of an API is a matter of course.
fn subject(one: &Value) -> [String; 3] {
    ["kind", "namespace", "name"].map(|field| one[field].as_str().unwrap_or_default().to_owned())
}

/// Expected entries of a map are set, unless somebody chose another value.
fn merge(new: &mut Value, expected: &Value, field: &str) {
    let Some(entries) = expected[field].as_object() else { return };
    if !new[field].is_object() {
        new[field] = Value::Object(Map::new());
    }
    for (key, value) in entries {
        if new[field][key].is_null() {
            new[field][key] = value.clone();
        }
    }
}

/// Adds to a list what it lacks.
fn add<K: PartialEq>(new: &mut Value, expected: &Value, field: &str, key: fn(&Value) -> K) {
    let list = |value: &Value| value[field].as_array().cloned().unwrap_or_default();
    let mut items = list(new);
    let before = items.len();
    for item in list(expected) {
        if items.iter().all(|one| key(one) != key(&item)) {
            items.push(item);
        }
    }
    if items.len() > before {
        new[field] = json!(items);
    }
}

/// Adds the single permissions that no rule covers.
fn add_rules(new: &mut Value, expected: &Value) {
    let missing = cover::missing(&rules::compile(&new["rules"]), &rules::compile(&expected["rules"]));
    if missing.is_empty() {
        return;
    }
    let mut all = new["rules"].as_array().cloned().unwrap_or_default();
    let missing: Vec<_> = cover::merged(missing).into_iter().map(Arc::new).collect();
    all.extend(missing.iter().map(|rule| rule.to_value()));
    new["rules"] = json!(all);
}

/// A role gathers from what it is expected to and from what somebody added; one that is not to gather does not.
fn aggregate(new: &mut Value, expected: &Value) {
    const RULE: &str = "aggregationRule";
    if !expected[RULE].is_object() {
        if let Some(object) = new.as_object_mut() {
            object.remove(RULE);
        }
        return;
    }
    if !new[RULE].is_object() {
        new[RULE] = json!({});
    }
    add(&mut new[RULE], &expected[RULE], "clusterRoleSelectors", Value::clone);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role_with(rules: Value) -> Value {
        json!({"metadata": {"name": "r"}, "rules": rules})
    }

    #[test]
    fn missing_rules_are_added_and_further_ones_stay() {
        let rule = |verbs: &[&str], resource: &str| json!({"verbs": verbs, "apiGroups": [""], "resources": [resource]});
        let existing = role_with(json!([rule(&["get"], "pods"), rule(&["*"], "nodes")]));
        let expected = role_with(json!([rule(&["get", "list", "watch"], "pods")]));
        let Step::Update(new) = step(&existing, &expected) else { panic!() };
        assert_eq!(
            new["rules"],
            json!([rule(&["get"], "pods"), rule(&["*"], "nodes"), rule(&["list", "watch"], "pods")])
        );
        assert_eq!(step(&new, &expected), Step::Leave);
    }

    #[test]
    fn object_that_opted_out_is_left_alone() {
        let mut existing = role_with(json!([]));
        existing["metadata"]["annotations"] = json!({AUTO_UPDATE: "false"});
        let expected = role_with(json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
        assert_eq!(step(&existing, &expected), Step::Leave);
    }

    #[test]
    fn binding_gets_missing_subjects_and_is_made_anew_for_another_role() {
        let binding = |role: &str, names: &[&str]| {
            let subjects: Vec<Value> =
                names.iter().map(|name| json!({"kind": "User", "name": name})).collect();
            json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": subjects})
        };
        let Step::Update(new) = step(&binding("a", &["x"]), &binding("a", &["y"])) else { panic!() };
        assert_eq!(new, binding("a", &["x", "y"]));
        assert_eq!(step(&binding("a", &["x", "y"]), &binding("a", &["y"])), Step::Leave);
        assert_eq!(step(&binding("b", &["y"]), &binding("a", &["y"])), Step::Recreate);
    }

    #[test]
    fn labels_that_somebody_chose_stay() {
        let with = |labels: Value| json!({"metadata": {"name": "r", "labels": labels}, "rules": []});
        let Step::Update(new) = step(&with(json!({"a": "mine"})), &with(json!({"a": "x", "b": "y"}))) else {
            panic!()
        };
        assert_eq!(new["metadata"]["labels"], json!({"a": "mine", "b": "y"}));
    }

    #[test]
    fn role_gathers_what_is_expected_besides_what_it_does() {
        let with = |labels: &[&str]| {
            let selectors: Vec<Value> =
                labels.iter().map(|label| json!({"matchLabels": {*label: "true"}})).collect();
            json!({"metadata": {"name": "r"}, "aggregationRule": {"clusterRoleSelectors": selectors}})
        };
        let Step::Update(new) = step(&with(&["mine"]), &with(&["theirs"])) else { panic!() };
        assert_eq!(new, with(&["mine", "theirs"]));
        let Step::Update(new) = step(&with(&["mine"]), &role_with(json!([]))) else { panic!() };
        assert!(new["aggregationRule"].is_null());
    }
}
