//! Judging a batch: charge what fits, write each quota once, and again where somebody else was faster.
//!
//! What is used stands in the quota's status, which the quota controller writes, too, from what it saw. It may not have
//! seen what is only just being written. So a status that this server has not written itself is checked against the
//! objects in the cache and the writes under way, and the larger amount counts.

use std::sync::Arc;

use serde_json::{Value, json};
use skep_api::object::{name, text, uid};
use skep_api::quantity::Quantity;
use skep_api::quota::{Limited, Quota, check, measure};
use skep_api::registry::{Registry, registry};
use skep_api::resources::{self, Amounts};
use skep_api::status::Status;

use super::ResourceQuota;
use super::desk::{Charge, Charges, Desk, Flight, Refusal, Turn, Waiting};
use crate::gate::ObjectReader;
use crate::respond::view;
use crate::storage::{Ownership, Part, Scope};

/// So often a batch is judged again because of others who write the same quotas.
const ATTEMPTS: usize = 16;

/// A quota as it was read.
struct Read {
    uid: String,
    version: String,
    epoch: u64,
    before: Amounts,
    quota: Quota,
}

/// A job that is not decided yet.
struct Open {
    waiting: Waiting,
    flight: Flight,
}

impl ResourceQuota {
    /// Decides the jobs of a namespace and answers all of them.
    pub(super) async fn settle(
        &self,
        namespace: &str,
        desk: &Arc<Desk>,
        turn: &mut Turn,
        batch: Vec<Waiting>,
    ) {
        let mut open: Vec<Open> =
            batch.into_iter().map(|waiting| Open { flight: Flight::of(&waiting.job), waiting }).collect();
        let mut only: Option<Vec<String>> = None;
        for _ in 0..ATTEMPTS {
            let mut quotas = self.read(namespace, desk, turn, only.as_deref());
            let accounts = std::mem::take(&mut open);
            for job in accounts {
                open.extend(judge(job, &mut quotas, &self.limited));
            }
            let mut lost = Vec::new();
            for read in quotas.iter().filter(|read| read.quota.used != read.before) {
                match self.write(namespace, read).await {
                    Ok(version) => turn.wrote(&read.uid, version),
                    // Gone, or changed meanwhile.
                    Err(status) if matches!(status.code, 404 | 409) => lost.push(read.quota.name.clone()),
                    Err(status) => return refuse(open, &status),
                }
            }
            if lost.is_empty() {
                for Open { waiting, flight } in open {
                    let charge = desk.depart(flight);
                    // Whoever does not wait any more gets no charge: it is dropped here.
                    drop(waiting.answer.send(Ok(charge)));
                }
                return;
            }
            only = Some(lost);
        }
        refuse(
            open,
            &Status::too_many_requests("the quotas of this namespace are being changed by others", 1),
        );
    }

    /// The quotas of a namespace, or those of these names.
    fn read(&self, namespace: &str, desk: &Desk, turn: &mut Turn, only: Option<&[String]>) -> Vec<Read> {
        let failed = desk.failed();
        let objects = self.cache.list("", "resourcequotas", namespace);
        let wanted = objects
            .iter()
            .filter(|object| only.is_none_or(|only| only.iter().any(|one| one == name(object))));
        wanted
            .map(|object| {
                let mut read = Read::of(object);
                let (foreign, epoch) = turn.saw(&read.uid, &read.version);
                read.epoch = epoch;
                failed.iter().for_each(|charges| read.refund(charges));
                if foreign {
                    self.correct(namespace, desk, &mut read.quota);
                }
                read
            })
            .collect()
    }

    /// Raises what is used to what the objects there and those to come use.
    fn correct(&self, namespace: &str, desk: &Desk, quota: &mut Quota) {
        // First who is under way, then what is there: who lands in between is found there.
        let flights = desk.flights();
        let list = |group: &str, plural: &str| self.list(group, plural, namespace);
        let mut actual = measure(quota.hard.keys(), &quota.selectors, list, &self.ids.now_text());
        for flight in flights {
            let Some((_, charged)) = flight.charged.get(&quota.name) else { continue };
            let there = self.list(&flight.kind.0, &flight.kind.1, namespace).unwrap_or_default();
            let found = there.iter().find(|object| name(object) == flight.name);
            if !flight.has_landed(found.map(|object| &**object)) {
                resources::add(&mut actual, charged);
            }
        }
        actual.retain(|name, _| quota.used.contains_key(name));
        resources::raise(&mut quota.used, &actual);
    }

