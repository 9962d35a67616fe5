//! ResourceQuota: what a namespace may use is charged before it is used, and never more than there is.
//!
//! A write is charged in the status of every quota that it falls under, by compare-and-swap, before it happens; what is
//! given back, the quota controller counts. Within this server, writes of one namespace are judged together, one batch
//! at a time ([`desk`]), so that many clients cost few conflicts. The decision itself is in `skep_api::quota`.

mod desk;
mod settle;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use skep_api::object::{items, text};
use skep_api::quota::{Evaluator, Limited};
use skep_api::status::Status;
use tokio::sync::oneshot;

use self::desk::{Charge, Desk, Job, Refusal, Waiting};
use super::config::strict;
use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::cache::Cache;
use crate::gate::ObjectReader;
use crate::ids::Ids;
use crate::pki::MASTERS;
use crate::storage::Storage;
use crate::user::UserInfo;

/// Kinds that are never charged: they are not stored, or never were charged.
const IGNORED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];
/// Groups of kinds that are answered and not stored.
const VIRTUAL: [&str; 2] = ["authentication.k8s.io", "authorization.k8s.io"];
/// So many namespaces are remembered.
const DESKS: usize = 4096;

struct ResourceQuota {
    cache: Arc<Cache>,
    storage: Storage,
    ids: Ids,
    user: UserInfo,
    limited: Vec<Limited>,
    desks: Mutex<HashMap<String, Arc<Desk>>>,
}

pub(super) fn make(
    from: &Ingredients,
    configuration: Option<&Value>,
) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(ResourceQuota {
        cache: from.cache.clone(),
        storage: from.storage.clone(),
        ids: from.ids.clone(),
        user: UserInfo::new("system:apiserver", &[MASTERS]),
        limited: configuration.map(limited).transpose()?.unwrap_or_default(),
        desks: Mutex::default(),
    }))
}

/// Reads a `ResourceQuotaConfiguration`.
fn limited(configuration: &Value) -> Result<Vec<Limited>, ConfigError> {
    let bad = |reason: String| ConfigError::Plugin { name: "ResourceQuota", reason };
    strict(configuration, &["apiVersion", "kind", "limitedResources"]).map_err(bad)?;
    if !matches!(text(configuration, &["kind"]), "ResourceQuotaConfiguration" | "Configuration") {
        return Err(bad("expected ResourceQuotaConfiguration".to_owned()));
    }
    let all = items(configuration, &["limitedResources"]);
    for (at, one) in all.iter().enumerate() {
        strict(one, &["apiGroup", "resource", "matchContains", "matchScopes"]).map_err(bad)?;
        if text(one, &["resource"]).is_empty() {
            return Err(bad(format!("limitedResources[{at}].resource: Required value")));
        }
    }
    Ok(all.iter().map(Limited::read).collect())
}

#[async_trait]
impl Plugin for ResourceQuota {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let resource = attributes.scope.resource;
        let kind = (resource.group.as_str(), resource.plural.as_str());
        (attributes.creates() || attributes.updates())
            && !attributes.namespace().is_empty()
            && !IGNORED.contains(&kind)
            && !VIRTUAL.contains(&kind.0)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let resource = attributes.scope.resource;
        let evaluator = Evaluator::of(&resource.group, &resource.plural);
        let subresource = attributes.subresource();
        if !evaluator.handles(attributes.creates(), subresource, attributes.old, object) {
            return Ok(());
        }
        let namespace = attributes.namespace();
        if self.limited.is_empty() && self.cache.list("", "resourcequotas", namespace).is_empty() {
            return Ok(());
        }
        let job = Job {
            evaluator,
            kind: (resource.group.clone(), resource.plural.clone()),
            name: attributes.name.to_owned(),
            is_status: subresource == "status",
            dry_run: attributes.is_dry_run(),
            old: attributes.old.cloned(),
            new: object.clone(),
            now: self.ids.now_text(),
        };
        match self.judge(namespace, job).await {
            Ok(flight) => {
                attributes.hold(flight);
                Ok(())
            }
            Err(Refusal::Forbidden(why)) => Err(attributes.forbid(&why)),
            Err(Refusal::Failed(status)) => Err(status),
        }
    }
}

impl ResourceQuota {
    /// Waits for the job's turn, or takes the turn for everybody who waits.
    async fn judge(&self, namespace: &str, job: Job) -> Result<Charge, Refusal> {
        let desk = self.desk(namespace);
        let (answer, mut answered) = oneshot::channel();
        desk.waiting.lock().push(Waiting { job, answer });
        let mut turn = desk.turn.lock().await;
        match answered.try_recv() {
            Ok(verdict) => return verdict,
            Err(oneshot::error::TryRecvError::Closed) => return Err(Refusal::lost()),
            Err(oneshot::error::TryRecvError::Empty) => {}
        }
        let batch = std::mem::take(&mut *desk.waiting.lock());
        self.settle(namespace, &desk, &mut turn, batch).await;
        drop(turn);
        answered.await.unwrap_or_else(|_| Err(Refusal::lost()))
    }

    fn desk(&self, namespace: &str) -> Arc<Desk> {
        let mut desks = self.desks.lock();
        if desks.len() >= DESKS && !desks.contains_key(namespace) {
            desks.retain(|_, desk| Arc::strong_count(desk) > 1);
        }
        desks.entry(namespace.to_owned()).or_default().clone()
    }
}
