//! JSON patches and merge patches, and what becomes of a document under them.

use super::*;

#[test]
fn json_patch_with_each_operation_applies() {
    let document = json!({"a": 1, "b": [1, 2], "c": {"d": "e"}});
    let patch = json!([
        {"op": "test", "path": "/a", "value": 1},
        {"op": "replace", "path": "/a", "value": 2},
        {"op": "add", "path": "/b/-", "value": 3},
        {"op": "remove", "path": "/b/0"},
        {"op": "copy", "from": "/c/d", "path": "/f"},
        {"op": "move", "from": "/c", "path": "/g"},
    ]);
    let patched = json_patch(&document, patch.to_string().as_bytes()).unwrap();
    assert_eq!(patched, json!({"a": 2, "b": [2, 3], "f": "e", "g": {"d": "e"}}));
}

#[test]
fn json_patch_that_does_not_apply_is_unprocessable() {
    for patch in [
        json!([{"op": "test", "path": "/a", "value": 2}]),
        json!([{"op": "remove", "path": "/nowhere"}]),
        json!([{"op": "add", "path": "/a/b/c", "value": 1}]),
    ] {
        let status = json_patch(&json!({"a": 1}), patch.to_string().as_bytes()).unwrap_err();
        assert_eq!((status.code, status.reason), (422, "Invalid"));
    }
    for patch in ["", "{}", "[1]"] {
        assert_eq!(json_patch(&json!({}), patch.as_bytes()).unwrap_err().code, 400, "{patch}");
    }
}

#[test]
fn json_patch_that_doubles_forever_is_stopped() {
    let copies: Vec<Value> = (0..40).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/-"})).collect();
    let status = json_patch(&json!({"a": ["x"]}), Value::Array(copies).to_string().as_bytes()).unwrap_err();
    assert_eq!(status.code, 422);
}

#[test]
fn merge_patch_follows_rfc_7386() {
    let patched =
        merge_patch(&json!({"a": {"b": 1, "c": 2}, "l": [1, 2]}), br#"{"a":{"b":null,"d":3},"l":[3]}"#);
    assert_eq!(patched.unwrap(), json!({"a": {"c": 2, "d": 3}, "l": [3]}));
    assert_eq!(merge_patch(&json!({}), b"[]").unwrap_err().code, 400);
}

#[test]
fn json_patch_takes_what_upstreams_library_takes() {
    let document = json!({"a": {"b": "c"}, "l": [1]});
    let patched = |operation: Value| json_patch(&document, json!([operation]).to_string().as_bytes());
    let at = |path: &str, value: Value| Ok::<_, Status>((path.to_owned(), value));
    for (operation, expected) in [
        (json!({"op": "replace", "path": "/a/new", "value": "x"}), at("/a/new", json!("x"))),
        (json!({"op": "add", "path": "/a/x~2y~", "value": 1}), at("/a/x~02y~0", json!(1))),
        (json!({"op": "add", "path": "/a/new"}), at("/a/new", Value::Null)),
        (json!({"op": "test", "path": "/a/none", "value": null}), at("/a/b", json!("c"))),
        (json!({"op": "test", "path": "/a/none"}), at("/a/b", json!("c"))),
    ] {
        let (path, value) = expected.unwrap();
        assert_eq!(patched(operation.clone()).unwrap().pointer(&path), Some(&value), "{operation}");
    }
    for operation in [
        json!({}),
        json!({"op": "foo", "path": "/a"}),
        json!({"op": "add", "path": "a", "value": 1}),
        json!({"op": "replace", "path": "/none/new", "value": "x"}),
        json!({"op": "replace", "path": "/l/7", "value": "x"}),
        json!({"op": "test", "path": "/a/none", "value": 1}),
        json!(null),
    ] {
        assert_eq!(patched(operation.clone()).unwrap_err().code, 422, "{operation}");
    }
}

#[test]
fn json_patch_counts_negative_indexes_from_the_end() {
    let document = json!({"l": [1, 2, {"m": [3, 4]}], "-1": "x"});
    let patched = |operation: Value| json_patch(&document, json!([operation]).to_string().as_bytes());
    for (operation, list) in [
        (json!({"op": "add", "path": "/l/-1", "value": 9}), json!([1, 2, {"m": [3, 4]}, 9])),
        (json!({"op": "add", "path": "/l/-4", "value": 9}), json!([9, 1, 2, {"m": [3, 4]}])),
        (json!({"op": "remove", "path": "/l/-1"}), json!([1, 2])),
        (json!({"op": "replace", "path": "/l/-1/m/-2", "value": 9}), json!([1, 2, {"m": [9, 4]}])),
        (json!({"op": "test", "path": "/l/-3", "value": 1}), document["l"].clone()),
        (json!({"op": "copy", "from": "/l/-3", "path": "/l/-1"}), json!([1, 2, {"m": [3, 4]}, 1])),
        (json!({"op": "remove", "path": "/-1"}), document["l"].clone()),
    ] {
        assert_eq!(patched(operation.clone()).unwrap()["l"], list, "{operation}");
    }
    for path in ["/l/-4", "/l/--1", "/l/-0x"] {
        assert_eq!(patched(json!({"op": "remove", "path": path})).unwrap_err().code, 422, "{path}");
    }
}