    /// The objects of a kind, also of a custom one.
    fn list(&self, group: &str, plural: &str, namespace: &str) -> Option<Vec<Arc<Value>>> {
        if registry().resources().any(|one| one.group == group && one.plural == plural) {
            return Some(self.cache.list(group, plural, namespace));
        }
        let prefix = format!("/registry/{group}/{plural}/");
        let collection = self.cache.collections().into_iter().find(|one| one.prefix() == prefix)?;
        let snapshot = self.cache.snapshot(&collection);
        let here = format!("{prefix}{namespace}/");
        Some(snapshot.range(&here, None).map(|object| object.value().clone()).collect())
    }

    /// Writes what is used, if nobody has written since; returns the new version.
    async fn write(&self, namespace: &str, read: &Read) -> Result<String, Status> {
        let kinds: &Registry = registry();
        let resource = kinds.find("", "v1", "resourcequotas").ok_or_else(Status::no_such_path)?;
        let scope = Scope {
            resource,
            kinds,
            namespace,
            subresource: "status",
            user: &self.user,
            dry_run: false,
            ownership: Ownership::Changed("kube-apiserver"),
            asked: None,
            admitted: true,
        };
        let propose = |current: &Value| {
            if text(current, &["metadata", "resourceVersion"]) != read.version {
                return Err(Status::modified(resource, &read.quota.name));
            }
            let mut new = current.clone();
            if !new["status"].is_object() {
                new["status"] = json!({});
            }
            new["status"]["used"] = resources::write(&read.quota.used);
            Ok(new)
        };
        let object = self.storage.update(&scope, &read.quota.name, Part::Status, &propose).await?;
        Ok(text(&view(resource, &object), &["metadata", "resourceVersion"]).to_owned())
    }
}

impl Read {
    fn of(object: &Value) -> Self {
        let quota = Quota::read(object);
        Self {
            uid: uid(object).to_owned(),
            version: text(object, &["metadata", "resourceVersion"]).to_owned(),
            epoch: 0,
            before: quota.used.clone(),
            quota,
        }
    }

    /// Gives back what a write was charged for that failed, unless somebody has counted since.
    fn refund(&mut self, charges: &Charges) {
        let Some((_, amounts)) = charges.get(&self.quota.name).filter(|(epoch, _)| *epoch == self.epoch)
        else {
            return;
        };
        for (name, amount) in amounts {
            if let Some(used) = self.quota.used.get_mut(name) {
                *used = (*used - *amount).max(Quantity::of(0));
            }
        }
    }
}

/// Judges one job and charges it in the quotas as read. A job that is decided without a write is answered; the others
/// come back.
fn judge(mut job: Open, quotas: &mut [Read], limited: &[Limited]) -> Option<Open> {
    let plain: Vec<Quota> = quotas.iter().map(|read| read.quota.clone()).collect();
    let after = match check(&job.waiting.job.request(), &plain, limited) {
        Ok(after) => after,
        Err(why) => {
            drop(job.waiting.answer.send(Err(Refusal::Forbidden(why))));
            return None;
        }
    };
    let changed = after.iter().any(Option::is_some);
    // In a later round, what was charged in the first ones is under way.
    if job.waiting.job.dry_run || (!changed && job.flight.charged.is_empty()) {
        drop(job.waiting.answer.send(Ok(Charge::default())));
        return None;
    }
    for (read, used) in quotas.iter_mut().zip(after) {
        if let Some(used) = used {
            let charged = difference(&used, &read.quota.used);
            job.flight.charged.insert(read.quota.name.clone(), (read.epoch, charged));
            read.quota.used = used;
        }
    }
    Some(job)
}

fn difference(new: &Amounts, old: &Amounts) -> Amounts {
    let more = new.iter().filter_map(|(name, amount)| {
        let rest = old.get(name).map_or(*amount, |old| *amount - *old);
        (!rest.is_zero()).then(|| (name.clone(), rest))
    });
    more.collect()
}

fn refuse(open: Vec<Open>, status: &Status) {
    for job in open {
        drop(job.waiting.answer.send(Err(Refusal::Failed(status.clone()))));
    }
}
