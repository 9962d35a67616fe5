//! Which sandbox or container belongs to which pod, and what was seen of each at the last list.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use skep_runtime::{Runtime, cri};

use crate::Error;
use crate::spec::sandbox::POD_UID;

/// Ids and states of what a pod has in the runtime.
type Seen = BTreeMap<String, i32>;

/// What the runtime has, by pod.
#[derive(Default)]
pub(super) struct Index {
    pods: HashMap<String, Seen>,
    owners: HashMap<String, String>,
    ready: HashSet<String>,
    removing: Arc<Mutex<HashSet<String>>>,
}

impl Index {
    /// The uid of the pod that the id belongs to.
    pub(super) async fn find(&mut self, runtime: &dyn Runtime, id: &str) -> Option<String> {
        if let Some(uid) = self.owners.get(id) {
            return Some(uid.clone());
        }
        let filter = cri::ContainerFilter { id: id.to_owned(), ..Default::default() };
        let containers = runtime.containers(Some(filter)).await.ok()?;
        let mut uid = containers.first().and_then(|item| item.labels.get(POD_UID).cloned());
        if uid.is_none() {
            let filter = cri::PodSandboxFilter { id: id.to_owned(), ..Default::default() };
            let sandboxes = runtime.sandboxes(Some(filter)).await.ok()?;
            uid = sandboxes.first().and_then(|item| item.labels.get(POD_UID).cloned());
        }
        self.owners.insert(id.to_owned(), uid.clone()?);
        uid
    }

    /// Lists everything. Returns the pods of which something changed since the last list.
    pub(super) async fn relist(&mut self, runtime: &dyn Runtime) -> Result<Vec<String>, Error> {
        let mut pods: HashMap<String, Seen> = HashMap::new();
        let (mut owners, mut ready) = (HashMap::new(), HashSet::new());
        for item in runtime.sandboxes(None).await? {
            let Some(uid) = item.labels.get(POD_UID) else { continue };
            if item.state == cri::PodSandboxState::SandboxReady as i32 {
                ready.insert(uid.clone());
            }
            owners.insert(item.id.clone(), uid.clone());
            pods.entry(uid.clone()).or_default().insert(item.id, item.state);
        }
        for item in runtime.containers(None).await? {
            let Some(uid) = item.labels.get(POD_UID) else { continue };
            owners.insert(item.id.clone(), uid.clone());
            pods.entry(uid.clone()).or_default().insert(item.id, item.state);
        }
        let all: HashSet<&String> = pods.keys().chain(self.pods.keys()).collect();
        let changed = all.into_iter().filter(|uid| pods.get(*uid) != self.pods.get(*uid)).cloned().collect();
        (self.pods, self.owners, self.ready) = (pods, owners, ready);
        Ok(changed)
    }

    /// Pods that have anything in the runtime.
    pub(super) fn uids(&self) -> impl Iterator<Item = &str> {
        self.pods.keys().map(String::as_str)
    }

    /// Number of pods with a running sandbox.
    pub(super) fn running_pods(&self) -> usize {
        self.ready.len()
    }

    /// Notes that an orphan is being removed. `false` if it is already.
    pub(super) fn begin_removal(&self, uid: &str) -> bool {
        self.removing.lock().insert(uid.to_owned())
    }

    /// The orphans that are being removed.
    pub(super) fn removals(&self) -> Arc<Mutex<HashSet<String>>> {
        self.removing.clone()
    }
}
