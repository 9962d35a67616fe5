//! Rules in CEL of custom resources.

use serde_json::{Value, json};

use crate::definitions::{DEFINITIONS, WIDGETS, define, definition, post, until};
use crate::harness::{Cluster, cluster};

fn spec() -> Value {
    json!({
        "type": "object",
        "properties": {
            "min": { "type": "integer" },
            "max": { "type": "integer" },
            "name": { "type": "string", "x-kubernetes-validations": [
                { "rule": "self == oldSelf", "message": "name stays" }
            ] },
            "hosts": { "type": "array", "maxItems": 10, "items": { "type": "string" }, "x-kubernetes-validations": [
                { "rule": "self.all(h, h.endsWith('.example.com'))",
                  "messageExpression": "'%d hosts, of which one is strange'.format([self.size()])" }
            ] },
            "parts": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {
                    "type": "object", "required": ["name"],
                    "properties": { "name": { "type": "string" }, "size": { "type": "integer" } },
                    "x-kubernetes-validations": [
                        { "rule": "!has(oldSelf.size) || self.size >= oldSelf.size", "message": "parts do not shrink",
                          "fieldPath": ".size", "reason": "FieldValueForbidden" }
                    ],
                },
            },
            "once": { "type": "string", "x-kubernetes-validations": [
                { "rule": "!oldSelf.hasValue() || oldSelf.value() == self", "optionalOldSelf": true }
            ] },
        },
        "x-kubernetes-validations": [
            { "rule": "!has(self.min) || !has(self.max) || self.min <= self.max", "message": "min is at most max" },
        ],
    })
}

async fn refused(cluster: &Cluster, spec: Value, expected: &str) {
    let patch = json!({ "spec": spec });
    let message = cluster.patch(&format!("{WIDGETS}/a"), "merge", patch).await.failure(422, "Invalid");
    assert_eq!(message, format!("Widget.example.com \"a\" is invalid: {expected}"));
}

#[tokio::test]
async fn rule_that_is_broken_refuses_the_write() {
    let cluster = cluster().await;
    define(&cluster, definition(spec())).await;
    let object = json!({ "metadata": { "name": "a" }, "spec": { "min": 3, "max": 2 } });
    let message = cluster.post(WIDGETS, "Widget", object).await.failure(422, "Invalid");
    assert_eq!(message, "Widget.example.com \"a\" is invalid: spec: Invalid value: min is at most max");
    let spec = json!({ "min": 1, "max": 2, "name": "x", "parts": [{ "name": "p", "size": 5 }], "once": "o" });
    cluster.post(WIDGETS, "Widget", json!({ "metadata": { "name": "a" }, "spec": spec })).await.expect(201);
    refused(&cluster, json!({ "min": 9 }), "spec: Invalid value: min is at most max").await;
    refused(&cluster, json!({ "name": "y" }), "spec.name: Invalid value: \"y\": name stays").await;
    let strange = json!({ "hosts": ["a.example.com", "b.example.org"] });
    let why = "spec.hosts: Invalid value: 2 hosts, of which one is strange";
    refused(&cluster, strange, why).await;
    let smaller = json!({ "parts": [{ "name": "q", "size": 1 }, { "name": "p", "size": 4 }] });
    refused(&cluster, smaller, "spec.parts[1].size: Forbidden: parts do not shrink").await;
    let why = "spec.once: Invalid value: \"p\": failed rule: !oldSelf.hasValue() || oldSelf.value() == self";
    refused(&cluster, json!({ "once": "p" }), why).await;
    let fine =
        json!({ "spec": { "max": 4, "hosts": ["a.example.com"], "parts": [{ "name": "p", "size": 6 }] } });
    cluster.patch(&format!("{WIDGETS}/a"), "merge", fine).await.expect(200);
}

