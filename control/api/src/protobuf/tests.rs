//! What kubectl really sends, and what nobody should.

use serde_json::{Value, json};

use super::table::{Field, Kind, table};
use super::{Element, List, MAGIC, has_kind, object, read, read_expected, watch_frame};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The body of `kubectl create deployment web --image=x --replicas=3` of kubectl 1.32.
const DEPLOYMENT: &str = "
    6b387300 0a150a07 61707073 2f763112 0a446570 6c6f796d 656e7412 a3010a1f
    0a037765 6212001a 0022002a 00320038 0042005a 0a0a0361 70701203 77656212
    72080312 0c0a0a0a 03617070 12037765 621a580a 1c0a0012 001a0022 002a0032
    00380042 005a0a0a 03617070 12037765 62123812 1a0a0178 1201782a 0042006a
    00720080 01008801 00900100 a201001a 00320042 004a0052 00580060 00680082
    01008a01 009a0100 c2010022 020a0028 0038001a 0c080010 00180020 00280038
    001a0022 00";

#[test]
fn deployment_of_kubectl_reads_as_its_json() {
    let container = json!({ "name": "x", "image": "x", "resources": {} });
    let expected = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web", "labels": { "app": "web" } },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [container] } },
            "strategy": {},
        },
        "status": {},
    });
    assert_eq!(read(&bytes(DEPLOYMENT)).unwrap(), expected);
}

/// One field of bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
    bytes.extend_from_slice(content);
    bytes
}

fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let types = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), field(1, &types), field(2, raw)].concat()
}

#[test]
fn types_with_their_own_json_read_as_that() {
    let entry = |key: &str, value: &[u8]| [field(1, key.as_bytes()), field(2, value)].concat();
    let secret = body("v1", "Secret", &field(2, &entry("a", b"\xff\0")));
    assert_eq!(read(&secret).unwrap()["data"], json!({ "a": "/wA=" }));
    let empty = body("v1", "Secret", &field(2, &field(1, b"a")));
    assert_eq!(read(&empty).unwrap()["data"], json!({ "a": "" }));
    // type 1, strVal "http"; port 80, targetPort.
    let port = [vec![0x18, 80], field(4, &[&[0x08, 1, 0x10, 0][..], &field(3, b"http")].concat())].concat();
    let service = body("v1", "Service", &field(2, &field(1, &port)));
    assert_eq!(read(&service).unwrap()["spec"]["ports"], json!([{ "port": 80, "targetPort": "http" }]));
    let number = [vec![0x18, 80], field(4, &[0x08, 0, 0x10, 0x90, 0x3f])].concat();
    let service = body("v1", "Service", &field(2, &field(1, &number)));
    assert_eq!(read(&service).unwrap()["spec"]["ports"][0]["targetPort"], 8080);
    let limits = field(1, &entry("cpu", &field(1, b"100m")));
    let container = field(2, &field(8, &limits));
    let pod = body("v1", "Pod", &field(2, &container));
    assert_eq!(
        read(&pod).unwrap()["spec"]["containers"][0]["resources"],
        json!({ "limits": { "cpu": "100m" } })
    );
    // renewTime 1800000000.000005
    let renewed = [&[0x08, 0x80, 0xa4, 0xa7, 0xda, 0x06, 0x10][..], &[0x88, 0x27]].concat();
    let lease = body("coordination.k8s.io/v1", "Lease", &field(2, &field(4, &renewed)));
    assert_eq!(read(&lease).unwrap()["spec"]["renewTime"], "2027-01-15T08:00:00.000005Z");
}

#[test]
fn zero_is_kept_where_it_is_said_and_dropped_where_it_is_not() {
    let spec = [0x08, 0, 0x28, 0, 0x38, 0];
    let deployment = read(&body("apps/v1", "Deployment", &field(2, &spec))).unwrap();
    assert_eq!(deployment["spec"], json!({ "replicas": 0 }));
}

#[test]
fn options_are_read_in_every_group() {
    for version in ["v1", "apps/v1", "policy/v1"] {
        let options = read(&body(version, "DeleteOptions", &[0x08, 5])).unwrap();
        assert_eq!(options["gracePeriodSeconds"], 5);
    }
}

