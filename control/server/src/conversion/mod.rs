//! Objects of custom resources in the version of a request, where a webhook knows how they get there.
//!
//! Owns when the webhook is asked, and in which portions. What it is asked and what of its answer counts is in
//! `skep_api::custom::review`; how it is reached in [`crate::callout`]. An object that was converted is kept beside the
//! one in the cache, so that reading it again asks nobody. For every other resource, everything here is the identity.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use skep_api::apply::Conversions;
use skep_api::custom::{Conversion, review};
use skep_api::registry::{Resource, join_group_version};
use skep_api::status::Status;

use crate::cache::{Change, Object};
use crate::callout::{Caller, Target};
use crate::ids::Ids;
use crate::storage::metadata;

/// So long a webhook may take, as upstream has it.
const PATIENCE: Duration = Duration::from_secs(30);
/// At most so many objects are in one question.
const AT_ONCE: usize = 500;
/// About so many bytes of objects are in one question.
const QUESTION: usize = 4 << 20;
/// So often what was converted may show that more has to be.
const MOST_ROUNDS: usize = 64;
/// The largest answer (bytes).
const ANSWER: usize = 32 << 20;

/// Converts objects of custom resources. Clones share the connections.
#[derive(Clone, Debug)]
pub(crate) struct Converter {
    caller: Arc<Caller>,
    ids: Ids,
}

impl Converter {
    pub(crate) fn new(caller: Arc<Caller>, ids: Ids) -> Self {
        Self { caller, ids }
    }

    /// Whether a webhook has to be asked about objects of this resource.
    pub(crate) fn concerns(resource: &Resource) -> bool {
        review::webhook(resource).is_some()
    }

    /// An object in the version of `resource`.
    ///
    /// # Errors
    ///
    /// 500 when the webhook does not convert it.
    pub(crate) async fn view(&self, resource: &Resource, object: Arc<Object>) -> Result<Arc<Object>, Status> {
        if !Self::concerns(resource) {
            return Ok(object);
        }
        let mut converted = self.views(resource, vec![object]).await?;
        converted.pop().ok_or_else(|| Status::internal("an object was lost in its conversion"))
    }

    /// Objects in the version of `resource`, in their order.
    ///
    /// # Errors
    ///
    /// 500 when the webhook does not convert them.
    pub(crate) async fn views(
        &self,
        resource: &Resource,
        mut objects: Vec<Arc<Object>>,
    ) -> Result<Vec<Arc<Object>>, Status> {
        let Some(webhook) = review::webhook(resource) else { return Ok(objects) };
        let desired = resource.group_version();
        let mut missing = Vec::new();
        for (index, object) in objects.iter_mut().enumerate() {
            match object.converted(&webhook.edition, &resource.version) {
                Some(converted) => *object = converted,
                None if review::is_needed(&object.value(), &desired) => missing.push(index),
                None => {}
            }
        }
        for portion in portions(&missing, |index| objects[*index].json().len()) {
            let asked: Vec<Arc<Value>> =
                portion.iter().map(|index| objects[*index].value().clone()).collect();
            let answers = self.ask(webhook, &desired, &asked).await?;
            for (index, value) in portion.iter().zip(answers) {
                let from = &objects[*index];
                let converted = assemble(from, value)?;
                from.keep_converted(&webhook.edition, &resource.version, converted.clone());
                objects[*index] = converted;
            }
        }
        Ok(objects)
    }

    /// Changes with their objects in the version of `resource`, for watchers.
    ///
    /// # Errors
    ///
    /// 500 when the webhook does not convert them.
    pub(crate) async fn changes(
        &self,
        resource: &Resource,
        changes: Vec<Arc<Change>>,
    ) -> Result<Vec<Arc<Change>>, Status> {
        if !Self::concerns(resource) {
            return Ok(changes);
        }
        let both = |change: &Arc<Change>| {
            let previous = change.previous.clone();
            std::iter::once(change.object.clone()).chain(previous).collect::<Vec<_>>()
        };
        let all: Vec<Arc<Object>> = changes.iter().flat_map(both).collect();
        let mut converted = self.views(resource, all).await?.into_iter();
        let lost = || Status::internal("an object was lost in its conversion");
        let mut new = Vec::with_capacity(changes.len());
        for change in changes {
            let object = converted.next().ok_or_else(lost)?;
            let previous = change.previous.as_ref().and_then(|_| converted.next());
            let (revision, kind) = (change.revision, change.kind);
            // Its line is not used: what a webhook converts is never told as it is stored.
            new.push(Arc::new(Change { revision, kind, object, previous, line: change.line.clone() }));
        }
        Ok(new)
    }

