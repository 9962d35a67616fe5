//! Webhooks that only judge, asked all at once.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use serde_json::Value;
use skep_api::admissionregistration;
use skep_api::status::Status;
use tokio::time::Instant;

use super::hook::{self, Form, Hook};
use super::{Asked, Attributes, Ingredients, Plugin, Trouble, Webhooks};
use crate::admission::compiled::Compiled;
use crate::admission::manifests::Manifests;
use crate::latencies::Layer;

pub(super) struct Validating {
    webhooks: Webhooks,
    configurations: Compiled<Vec<Hook>>,
}

impl Validating {
    pub(super) fn new(from: &Ingredients, webhooks: Webhooks, manifests: Option<Arc<Manifests>>) -> Self {
        let plural = "validatingwebhookconfigurations";
        let configurations = Compiled::new(from.cache.clone(), plural, manifests, hook::compile);
        Self { webhooks, configurations }
    }

    async fn ask(
        &self,
        index: usize,
        hook: &Hook,
        form: &Form<'_>,
        attributes: &Attributes<'_>,
    ) -> Result<(), Status> {
        let question = Asked { request: &form.request, object: &form.object, old: &form.old };
        let started = Instant::now();
        let outcome = self.webhooks.ask(hook, attributes, &question, false).await;
        self.webhooks.count(hook, attributes, false, &outcome, started);
        match outcome {
            Ok(_) => Ok(()),
            Err(Trouble::Refused(status)) => Err(status),
            Err(Trouble::Failed(why)) if hook.fails => Err(Status::internal(why)),
            Err(Trouble::Failed(why)) => {
                tracing::warn!(webhook = hook.name, why, "failed to call a webhook, which may be ignored");
                let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
                attributes.notes.annotate(&key, hook.name.as_str());
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Plugin for Validating {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        !self.configurations.is_empty(admissionregistration::is_exempt(attributes.scope.resource))
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let configurations = self.configurations.current();
        let mut asked = Vec::new();
        let exempt = admissionregistration::is_exempt(attributes.scope.resource);
        for hook in configurations.reaching(exempt).flat_map(|((_, hooks), _)| hooks.iter()) {
            if let Some(form) = self.webhooks.form(hook, attributes, object, false).await? {
                asked.push((hook, form));
            }
        }
        let questions = asked.iter().enumerate();
        let questions = questions.map(|(index, (hook, form))| self.ask(index, hook, form, attributes));
        let _asking = attributes.notes.latencies.enter(Layer::ValidatingWebhook);
        let verdicts = join_all(questions).await;
        verdicts.into_iter().collect()
    }
}