#[tokio::test]
async fn value_that_follows_none_is_judged_even_if_it_did_not_change() {
    let cluster = cluster().await;
    let item = json!({ "type": "string", "maxLength": 9, "x-kubernetes-validations": [{ "rule": "self != 'foo'" }] });
    let free = json!({ "type": "string" });
    let schema = |item: &Value| {
        let list = |kind: &str| json!({ "type": "array", "maxItems": 9, "x-kubernetes-list-type": kind, "items": item });
        json!({ "type": "object", "properties": {
            "set": list("set"), "atomic": list("atomic"), "other": { "type": "string" },
            "map": { "type": "object", "maxProperties": 9, "additionalProperties": item },
        } })
    };
    define(&cluster, definition(schema(&free))).await;
    let spec = json!({ "set": ["foo"], "atomic": ["foo"], "map": { "k": "foo" } });
    cluster.post(WIDGETS, "Widget", json!({ "metadata": { "name": "a" }, "spec": spec })).await.expect(201);
    let at = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let patch = json!([{ "op": "replace", "path": at, "value": schema(&item) }]).to_string();
    let path = format!("{DEFINITIONS}/widgets.example.com");
    cluster.call(http::Method::PATCH, &path, "application/json-patch+json", patch).await.expect(200);
    let refuses = async || {
        let fresh = json!({ "metadata": { "name": "b" }, "spec": { "map": { "k": "foo" } } });
        cluster.post(&format!("{WIDGETS}?dryRun=All"), "Widget", fresh).await.code == 422
    };
    until(refuses).await;
    // Lists that are the same as before, and members by their names, follow what was there.
    let patch = json!({ "spec": { "other": "x", "map": { "l": "bar" } } });
    cluster.patch(&format!("{WIDGETS}/a"), "merge", patch).await.expect(200);
    let broken = "Invalid value: \"foo\": failed rule: self != 'foo'";
    refused(&cluster, json!({ "set": ["foo", "bar"] }), &format!("spec.set[0]: {broken}")).await;
    refused(&cluster, json!({ "atomic": ["bar", "foo"] }), &format!("spec.atomic[1]: {broken}")).await;
    refused(&cluster, json!({ "map": { "l": "foo" } }), &format!("spec.map[l]: {broken}")).await;
}

#[tokio::test]
async fn rule_that_cannot_be_read_refuses_the_definition() {
    let cluster = cluster().await;
    let at = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]";
    let properties = json!({ "size": { "type": "integer" } });
    for (rule, expected) in [
        (
            json!({ "rule": "self.sise > 1" }),
            "rule: Invalid value: \"self.sise > 1\": compilation failed: ERROR: <input>:1:5: undefined field 'sise'",
        ),
        (
            json!({ "rule": "self.size" }),
            "rule: Invalid value: \"self.size\": compilation failed: must evaluate to bool but got int",
        ),
        (json!({ "rule": "self.size > 1", "reason": "Because" }), "reason: Unsupported value: \"Because\""),
        (json!({ "rule": "" }), "rule: Required value: rule is not specified"),
        (
            json!({ "rule": "self.size > 1", "fieldPath": ".sise" }),
            "fieldPath: Invalid value: \".sise\": must be a valid path",
        ),
        (
            json!({ "rule": "self.size > 1", "optionalOldSelf": true }),
            "optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
    ] {
        let spec = json!({ "type": "object", "properties": properties, "x-kubernetes-validations": [rule] });
        let message = post(&cluster, definition(spec)).await.failure(422, "Invalid");
        assert!(message.contains(&format!("{at}.{expected}")), "{message}");
    }
    let item = json!({ "type": "string", "x-kubernetes-validations": [{ "rule": "self == oldSelf" }] });
    let spec = json!({ "type": "array", "items": item });
    let message = post(&cluster, definition(spec)).await.failure(422, "Invalid");
    assert!(
        message.contains("oldSelf cannot be used on the uncorrelatable portion of the schema"),
        "{message}"
    );
}

#[tokio::test]
async fn rule_that_costs_too_much_is_ended() {
    let cluster = cluster().await;
    let rule = json!({ "rule": "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))" });
    let items = json!({ "type": "integer" });
    let list = json!({ "type": "array", "maxItems": 90, "items": items, "x-kubernetes-validations": [rule] });
    define(&cluster, definition(json!({ "type": "object", "properties": { "list": list } }))).await;
    let object = json!({ "metadata": { "name": "a" }, "spec": { "list": (0..90).collect::<Vec<_>>() } });
    let message = cluster.post(WIDGETS, "Widget", object).await.failure(422, "Invalid");
    assert!(message.contains("call cost exceeds limit for rule"), "{message}");
    let object = json!({ "metadata": { "name": "a" }, "spec": { "list": [1, 2, 3] } });
    cluster.post(WIDGETS, "Widget", object).await.expect(201);
}

#[tokio::test]
async fn rule_that_could_never_be_paid_for_refuses_the_definition() {
    let cluster = cluster().await;
    let rule = json!({ "rule": "self.all(s, s == 'x')" });
    let inner = |most: Option<u64>| {
        let mut inner =
            json!({ "type": "array", "items": { "type": "string" }, "x-kubernetes-validations": [rule] });
        if let Some(most) = most {
            inner["maxItems"] = json!(most);
        }
        inner
    };
    let spec = |most: Option<u64>| {
        let mut list = json!({ "type": "array", "items": inner(most) });
        if let Some(most) = most {
            list["maxItems"] = json!(most);
        }
        json!({ "type": "object", "properties": { "x": list } })
    };
    let message = post(&cluster, definition(spec(None))).await.failure(422, "Invalid");
    assert!(message.contains("estimated rule cost exceeds budget by factor of more than 100x"), "{message}");
    define(&cluster, definition(spec(Some(500)))).await;
}
