//! Admission: what a request may not bring in although its author may write, and what is filled in for it.
//!
//! A plug-in is a file or a folder, and a line in [`order`], which has upstream's names in upstream's order. Two phases,
//! as upstream: first every plug-in may change the object ([`Plugin::admit`]), then, when the object is complete and
//! valid, every plug-in may refuse it ([`Plugin::validate`]). What is decided is pure wherever possible; plug-ins that ask
//! somebody else (webhooks) or write (quotas) fit the same trait, which is why it is asynchronous.
//!
//! Every way of writing goes through here: [`crate::storage`] for objects and their parts, the handlers of operations
//! that have a body of their own (binding, eviction, token, reviews), and connections to pods, nodes and services.

mod attributes;
mod certificates;
mod claim_resize;
mod compiled;
mod config;
mod declared_features;
mod default_class;
mod default_tolerations;
mod event_rate_limit;
mod gate;
mod image_policy;
mod limit_ranger;
mod manifests;
mod metrics;
mod namespace_lifecycle;
mod namespace_presence;
mod node_restriction;
mod node_taint;
mod order;
mod owner_references;
mod pod_node_selector;
mod pod_resize;
mod pod_security;
mod pod_topology;
mod policy;
mod priority;
mod quota;
mod runtime_class;
mod service_account;
mod shown;
mod simple;
mod storage_protection;
mod tolerations;
mod webhook;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use skep_api::status::Status;
use tokio::time::Instant;

use crate::authz::Authz;
use crate::cache::Cache;
use crate::callout::Caller;
use crate::ids::Ids;
use crate::storage::Storage;

pub(crate) use attributes::{Asked, Attributes, Held, Hold, Operation};
pub use attributes::{AuditDetail, Notes};
pub use config::{AdmissionConfig, ConfigError};
pub(crate) use manifests::ManifestSettings;
pub(crate) use metrics::AdmissionMetrics;
pub(crate) use policy::TypeChecks;

use metrics::{Durations, Phase};

/// One plug-in.
#[async_trait]
pub(crate) trait Plugin: Send + Sync + 'static {
    /// Whether it has anything to do with such a write. Cheap: asked for every plug-in on every write, before the rest.
    fn handles(&self, attributes: &Attributes<'_>) -> bool;

    /// Changes the object of a write, or refuses it. No object comes with a deletion; that of a connection is its options.
    async fn admit(&self, _attributes: &Attributes<'_>, _object: Option<&mut Value>) -> Result<(), Status> {
        Ok(())
    }

    /// Refuses a write. `object` is what would be written, nothing for a deletion.
    async fn validate(&self, _attributes: &Attributes<'_>, _object: Option<&Value>) -> Result<(), Status> {
        Ok(())
    }
}

/// What plug-ins are made of.
pub(crate) struct Ingredients {
    pub(crate) cache: Arc<Cache>,
    pub(crate) ids: Ids,
    pub(crate) authorizer: Arc<Authz>,
    /// Calls servers of users.
    pub(crate) caller: Arc<Caller>,
    /// Writes without admission, for plug-ins that keep accounts.
    pub(crate) storage: Storage,
    /// How long pods stay on nodes that are not ready, and on those that do not answer.
    pub(crate) toleration_seconds: [i64; 2],
    /// Of webhooks and policies in files.
    pub(crate) manifests: ManifestSettings,
    pub(crate) metrics: Arc<AdmissionMetrics>,
}

struct Step {
    name: &'static str,
    plugin: Box<dyn Plugin>,
    durations: Durations,
}

/// The plug-ins, in order.
#[derive(Clone, Default)]
pub(crate) struct Chain {
    steps: Arc<[Step]>,
    /// Of all together; nothing where there are none.
    durations: Option<Arc<Durations>>,
}

impl Chain {
    /// The plug-ins that the configuration asks for, in upstream's order.
    ///
    /// # Errors
    ///
    /// When it names plug-ins that there are not, or configures one in a way that it does not take.
    pub(crate) fn new(config: &AdmissionConfig, ingredients: &Ingredients) -> Result<Self, ConfigError> {
        let metrics = &ingredients.metrics;
        let mut steps = Vec::new();
        for entry in config.enabled()? {
            let make = entry.make;
            let plugin = make(ingredients, config.of(entry.name))?;
            steps.push(Step { name: entry.name, plugin, durations: metrics.of(entry.name) });
        }
        let gate = Box::new(gate::Gate::new(ingredients));
        steps.push(Step { name: "Gate", plugin: gate, durations: metrics.of("Gate") });
        tracing::info!(plugins = %steps.iter().map(|step| step.name).collect::<Vec<_>>().join(","), "admission");
        Ok(Self { steps: steps.into(), durations: Some(Arc::new(metrics.phases())) })
    }

    /// The first phase. A plug-in that changed the object late may ask for a second round.
    pub(crate) async fn admit(
        &self,
        attributes: &Attributes<'_>,
        mut object: Option<&mut Value>,
    ) -> Result<(), Status> {
        if attributes.scope.admitted {
            return Ok(());
        }
        let started = Instant::now();
        let mut verdict = self.round(attributes, object.as_deref_mut()).await;
        if verdict.is_ok() && attributes.again.begin_second() {
            verdict = self.round(attributes, object).await;
        }
        self.observe(Phase::Admit, attributes, &verdict, started);
        verdict
    }

    async fn round(&self, attributes: &Attributes<'_>, mut object: Option<&mut Value>) -> Result<(), Status> {
        for step in self.steps.iter().filter(|step| step.plugin.handles(attributes)) {
            let started = Instant::now();
            let verdict = step.plugin.admit(attributes, object.as_deref_mut()).await;
            step.told(Phase::Admit, attributes, &verdict, started);
            verdict?;
        }
        Ok(())
    }

    /// The second phase.
    pub(crate) async fn validate(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        if attributes.scope.admitted {
            return Ok(());
        }
        let started = Instant::now();
        let verdict = self.judge(attributes, object).await;
        self.observe(Phase::Validate, attributes, &verdict, started);
        verdict
    }

    async fn judge(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        for step in self.steps.iter().filter(|step| step.plugin.handles(attributes)) {
            let started = Instant::now();
            let verdict = step.plugin.validate(attributes, object).await;
            step.told(Phase::Validate, attributes, &verdict, started);
            verdict?;
        }
        Ok(())
    }

    fn observe(
        &self,
        phase: Phase,
        attributes: &Attributes<'_>,
        verdict: &Result<(), Status>,
        started: Instant,
    ) {
        if let Some(durations) = &self.durations {
            durations.observe(phase, attributes.operation, verdict.is_err(), started.elapsed());
        }
    }

    /// Both phases, for what is not stored: bodies of operations, options of connections.
    pub(crate) async fn pass(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&mut Value>,
    ) -> Result<(), Status> {
        match object {
            None => {
                self.admit(attributes, None).await?;
                self.validate(attributes, None).await
            }
            Some(object) => {
                self.admit(attributes, Some(object)).await?;
                self.validate(attributes, Some(object)).await
            }
        }
    }
}

impl Step {
    /// Takes down what the plug-in said.
    fn told(
        &self,
        phase: Phase,
        attributes: &Attributes<'_>,
        verdict: &Result<(), Status>,
        started: Instant,
    ) {
        self.durations.observe(phase, attributes.operation, verdict.is_err(), started.elapsed());
        if let Err(status) = verdict {
            let resource = attributes.scope.resource.plural.as_str();
            tracing::debug!(plugin = self.name, resource, name = attributes.name, %status, "refused by admission");
        }
    }
}
