//! ConfigMaps and Secrets that pods of this node refer to, each watched once while a pod needs it.
//!
//! A change wakes the pods that use the object, so that volumes follow without polling. Owns the watches and
//! who needs them; owns nothing of what the contents are used for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::Error;
use crate::cluster::Data;
use crate::spec::env::Reference;

/// How long a first answer may take.
const FIRST: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    namespace: String,
    reference: Reference,
}

/// `None` before the first answer; then the contents, or `None` inside for an object that does not exist.
type Seen = Option<Option<Arc<Data>>>;

struct Entry {
    users: HashSet<String>,
    seen: watch::Receiver<Seen>,
    task: AbortHandle,
}

/// The watches.
#[derive(Clone)]
pub(crate) struct References {
    client: Client,
    entries: Arc<Mutex<HashMap<Key, Entry>>>,
    changed: mpsc::UnboundedSender<Vec<String>>,
}

impl References {
    /// `changed` receives the uids of the pods whose object changed.
    pub(crate) fn new(client: Client, changed: mpsc::UnboundedSender<Vec<String>>) -> Self {
        Self { client, entries: Arc::default(), changed }
    }

    /// The object's contents, and a watch on it until the pod is released.
    pub(crate) async fn get(
        &self,
        user: &str,
        namespace: &str,
        reference: &Reference,
    ) -> Result<Option<Arc<Data>>, Error> {
        let key = Key { namespace: namespace.to_owned(), reference: reference.clone() };
        let mut seen = self.enter(user, key);
        let answered = async { seen.wait_for(Option::is_some).await.ok().and_then(|known| known.clone()) };
        let known = tokio::time::timeout(FIRST, answered).await;
        match known.ok().flatten().flatten() {
            Some(data) => Ok(Some(data)),
            // The watch may be behind a moment ago: what seems absent is asked for.
            None => self.fetch(namespace, reference).await,
        }
    }

    /// Ends the watches that no other pod needs.
    pub(crate) fn release(&self, user: &str) {
        self.entries.lock().retain(|_, entry| {
            entry.users.remove(user);
            if entry.users.is_empty() {
                entry.task.abort();
            }
            !entry.users.is_empty()
        });
    }

    fn enter(&self, user: &str, key: Key) -> watch::Receiver<Seen> {
        let mut entries = self.entries.lock();
        let entry = entries.entry(key.clone()).or_insert_with(|| {
            let (sender, seen) = watch::channel(None);
            let task = tokio::spawn(self.clone().follow(key, sender)).abort_handle();
            Entry { users: HashSet::new(), seen, task }
        });
        entry.users.insert(user.to_owned());
        entry.seen.clone()
    }

    async fn follow(self, key: Key, sender: watch::Sender<Seen>) {
        let store = |data: Option<Data>| {
            let new = Some(data.map(Arc::new));
            let first = sender.borrow().is_none();
            if sender.send_if_modified(|old| std::mem::replace(old, new.clone()) != new) && !first {
                let users = self.entries.lock().get(&key).map(|entry| entry.users.iter().cloned().collect());
                let _ = self.changed.send(users.unwrap_or_default());
            }
        };
        match &key.reference {
            Reference::ConfigMap(name) => {
                let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.namespace);
                let mut stream = std::pin::pin!(objects(api, name));
                while let Some(object) = stream.next().await {
                    store(object.map(of_config_map));
                }
            }
            Reference::Secret(name) => {
                let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
                let mut stream = std::pin::pin!(objects(api, name));
                while let Some(object) = stream.next().await {
                    store(object.map(of_secret));
                }
            }
        }
    }

    async fn fetch(&self, namespace: &str, reference: &Reference) -> Result<Option<Arc<Data>>, Error> {
        let (found, name) = match reference {
            Reference::ConfigMap(name) => {
                let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
                (api.get_opt(name).await.map(|object| object.map(of_config_map)), name)
            }
            Reference::Secret(name) => {
                let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
                (api.get_opt(name).await.map(|object| object.map(of_secret)), name)
            }
        };
        Ok(found.map_err(|error| Error::api("get", name, error))?.map(Arc::new))
    }
}

/// The object now and after every change; errors are tried again.
fn objects<K>(api: Api<K>, name: &str) -> impl futures::Stream<Item = Option<K>> + use<K>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut present = false;
    let wanted = name.to_owned();
    watcher(api, config).default_backoff().filter_map(move |event| {
        let item = match event {
            Ok(watcher::Event::Init) => {
                present = false;
                None
            }
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                present = true;
                (object.name_any() == wanted).then_some(Some(object))
            }
            Ok(watcher::Event::InitDone) => (!present).then_some(None),
            Ok(watcher::Event::Delete(_)) => Some(None),
            Err(error) => {
                tracing::debug!(%error, name = wanted, "watch of a referenced object broke");
                None
            }
        };
        futures::future::ready(item)
    })
}

fn of_config_map(object: ConfigMap) -> Data {
    let text = object.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
    let binary = object.binary_data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0));
    text.chain(binary).collect::<BTreeMap<_, _>>()
}

fn of_secret(object: Secret) -> Data {
    object.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0)).collect()
}
