//! Bodies and the verdicts on them.

use super::*;
use crate::registry::registry;
use serde_json::json;

fn deployments() -> &'static Resource {
    registry().find("apps", "v1", "deployments").unwrap()
}

fn json_error(resource: &Resource, body: &Value, mode: FieldValidation) -> String {
    let status = object(resource, body.to_string().as_bytes(), Encoding::Json, mode).unwrap_err();
    assert_eq!(status.code, 400);
    status.message
}

#[test]
fn unknown_fields_are_pruned_and_reported_by_mode() {
    let body = json!({"spec": {"foo": 1, "template": {"spec": {"containers": [{"name": "a", "bar": {}}]}}}})
        .to_string();
    let read = |mode| object(deployments(), body.as_bytes(), Encoding::Json, mode);
    let (value, warnings) = read(FieldValidation::Warn).unwrap();
    assert_eq!(
        warnings,
        [r#"unknown field "spec.foo""#, r#"unknown field "spec.template.spec.containers[0].bar""#]
    );
    assert!(value["spec"].get("foo").is_none());
    assert!(read(FieldValidation::Ignore).unwrap().1.is_empty());
    assert_eq!(
        read(FieldValidation::Strict).unwrap_err().message,
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \
         \"spec.foo\", unknown field \"spec.template.spec.containers[0].bar\""
    );
}

#[test]
fn wrong_types_are_refused_in_upstreams_words() {
    let cases = [
        (
            json!({"spec": {"replicas": "3"}}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"replicas": 1.5}}),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": {}}}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type \
             []v1.Container",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"name": 1}]}}}}),
            "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.name of type \
             string",
        ),
        (
            json!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            json!({"spec": "x"}),
            "json: cannot unmarshal string into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "x"}}}]}}}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ];
    for (body, why) in cases {
        let expected = format!("Deployment in version \"v1\" cannot be handled as a Deployment: {why}");
        assert_eq!(json_error(deployments(), &body, FieldValidation::Ignore), expected);
    }
}

