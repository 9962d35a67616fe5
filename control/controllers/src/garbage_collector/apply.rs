//! Looks at one object with the API's help and carries out the verdict.

use std::sync::Arc;

use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::{DynamicObject, ObjectMeta};
use kube::{Api, Client};
use serde_json::Value;

use super::graph::{Graph, Identity, Node};
use super::monitors::Monitors;
use super::plan::{self, Standing, Verdict, judge};
use super::{FOREGROUND, ORPHAN, REFRESH};
use crate::error::{During, Result};
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::Requeue;

pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) graph: Arc<Graph>,
    pub(super) monitors: Arc<Monitors>,
    pub(super) queue: Queue<ObjectKey>,
}

/// What the API says about an object.
enum Live {
    There(Box<ObjectMeta>),
    Gone,
    /// Its kind is not served.
    Unknown,
}

impl Writer {
    /// Looks at the object with this uid.
    pub(super) async fn attempt(&self, uid: &str) -> Result<Requeue> {
        let Some(node) = self.graph.get(uid) else { return Ok(Requeue::Done) };
        if node.deleting && !node.foreground && !node.orphaning {
            return Ok(Requeue::Done);
        }
        let meta = match self.live(&node.identity).await? {
            Live::There(meta) => meta,
            Live::Unknown => return Ok(Requeue::After(REFRESH)),
            Live::Gone => {
                self.look_at(self.graph.remove(uid));
                return Ok(Requeue::Done);
            }
        };
        if node.is_virtual {
            // It exists; its own watch will bring it.
            return Ok(Requeue::Done);
        }
        if node.orphaning {
            return self.orphan_dependents(&node, &meta).await;
        }
        if node.foreground {
            return self.wait_for_dependents(&node, &meta).await;
        }
        if meta.deletion_timestamp.is_some() {
            return Ok(Requeue::Done);
        }
        self.collect(&node, &meta).await
    }

    /// Deletes an object without owners left, or tidies its references.
    async fn collect(&self, node: &Node, meta: &ObjectMeta) -> Result<Requeue> {
        let mut owners = Vec::new();
        for owner in meta.owner_references.iter().flatten() {
            let standing = self.standing(&Identity::of_owner(owner, &node.identity.namespace)).await?;
            owners.push((owner.clone(), standing));
        }
        let again = if owners.iter().any(|(_, standing)| *standing == Standing::Unknown) {
            Requeue::After(REFRESH)
        } else {
            Requeue::Done
        };
        let dependents = self.graph.dependents(&node.identity.uid);
        match judge(meta, &owners, !dependents.is_empty()) {
            Verdict::Keep => {}
            Verdict::Drop(uids) => {
                self.patch(&node.identity, plan::drop_owners(meta, &uids), "drop owners of").await?;
            }
            Verdict::Delete(policy) => {
                // In a circle of owners each would wait for the other for ever.
                let circle =
                    policy == PropagationPolicy::Foreground && dependents.iter().any(|d| d.foreground);
                let mut version = meta.resource_version.clone();
                if circle {
                    let patch = plan::unblock_owners(meta);
                    version = self.patch(&node.identity, patch, "unblock owners of").await?;
                }
                self.delete(&node.identity, policy, version).await?;
            }
        }
        Ok(again)
    }

    /// What is known of an owner. Absence is believed only when the API says so.
    async fn standing(&self, owner: &Identity) -> Result<Standing> {
        if let Some(known) = self.graph.get(&owner.uid).filter(|node| !node.is_virtual) {
            let reachable =
                known.identity.namespace.is_empty() || known.identity.namespace == owner.namespace;
            let same = known.identity.kind == owner.kind && known.identity.name == owner.name;
            if reachable && same {
                return Ok(if known.foreground { Standing::Waiting } else { Standing::Solid });
            }
        }
        Ok(match self.live(owner).await? {
            Live::There(meta) => {
                let waits = meta.finalizers.iter().flatten().any(|finalizer| finalizer == FOREGROUND);
                if meta.deletion_timestamp.is_some() && waits { Standing::Waiting } else { Standing::Solid }
            }
            Live::Gone => Standing::Absent,
            Live::Unknown => Standing::Unknown,
        })
    }

