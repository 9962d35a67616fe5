//! Strategic merge patches and what becomes of a document under them.

use super::*;
use crate::registry::registry;
use proptest::prelude::*;

fn deployments() -> &'static Resource {
    registry().find("apps", "v1", "deployments").unwrap()
}

fn pods() -> &'static Resource {
    registry().find("", "v1", "pods").unwrap()
}

fn strategic(document: Value, patch: Value) -> Value {
    strategic_merge_patch(pods(), &document, patch.to_string().as_bytes()).unwrap()
}

#[test]
fn strategic_patch_merges_lists_by_key_and_replaces_others() {
    let document = json!({"spec": {"containers": [
        {"name": "a", "image": "1", "args": ["x"], "env": [{"name": "E", "value": "1"}]},
        {"name": "b", "image": "1"}
    ]}});
    let patch = json!({"spec": {"containers": [
        {"name": "b", "image": "2"},
        {"name": "a", "args": ["y"], "env": [{"name": "F", "value": "2"}]},
        {"name": "c", "image": "3", "command": null}
    ]}});
    assert_eq!(
        strategic(document, patch),
        json!({"spec": {"containers": [
            {"name": "b", "image": "2"},
            {"name": "a", "image": "1", "args": ["y"], "env": [{"name": "F", "value": "2"}, {"name": "E", "value": "1"}]},
            {"name": "c", "image": "3"}
        ]}})
    );
}

#[test]
fn strategic_patch_with_patch_directives_deletes_and_replaces() {
    let document =
        json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    let deleted = json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}});
    assert_eq!(strategic(document.clone(), deleted)["spec"]["containers"], json!([{"name": "b"}]));
    let replaced = json!({"spec": {"containers": [{"name": "c"}, {"$patch": "replace"}]}});
    assert_eq!(strategic(document.clone(), replaced)["spec"]["containers"], json!([{"name": "c"}]));
    let replaced = json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}});
    assert_eq!(strategic(document.clone(), replaced)["metadata"]["labels"], json!({"b": "2"}));
    let emptied = json!({"metadata": {"labels": {"$patch": "delete"}}});
    assert_eq!(strategic(document, emptied)["metadata"]["labels"], json!({}));
}

#[test]
fn strategic_patch_with_retain_keys_drops_the_other_members() {
    let document = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let patched = strategic_merge_patch(deployments(), &document, patch.to_string().as_bytes()).unwrap();
    assert_eq!(patched, json!({"spec": {"strategy": {"type": "Recreate"}}}));
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}});
    assert_eq!(
        strategic_merge_patch(deployments(), &document, patch.to_string().as_bytes()).unwrap_err().code,
        400
    );
}

/// Names of the containers.
fn names(value: &Value) -> Vec<String> {
    let containers = value["spec"]["containers"].as_array().unwrap();
    containers.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn strategic_patch_without_element_order_puts_its_new_items_before_those_it_does_not_name() {
    let document = json!({"spec": {"containers": [{"name": "x"}, {"name": "y"}]}});
    let new = json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}]}});
    assert_eq!(names(&strategic(document.clone(), new)), ["b", "a", "x", "y"]);
    let both = json!({"spec": {"containers": [{"name": "y"}, {"name": "a"}]}});
    assert_eq!(names(&strategic(document.clone(), both)), ["x", "y", "a"]);
    let gone = json!({"spec": {"containers": [{"name": "x", "$patch": "delete"}, {"name": "a"}]}});
    assert_eq!(names(&strategic(document, gone)), ["a", "y"]);
}

#[test]
fn strategic_patch_with_element_order_sorts_and_keeps_what_it_does_not_name() {
    let document = json!({"spec": {"containers": [{"name": "a"}, {"name": "x"}, {"name": "b"}]}});
    let patch = json!({"spec": {
        "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
        "containers": [{"name": "c"}]
    }});
    assert_eq!(names(&strategic(document.clone(), patch)), ["x", "b", "c", "a"]);
    let only_order = json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}});
    assert_eq!(names(&strategic(document, only_order)), ["x", "b", "a"]);
}

