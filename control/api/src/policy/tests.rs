//! Policies and what they say.

use serde_json::{Value, json};

use super::*;
use crate::registry::registry;

/// Lets read pods in one namespace.
struct Some1;

impl Authority for Some1 {
    fn rule(&self, question: &Question) -> Ruling {
        let get = question.verb == "get" && question.namespace == "n";
        // Those of one node may be listed, everywhere.
        let list = question.verb == "list" && question.field_selector == "spec.nodeName=n1";
        let allowed = question.resource == "pods" && (get || list);
        let error = if question.label_selector.is_empty() { String::new() } else { "no labels here".into() };
        Ruling { allowed, reason: format!("{:?}", question.asker), error }
    }
}

pub(super) fn with<T>(object: &Value, old: &Value, params: &Value, ask: impl FnOnce(&Inputs<'_>) -> T) -> T {
    let (request, namespace) = (json!({ "operation": "CREATE" }), json!({ "metadata": { "name": "n" } }));
    let resource = Question { resource: "pods".into(), namespace: "n".into(), ..Question::default() };
    ask(&Inputs {
        object,
        old,
        request: &request,
        params,
        namespace: &namespace,
        authority: &Some1,
        resource: &resource,
    })
}

fn verdict(spec: Value, object: Value) -> Verdict {
    let policy = ValidatingPolicy::read(&spec);
    with(&object, &Value::Null, &json!({ "most": 5 }), |inputs| policy.evaluate(inputs))
}

fn denied(message: &str, reason: &str) -> Decision {
    Decision::Deny { message: message.into(), reason: reason.into() }
}

#[test]
fn validation_that_does_not_hold_refuses_with_its_message() {
    let spec = json!({
        "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
        "variables": [
            { "name": "count", "expression": "object.spec.replicas" },
            { "name": "double", "expression": "variables.count * 2" },
        ],
        "validations": [
            { "expression": "variables.count <= params.most" },
            { "expression": "variables.double <= params.most", "messageExpression": "'at most ' + string(params.most)" },
            { "expression": "object.spec.replicas < 3", "message": "too many", "reason": "Forbidden" },
            { "expression": "object.spec.gone == 1" },
        ],
        "auditAnnotations": [{ "key": "k", "valueExpression": "'is ' + string(variables.count)" }],
    });
    let found = verdict(spec, json!({ "spec": { "replicas": 4 } }));
    assert_eq!(
        found.decisions,
        [
            Decision::Admit,
            denied("at most 5", "Invalid"),
            denied("too many", "Forbidden"),
            denied("expression 'object.spec.gone == 1' resulted in error: no such key: gone", ""),
        ]
    );
    assert_eq!(found.annotations, [("k".to_owned(), "is 4".to_owned())]);
}

#[test]
fn policy_that_ignores_failures_admits_what_it_cannot_tell() {
    let spec = json!({ "failurePolicy": "Ignore", "validations": [{ "expression": "object.a.b == 1" }] });
    assert_eq!(verdict(spec, json!({})).decisions, [Decision::Admit]);
    let broken = json!({ "validations": [{ "expression": "object." }] });
    assert!(matches!(&verdict(broken, json!({})).decisions[..], [Decision::Deny { .. }]));
}

#[test]
fn condition_that_does_not_hold_keeps_the_policy_out() {
    let spec = |first: &str, second: &str| {
        json!({
            "matchConditions": [{ "name": "a", "expression": first }, { "name": "b", "expression": second }],
            "validations": [{ "expression": "false" }],
        })
    };
    let kept_out = verdict(spec("object.gone == 1", "false"), json!({}));
    assert!(matches!(kept_out.conditions, Some((Match::No, _))), "{kept_out:?}");
    assert_eq!(Verdict { conditions: None, ..kept_out }, Verdict::default());
    assert_eq!(
        verdict(spec("true", "true"), json!({})).decisions,
        [denied("failed expression: false", "Invalid")]
    );
    let unknown = verdict(spec("object.gone == 1", "true"), json!({}));
    assert_eq!(
        unknown.decisions,
        [denied("expression 'object.gone == 1' resulted in error: no such key: gone", "")]
    );
}

#[test]
fn rights_are_asked_for() {
    for (expression, expected) in [
        ("authorizer.group('').resource('pods').namespace('n').check('get').allowed()", true),
        ("authorizer.group('').resource('pods').namespace('m').check('get').allowed()", false),
        ("authorizer.requestResource.check('get').allowed()", true),
        ("authorizer.path('/metrics').check('get').allowed()", false),
        (
            "authorizer.group('').resource('pods').fieldSelector('spec.nodeName=n1').check('list').allowed()",
            true,
        ),
        (
            "authorizer.group('').resource('pods').fieldSelector('spec.nodeName=n2').check('list').allowed()",
            false,
        ),
        ("authorizer.group('').resource('pods').labelSelector('a=b').check('list').errored()", true),
        ("authorizer.requestResource.check('get').error() == ''", true),
        (
            "authorizer.serviceAccount('a', 'b').requestResource.check('get').reason().contains('ServiceAccount')",
            true,
        ),
    ] {
        let found = verdict(json!({ "validations": [{ "expression": expression }] }), json!({}));
        assert_eq!(found.decisions == [Decision::Admit], expected, "{expression}: {found:?}");
    }
}

#[test]
fn variable_that_fails_fails_who_uses_it() {
    let spec = json!({
        "variables": [{ "name": "bad", "expression": "object.gone" }],
        "validations": [{ "expression": "true || variables.bad == 1" }, { "expression": "variables.bad == 1" }],
    });
    let found = verdict(spec, json!({}));
    assert_eq!(found.decisions[0], Decision::Admit);
    let Decision::Deny { message, .. } = &found.decisions[1] else { panic!("{found:?}") };
    assert!(
        message.contains("composited variable \"bad\" fails to evaluate: no such key: gone"),
        "{message}"
    );
}

#[test]
fn expensive_policy_is_ended() {
    let object = json!({ "list": (0..3000).collect::<Vec<_>>() });
    let expression = "object.list.all(a, object.list.all(b, a + b >= 0))";
    let found = verdict(json!({ "validations": [{ "expression": expression }] }), object);
    let Decision::Deny { message, .. } = &found.decisions[0] else { panic!("{found:?}") };
    assert!(message.contains("operation cancelled: actual cost limit exceeded"), "{message}");
}

fn patch(mutation: Value, object: Value) -> Result<Patch, String> {
    let policy = MutatingPolicy::read(&json!({ "mutations": [mutation] }));
    with(&object, &Value::Null, &Value::Null, |inputs| policy.patch(0, inputs))
}

#[test]
fn mutation_gives_a_patch() {
    let apply =
        "Object{metadata: Object.metadata{labels: Object.metadata.labels{a: object.name, ?b: object.?gone}}}";
    let found = patch(
        json!({ "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": apply } }),
        json!({ "name": "x" }),
    );
    assert_eq!(found, Ok(Patch::Apply(json!({ "metadata": { "labels": { "a": "x" } } }))));
    let json_patch = "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b~c'), value: Object{x: 1}}]";
    let found =
        patch(json!({ "patchType": "JSONPatch", "jsonPatch": { "expression": json_patch } }), json!({}));
    let expected = json!([{ "op": "add", "path": "/metadata/labels/a~1b~0c", "value": { "x": 1 } }]);
    assert_eq!(found, Ok(Patch::Json(expected)));
}