    /// Lets an owner in foreground deletion go when nothing blocks it any more.
    async fn wait_for_dependents(&self, node: &Node, meta: &ObjectMeta) -> Result<Requeue> {
        let dependents = self.graph.dependents(&node.identity.uid);
        let blocks = |dependent: &&Node| {
            let owners = dependent.owners.iter().filter(|owner| owner.uid == node.identity.uid);
            owners.into_iter().any(|owner| owner.block_owner_deletion == Some(true))
        };
        if !dependents.iter().any(|dependent| blocks(&dependent)) {
            let patch = plan::drop_finalizer(meta, FOREGROUND);
            self.patch(&node.identity, patch, "finish the foreground deletion of").await?;
            return Ok(Requeue::Done);
        }
        let next = dependents.iter().filter(|dependent| !dependent.deleting);
        self.look_at(next.map(|dependent| dependent.identity.uid.clone()).collect());
        Ok(Requeue::Done)
    }

    /// Takes the owner out of its dependents' references, then lets it go.
    async fn orphan_dependents(&self, node: &Node, meta: &ObjectMeta) -> Result<Requeue> {
        for dependent in self.graph.dependents(&node.identity.uid) {
            if let Live::There(live) = self.live(&dependent.identity).await? {
                let uids = [node.identity.uid.clone()];
                if live.owner_references.iter().flatten().any(|owner| owner.uid == uids[0]) {
                    self.patch(&dependent.identity, plan::drop_owners(&live, &uids), "orphan").await?;
                }
            }
        }
        self.patch(&node.identity, plan::drop_finalizer(meta, ORPHAN), "finish the orphaning of").await?;
        Ok(Requeue::Done)
    }

    async fn live(&self, identity: &Identity) -> Result<Live> {
        let Some(api) = self.api(identity) else { return Ok(Live::Unknown) };
        let found = api.get_metadata_opt(&identity.name).await.during("get", name_of(identity))?;
        Ok(match found {
            Some(object) if object.metadata.uid.as_ref() == Some(&identity.uid) => {
                Live::There(Box::new(object.metadata))
            }
            _ => Live::Gone,
        })
    }

    /// Patches metadata; the new version. What is gone needs no patch.
    async fn patch(&self, of: &Identity, patch: Value, what: &'static str) -> Result<Option<String>> {
        let Some(api) = self.api(of) else { return Ok(None) };
        let patched = api.patch_metadata(&of.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        match patched.during(what, name_of(of)) {
            Ok(object) => Ok(object.metadata.resource_version),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, of: &Identity, policy: PropagationPolicy, version: Option<String>) -> Result<()> {
        let Some(api) = self.api(of) else { return Ok(()) };
        let params = DeleteParams {
            propagation_policy: Some(policy),
            // Whoever changes the owners meanwhile changes the version.
            preconditions: Some(Preconditions { uid: Some(of.uid.clone()), resource_version: version }),
            ..DeleteParams::default()
        };
        match api.delete(&of.name, &params).await.during("delete", name_of(of)) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => {
                tracing::debug!(object = name_of(of), "garbage collected");
                Ok(())
            }
        }
    }

    fn api(&self, identity: &Identity) -> Option<Api<DynamicObject>> {
        let mapping = self.monitors.mapping(&identity.group, &identity.kind)?;
        Some(if mapping.namespaced && !identity.namespace.is_empty() {
            Api::namespaced_with(self.client.clone(), &identity.namespace, &mapping.resource)
        } else if mapping.namespaced {
            // A cluster-wide object names a namespaced owner: that cannot be, and nothing is found there.
            return None;
        } else {
            Api::all_with(self.client.clone(), &mapping.resource)
        })
    }

    fn look_at(&self, uids: Vec<String>) {
        uids.into_iter().for_each(|uid| self.queue.add(ObjectKey::cluster(uid)));
    }
}

fn name_of(identity: &Identity) -> String {
    let key = ObjectKey::new(&identity.namespace, &identity.name);
    format!("{} {key}", identity.kind)
}