#[test]
fn another_kind_or_version_is_refused() {
    let cases = [
        (
            json!({"apiVersion": "v1", "kind": "Pod"}),
            "Pod in version \"v1\" cannot be handled as a Deployment: converting (v1.Pod) to (apps.Deployment): unknown \
             conversion",
        ),
        (
            json!({"apiVersion": "apps/v1beta1", "kind": "Deployment"}),
            "Deployment in version \"v1beta1\" cannot be handled as a Deployment: no kind \"Deployment\" is registered \
             for version \"apps/v1beta1\" in scheme \"skep\"",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(json_error(deployments(), &body, FieldValidation::Warn), expected);
    }
    let events = registry().find("", "v1", "events").unwrap();
    assert_eq!(
        json_error(
            events,
            &json!({"apiVersion": "events.k8s.io/v1", "kind": "Event"}),
            FieldValidation::Warn
        ),
        "the API version in the data (events.k8s.io/v1) does not match the expected API version (v1)"
    );
}

#[test]
fn missing_kind_and_version_are_filled_in() {
    let (value, _) = object(deployments(), b"{}", Encoding::Json, FieldValidation::Strict).unwrap();
    assert_eq!(value, json!({"apiVersion": "apps/v1", "kind": "Deployment"}));
}

#[test]
fn duplicate_fields_are_reported_and_the_last_one_wins() {
    let body = br#"{"spec": {"replicas": 1, "replicas": 2}}"#;
    let (value, warnings) = object(deployments(), body, Encoding::Json, FieldValidation::Warn).unwrap();
    assert_eq!(value["spec"]["replicas"], 2);
    assert_eq!(warnings, [r#"duplicate field "spec.replicas""#]);
    let body = b"spec:\n  replicas: 1\n  replicas: 2\n";
    let (value, warnings) = object(deployments(), body, Encoding::Yaml, FieldValidation::Warn).unwrap();
    assert_eq!(value["spec"]["replicas"], 2);
    assert_eq!(warnings, ["line 3: key \"replicas\" already set in map"]);
    let strict = object(deployments(), body, Encoding::Yaml, FieldValidation::Strict).unwrap_err();
    let why = "yaml: unmarshal errors:\n  line 3: key \"replicas\" already set in map";
    assert!(strict.message.ends_with(why), "{strict}");
}

#[test]
fn values_come_out_in_canonical_form() {
    let secrets = registry().find("", "v1", "secrets").unwrap();
    let body = json!({
        "metadata": {"creationTimestamp": null, "labels": {"a": null}, "deletionTimestamp": "2024-01-02T05:04:05.6+02:00"},
        "data": {"a": "Zm9v"}
    });
    let (value, _) =
        object(secrets, body.to_string().as_bytes(), Encoding::Json, FieldValidation::Strict).unwrap();
    assert_eq!(value["metadata"], json!({"labels": {"a": ""}, "deletionTimestamp": "2024-01-02T03:04:05Z"}));
    let pods = registry().find("", "v1", "pods").unwrap();
    let body = json!({"spec": {"containers": [{"resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}]}});
    let (value, _) =
        object(pods, body.to_string().as_bytes(), Encoding::Json, FieldValidation::Strict).unwrap();
    assert_eq!(
        value["spec"]["containers"][0]["resources"]["limits"],
        json!({"cpu": "500m", "memory": "1Gi"})
    );
}

#[test]
fn subresource_body_is_checked_against_its_own_kind() {
    let sub = deployments().subresource("scale").unwrap();
    let read = |body: &str| {
        subresource(deployments(), sub, body.as_bytes(), Encoding::Json, FieldValidation::Strict)
    };
    let (value, _) = read(r#"{"spec": {"replicas": 2}}"#).unwrap();
    assert_eq!(value, json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 2}}));
    assert_eq!(
        read(r#"{"spec": {"replicas": "2"}}"#).unwrap_err().message,
        "Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal string into Go struct field \
         ScaleSpec.spec.replicas of type int32"
    );
}

#[test]
fn names_with_line_breaks_are_quoted_in_reports() {
    let body = json!({"a\r\nb": 1}).to_string();
    let (_, warnings) =
        object(deployments(), body.as_bytes(), Encoding::Json, FieldValidation::Warn).unwrap();
    assert_eq!(warnings, [r#"unknown field "a\r\nb""#]);
}

#[test]
fn bytes_that_are_not_base64_are_refused() {
    let secrets = registry().find("", "v1", "secrets").unwrap();
    for (text, bad) in [
        ("Zm9v", false),
        ("Zg==", false),
        ("", false),
        ("Zg=", true),
        ("Z===", true),
        ("a b c", true),
        ("Zg==Zg==", true),
    ] {
        let body = json!({"data": {"a": text}}).to_string();
        let outcome = object(secrets, body.as_bytes(), Encoding::Json, FieldValidation::Strict);
        assert_eq!(outcome.is_err(), bad, "{text}");
    }
}

#[test]
fn malformed_text_is_a_bad_request() {
    let deep = "[".repeat(100_000);
    let wide = format!("{}1{}", "{\"a\":".repeat(120), "}".repeat(120));
    for (text, encoding) in [
        ("", Encoding::Json),
        ("{", Encoding::Json),
        ("{} {}", Encoding::Json),
        ("[]", Encoding::Json),
        ("1", Encoding::Json),
        (deep.as_str(), Encoding::Json),
        (wide.as_str(), Encoding::Json),
        ("a: [", Encoding::Yaml),
        ("- a", Encoding::Yaml),
        ("a: b: c", Encoding::Yaml),
        (deep.as_str(), Encoding::Yaml),
        ("a: &a [*a]", Encoding::Yaml),
    ] {
        let status = object(deployments(), text.as_bytes(), encoding, FieldValidation::Ignore).unwrap_err();
        assert_eq!((status.code, status.reason), (400, "BadRequest"), "{text:.20}");
    }
}

#[test]
fn yaml_that_is_indented_with_a_tab_is_refused() {
    for (text, line) in [("\tkind: x", 1), ("\n  \n \tkind: x", 3)] {
        let why = parse(text.as_bytes(), Encoding::Yaml).unwrap_err().message;
        let end = format!("yaml: line {line}: found character that cannot start any token");
        assert!(why.ends_with(&end), "{why}");
    }
    assert!(parse(b"kind:\tx", Encoding::Yaml).is_ok());
}

#[test]
fn yaml_scalars_are_read_as_clients_mean_them() {
    let pods = registry().find("", "v1", "pods").unwrap();
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: \"1\"\nspec:\n  hostNetwork: yes\n  volumes:\n  - name: a\n    \
                configMap:\n      defaultMode: 0644\n";
    let (value, _) = object(pods, text.as_bytes(), Encoding::Yaml, FieldValidation::Strict).unwrap();
    assert_eq!(value["spec"]["hostNetwork"], true);
    assert_eq!(value["spec"]["volumes"][0]["configMap"]["defaultMode"], 0o644);
}

proptest::proptest! {
    #[test]
    fn decoder_on_any_bytes_never_panics(body: Vec<u8>) {
        let _ = object(deployments(), &body, Encoding::Json, FieldValidation::Strict);
        let _ = object(deployments(), &body, Encoding::Yaml, FieldValidation::Strict);
    }

    #[test]
    fn decoder_on_nearly_yaml_never_panics(body in "[a-z:&* \\[\\]{}\\-\n\"'|>0-9!]{0,60}") {
        let _ = object(deployments(), body.as_bytes(), Encoding::Yaml, FieldValidation::Strict);
    }
}

#[test]
fn zeros_that_go_leaves_out_are_taken_out_and_nothing_else() {
    let mut value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "a", "labels": {}, "annotations": {"a": ""}, "finalizers": [], "generation": 0},
        "spec": {
            "replicas": 0, "paused": false, "minReadySeconds": 0, "strategy": {},
            "selector": {"matchLabels": {"": ""}, "matchExpressions": []},
            "template": {"metadata": {"labels": {}}, "spec": {
                "hostNetwork": false, "nodeName": "", "securityContext": {}, "automountServiceAccountToken": false,
                "containers": [{"name": "c", "args": [""], "env": [{"name": "E", "value": ""}], "resources": {},
                    "volumeMounts": []}],
                "volumes": [{"name": "v", "emptyDir": {"medium": ""}}],
            }},
        },
        "status": {"replicas": 0},
    });
    omit_zeros(deployments(), &mut value);
    let expected = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "a", "annotations": {"a": ""}},
        "spec": {
            "replicas": 0, "strategy": {},
            "selector": {"matchLabels": {"": ""}},
            "template": {"metadata": {}, "spec": {
                "securityContext": {}, "automountServiceAccountToken": false,
                "containers": [{"name": "c", "args": [""], "env": [{"name": "E"}], "resources": {}}],
                "volumes": [{"name": "v", "emptyDir": {}}],
            }},
        },
        "status": {},
    });
    assert_eq!(value, expected);
}