#[test]
fn expression_that_cannot_be_kept_says_why() {
    let names = Names { params: false, authorizer: false, variables: &["known".to_owned()] };
    assert!(check_bool("object.a == variables.known", &names).is_ok());
    for (source, expected) in [
        ("params.a == 1", "undeclared reference to 'params'"),
        ("authorizer.path('/').check('get').allowed()", "undeclared reference to 'authorizer'"),
        ("variables.unknown", "undefined field 'unknown'"),
        ("1", "must evaluate to bool but got int"),
        ("Object{a: 1} == 1", "undeclared reference to 'Object'"),
        ("'a'.matches('(')", "ERROR: <input>:1:13: invalid matches argument"),
    ] {
        let why = check_bool(source, &names).unwrap_err();
        assert!(why.contains(expected), "{source}: {why}");
    }
    assert!(check_mutation("Other{a: 1}", false, &names).is_err());
    assert!(check_mutation("[JSONPatch{ops: 'add'}]", true, &names).is_err());
    assert!(check_mutation("Object{}", true, &names).is_err());
}

#[test]
fn policy_about_fields_that_a_kind_does_not_have_is_warned_of() {
    let policy = json!({ "spec": {
        "matchConstraints": { "resourceRules": [
            { "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["*"] },
        ] },
        "validations": [
            { "expression": "object.spec.replicas > 1 && object.metadata.labels['a'] == 'b'" },
            { "expression": "object.spec.replica > 1", "messageExpression": "object.spec.replicas.x" },
            { "expression": "object.spec.replicas > '0'" },
        ],
    } });
    let found = warnings(&policy, registry());
    let fields: Vec<&str> = found.iter().map(|one| one["fieldRef"].as_str().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "spec.validations[1].expression",
            "spec.validations[1].messageExpression",
            "spec.validations[2].expression"
        ]
    );
    let first = found[0]["warning"].as_str().unwrap();
    assert!(
        first.contains("apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replica'"),
        "{first}"
    );
}
