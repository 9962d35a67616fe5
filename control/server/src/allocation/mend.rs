//! Keeps services and the records of their addresses and ports in step, on every server: looks at all of them at the
//! start, and then at what changed, a little later, when the requests that are under way are through.
//!
//! An idle cluster costs nothing: ports are looked at again only when services changed or a leak is waited for.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skep_api::status::Status;
use skep_store::StoreError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::claim::{own_scope, own_user, record_of};
use super::repair::{self, Mend, Note, World};
use super::{Services, networks, own_cidr};
use crate::cache::{Collection, EventType};
use crate::hooks::{Hooks, Names};
use crate::storage::{DeleteOptions, Storage};

const ADDRESSES: &str = "ipallocator-repair-controller";
const PORTS: &str = "portallocator-repair-controller";
/// What this is called in health checks.
const REPAIR: Names = &["poststarthook/start-service-ip-repair-controllers"];
const OWN_CIDR: Names = &["poststarthook/start-kubernetes-service-cidr-controller"];
/// A change is looked at after so long.
const SETTLED: Duration = Duration::from_secs(5);
/// What could not be mended is tried again after so long.
const PAUSE: Duration = Duration::from_secs(30);
/// Ports are looked at so long after a change.
const ROUND: Duration = Duration::from_secs(180);
const BATCH: usize = 1024;

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Check {
    Service(Arc<str>),
    Record(Arc<str>),
}

/// What the cache has.
struct Cached<'a>(&'a Services);

impl World for Cached<'_> {
    fn record(&self, address: IpAddr) -> Option<Arc<Value>> {
        let key = self.0.kinds.addresses.store_key(None, &address.to_string());
        self.0.sources.addresses.get(&key).map(|object| object.value().clone())
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let key = self.0.kinds.services.store_key(Some(namespace), name);
        self.0.sources.services.get(&key).map(|object| object.value().clone())
    }

    fn in_range(&self, address: IpAddr) -> bool {
        let snapshot = self.0.sources.cache.snapshot(&self.0.sources.cidrs);
        snapshot
            .objects
            .values()
            .flat_map(|one| networks::listed(&one.value()))
            .any(|one| one.contains(address))
    }
}

impl Storage {
    /// Makes the default ServiceCIDR and brings the record of node ports in step, before anything is served.
    pub(crate) async fn begin_allocation(&self) -> Result<(), Status> {
        self.begin_own_cidr().await?;
        self.repair_ports(&mut HashMap::new()).await.map_err(crate::failure::store)
    }

    /// Keeps everything in step until `stop`.
    pub(crate) fn follow_allocation(&self, hooks: &Hooks, stop: CancellationToken) {
        hooks.spawn(OWN_CIDR, own_cidr::follow(self.clone(), stop.clone()));
        hooks.spawn(REPAIR, Repair::new(self.clone()).run(stop));
    }

    async fn repair_ports(&self, leaks: &mut HashMap<u16, u8>) -> Result<(), StoreError> {
        let services = &self.services;
        let range = services.ranges.ports;
        let before = leaks.clone();
        let mut notes = Vec::new();
        let outcome = services
            .node_ports
            .rebuild(|stored| {
                // The services are read after the record, so that what was given and written in between is in them.
                leaks.clone_from(&before);
                let (leaks, notes) = (&mut *leaks, &mut notes);
                let all = self.all_services();
                let (set, found) = repair::ports(&stored, range, all.iter(), leaks);
                *notes = found;
                std::future::ready(Ok(set))
            })
            .await;
        for (service, note) in notes {
            event(self, PORTS, &service, note.reason, note.action, &note.text).await;
        }
        outcome
    }

    fn all_services(&self) -> Vec<Arc<Value>> {
        let sources = &self.services.sources;
        let snapshot = sources.cache.snapshot(&sources.services);
        snapshot.objects.values().map(|object| object.value().clone()).collect()
    }
}

