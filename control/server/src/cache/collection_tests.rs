//! Changes and reads of one collection.

use bytes::Bytes;
use skep_store::{Event, KeyValue, Revision};

use super::*;
use crate::cache::ring::Bounds;

fn event(revision: u64, key: &str, value: Option<&str>) -> Event {
    let key = format!("/registry/pods/{key}");
    let current = value.map(|value| KeyValue {
        key: key.clone(),
        value: Bytes::from(format!(r#"{{"metadata":{{"name":"{value}"}}}}"#)),
        create_revision: Revision(1),
        mod_revision: Revision(revision),
    });
    Event { revision: Revision(revision), key, current, previous: None }
}

fn collection() -> Collection {
    let one = Collection::new("/registry/pods/".into(), Arc::default());
    one.apply(&[event(1, "a/x", Some("1")), event(2, "b/y", Some("2")), event(4, "a/x", Some("4"))]);
    one.apply(&[event(6, "b/y", None), event(7, "a/z", Some("7"))]);
    one
}

fn names(snapshot: &Snapshot, prefix: &str) -> Vec<String> {
    snapshot.range(prefix, None).map(|o| o.value()["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn snapshot_of_the_past_undoes_what_came_after() {
    let one = collection();
    let cases: [(u64, &[&str]); 6] =
        [(0, &[]), (1, &["1"]), (3, &["1", "2"]), (5, &["4", "2"]), (6, &["4"]), (9, &["4", "7"])];
    for (revision, expected) in cases {
        assert_eq!(names(&one.snapshot_at(revision).unwrap(), "/registry/pods/"), expected, "at {revision}");
    }
}

#[test]
fn range_of_a_namespace_leaves_others_out() {
    let now = collection().snapshot(0);
    assert_eq!(names(&now, "/registry/pods/a/"), ["4", "7"]);
    assert_eq!(now.range("/registry/pods/a/", Some("/registry/pods/a/x")).count(), 1);
    assert_eq!(now.range("/registry/pods/b/", Some("/registry/pods/a/x")).count(), 0);
}

#[test]
fn changes_after_a_place_come_in_order_and_once() {
    let one = collection();
    let seen = |after| {
        one.changes_after(after, 10)
            .unwrap()
            .iter()
            .map(|c| (c.revision, c.kind.as_str()))
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(2), [(4, "MODIFIED"), (6, "DELETED"), (7, "ADDED")]);
    assert_eq!(seen(7), []);
}

#[test]
fn changes_of_one_revision_are_not_taken_apart() {
    let one = Collection::new("/registry/pods/".into(), Arc::default());
    one.apply(&[event(3, "a/x", Some("1")), event(3, "a/y", Some("2")), event(4, "a/z", Some("3"))]);
    assert_eq!(one.changes_after(0, 1).unwrap().len(), 2);
}

#[test]
fn ring_that_overflows_loses_the_oldest_places() {
    let one = Collection::new("/registry/pods/".into(), Arc::default());
    let most = Bounds::default().changes;
    for revision in 1..=most as u64 + 5 {
        one.apply(&[event(revision, "a/x", Some("1"))]);
    }
    assert_eq!(one.usage().ring_changes, most);
    assert_eq!(one.changes_after(4, 10).unwrap_err(), Gone { oldest: 5 });
    assert_eq!(one.changes_after(5, 10).unwrap()[0].revision, 6);
    assert_eq!(one.snapshot_at(4).unwrap_err(), Gone { oldest: 5 });
}

#[test]
fn replacement_keeps_what_did_not_change_and_ends_every_place() {
    let one = collection();
    let before = one.get("/registry/pods/a/z").unwrap();
    let kept = event(7, "a/z", Some("7")).current.unwrap();
    let new = event(9, "c/n", Some("9")).current.unwrap();
    one.replace(vec![kept, new], 11);
    assert!(Arc::ptr_eq(&before, &one.get("/registry/pods/a/z").unwrap()));
    assert_eq!(names(&one.snapshot(0), "/registry/pods/"), ["7", "9"]);
    assert_eq!(one.changes_after(7, 10).unwrap_err(), Gone { oldest: 11 });
}

#[test]
fn usage_follows_what_is_there() {
    let one = collection();
    let size = |key: &str| {
        let object = one.get(&format!("/registry/pods/{key}")).unwrap();
        object.key().len() + object.json().len()
    };
    let usage = one.usage();
    assert_eq!((usage.objects, usage.object_bytes), (2, size("a/x") + size("a/z")));
    assert_eq!(usage.ring_changes, 5);
    assert!(usage.ring_bytes > usage.object_bytes);
    let kept = event(7, "a/z", Some("7")).current.unwrap();
    one.replace(vec![kept], 11);
    let after = Usage { objects: 1, object_bytes: size("a/z"), ring_changes: 0, ring_bytes: 0 };
    assert_eq!(one.usage(), after);
    one.apply(&[event(12, "a/z", None)]);
    assert_eq!((one.usage().objects, one.usage().object_bytes), (0, 0));
}
