//! Apply and update as a user meets them, and properties over random applied objects.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::object::remove;
use crate::registry::registry;

fn deployments() -> &'static Resource {
    registry().find("apps", "v1", "deployments").unwrap()
}

fn writer<'a>(name: &'a str, subresource: &'a str) -> Writer<'a> {
    static NONE: LazyLock<Conversions> = LazyLock::new(Conversions::default);
    let (resource, registry) = (deployments(), registry());
    Writer { resource, registry, name, subresource, now: "2026-01-01T00:00:00Z", conversions: &NONE }
}

fn deployment(spec: Value) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d", "namespace": "n" }, "spec": spec })
}

fn containers(containers: Value) -> Value {
    deployment(json!({ "template": { "spec": { "containers": containers } } }))
}

fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    take_entries(&mut object);
    object
}

fn applied(name: &str, live: &Value, object: &Value) -> Value {
    apply(&writer(name, ""), live, object, false).unwrap()
}

fn fields(object: &Value, manager: &str) -> Value {
    let all = object["metadata"]["managedFields"].as_array().unwrap();
    all.iter()
        .find(|entry| entry["manager"] == manager)
        .map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

#[test]
fn applied_object_is_owned_by_its_applier() {
    let one = deployment(json!({ "replicas": 3, "selector": { "matchLabels": { "a": "b" } } }));
    let made = applied("one", &json!({}), &one);
    assert_eq!(made["spec"], one["spec"]);
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!((&entry["operation"], &entry["apiVersion"]), (&json!("Apply"), &json!("apps/v1")));
    assert_eq!(entry["fieldsV1"], json!({ "f:spec": { "f:replicas": {}, "f:selector": {} } }));
    assert_eq!(applied("one", &made, &one), made);
}

#[test]
fn other_value_of_another_owner_conflicts_unless_forced() {
    let live = applied("one", &json!({}), &deployment(json!({ "replicas": 3, "paused": true })));
    let two = deployment(json!({ "replicas": 4, "paused": false }));
    let status = apply(&writer("two", ""), &live, &two, false).unwrap_err();
    assert_eq!((status.code, status.reason), (409, "Conflict"));
    assert_eq!(
        status.message,
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.paused\n- .spec.replicas"
    );
    let cause = &status.details.unwrap()["causes"][1];
    let expected = json!({ "reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.replicas" });
    assert_eq!(*cause, expected);
    let forced = apply(&writer("two", ""), &live, &two, true).unwrap();
    assert_eq!(forced["spec"], two["spec"]);
    assert_eq!(fields(&forced, "one"), Value::Null);
    assert_eq!(fields(&forced, "two"), json!({ "f:spec": { "f:paused": {}, "f:replicas": {} } }));
}

#[test]
fn conflict_with_an_updater_names_its_version() {
    let live = applied("one", &json!({}), &deployment(json!({ "replicas": 3 })));
    let mut new = live.clone();
    new["spec"]["replicas"] = json!(5);
    update(&writer("kubectl-edit", ""), &live, &mut new);
    assert_eq!(fields(&new, "one"), Value::Null);
    let status = apply(&writer("one", ""), &new, &deployment(json!({ "replicas": 3 })), false).unwrap_err();
    let expected =
        "Apply failed with 1 conflict: conflict with \"kubectl-edit\" using apps/v1: .spec.replicas";
    assert_eq!(status.message, expected);
}

#[test]
fn same_value_is_shared_and_goes_when_its_last_owner_stops() {
    let one = deployment(json!({ "replicas": 3, "paused": true }));
    let live = applied("one", &json!({}), &one);
    let live = applied("two", &live, &deployment(json!({ "replicas": 3 })));
    let live = applied("one", &live, &deployment(json!({ "minReadySeconds": 1 })));
    assert_eq!(live["spec"], json!({ "replicas": 3, "minReadySeconds": 1 }));
    let mut nothing = deployment(json!({}));
    remove(&mut nothing, "spec");
    let live = applied("two", &live, &nothing);
    assert_eq!(live["spec"], json!({ "minReadySeconds": 1 }));
    assert_eq!(fields(&live, "two"), Value::Null);
}

#[test]
fn items_are_owned_by_their_keys() {
    let first = json!({ "name": "a", "image": "x", "ports": [{ "containerPort": 80 }] });
    let live = applied("one", &json!({}), &containers(json!([first])));
    let live = applied("two", &live, &containers(json!([{ "name": "b", "image": "y" }])));
    let names = |object: &Value| -> Vec<String> {
        let list = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        list.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&live), ["a", "b"]);
    let own = &fields(&live, "one")["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"a\"}"];
    let port = "k:{\"containerPort\":80,\"protocol\":\"TCP\"}";
    assert_eq!(own["f:ports"], json!({ port: { ".": {}, "f:containerPort": {} } }));
    let live = applied("one", &live, &containers(json!([])));
    assert_eq!(names(&live), ["b"]);
    let twice = containers(json!([{ "name": "a" }, { "name": "a" }]));
    let status = apply(&writer("one", ""), &live, &twice, false).unwrap_err();
    assert_eq!(status.code, 400);
    assert!(
        status.message.ends_with(".spec.template.spec.containers: duplicate entries for key [name=\"a\"]")
    );
}

