//! Policies made of expressions that nobody would write: they decide, refuse or cannot tell; nothing panics.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::with;
use super::*;
use crate::cel::hostile_tests::{expression, own};

/// The same about what policies know.
fn about() -> impl Strategy<Value = String> {
    const NAMES: [&str; 7] =
        ["object", "oldObject", "request", "params", "namespaceObject", "variables.v", "authorizer"];
    (expression(), proptest::sample::select(&NAMES[..]))
        .prop_map(|(source, name)| format!("cel.bind(a, {name}, {source})"))
}

fn few() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(about(), 0..3)
}

fn named(sources: &[String]) -> Vec<Value> {
    let each = sources.iter().enumerate();
    each.map(|(at, source)| json!({ "name": if at == 0 { "v".to_owned() } else { format!("v{at}") }, "expression": source }))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn hostile_validating_policy_decides_each_of_its_validations_or_none(
        (variables, conditions, validations, messages, annotations) in (few(), few(), few(), few(), few()),
        ignores in any::<bool>(),
    ) {
        let message = |at: usize| messages.get(at).cloned().unwrap_or_else(|| "'m'".to_owned());
        let each = validations.iter().enumerate();
        let checks: Vec<Value> =
            each.map(|(at, one)| json!({ "expression": one, "messageExpression": message(at) })).collect();
        let each = annotations.iter().enumerate();
        let notes: Vec<Value> =
            each.map(|(at, one)| json!({ "key": at.to_string(), "valueExpression": one })).collect();
        let spec = json!({
            "failurePolicy": if ignores { "Ignore" } else { "Fail" },
            "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
            "variables": named(&variables), "matchConditions": named(&conditions),
            "validations": checks, "auditAnnotations": notes,
        });
        let policy = ValidatingPolicy::read(&spec);
        let (object, params) = (own(), own());
        let verdict = with(&object, &Value::Null, &params, |inputs| policy.evaluate(inputs));
        prop_assert!(verdict.decisions.len() <= validations.len().max(1), "{:?}", verdict);
        prop_assert!(verdict.annotations.len() <= annotations.len());
        if ignores {
            prop_assert!(verdict.broken.is_empty(), "{:?}", verdict.broken);
        }
    }

    #[test]
    fn hostile_mutating_policy_makes_patches_or_says_why_not(
        (variables, conditions, mutations) in (few(), few(), few()),
        apply in any::<bool>(),
    ) {
        let each = mutations.iter();
        let changes: Vec<Value> = each
            .map(|one| match apply {
                true => json!({ "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": one } }),
                false => json!({ "patchType": "JSONPatch", "jsonPatch": { "expression": one } }),
            })
            .collect();
        let spec = json!({
            "variables": named(&variables), "matchConditions": named(&conditions), "mutations": changes,
        });
        let policy = MutatingPolicy::read(&spec);
        let object = own();
        with(&object, &Value::Null, &Value::Null, |inputs| {
            if policy.applies(inputs) == Ok(true) {
                for index in 0..policy.mutations() {
                    let _ = policy.patch(index, inputs);
                }
            }
        });
    }
}