#[test]
fn malformed_bytes_are_an_error() {
    let whole = bytes(DEPLOYMENT);
    // Cut between two fields of the envelope, it is a shorter envelope.
    let between = [27, whole.len() - 4, whole.len() - 2];
    for end in (0..whole.len()).filter(|end| !between.contains(end)) {
        assert!(read(&whole[..end]).is_err(), "{end}");
    }
    for (bad, why) in [
        (b"{}".to_vec(), "does not appear"),
        (body("v1", "Nothing", &[]), "no kind \"Nothing\""),
        (body("v1", "Pod", &[0x0a, 0xff]), "EOF"),
        (body("v1", "Pod", &[0x0b]), "illegal wireType 3"),
        (body("v1", "Pod", &[0x08, 0]), "metadata: proto: wrong wireType"),
        (body("v1", "Pod", &field(1, &field(1, b"\xff"))), "metadata: name: proto: a string is not UTF-8"),
        (body("v1", "Pod", &[0xff; 12]), "overflow"),
    ] {
        let error = read(&bad).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

/// How deep the messages below this one go; fails where one holds itself and is no schema.
fn depth(name: &str, around: &mut Vec<String>) -> usize {
    if name == super::SCHEMA {
        return 1;
    }
    assert!(!around.iter().any(|outer| outer == name), "{around:?} -> {name}");
    around.push(name.to_owned());
    let below = |field: &Field| match &field.kind {
        Kind::One(Element::Message(of))
        | Kind::Many(Element::Message(of))
        | Kind::Map(Element::Message(of)) => Some(of.clone()),
        Kind::Inline(of) => Some(of.clone()),
        _ => None,
    };
    let names: Vec<String> = table().message(name).fields().filter_map(|(_, field)| below(field)).collect();
    let deepest = names.iter().map(|name| depth(name, around)).max().unwrap_or_default();
    around.pop();
    deepest + 1
}

#[test]
fn table_has_no_message_within_itself() {
    let deepest = table().names().map(|(name, _)| depth(name, &mut Vec::new())).max();
    assert!((8..20).contains(&deepest.unwrap()), "{deepest:?}");
}

#[test]
fn table_names_only_messages_that_it_holds() {
    let mut count = 0;
    for (name, message) in table().names() {
        for (_, field) in message.fields() {
            let (Kind::One(element) | Kind::Many(element) | Kind::Map(element)) = &field.kind else {
                let Kind::Inline(of) = &field.kind else { unreachable!() };
                table().message(of);
                continue;
            };
            if let Element::Message(of) = element {
                table().message(of);
            }
            assert!(!field.name.is_empty(), "{name}");
            count += 1;
        }
    }
    assert!(count > 1000, "{count}");
}

/// Every kind that is served can be written in this encoding, but for those that upstream itself has no messages for.
#[test]
fn table_holds_the_kinds_that_are_served() {
    let missing: Vec<Value> = crate::registry::registry()
        .resources()
        .filter(|resource| table().of_kind(&resource.group_version(), &resource.kind).is_none())
        .map(|resource| json!([resource.group_version(), resource.kind]))
        .collect();
    assert_eq!(missing, Vec::<Value>::new());
}

/// An object with one of everything that is odd.
fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "p", "labels": { "a": "", "b": "c" }, "creationTimestamp": "2027-01-15T08:00:00Z", "generation": -1,
            "managedFields": [{ "manager": "m", "fieldsType": "FieldsV1", "fieldsV1": { "f:spec": {} } }],
        },
        "spec": {
            "containers": [{
                "name": "c", "resources": { "limits": { "cpu": "100m" } }, "command": ["a", "", "b"],
                "readinessProbe": { "httpGet": { "port": "http" }, "periodSeconds": 2 },
            }],
            "volumes": [{ "name": "v", "emptyDir": {} }, { "name": "w", "hostPath": { "path": "/", "type": "" } }],
            "securityContext": { "supplementalGroups": [1, 0, 300] },
            "terminationGracePeriodSeconds": 0,
        },
        "status": {},
    })
}

#[test]
fn objects_come_back_as_they_were_written() {
    assert_eq!(read(&object(&pod()).unwrap()).unwrap(), pod());
    let secret =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": { "a": "/wA=", "b": "" } });
    assert_eq!(read(&object(&secret).unwrap()).unwrap(), secret);
    let renewed = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {},
        "spec": { "renewTime": "1969-12-31T23:59:58.000005Z", "leaseDurationSeconds": 15 },
    });
    assert_eq!(read(&object(&renewed).unwrap()).unwrap(), renewed);
    let deployment = read(&bytes(DEPLOYMENT)).unwrap();
    assert_eq!(read(&object(&deployment).unwrap()).unwrap(), deployment);
}

