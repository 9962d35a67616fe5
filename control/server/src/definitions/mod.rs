//! Custom resources at run time: watches definitions, decides on their names, and makes what they define come and go.
//!
//! A definition goes through: there -> names accepted and established (served from here on) -> deletion asked for (nothing
//! new comes in) -> all its objects gone -> gone (served no more, watches end).
//!
//! - [`Kinds`] is what all requests look resources up in: a snapshot that is replaced as a whole.
//! - [`Definitions`] reads definitions from the cache and needs no memory of its own: after a restart the first pass brings
//!   everything back. Several servers on one store do the same and agree, since what they write is compared and swapped.
//! - What a definition means is in `skep_api::{definition, custom}`.

mod cleanup;
mod serve;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use skep_api::definition;
use skep_api::object::{at, items, name, text};
use skep_api::registry::{Registry, Resource, registry};
use skep_api::status::Status;
use skep_store::StoreError;
use tokio::sync::{OwnedRwLockReadGuard, RwLock, watch};
use tokio_util::sync::CancellationToken;

use crate::failure;
use crate::hooks::{Hooks, Names};
use crate::pki::MASTERS;
use crate::storage::{Ownership, Part, Scope, Storage};
use crate::user::UserInfo;

use serve::Served;

/// A pass that failed is made again after this time.
const PAUSE: Duration = Duration::from_secs(1);

/// What this is called in health checks.
const HOOKS: Names = &["poststarthook/crd-informer-synced", "poststarthook/start-apiextensions-controllers"];

/// All kinds that there are now.
pub(crate) struct Kinds {
    now: watch::Sender<Arc<Registry>>,
    /// Who creates objects of a definition holds its door open; who clears them away waits until all are through.
    doors: Mutex<HashMap<String, Arc<RwLock<()>>>>,
}

impl Kinds {
    /// The built-in ones.
    pub(crate) fn builtin() -> Arc<Self> {
        let now = watch::Sender::new(Arc::new(registry().clone()));
        Arc::new(Self { now, doors: Mutex::default() })
    }

    /// All kinds, as they are now.
    pub(crate) fn current(&self) -> Arc<Registry> {
        self.now.borrow().clone()
    }

    /// Wakes when kinds come or go.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Registry>> {
        self.now.subscribe()
    }

    fn replace(&self, custom: impl IntoIterator<Item = Arc<Resource>>) {
        let with = self.current().with_custom(custom);
        self.now.send_replace(Arc::new(with));
    }

    fn door(&self, definition: &str) -> Arc<RwLock<()>> {
        self.doors.lock().entry(definition.to_owned()).or_default().clone()
    }

    /// Lets somebody in who is about to create an object of that definition. What the kinds say after this holds until
    /// the answer is dropped, as far as the end of the definition goes.
    pub(crate) async fn enter(&self, definition: &str) -> OwnedRwLockReadGuard<()> {
        self.door(definition).read_owned().await
    }

    /// Waits for those who came in before the kinds said that the definition goes.
    async fn all_are_through(&self, definition: &str) {
        drop(self.door(definition).write_owned().await);
        self.doors.lock().remove(definition);
    }
}

/// Keeps what is served in step with the definitions.
pub(crate) struct Definitions {
    storage: Storage,
    kinds: Arc<Kinds>,
    resource: Arc<Resource>,
    user: UserInfo,
    served: Mutex<BTreeMap<String, Served>>,
    /// The definitions whose objects are being deleted, by uid.
    cleaning: Mutex<BTreeSet<String>>,
    stop: CancellationToken,
}

impl Definitions {
    /// Serves what is defined in the store, and goes on to follow it until `stop`.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub(crate) async fn start(
        storage: Storage,
        kinds: Arc<Kinds>,
        hooks: &Hooks,
        stop: CancellationToken,
    ) -> Result<(), StoreError> {
        let resource = registry().find(definition::GROUP, "v1", definition::PLURAL).cloned();
        let one = Arc::new(Self {
            storage,
            kinds,
            resource: resource.expect("definitions are a built-in kind"),
            user: UserInfo::new("system:apiserver", &[MASTERS]),
            served: Mutex::default(),
            cleaning: Mutex::default(),
            stop,
        });
        one.serve().await?;
        hooks.spawn(HOOKS, one.follow());
        Ok(())
    }

    async fn follow(self: Arc<Self>) {
        let Some(collection) = self.storage.cache.collection(&self.resource) else { return };
        let mut changes = collection.signal();
        let stop = self.stop.clone();
        loop {
            changes.borrow_and_update();
            let failed = self.pass().await.is_err();
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(PAUSE), if failed => {}
            }
        }
    }

    /// Brings everything in step once.
    async fn pass(self: &Arc<Self>) -> Result<(), ()> {
        let outcome = match self.serve().await {
            Ok(()) => self.judge().await,
            Err(error) => Err(failure::store(error)),
        };
        outcome.map_err(|status| {
            tracing::error!(error = %status, "cannot bring custom resources in step with their definitions");
        })
    }

    fn all(&self) -> Vec<Arc<Value>> {
        let cache = &self.storage.cache;
        let Some(collection) = cache.collection(&self.resource) else { return Vec::new() };
        cache.snapshot(&collection).objects.values().map(|object| object.value()).collect()
    }

    /// Writes what each definition's status should say, and begins to delete the objects of those that go.
    async fn judge(self: &Arc<Self>) -> Result<(), Status> {
        let all = self.all();
        let mut groups: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for definition in &all {
            groups.entry(text(definition, &["spec", "group"])).or_default().push(definition);
        }
        for definition in &all {
            if at(definition, &["metadata", "deletionTimestamp"]).is_some() {
                self.clean_up(definition);
                continue;
            }
            let others = groups.get(text(definition, &["spec", "group"])).cloned().unwrap_or_default();
            let accepted = definition::accept(definition, others);
            let now = self.storage.ids.now_text();
            if definition::status(definition, &accepted, &now) == **definition {
                continue;
            }
            let propose = |current: &Value| Ok(definition::status(current, &accepted, &now));
            self.write(name(definition), &propose).await?;
            // Which names are taken is another question from here on; the write itself asks it.
            return Ok(());
        }
        Ok(())
    }

    /// Changes a definition; one that is gone needs no change.
    async fn write(
        &self,
        name: &str,
        propose: &(dyn Fn(&Value) -> Result<Value, Status> + Send + Sync),
    ) -> Result<(), Status> {
        let kinds = self.kinds.current();
        let scope = self.scope(&self.resource, &kinds);
        match self.storage.update(&scope, name, Part::Own, propose).await {
            Err(status) if status.code != 404 => Err(status),
            _ => Ok(()),
        }
    }

    fn scope<'a>(&'a self, resource: &'a Resource, kinds: &'a Registry) -> Scope<'a> {
        Scope {
            resource,
            kinds,
            namespace: "",
            subresource: "",
            user: &self.user,
            dry_run: false,
            ownership: Ownership::Changed("kube-apiserver"),
            asked: None,
            admitted: true,
        }
    }
}

fn holds(definition: &Value) -> bool {
    items(definition, &["metadata", "finalizers"]).iter().any(|one| one == definition::FINALIZER)
}
