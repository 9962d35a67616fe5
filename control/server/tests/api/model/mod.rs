//! Random requests, held against a model: the same answers, the same objects, the same history.
//!
//! After each request the whole namespace is compared; lists of the past, pages begun before later changes, and watches
//! from earlier revisions are compared with what the model remembers.

mod operation;
mod requests;
mod state;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use self::operation::{Operation, sequence};
use self::state::{Change, Kind, Object, Objects};
use crate::definitions::{define, definition};
use crate::harness::{Answer, Cluster, cluster};

/// An object that ends every watch.
const LAST: &str = "zz-last";

/// A sequence under way, in a namespace of its own.
struct Case<'a> {
    cluster: &'a Cluster,
    kind: Kind,
    path: String,
    objects: Objects,
    /// The revision and the objects after each request.
    past: Vec<(u64, Objects)>,
    /// What changed, with the number of the request that did it.
    changes: Vec<(usize, Change)>,
    /// Where pages go on, and what they should show altogether.
    pages: Vec<(usize, Answer, Objects)>,
    /// From after which request to watch, and for which label.
    watches: Vec<(usize, Option<u8>)>,
}

#[test]
fn random_requests_leave_what_the_model_says() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = runtime.block_on(async {
        let cluster = cluster().await;
        let value = json!({ "type": "object", "properties": { "value": { "type": "string" } } });
        define(&cluster, definition(value)).await;
        cluster
    });
    let namespaces = std::cell::Cell::new(0);
    let kinds = prop_oneof![Just(Kind::ConfigMap), Just(Kind::Widget)];
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(kinds, sequence()), |(kind, operations)| {
            namespaces.set(namespaces.get() + 1);
            let namespace = format!("case-{}", namespaces.get());
            runtime.block_on(async {
                let mut case = Case::new(&cluster, kind, &namespace).await;
                for operation in &operations {
                    case.step(operation).await;
                }
                case.end().await;
            });
            Ok(())
        })
        .unwrap();
}

impl<'a> Case<'a> {
    async fn new(cluster: &'a Cluster, kind: Kind, namespace: &str) -> Self {
        let object = json!({ "metadata": { "name": namespace } });
        cluster.post("/api/v1/namespaces", "Namespace", object).await.expect(201);
        let mut case = Self {
            cluster,
            kind,
            path: kind.path(namespace),
            objects: Objects::new(),
            past: Vec::new(),
            changes: Vec::new(),
            pages: Vec::new(),
            watches: Vec::new(),
        };
        // A namespace comes with a config map; it is nobody's here.
        cluster.delete(&case.path, Value::Null).await.expect(200);
        case.compare(vec![], "nothing").await;
        case
    }

    async fn step(&mut self, operation: &Operation) {
        let (past, now) = (&self.past, self.past.len() - 1);
        match *operation {
            Operation::Select { label } => {
                let selected = self.list(&format!("?labelSelector=app%3Dl{label}")).await;
                let expected = self
                    .objects
                    .iter()
                    .filter(|(_, object)| object.label == Some(label))
                    .map(|(name, _)| name);
                assert_eq!(names(&selected), expected.cloned().collect::<Vec<_>>(), "selected by {label}");
            }
            Operation::Past { back } => {
                let (revision, objects) = past[now.saturating_sub(back)].clone();
                let query = format!("?resourceVersion={revision}&resourceVersionMatch=Exact");
                self.same(&self.list(&query).await, &objects);
            }
            Operation::Pages { limit } => {
                let first = self.cluster.get(&format!("{}?limit={limit}", self.path)).await;
                self.pages.push((limit, first, self.objects.clone()));
            }
            Operation::Watch { back, label } => self.watches.push((now.saturating_sub(back), label)),
            _ => self.request(operation).await,
        }
    }

    /// Sends a request and compares all that is there afterwards.
    async fn request(&mut self, operation: &Operation) {
        let mut outcome = state::outcome(self.kind, &self.objects, operation);
        let answer = requests::send(self.cluster, self.kind, &self.path, &self.objects, operation).await;
        let said = String::from_utf8_lossy(&answer.bytes);
        match *operation {
            Operation::Malformed { .. } => {
                assert!((400..500).contains(&answer.code), "{operation:?}: {} {said}", answer.code);
                assert_eq!(answer.json()["kind"], "Status", "{operation:?}: {said}");
            }
            Operation::Generate { value } => {
                let made = answer.expect(201);
                let name = made["metadata"]["name"].as_str().unwrap().to_owned();
                assert!(name.len() > 2 && name.starts_with("g-") && !self.objects.contains_key(&name));
                outcome.changes.push(state::created(name, value, None, false, "u"));
            }
            _ => assert_eq!(answer.code, outcome.code, "{operation:?}: {said}"),
        }
        self.compare(outcome.changes, &format!("{operation:?}")).await;
    }

