//! Webhooks that change objects, asked one after the other.
//!
//! In a second round, which is made when somebody late changed the object, only those are asked that were asked in the
//! first one and want to see later changes, and only if there were any (KEP "Mutating webhook reinvocation").

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::decode::{self, FieldValidation};
use skep_api::status::Status;
use skep_api::{admissionregistration, defaults, patch};
use tokio::time::Instant;

use super::hook::{self, Form, Hook};
use super::{Asked, Attributes, Ingredients, Plugin, Trouble, Webhooks, shown};
use crate::admission::attributes::AuditDetail;
use crate::admission::compiled::Compiled;
use crate::admission::manifests::Manifests;
use crate::latencies::Layer;

const NAME: &str = "MutatingAdmissionWebhook";

pub(super) struct Mutating {
    webhooks: Webhooks,
    configurations: Compiled<Vec<Hook>>,
}

impl Mutating {
    pub(super) fn new(from: &Ingredients, webhooks: Webhooks, manifests: Option<Arc<Manifests>>) -> Self {
        let plural = "mutatingwebhookconfigurations";
        let configurations = Compiled::new(from.cache.clone(), plural, manifests, hook::compile);
        Self { webhooks, configurations }
    }
}

#[async_trait]
impl Plugin for Mutating {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        !self.configurations.is_empty(admissionregistration::is_exempt(attributes.scope.resource))
    }

    async fn admit(&self, attributes: &Attributes<'_>, mut object: Option<&mut Value>) -> Result<(), Status> {
        let configurations = self.configurations.current();
        let exempt = admissionregistration::is_exempt(attributes.scope.resource);
        let mut hooks: Vec<(&Hook, bool)> = Vec::new();
        for ((_, all), is_file) in configurations.reaching(exempt) {
            hooks.extend(all.iter().map(|hook| (hook, is_file)));
        }
        attributes.again.begin(NAME, object.as_deref());
        for (index, (hook, is_file)) in hooks.into_iter().enumerate() {
            let Some(form) = self.webhooks.form(hook, attributes, object.as_deref(), true).await? else {
                continue;
            };
            let id = if is_file { format!("manifest/{}", hook.id()) } else { hook.id() };
            if attributes.again.is_second() && !attributes.again.is_wanted(NAME, &id) {
                continue;
            }
            let started = Instant::now();
            let outcome = {
                let _asking = attributes.notes.latencies.enter(Layer::MutatingWebhook);
                self.ask(hook, attributes, &form, index).await
            };
            self.webhooks.count(hook, attributes, true, &outcome, started);
            let changed = match outcome {
                Ok(changed) => changed,
                Err(Trouble::Refused(status)) => return Err(status),
                Err(Trouble::Failed(why)) if hook.fails => return Err(Status::internal(why)),
                Err(Trouble::Failed(why)) => {
                    tracing::warn!(
                        webhook = hook.name,
                        why,
                        "failed to call a webhook, which may be ignored"
                    );
                    let key = key("failed-open.mutation.webhook.admission.k8s.io", attributes, index);
                    attributes.notes.annotate(&key, hook.name.as_str());
                    None
                }
            };
            self.note(hook, attributes, index, changed.is_some());
            if let (Some(changed), Some(object)) = (changed, object.as_deref_mut()) {
                *object = changed;
                attributes.again.require(NAME);
            }
            if hook.again {
                attributes.again.invoked(NAME, id);
            }
        }
        attributes.again.end(NAME, object.as_deref());
        Ok(())
    }
}

fn key(prefix: &str, attributes: &Attributes<'_>, index: usize) -> String {
    format!("{prefix}/round_{}_index_{index}", u8::from(attributes.again.is_second()))
}

impl Mutating {
    /// The object as a webhook changed it, if it did.
    async fn ask(
        &self,
        hook: &Hook,
        attributes: &Attributes<'_>,
        form: &Form<'_>,
        index: usize,
    ) -> Result<Option<Value>, Trouble> {
        let question = Asked { request: &form.request, object: &form.object, old: &form.old };
        let answer = self.webhooks.ask(hook, attributes, &question, true).await?;
        if answer.patch.is_empty() {
            return Ok(None);
        }
        let operations: Value = serde_json::from_slice(&answer.patch).map_err(|error| {
            let why = format!("received undecodable patch in webhook response: {error}");
            Trouble::Failed(format!("failed calling webhook {:?}: {why}", hook.name))
        })?;
        if operations.as_array().is_some_and(Vec::is_empty) {
            return Ok(None);
        }
        if form.object.is_null() {
            return Err(Trouble::Refused(Status::internal(format!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                hook.name
            ))));
        }
        let patched = patched(attributes, form, &answer.patch).map_err(Trouble::Refused)?;
        let annotation = json!({
            "configuration": hook.configuration, "webhook": hook.name, "patch": operations, "patchType": "JSONPatch",
        });
        let key = key("patch.webhook.admission.k8s.io", attributes, index);
        attributes.notes.annotate_at(AuditDetail::Request, &key, annotation.to_string());
        if patched == form.object {
            return Ok(None);
        }
        if !shown::is_own_kind(attributes) {
            return Ok(Some(patched));
        }
        let own = attributes.scope.resource;
        let back = shown::reform(&self.webhooks.converter, form.resource, own, &patched).await;
        back.map(Some).map_err(Trouble::Refused)
    }

    fn note(&self, hook: &Hook, attributes: &Attributes<'_>, index: usize, mutated: bool) {
        let value = json!({ "configuration": hook.configuration, "webhook": hook.name, "mutated": mutated });
        let key = key("mutation.webhook.admission.k8s.io", attributes, index);
        attributes.notes.annotate(&key, value.to_string());
    }
}

/// The patched object, with the types of its schema and what it leaves out filled in.
fn patched(attributes: &Attributes<'_>, form: &Form<'_>, operations: &[u8]) -> Result<Value, Status> {
    let internal = |status: Status| Status::internal(status.message);
    let patched = patch::json_patch_explained(&form.object, operations);
    let mut patched = patched.map_err(|fault| Status::internal(fault.to_string()))?;
    if shown::is_own_kind(attributes) {
        decode::check(form.resource, &mut patched, FieldValidation::Ignore).map_err(internal)?;
        defaults::apply(form.resource, &mut patched);
    }
    Ok(patched)
}
