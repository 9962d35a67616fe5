//! A small Kubernetes API in memory: enough of create, read, write, patch, delete, list, watch and classic
//! discovery for controllers to run against. Keeps the rules that controllers rely on: one revision for
//! all writes, conflicts, preconditions, finalizers, propagation policies. No validation, no defaults.

mod http;
mod objects;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

pub use objects::Objects;

/// A shared handle to the API.
#[derive(Clone, Default)]
pub struct FakeApi {
    objects: Arc<Mutex<Objects>>,
    changed: Arc<Notify>,
    lags: Arc<Mutex<HashMap<String, Duration>>>,
}

impl FakeApi {
    /// A client.
    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, std::convert::Infallible>(http::answer(&api, request).await) }
        });
        Client::new(service, "default")
    }

    /// From now on watches of this kind tell of changes this much later.
    pub fn lag(&self, plural: &str, by: Duration) {
        self.lags.lock().insert(plural.to_owned(), by);
    }

    /// Looks at or changes the objects from the test's side.
    pub fn with<T>(&self, work: impl FnOnce(&mut Objects) -> T) -> T {
        let answer = work(&mut self.objects.lock());
        self.changed.notify_waiters();
        answer
    }

    /// Creates an object; panics where the API would refuse.
    pub fn create(&self, plural: &str, object: Value) -> Value {
        self.with(|objects| objects.create(plural, object).expect("the object can be created"))
    }

    /// The objects of a kind.
    pub fn list(&self, plural: &str) -> Vec<Value> {
        self.with(|objects| objects.list(plural, None))
    }

    /// One object of the namespace `default`, or of cluster scope.
    pub fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.with(|objects| objects.list(plural, None))
            .into_iter()
            .find(|object| object["metadata"]["name"] == name)
    }

    /// Changes one object, as another client would.
    pub fn edit(&self, plural: &str, name: &str, change: impl FnOnce(&mut Value)) {
        self.with(|objects| {
            let mut object = objects
                .list(plural, None)
                .into_iter()
                .find(|object| object["metadata"]["name"] == name)
                .expect("the object exists");
            change(&mut object);
            objects.put(plural, object, None).expect("the object can be changed");
        });
    }

    /// Waits until the condition holds; panics when it does not within five minutes of the test's time.
    pub async fn until(&self, what: &str, condition: impl Fn(&FakeApi) -> bool) {
        for _ in 0..6_000 {
            if condition(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let dump = self.with(|objects| objects.dump());
        panic!("never happened: {what}\n{dump}");
    }
}