#[test]
fn item_that_another_changed_stays_with_what_they_own() {
    let live = applied("one", &json!({}), &containers(json!([{ "name": "a", "image": "x" }])));
    let mut new = live.clone();
    new["spec"]["template"]["spec"]["containers"][0]["tty"] = json!(true);
    update(&writer("editor", ""), &live, &mut new);
    let live = applied("one", &new, &containers(json!([{ "name": "b", "image": "y" }])));
    let list = &live["spec"]["template"]["spec"]["containers"];
    assert_eq!(list[0]["name"], "b");
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
}

#[test]
fn order_of_the_applied_list_wins() {
    let live =
        applied("one", &json!({}), &containers(json!([{ "name": "a" }, { "name": "b" }, { "name": "c" }])));
    let live = applied("one", &live, &containers(json!([{ "name": "c" }, { "name": "n" }, { "name": "a" }])));
    let list = live["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let names: Vec<_> = list.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["c", "n", "a"]);
}

#[test]
fn status_is_owned_through_its_subresource_alone() {
    let mut object = deployment(json!({ "replicas": 1 }));
    object["status"] = json!({ "replicas": 1 });
    let made = applied("one", &json!({}), &object);
    assert_eq!(fields(&made, "one"), json!({ "f:spec": { "f:replicas": {} } }));
    let mut new = made.clone();
    new["status"] = json!({ "replicas": 2, "conditions": [{ "type": "Available", "status": "True" }] });
    update(&writer("controller", "status"), &made, &mut new);
    let entry = new["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["manager"] == "controller");
    assert_eq!(entry.unwrap()["subresource"], "status");
    let condition = "k:{\"type\":\"Available\"}";
    let expected = json!({ ".": {}, condition: { ".": {}, "f:status": {}, "f:type": {} } });
    assert_eq!(fields(&new, "controller")["f:status"]["f:conditions"], expected);
}

#[test]
fn entries_can_be_put_right_by_hand_and_reset() {
    let live = applied("one", &json!({}), &deployment(json!({ "replicas": 3 })));
    let mut new = live.clone();
    new["metadata"]["managedFields"][0]["manager"] = json!("two");
    update(&writer("hand", ""), &live, &mut new);
    assert_eq!(fields(&new, "two"), json!({ "f:spec": { "f:replicas": {} } }));
    let mut new = live.clone();
    new["metadata"]["managedFields"] = json!([{}]);
    update(&writer("hand", ""), &live, &mut new);
    assert!(new["metadata"].get("managedFields").is_none());
    for kept in [json!([]), json!([{ "manager": "x", "operation": "Steal" }]), Value::Null] {
        let mut new = live.clone();
        new["metadata"]["managedFields"] = kept;
        update(&writer("hand", ""), &live, &mut new);
        assert_eq!(new, live);
    }
}

#[test]
fn client_side_apply_is_taken_over_by_kubectl() {
    let last = deployment(json!({ "replicas": 3, "paused": true }));
    let mut live = last.clone();
    live["metadata"]["annotations"] =
        json!({ "kubectl.kubernetes.io/last-applied-configuration": last.to_string() });
    update(&writer("kubectl-client-side-apply", ""), &json!({}), &mut live);
    let next = deployment(json!({ "replicas": 4, "paused": true }));
    assert_eq!(apply(&writer("other", ""), &live, &next, false).unwrap_err().code, 409);
    let taken = apply(&writer("kubectl", ""), &live, &next, false).unwrap();
    assert_eq!(taken["spec"], next["spec"]);
    let text = taken["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
        .as_str()
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap()["spec"]["replicas"], 4);
    // What somebody else changed since is no longer kubectl's to change.
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(9);
    update(&writer("scaler", ""), &live, &mut scaled);
    let status = apply(&writer("kubectl", ""), &scaled, &next, false).unwrap_err();
    assert!(
        status.message.contains("conflict with \"scaler\" using apps/v1: .spec.replicas"),
        "{}",
        status.message
    );
}

#[test]
fn entries_of_updaters_stay_few() {
    let mut live = deployment(json!({}));
    for n in 0..30 {
        let mut new = live.clone();
        new["metadata"]["labels"][format!("l{n}")] = json!("x");
        let now = format!("2026-01-01T00:00:{n:02}Z");
        let name = format!("writer-{n}");
        update(&Writer { now: &now, ..writer(&name, "") }, &live, &mut new);
        live = new;
    }
    let entries = live["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 10);
    assert_eq!(entries[0]["manager"], "ancient-changes");
    assert_eq!(entries[0]["fieldsV1"]["f:metadata"]["f:labels"].as_object().unwrap().len(), 22);
}

#[test]
fn owner_in_another_version_keeps_what_it_owns() {
    let v1 = registry().find("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
    let v2 = registry().find("autoscaling", "v2", "horizontalpodautoscalers").unwrap();
    let base = Writer { resource: v2, ..writer("one", "") };
    let object = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "h" },
        "spec": { "maxReplicas": 3, "minReplicas": 2 },
    });
    let live = apply(&base, &json!({}), &object, false).unwrap();
    let mut old = live.clone();
    old["apiVersion"] = json!("autoscaling/v1");
    let mut new = old.clone();
    new["spec"]["minReplicas"] = json!(1);
    update(&Writer { resource: v1, name: "two", ..base }, &old, &mut new);
    assert_eq!(fields(&new, "one"), json!({ "f:spec": { "f:maxReplicas": {} } }));
    assert_eq!(fields(&new, "two"), json!({ "f:spec": { "f:minReplicas": {} } }));
}

#[test]
fn applied_in_another_version_loses_only_what_is_applied_no_more() {
    let v1 = registry().find("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
    let v2 = registry().find("autoscaling", "v2", "horizontalpodautoscalers").unwrap();
    let base = Writer { resource: v2, ..writer("one", "") };
    let object = |version: &str, metadata: Value, spec: Value| {
        json!({
            "apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler",
            "metadata": metadata, "spec": spec,
        })
    };
    let meta = json!({ "name": "h", "finalizers": ["example.com/f"], "labels": { "a": "b" } });
    let first = object("v2", meta, json!({ "maxReplicas": 3, "minReplicas": 2 }));
    let mut live = apply(&base, &json!({}), &first, false).unwrap();
    let two = Writer { name: "two", ..base };
    let also = object("v2", json!({ "name": "h", "labels": { "a": "b" } }), json!({}));
    live = apply(&two, &live, &also, false).unwrap();
    live["apiVersion"] = json!("autoscaling/v1");
    let again = object("v1", json!({ "name": "h" }), json!({ "maxReplicas": 3 }));
    let merged = apply(&Writer { resource: v1, ..base }, &live, &again, false).unwrap();
    assert_eq!(merged["spec"]["maxReplicas"], 3);
    assert!(merged["spec"].get("minReplicas").is_none(), "{merged}");
    assert_eq!(merged["apiVersion"], "autoscaling/v1");
    assert_eq!(merged["metadata"]["labels"], json!({ "a": "b" }), "another one owns it in the old version");
    assert!(merged["metadata"].get("finalizers").is_none_or(|left| left == &json!([])));
    assert_eq!(fields(&merged, "one"), json!({ "f:spec": { "f:maxReplicas": {} } }));
}

/// Something to apply: some labels, some containers with some fields.
fn anything() -> impl Strategy<Value = Value> {
    let labels = proptest::collection::btree_map("[a-d]", "[x-y]", 0..4);
    let container = (proptest::option::of("[x-y]"), proptest::option::of(any::<bool>()), 0..3u8);
    let list = proptest::collection::btree_map("[a-c]", container, 0..3);
    (labels, list, proptest::option::of(0..3i32)).prop_map(|(labels, list, replicas)| {
        let list: Vec<Value> = list
            .into_iter()
            .map(|(name, (image, tty, ports))| {
                let mut one = json!({ "name": name });
                if let Some(image) = image {
                    one["image"] = json!(image);
                }
                if let Some(tty) = tty {
                    one["tty"] = json!(tty);
                }
                if ports > 0 {
                    one["ports"] =
                        (0..ports).map(|port| json!({ "containerPort": port, "protocol": "TCP" })).collect();
                }
                one
            })
            .collect();
        let mut object = match list.is_empty() {
            true => deployment(json!({ "minReadySeconds": 1 })),
            false => containers(Value::Array(list)),
        };
        if !labels.is_empty() {
            object["metadata"]["labels"] = json!(labels);
        }
        if let Some(replicas) = replicas {
            object["spec"]["replicas"] = json!(replicas);
        }
        object
    })
}

fn leaves(object: &Value) -> FieldSet {
    let schema = &deployments().schema;
    let shape = Shape::Object(schema.root);
    extract::fields(&Spot::root(schema, &shape), &bare(object)).unwrap()
}

proptest! {
    #[test]
    fn apply_twice_is_apply_once(live in anything(), object in anything()) {
        let live = apply(&writer("one", ""), &json!({}), &live, true).unwrap();
        let once = apply(&writer("two", ""), &live, &object, true).unwrap();
        prop_assert_eq!(apply(&writer("two", ""), &once, &object, false).unwrap(), once);
    }

    #[test]
    fn what_one_owner_stops_applying_goes_and_what_two_own_stays(
        first in anything(), next in anything(), other in anything(),
    ) {
        let live = apply(&writer("one", ""), &json!({}), &first, true).unwrap();
        let live = apply(&writer("two", ""), &live, &other, true).unwrap();
        let after = apply(&writer("one", ""), &live, &next, true).unwrap();
        let (there, wanted) = (leaves(&after), leaves(&next).union(&leaves(&other)));
        // Everything applied is there, and nothing but.
        prop_assert!(wanted.difference(&there).leaves().is_empty(), "{} of {after}", wanted.difference(&there).into_value());
        let extra: Vec<_> = there.difference(&wanted).leaves();
        prop_assert!(extra.is_empty(), "{extra:?} in {after}");
        // Whoever applied last has their values.
        prop_assert_eq!(merge_over(&after, &next), bare(&after));
    }

    #[test]
    fn update_records_what_changed_and_nothing_when_nothing_did(first in anything(), next in anything()) {
        let live = apply(&writer("one", ""), &json!({}), &first, true).unwrap();
        let mut same = live.clone();
        update(&writer("two", ""), &live, &mut same);
        prop_assert_eq!(&same, &live);
        let mut new = next.clone();
        update(&writer("two", ""), &live, &mut new);
        let owners = Owners::read(&new).unwrap();
        let owned = owners.0.iter().fold(FieldSet::default(), |all, owner| all.union(&owner.fields.to_set()));
        for path in leaves(&next).leaves() {
            let server = path.len() == 1 || path[1] == Step::field("name") || path[1] == Step::field("namespace");
            prop_assert!(owned.has(&path) || server, "{} in {new}", step::path_text(&path));
        }
    }
}

fn merge_over(live: &Value, applied: &Value) -> Value {
    let schema = &deployments().schema;
    let shape = Shape::Object(schema.root);
    merge::merge(&Spot::root(schema, &shape), &bare(live), applied).unwrap()
}

/// What the author of a new object owns by comparing it with one in which nothing is set.
fn owned_by_comparison(writer: &Writer<'_>, nothing: &Value, new: &Value) -> Option<Value> {
    let found = differences(writer, &writer.resource.group_version(), nothing, new)?.ok()?;
    let mut set = found.outside(&writer.ignored()).into_set();
    set.subtract(&owners::OF_THE_SERVER);
    Some(set.into_value())
}

fn new_object(resource: &Resource, mut object: Value) -> Option<Value> {
    crate::decode::check(resource, &mut object, crate::decode::FieldValidation::Ignore).ok()?;
    crate::decode::omit_zeros(resource, &mut object);
    crate::defaults::apply(resource, &mut object);
    Some(object)
}

#[test]
fn author_of_a_new_pod_owns_what_it_has() {
    let resource = registry().find("", "v1", "pods").unwrap();
    let pod = new_object(
        resource,
        json!({
            "metadata": { "name": "p", "namespace": "n", "labels": { "a": "b" }, "finalizers": ["x/y"] },
            "spec": {
                "containers": [
                    { "name": "b", "image": "i", "env": [{ "name": "A", "value": "1" }] },
                    { "name": "a", "image": "i", "ports": [{ "containerPort": 80 }] },
                ],
                "tolerations": [{ "key": "k" }],
                "nodeSelector": { "disk": "fast" },
            },
            "status": { "phase": "Running" },
        }),
    )
    .unwrap();
    let (nothing, writer) = (crate::decode::nothing_set(resource), Writer { resource, ..writer("one", "") });
    let owned = Value::Object(of_new(&writer, &nothing, &pod).unwrap());
    assert_eq!(Some(&owned), owned_by_comparison(&writer, &nothing, &pod).as_ref());
    assert_eq!(
        owned["f:metadata"],
        json!({ "f:labels": { ".": {}, "f:a": {} }, "f:finalizers": { ".": {}, "v:\"x/y\"": {} } })
    );
    assert_eq!(owned.get("f:status"), None);
    let twice = json!({ "spec": { "containers": [{ "name": "a" }, { "name": "a" }] } });
    assert_eq!(of_new(&writer, &nothing, &new_object(resource, twice).unwrap()), None);
}

proptest! {
    #[test]
    fn author_of_a_new_object_owns_the_same_by_either_way(
        object in crate::arbitrary::object(),
        kind in any::<proptest::sample::Index>(),
    ) {
        let all: Vec<&Resource> = registry().resources().collect();
        let resource = all[kind.index(all.len())];
        let Some(new) = new_object(resource, object) else { return Ok(()) };
        let (nothing, writer) = (crate::decode::nothing_set(resource), Writer { resource, ..writer("one", "") });
        if let Some(owned) = of_new(&writer, &nothing, &new) {
            prop_assert_eq!(Some(Value::Object(owned)), owned_by_comparison(&writer, &nothing, &new));
        }
    }
}