    /// Carries the changes out in the model, and holds it against a list of everything.
    async fn compare(&mut self, mut changes: Vec<Change>, cause: &str) {
        let list = self.list("").await;
        let revision = revision(&list);
        let before = self.past.last().map_or(0, |(revision, _)| *revision);
        for change in &mut changes {
            match &mut change.after {
                Some(after) => {
                    let item = list["items"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .find(|item| item["metadata"]["name"] == json!(change.name));
                    let item = item.unwrap_or_else(|| panic!("{cause}: {} is not there", change.name));
                    after.revision = self::revision(item);
                    assert!(after.revision > before, "{cause}: a change without a new revision");
                    let uid = item["metadata"]["uid"].as_str().unwrap();
                    assert!(after.uid.is_empty() || after.uid == uid, "{cause}: another uid");
                    uid.clone_into(&mut after.uid);
                    self.objects.insert(change.name.clone(), after.clone());
                }
                None => drop(self.objects.remove(&change.name)),
            }
        }
        self.same(&list, &self.objects);
        let number = self.past.len();
        self.changes.extend(changes.into_iter().map(|change| (number, change)));
        self.past.push((revision, self.objects.clone()));
    }

    /// What was begun earlier: pages of an old list, and watches.
    async fn end(mut self) {
        for (limit, first, objects) in &self.pages {
            let mut list = first.expect(200);
            let mut items = list["items"].as_array().unwrap().clone();
            while let Some(token) = list["metadata"]["continue"].as_str() {
                list = self.list(&format!("?limit={limit}&continue={token}")).await;
                items.extend(list["items"].as_array().unwrap().iter().cloned());
            }
            self.same(&json!({ "items": items }), objects);
        }
        let metadata = json!({ "name": LAST, "labels": { "app": "last" } });
        let last = self.kind.object(metadata, 0);
        self.cluster.post(&self.path, self.kind.name(), last).await.expect(201);
        for (after, label) in std::mem::take(&mut self.watches) {
            self.watch(after, label).await;
        }
    }

    async fn watch(&self, after: usize, label: Option<u8>) {
        let selector = label.map(|label| format!("&labelSelector=app%20in%20%28l{label},last%29"));
        let query =
            format!("?watch=true&resourceVersion={}{}", self.past[after].0, selector.unwrap_or_default());
        let mut watch = self.cluster.watch(&format!("{}{query}", self.path)).await;
        let later = self.changes.chunk_by(|one, next| one.0 == next.0).filter(|changes| changes[0].0 > after);
        for changes in later {
            // A collection is deleted in no particular order.
            let mut expected: BTreeMap<String, (&str, &Change)> = changes
                .iter()
                .filter_map(|(_, change)| Some((change.name.clone(), (state::event(change, label)?, change))))
                .collect();
            while !expected.is_empty() {
                let (kind, object) = watch.next().await.expect("the watch has ended");
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let (event, change) =
                    expected.remove(name).unwrap_or_else(|| panic!("after {after}: {kind} {object}"));
                assert_eq!(kind, event, "after {after}, {label:?}: {object}");
                if let ("ADDED" | "MODIFIED", Some(after)) = (event, &change.after) {
                    self.same_object(&object, after);
                }
            }
        }
        let (kind, object) = watch.next().await.expect("the watch has ended");
        assert_eq!((kind.as_str(), &object["metadata"]["name"]), ("ADDED", &json!(LAST)), "{object}");
    }

    async fn list(&self, query: &str) -> Value {
        self.cluster.get(&format!("{}{query}", self.path)).await.expect(200)
    }

    #[track_caller]
    fn same(&self, list: &Value, objects: &Objects) {
        assert_eq!(names(list), objects.keys().cloned().collect::<Vec<_>>());
        for (item, object) in list["items"].as_array().unwrap().iter().zip(objects.values()) {
            self.same_object(item, object);
        }
    }

    #[track_caller]
    fn same_object(&self, found: &Value, object: &Object) {
        let metadata = &found["metadata"];
        let value = format!("v{}", object.value);
        assert_eq!(found[self.kind.field()]["value"], json!(value), "{found}");
        let label = object.label.map(|label| format!("l{label}"));
        assert_eq!(metadata["labels"]["app"].as_str(), label.as_deref(), "{found}");
        let held = metadata["finalizers"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one == requests::FINALIZER));
        assert_eq!(
            (held, metadata["deletionTimestamp"].is_string()),
            (object.held, object.deleting),
            "{found}"
        );
        assert_eq!(
            (revision(found), metadata["uid"].as_str()),
            (object.revision, Some(&*object.uid)),
            "{found}"
        );
        if self.kind == Kind::Widget {
            assert_eq!(metadata["generation"], json!(object.generation), "{found}");
        }
    }
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}