struct Repair {
    storage: Storage,
    /// Where the cache was read.
    services: Option<u64>,
    records: Option<u64>,
    due: HashMap<Check, Instant>,
    ports_due: Option<Instant>,
    leaks: HashMap<u16, u8>,
}

impl Repair {
    fn new(storage: Storage) -> Self {
        Self {
            storage,
            services: None,
            records: None,
            due: HashMap::new(),
            ports_due: Some(Instant::now() + ROUND),
            leaks: HashMap::new(),
        }
    }

    async fn run(mut self, stop: CancellationToken) {
        let mut services = self.storage.services.sources.services.signal();
        let mut records = self.storage.services.sources.addresses.signal();
        loop {
            services.borrow_and_update();
            records.borrow_and_update();
            self.notice();
            self.check().await;
            self.check_ports().await;
            let next = self.due.values().copied().chain(self.ports_due).min();
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = services.changed() => if changed.is_err() { return },
                changed = records.changed() => if changed.is_err() { return },
                () = sleep => {}
            }
        }
    }

    /// Reads what changed, and notes what is to be looked at because of it.
    fn notice(&mut self) {
        let owner = self.storage.services.clone();
        let at = Instant::now() + SETTLED;
        for change in changes(&owner, &owner.sources.services, &mut self.services) {
            self.ports_due.get_or_insert(at + ROUND);
            match change {
                (key, _, false) => drop(self.due.entry(Check::Service(key)).or_insert(at)),
                (_, last, true) => {
                    let addresses = last["spec"]["clusterIPs"].as_array().into_iter().flatten();
                    for address in addresses.filter_map(|one| one.as_str()?.parse::<IpAddr>().ok()) {
                        let key = owner.kinds.addresses.store_key(None, &address.to_string());
                        self.due.entry(Check::Record(key.into())).or_insert(at);
                    }
                }
            }
        }
        for change in changes(&owner, &owner.sources.addresses, &mut self.records) {
            let parent = &change.1["spec"]["parentRef"];
            let text = |member: &str| parent[member].as_str().unwrap_or_default();
            if change.2 && text("resource") == "services" {
                let key = owner.kinds.services.store_key(Some(text("namespace")), text("name"));
                self.due.entry(Check::Service(key.into())).or_insert(at);
            } else {
                self.due.entry(Check::Record(change.0)).or_insert(at);
            }
        }
    }

    /// Looks at what is due.
    async fn check(&mut self) {
        let now = Instant::now();
        let due: Vec<Check> =
            self.due.iter().filter(|(_, at)| **at <= now).map(|(check, _)| check.clone()).collect();
        for check in due {
            self.due.remove(&check);
            if let Some(pause) = self.look(&check).await {
                self.due.insert(check, Instant::now() + pause);
            }
        }
    }

    /// Looks at one object and mends what is wrong; how long until it is to be looked at again.
    async fn look(&self, check: &Check) -> Option<Duration> {
        let owner = &self.storage.services;
        let world = Cached(owner);
        let (object, found) = match check {
            Check::Service(key) => {
                let object = owner.sources.services.get(key)?.value().clone();
                let found = repair::service(&object, &world);
                (object, found)
            }
            Check::Record(key) => {
                let object = owner.sources.addresses.get(key)?.value().clone();
                let found = vec![repair::record(&object, &world, self.storage.ids.now())];
                (object, found)
            }
        };
        let mut again: Option<Duration> = None;
        for (mend, note) in found {
            if let Some(Note { reason, action, text }) = &note {
                event(&self.storage, ADDRESSES, &object, reason, action, text).await;
            }
            let pause = match self.storage.mend(&object, mend).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::warn!(%error, ?check, "cannot repair the record of a service address");
                    Some(PAUSE)
                }
            };
            again = match (again, pause) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        again
    }

    async fn check_ports(&mut self) {
        if self.ports_due.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.ports_due = None;
        if let Err(error) = self.storage.repair_ports(&mut self.leaks).await {
            tracing::warn!(%error, "cannot repair the record of node ports");
            self.ports_due = Some(Instant::now() + PAUSE);
        } else if !self.leaks.is_empty() {
            self.ports_due = Some(Instant::now() + ROUND);
        }
    }
}