    /// An object of `resource` in another version, where a webhook knows how.
    ///
    /// # Errors
    ///
    /// 500 when the webhook does not convert it.
    pub(crate) async fn bring(
        &self,
        resource: &Resource,
        desired: &str,
        object: Value,
    ) -> Result<Value, Status> {
        match review::webhook(resource) {
            Some(webhook) if review::is_needed(&object, desired) => {
                let mut answers = self.ask(webhook, desired, &[Arc::new(object)]).await?;
                answers.pop().ok_or_else(|| Status::internal("an object was lost in its conversion"))
            }
            _ => Ok(object),
        }
    }

    /// An object in the version of `resource`, as it is stored.
    ///
    /// # Errors
    ///
    /// 500 when the webhook does not convert it.
    pub(crate) async fn to_storage(&self, resource: &Resource, object: Value) -> Result<Value, Status> {
        let desired = join_group_version(&resource.storage.group, &resource.storage.version);
        self.bring(resource, &desired, object).await
    }

    /// What an attempt comes to once it has found all that it looked for in `conversions`: until then it is made again,
    /// with what the webhook makes of what was missing.
    ///
    /// # Errors
    ///
    /// 500 when the webhook does not convert it, or the attempt never has enough.
    pub(crate) async fn settle<T>(
        &self,
        resource: &Resource,
        conversions: &Conversions,
        attempt: impl Fn() -> T,
    ) -> Result<T, Status> {
        for _ in 0..MOST_ROUNDS {
            let outcome = attempt();
            let wanted = conversions.take_wanted();
            if wanted.is_empty() {
                return Ok(outcome);
            }
            for (api_version, object) in wanted {
                let mut made = self.bring(resource, &api_version, object.clone()).await?;
                metadata::remove(&mut made, "managedFields");
                conversions.know((api_version, object), made);
            }
        }
        Err(Status::internal("the owners of its fields wrote in too many versions"))
    }

    async fn ask(
        &self,
        webhook: &Conversion,
        desired: &str,
        asked: &[Arc<Value>],
    ) -> Result<Vec<Value>, Status> {
        let fail = |why: String| Status::new(500, "", why);
        let asked: Vec<&Value> = asked.iter().map(|one| &**one).collect();
        let Some(first) = asked.first() else { return Ok(Vec::new()) };
        let call_failed = |why: String| fail(review::call_failed(first, why));
        let target = Target::of_webhook(&webhook.client_config).map_err(call_failed)?;
        let id = self.ids.uid();
        let question = review::request(webhook.review_version, &id, desired, &asked).to_string();
        let answer = self.caller.post(&target, None, "timeout=30s", question.into(), PATIENCE, ANSWER).await;
        let answer = answer.map_err(|error| call_failed(error.to_string()))?;
        let answer = serde_json::from_slice(&answer).map_err(|error| call_failed(error.to_string()))?;
        review::read(webhook.review_version, &id, desired, &asked, answer).map_err(fail)
    }
}

/// The converted object at the place and revision of the one that it was made of.
fn assemble(from: &Object, mut value: Value) -> Result<Arc<Object>, Status> {
    metadata::remove(&mut value, "resourceVersion");
    let object = Object::from_stored(from.key().clone(), value.to_string().as_bytes(), from.revision());
    object.map(Arc::new).ok_or_else(|| Status::internal("a converted object has no metadata"))
}

/// Parts of a list that are neither long nor heavy.
fn portions<T>(all: &[T], weight: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut portions = Vec::new();
    let (mut start, mut heavy) = (0, 0);
    for (index, one) in all.iter().enumerate() {
        let more = weight(one);
        if index > start && (index - start == AT_ONCE || heavy + more > QUESTION) {
            portions.push(&all[start..index]);
            (start, heavy) = (index, 0);
        }
        heavy += more;
    }
    if start < all.len() {
        portions.push(&all[start..]);
    }
    portions
}