#[test]
fn lists_and_events_hold_their_objects() {
    let meta = json!({ "resourceVersion": "7", "continue": "next", "remainingItemCount": 3 });
    let written = |mut list: List| {
        list.push(&pod()).unwrap();
        list.finish().concat()
    };
    let whole = written(List::new("v1", "Pod", &meta).unwrap());
    let item = object(&pod()).unwrap();
    // The item's message, as it stands in the envelope of the object.
    let raw = super::Envelope::read(&item[4..]).unwrap().raw;
    assert!(whole.windows(raw.len()).any(|window| window == raw));
    let envelope = super::Envelope::read(&whole[4..]).unwrap();
    assert_eq!((envelope.kind.as_str(), &envelope.raw[..7]), ("PodList", &b"\x0a\x0b\x12\x017\x1a\x04"[..]));
    let partial = written(List::of_metadata(&meta).unwrap());
    assert!(partial.len() < whole.len());
    let frame = watch_frame("ADDED", &item);
    assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
    assert_eq!(&frame[4..11], b"\x0a\x05ADDED");
    assert!(frame.ends_with(&item));
}

#[test]
fn values_of_a_wrong_type_are_an_error() {
    let gone = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 410, "reason": "Expired",
        "details": { "retryAfterSeconds": 1, "causes": [{ "message": "m" }] },
    });
    assert_eq!(read(&object(&gone).unwrap()).unwrap(), gone);
    for (wrong, why) in [
        (
            json!({ "apiVersion": "v1", "kind": "Pod", "spec": { "containers": {} } }),
            "spec: containers: is no list",
        ),
        (json!({ "apiVersion": "v1", "kind": "Secret", "data": { "a": "?" } }), "data: is not base64"),
        (json!({ "apiVersion": "example.com/v1", "kind": "Widget" }), "has no protobuf encoding"),
    ] {
        let error = object(&wrong).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    assert!(has_kind("apps/v1", "Deployment") && !has_kind("example.com/v1", "Widget"));
}

#[test]
fn definitions_of_custom_resources_come_back_with_their_schemas() {
    let schema = json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "a": { "type": "array", "items": { "type": "string" }, "default": ["x"] },
            "b": { "additionalProperties": true, "maximum": 1.5 },
            "c": { "additionalProperties": { "type": "integer" }, "dependencies": { "d": ["e"], "f": {} } },
            "g": { "items": [{ "type": "string" }, {}], "enum": [1, "two", null] },
        },
        "x-kubernetes-validations": [{ "rule": "self.a == self.b" }],
    });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": { "plural": "widgets", "kind": "Widget" },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema },
                "subresources": { "status": {} },
            }],
        },
        "status": { "conditions": [], "acceptedNames": { "plural": "", "kind": "" }, "storedVersions": [] },
    });
    let mut read = read(&object(&definition).unwrap()).unwrap();
    // Empty lists and texts are not there in this encoding.
    read["status"] = definition["status"].clone();
    assert_eq!(read, definition);
}

#[test]
fn schemas_within_schemas_have_an_end() {
    let around = |number: u64, inner: &[u8]| {
        let mut outer = super::wire::Writer::default();
        outer.bytes(number, inner);
        outer.finish()
    };
    let schema = (0..5_000).fold(Vec::new(), |inner, _| around(28, &inner));
    // openAPIV3Schema, schema, versions, spec.
    let raw = [1, 4, 7, 2].iter().fold(schema, |inner, number| around(*number, &inner));
    let types = [around(1, b"apiextensions.k8s.io/v1"), around(2, b"CustomResourceDefinition")].concat();
    let error = read(&[&MAGIC[..], &around(1, &types), &around(2, &raw)].concat()).unwrap_err();
    assert!(error.contains("nested deeper"), "{error}");
}

#[test]
fn object_that_does_not_say_what_it_is_is_what_is_expected() {
    let raw = [MAGIC.to_vec(), field(2, &field(1, &field(1, b"a")))].concat();
    let expected = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" } });
    assert_eq!(read_expected(&raw, "v1", "ConfigMap").unwrap(), expected);
    assert!(read(&raw).is_err());
    assert_eq!(read_expected(&MAGIC, "v1", "ConfigMap"), Err("empty body".to_owned()));
    let said = body("v1", "Secret", b"");
    assert_eq!(read_expected(&said, "v1", "ConfigMap").unwrap()["kind"], "Secret");
}

#[test]
fn discovery_comes_back_as_it_was() {
    let resources = json!({
        "apiVersion": "v1", "kind": "APIResourceList", "groupVersion": "apps/v1",
        "resources": [{ "name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment", "verbs": ["get", "list"] }],
    });
    assert_eq!(read(&object(&resources).unwrap()).unwrap(), resources);
    let versions = json!({ "apiVersion": "", "kind": "APIVersions", "versions": ["v1"] });
    assert_eq!(read(&object(&versions).unwrap()).unwrap(), versions);
}