/// What changed since the position, or everything: key, state and whether it is gone.
fn changes(
    owner: &Services,
    collection: &Collection,
    position: &mut Option<u64>,
) -> Vec<(Arc<str>, Arc<Value>, bool)> {
    let mut all = BTreeMap::new();
    while let Some(at) = *position {
        match collection.changes_after(at, BATCH) {
            Ok(changes) => {
                let Some(last) = changes.last() else {
                    return all.into_iter().map(|(key, (value, gone))| (key, value, gone)).collect();
                };
                *position = Some(last.revision);
                for change in &changes {
                    let gone = change.kind == EventType::Deleted;
                    all.insert(change.object.key().clone(), (change.object.value().clone(), gone));
                }
            }
            Err(_) => *position = None,
        }
    }
    let snapshot = owner.sources.cache.snapshot(collection);
    *position = Some(snapshot.revision);
    snapshot.objects.iter().map(|(key, object)| (key.clone(), object.value().clone(), false)).collect()
}

impl Storage {
    /// Does what mends the record; how long until it is to be looked at again.
    async fn mend(&self, object: &Value, mend: Mend) -> Result<Option<Duration>, Status> {
        let user = own_user();
        let scope = own_scope(&self.services.kinds.addresses, "", &user);
        let text = |member: &str| object["metadata"][member].as_str().unwrap_or_default();
        let options = DeleteOptions::default();
        let (address, replace) = match mend {
            Mend::Leave => return Ok(None),
            Mend::Later(pause) => return Ok(Some(pause)),
            Mend::Delete => {
                return match self.delete(&scope, text("name"), &options).await {
                    Err(status) if status.code != 404 => Err(status),
                    _ => Ok(None),
                };
            }
            Mend::Create(address) => (address, false),
            Mend::Replace(address) => (address, true),
        };
        if replace {
            match self.delete(&scope, &address.to_string(), &options).await {
                Err(status) if status.code != 404 => return Err(status),
                _ => {}
            }
        }
        match self.create(&scope, record_of(address, text("namespace"), text("name"))).await {
            // Another server was faster.
            Err(status) if status.reason != "AlreadyExists" => Err(status),
            _ => Ok(None),
        }
    }
}

/// Tells people of something about an object. What cannot be written is lost.
pub(super) async fn event(
    storage: &Storage,
    component: &str,
    about: &Value,
    reason: &str,
    action: &str,
    note: &str,
) {
    let text = |member: &str| about["metadata"][member].as_str().unwrap_or_default();
    let namespace = Some(text("namespace")).filter(|one| !one.is_empty()).unwrap_or("default");
    let now = jiff::Timestamp::try_from((storage.ids.clock)()).unwrap_or_default();
    let event = json!({
        "kind": "Event",
        "apiVersion": "events.k8s.io/v1",
        "metadata": {
            "name": format!("{}.{:016x}", text("name").replace(':', "-"), (storage.ids.random)()),
            "namespace": namespace,
        },
        "eventTime": format!("{now:.6}"),
        "reportingController": component,
        "reportingInstance": component,
        "action": action,
        "reason": reason,
        "type": "Warning",
        "note": note,
        "regarding": {
            "apiVersion": about["apiVersion"], "kind": about["kind"], "name": text("name"),
            "namespace": text("namespace"), "uid": text("uid"), "resourceVersion": text("resourceVersion"),
        },
    });
    let user = own_user();
    let scope = own_scope(&storage.services.kinds.events, namespace, &user);
    if let Err(error) = Box::pin(storage.create(&scope, event)).await {
        tracing::debug!(%error, reason, "an event is lost");
    }
}