#[test]
fn strategic_patch_on_plain_lists_adds_and_deletes_values() {
    let document = json!({"metadata": {"finalizers": ["a", "b"]}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c", "b"]}});
    assert_eq!(strategic(document, patch), json!({"metadata": {"finalizers": ["c", "b"]}}));
}

/// As kubectl 1.32 computed it from our OpenAPI document: `apply` of a manifest that takes one container out, puts another
/// in front, names a port and changes the strategy.
#[test]
fn strategic_patch_of_kubectl_apply_gives_the_manifest_and_keeps_the_rest() {
    let live = json!({"spec": {
        "replicas": 2,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
        "template": {"spec": {
            "containers": [
                {"name": "c", "image": "i", "terminationMessagePath": "x", "ports": [{"containerPort": 80, "protocol": "TCP"}]},
                {"name": "d", "image": "i"}
            ],
            "tolerations": [{"operator": "Exists"}]
        }}
    }});
    let patch = json!({"spec": {
        "replicas": 3,
        "strategy": {"$retainKeys": ["type"], "type": "Recreate"},
        "template": {"spec": {
            "$setElementOrder/containers": [{"name": "e"}, {"name": "c"}],
            "containers": [
                {"image": "z", "name": "e"},
                {"$setElementOrder/ports": [{"containerPort": 80}], "image": "j", "name": "c",
                    "ports": [{"containerPort": 80, "name": "http"}]},
                {"$patch": "delete", "name": "d"}
            ]
        }}
    }});
    let expected = json!({"spec": {
        "replicas": 3,
        "strategy": {"type": "Recreate"},
        "template": {"spec": {
            "containers": [
                {"name": "e", "image": "z"},
                {"name": "c", "image": "j", "terminationMessagePath": "x",
                    "ports": [{"containerPort": 80, "name": "http", "protocol": "TCP"}]}
            ],
            "tolerations": [{"operator": "Exists"}]
        }}
    }});
    let patched = strategic_merge_patch(deployments(), &live, patch.to_string().as_bytes()).unwrap();
    assert_eq!(patched, expected);
}

#[test]
fn strategic_patch_that_makes_no_sense_gets_upstreams_code_and_words() {
    let document = json!({"spec": {"containers": [{"name": "a"}]}});
    let check = |patch: Value, code: u16, message: &str| {
        let status = strategic_merge_patch(pods(), &document, patch.to_string().as_bytes()).unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (code, message), "{patch}");
    };
    let misfit = |patch: Value, message: &str| check(patch, 400, message);
    misfit(
        json!({"spec": {"containers": [{"image": "x"}]}}),
        "map: map[image:x] does not contain declared merge key: name",
    );
    misfit(
        json!({"spec": {"containers": ["x"]}}),
        "expected a map[string]interface {}, but received a string",
    );
    misfit(json!({"spec": {"$patch": "fly"}}), "unknown patch type: fly in map: map[$patch:fly]");
    misfit(json!({"spec": {"$patch": 1}}), "unknown patch type: %!s(int64=1) in map: map[$patch:1]");
    check(json!({"spec": {"$retainKeys": 1}}), 400, "invalid patch format of retainKeys");
    misfit(
        json!({"spec": {"$setElementOrder/containers": 1}}),
        "expected a []interface {}, but received a int64",
    );
    misfit(
        json!({"spec": {"$setElementOrder/nope": [{"name": "d"}]}}),
        "unable to find api field in struct PodSpec for the json field \"nope\"",
    );
    assert_eq!(strategic_merge_patch(pods(), &document, b"[]").unwrap_err().code, 400);
}

#[test]
fn strategic_patch_that_contradicts_its_element_order_is_refused() {
    let document = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    let patched = |items: Value, order: Value| {
        let patch = json!({"spec": {"containers": items, "$setElementOrder/containers": order}});
        strategic_merge_patch(pods(), &document, patch.to_string().as_bytes())
    };
    let (a, b) = (json!({"name": "a"}), json!({"name": "b"}));
    let status = patched(json!([a, b]), json!([b, a])).unwrap_err();
    let said = "The order in patch list:\n[map[name:a] map[name:b]]\n doesn't match $setElementOrder list:\n\
        [map[name:b] map[name:a]]\n";
    assert_eq!((status.code, status.message.as_str()), (400, said));
    assert_eq!(patched(json!([a, {"name": "c"}]), json!([b, a])).unwrap_err().code, 400);
    let deleted = json!({"name": "a", "$patch": "delete"});
    assert_eq!(names(&patched(json!([deleted, b]), json!([b])).unwrap()), ["b"]);
    assert_eq!(names(&patched(json!([a]), json!([b, a])).unwrap()), ["b", "a"]);
    assert_eq!(names(&patched(json!([a]), json!([])).unwrap()), ["a", "b"]);
}

#[test]
fn strategic_patch_of_what_is_not_there_is_taken_as_it_is() {
    let document = json!({"metadata": {}, "spec": {"containers": [{"name": "a"}]}});
    let patch = json!({
        "metadata": {"labels": {"$patch": "replace", "a": "b"}, "ownerReferences": [{}], "annotations": {"x": null, "y": "z"}},
        "spec": {"containers": [{"name": "a", "ports": [{"name": "p"}]}], "foo": {"$patch": "x"}},
    });
    let expected = json!({
        "metadata": {"ownerReferences": [{}], "annotations": {"y": "z"}},
        "spec": {"containers": [{"name": "a", "ports": [{"name": "p"}]}]},
    });
    assert_eq!(strategic(document, patch), expected);
}

fn containers() -> impl Strategy<Value = Value> {
    let container = ("[a-d]", "[xyz]", proptest::collection::btree_map("[EFG]", "[12]", 0..3)).prop_map(
        |(name, image, env)| {
            let env: Vec<Value> =
                env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
            json!({"name": name, "image": image, "env": env})
        },
    );
    proptest::collection::vec(container, 0..4).prop_map(|mut list| {
        let mut seen = Vec::new();
        list.retain(|one| {
            let fresh = !seen.contains(&one["name"]);
            seen.push(one["name"].clone());
            fresh
        });
        Value::Array(list)
    })
}

/// The patch that a client would send to get from `old` to `new`.
fn difference(old: &Value, new: &Value) -> Value {
    let find = |list: &Value, name: &Value| {
        list.as_array().unwrap().iter().find(|one| one["name"] == *name).cloned()
    };
    let mut items = Vec::new();
    for item in new.as_array().unwrap() {
        let mut item = item.clone();
        if let (Some(before), true) = (find(old, &item["name"]), item.get("env").is_some()) {
            item["env"] = difference(&before["env"], &item["env"])["list"].clone();
        }
        items.push(item);
    }
    for item in old.as_array().unwrap() {
        if find(new, &item["name"]).is_none() {
            items.push(json!({"name": item["name"], "$patch": "delete"}));
        }
    }
    let order: Vec<Value> = new.as_array().unwrap().iter().map(|one| json!({"name": one["name"]})).collect();
    json!({"list": items, "order": order})
}

proptest! {
    #[test]
    fn strategic_patch_of_a_difference_gives_the_new_list(old in containers(), new in containers()) {
        let difference = difference(&old, &new);
        let document = json!({"spec": {"containers": old}});
        let patch = json!({"spec": {
            "containers": difference["list"],
            "$setElementOrder/containers": difference["order"],
        }});
        let patched = strategic(document, patch);
        let sorted = |value: &Value| {
            let mut value = value.clone();
            for container in value.as_array_mut().unwrap() {
                if let Some(env) = container["env"].as_array_mut() {
                    env.sort_by_key(|one| one["name"].to_string());
                }
            }
            value
        };
        prop_assert_eq!(sorted(&patched["spec"]["containers"]), sorted(&new));
    }

    #[test]
    fn strategic_patch_twice_is_the_same_as_once(old in containers(), patch in containers()) {
        let patch = json!({"spec": {"containers": patch}});
        let once = strategic(json!({"spec": {"containers": old}}), patch.clone());
        prop_assert_eq!(strategic(once.clone(), patch), once);
    }

    #[test]
    fn patches_of_any_bytes_never_panic(patch: Vec<u8>) {
        let document = json!({"spec": {"containers": [{"name": "a"}]}});
        let _ = json_patch(&document, &patch);
        let _ = merge_patch(&document, &patch);
        let _ = strategic_merge_patch(pods(), &document, &patch);
    }
}
